// SPDX-License-Identifier: GPL-2.0-or-later
// What a machine is built of, and what can be changed of it while it runs: processors, memory, interfaces, disks, the
// medium, devices of the host, the boot order; keys and pictures of its screen.
import type { ComponentChildren } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { call, path, request, sentence } from '../api/client';
import { can, resource, type Schema } from '../api/document';
import type { Vm } from '../api/schema';
import { bytes, label } from '../format';
import { to } from '../router';
import { collection, machines } from '../store';
import { Note, Panel } from '../ui/bits';
import { ask, Dialog } from '../ui/dialog';
import { Form, type Values } from '../ui/form';
import { Icon, type IconName } from '../ui/icon';
import { toast } from '../ui/toast';
import { openCall } from './actions';

/** What is wanted and not yet so, with the manager's reasons. */
export function Pending({ vm }: { vm: Vm }) {
  const pending = Object.entries((vm.status.pending ?? {}) as Record<string, string>);
  if (!pending.length) return null;
  return (
    <Note tone="info" title="Not yet as wanted">
      <ul class="plain">
        {pending.map(([field, why]) => (
          <li key={field}>
            {label(field)}: {why}
          </li>
        ))}
      </ul>
    </Note>
  );
}

const fail = (title: string) => (e: unknown) => void toast({ tone: 'bad', title, text: sentence(e) });

/** A change of its spec; the answer says what has to wait. */
async function change(vm: Vm, spec: Values): Promise<void> {
  await machines().look(vm.name); // what others have changed meanwhile is no reason to refuse it
  await machines().update(machines().get(vm.name) ?? vm, spec);
}

function Row({ icon, name, about, children }: { icon: IconName; name: ComponentChildren; about?: ComponentChildren; children?: ComponentChildren }) {
  return (
    <li>
      <Icon name={icon} size={15} />
      <span class="grow">
        <b>{name}</b>
        {about && <small class="muted">{about}</small>}
      </span>
      {children}
    </li>
  );
}

/* ---- processors and memory ---- */

const SIZES = ['cpus', 'cpus_max', 'memory', 'memory_max', 'balloon'];

function Size({ vm }: { vm: Vm }) {
  const all = resource('vm')?.update?.properties ?? {};
  const names = SIZES.filter((n) => all[n]);
  const schema: Schema = { type: 'object', properties: Object.fromEntries(names.map((n) => [n, all[n]!])) };
  return (
    <Panel title="Processors and memory" class="settings">
      <Form
        key={JSON.stringify(names.map((n) => (vm.spec as Values)[n]))}
        schema={schema}
        start={vm.spec as unknown as Values}
        changesOnly
        verb="Apply"
        onSubmit={async (_, changes) => {
          if (Object.keys(changes).length) await change(vm, changes);
          toast({ tone: 'good', title: Object.keys(changes).length ? `Changed ${vm.name}` : 'Nothing to change' });
        }}
      />
    </Panel>
  );
}

/* ---- interfaces ---- */

interface Nic {
  network: string;
  model: string;
  mac: string;
  state: 'there' | 'coming' | 'going' | '';
}

function read(word: string): Nic {
  const [network = '', ...rest] = word.split('/');
  return { network, model: rest.find((r) => !r.includes(':')) ?? '', mac: rest.find((r) => r.includes(':')) ?? '', state: '' };
}

/** Those that are wanted and those that the guest has not let go of. */
function nicsOf(vm: Vm): Nic[] {
  const there = (vm.status.nics ?? []).map(read);
  const wanted = vm.spec.network === 'none' ? [] : vm.spec.network.split(',').map(read);
  const runs = vm.status.state === 'running';
  return [
    ...wanted.map((w): Nic => {
      const seen = there.find((t) => t.network === w.network);
      return seen ? { ...seen, state: 'there' } : { ...w, model: w.model || (vm.spec.nic_model ?? 'virtio'), state: runs ? 'coming' : '' };
    }),
    ...there.filter((t) => !wanted.some((w) => w.network === t.network)).map((t): Nic => ({ ...t, state: 'going' })),
  ];
}

function AddNic({ vm, onClose }: { vm: Vm; onClose: () => void }) {
  const verb = resource('vm')!.verbs['nic-add']!;
  const given = verb.args.properties ?? {};
  // One of the networks that there are, or the one of its own.
  const schema: Schema = { ...verb.args, required: [], properties: { ...given, network: { ...given.network, default: 'user', pattern: undefined } } };
  return (
    <Dialog title={`An interface for ${vm.name}`} onClose={onClose}>
      <Form
        schema={schema}
        verb="Add"
        before={<p class="prose">{verb.help}.</p>}
        placeholders={{ mac: '02:00:5e:10:00:01' }}
        onCancel={onClose}
        onSubmit={async (_, args) => {
          machines().put(await call<Vm>('POST', path('vms', vm.name, 'nic-add'), { network: 'user', ...args }));
          onClose();
        }}
      />
    </Dialog>
  );
}

function Nics({ vm }: { vm: Vm }) {
  const [adding, add] = useState(false);
  const may = can('vm', 'nic-add');
  const nics = nicsOf(vm);
  const errors = (vm.status.nic_errors ?? {}) as Record<string, string>;
  const networks = (vm.status.networks ?? {}) as Record<string, { mac: string; address: string }>;
  const remove = (n: Nic) =>
    ask({
      title: `Remove the interface in ${n.network}?`,
      text: <p>{vm.status.state === 'running' ? 'The guest is asked to let go of it; connections through it end.' : 'The machine has it no more from its next start on.'}</p>,
      verb: 'Remove',
      danger: true,
      choice: vm.status.state === 'running' ? { label: 'Pull it out without asking the guest' } : undefined,
      run: async (force) => void machines().put(await call<Vm>('POST', path('vms', vm.name, 'nic-remove'), { network: n.network, force })),
    });
  const action = may && (
    <button onClick={() => add(true)}>
      <Icon name="plus" size={14} />
      Add an interface
    </button>
  );
  return (
    <Panel title="Network interfaces" action={action} flush>
      {nics.length ? (
        <ul class="parts">
          {nics.map((n) => (
            <Row
              key={n.network}
              icon="network"
              name={n.network}
              about={
                <>
                  {[n.model, n.mac || networks[n.network]?.mac, networks[n.network]?.address, n.state !== 'there' && n.state].filter(Boolean).join(' · ')}
                  {errors[n.network] && <span class="wrong-text"> {errors[n.network]}</span>}
                </>
              }
            >
              {may && (
                <button class="quiet" aria-label={`Remove the interface in ${n.network}`} onClick={() => remove(n)}>
                  Remove
                </button>
              )}
            </Row>
          ))}
        </ul>
      ) : (
        <p class="muted parts-note">It has no network.</p>
      )}
      {adding && <AddNic vm={vm} onClose={() => add(false)} />}
    </Panel>
  );
}

/* ---- disks and the drive ---- */

function AddVolume({ vm, free, onClose }: { vm: Vm; free: string[]; onClose: () => void }) {
  const schema: Schema = { type: 'object', properties: { volume: { type: 'string', enum: free, description: 'that becomes its last disk, at once if it runs' } }, required: ['volume'] };
  return (
    <Dialog title={`A volume for ${vm.name}`} onClose={onClose}>
      <Form
        schema={schema}
        start={{ volume: free[0] }}
        verb="Attach"
        onCancel={onClose}
        onSubmit={async (_, { volume }) => {
          await call('POST', path('volumes', String(volume), 'attach'), { vm: vm.name });
          onClose();
          void machines().look(vm.name);
          void collection('volume').load();
        }}
      />
    </Dialog>
  );
}

function Disks({ vm }: { vm: Vm }) {
  const [adding, add] = useState(false);
  const volumes = [...collection('volume').use().items.value.values()];
  const errors = (vm.status.volume_errors ?? {}) as Record<string, string>;
  const sizeOf = (name: string) => {
    const size = volumes.find((v) => v.name === name)?.spec.size;
    return size ? bytes(Number(size)) : '';
  };
  const may = can('volume', 'attach');
  const free = volumes.filter((v) => !v.status.vm).map((v) => v.name);
  const detach = (name: string) =>
    ask({
      title: `Detach ${name}?`,
      text: <p>What is on the volume stays. {vm.status.state === 'running' && 'The guest is asked to let go of it: unmount it there first.'}</p>,
      verb: 'Detach',
      choice: vm.status.state === 'running' ? { label: 'Pull it out without asking the guest', help: 'What the guest has not written yet is lost.' } : undefined,
      run: async (force) => {
        await call('POST', path('volumes', name, 'detach'), { force });
        void machines().look(vm.name);
        void collection('volume').load();
      },
    });
  const medium = vm.status.medium ?? (vm.spec.cdrom?.startsWith('/') ? vm.spec.cdrom : '');
  const verb = (name: string) => resource('vm')?.verbs[name];
  const action = may && (
    <button disabled={!free.length} title={free.length ? undefined : 'There is no volume that is attached to nothing'} onClick={() => add(true)}>
      <Icon name="plus" size={14} />
      Attach a volume
    </button>
  );
  const eject = async () => machines().put(await call<Vm>('POST', path('vms', vm.name, 'eject'), {}));
  return (
    <Panel title="Disks" action={action} flush>
      <ul class="parts">
        {(vm.spec.image !== 'none' || vm.spec.disk) && (
          <Row icon="volume" name="Its own" about={`${vm.spec.disk ? bytes(vm.spec.disk) : 'as the image'} · ${vm.spec.bus}`} />
        )}
        {vm.spec.volumes.map((name) => (
          <Row
            key={name}
            icon="volume"
            name={name}
            about={
              <>
                {sizeOf(name)}
                {errors[name] && <span class="wrong-text"> {errors[name]}</span>}
              </>
            }
          >
            {may && (
              <button class="quiet" aria-label={`Detach ${name}`} onClick={() => detach(name)}>
                Detach
              </button>
            )}
          </Row>
        ))}
        <Row
          icon="image"
          name="Optical drive"
          about={
            <>
              {vm.spec.cdrom === 'none' ? 'none; it comes with a start' : medium || 'empty'}
              {vm.status.medium_error && <span class="wrong-text"> {vm.status.medium_error}</span>}
            </>
          }
        >
          {can('vm', 'insert') && (
            <button class="quiet" onClick={() => openCall('vm', vm.name, verb('insert')!)}>
              Insert …
            </button>
          )}
          {can('vm', 'eject') && medium && (
            <button class="quiet" onClick={() => void eject().catch(fail('The medium stays'))}>
              Eject
            </button>
          )}
        </Row>
      </ul>
      {adding && <AddVolume vm={vm} free={free} onClose={() => add(false)} />}
    </Panel>
  );
}

/* ---- devices of the host ---- */

interface HostDevice {
  address: string;
  kind?: string;
  vendor?: string;
  device?: string;
  driver?: string;
  iommu_group?: number;
  mdevs?: string[];
}

const plain = (word: string) => word.replace(/^vfio=/, '').toLowerCase().replace(/^(..:..\..)$/, '0000:$1');

function AddDevice({ vm, onClose }: { vm: Vm; onClose: () => void }) {
  const [devices, set] = useState<HostDevice[] | null>(null);
  useEffect(() => {
    call<{ hardware?: { devices?: HostDevice[] } }>('GET', path('hosts', 'local', 'devices'))
      .then((h) => set((h.hardware?.devices ?? []).filter((d) => d.kind !== 'bridge' && d.iommu_group !== undefined)))
      .catch((e: unknown) => {
        fail('The devices of the host are not known')(e);
        onClose();
      });
  }, []);
  if (!devices) return null;
  const names = devices.flatMap((d) => [d.address, ...(d.mdevs ?? [])]);
  const schema: Schema = { type: 'object', properties: { device: { type: 'string', enum: names, description: resource('vm')!.verbs['device-add']!.help } }, required: ['device'] };
  return (
    <Dialog title={`A device of the host for ${vm.name}`} onClose={onClose}>
      {names.length ? (
        <Form
          schema={schema}
          start={{ device: names[0] }}
          verb="Add"
          onCancel={onClose}
          before={
            <ul class="plain">
              {devices.map((d) => (
                <li key={d.address}>
                  {d.address}: {[d.kind, `${d.vendor}:${d.device}`, d.driver ? `driver ${d.driver}` : 'no driver'].join(', ')}
                </li>
              ))}
            </ul>
          }
          onSubmit={async (_, args) => {
            machines().put(await call<Vm>('POST', path('vms', vm.name, 'device-add'), args));
            onClose();
          }}
        />
      ) : (
        <Note tone="info" title="This host has no device to give">
          <p>Only those in an IOMMU group can be given: the IOMMU is switched on in the firmware and by the kernel.</p>
        </Note>
      )}
    </Dialog>
  );
}

function Devices({ vm }: { vm: Vm }) {
  const [adding, add] = useState(false);
  const may = can('vm', 'device-add');
  const wanted = (vm.spec.devices ?? []).map(plain);
  const there = vm.status.host_devices ?? [];
  const lent = (vm.status.lent ?? {}) as Record<string, string>;
  const errors = (vm.status.device_errors ?? {}) as Record<string, string>;
  const names = [...new Set([...wanted, ...there, ...Object.keys(lent)])];
  if (!names.length && !may) return null;
  const runs = vm.status.state === 'running';
  const state = (name: string) => (!wanted.includes(name) ? 'going' : there.includes(name) || !runs ? '' : 'coming');
  const remove = (name: string) =>
    ask({
      title: `Take ${name} away?`,
      text: <p>{runs ? 'The guest is asked to let go of it; then the host has it again.' : 'The machine has it no more.'}</p>,
      verb: 'Take away',
      danger: true,
      choice: runs ? { label: 'Pull it out without asking the guest' } : undefined,
      run: async (force) => void machines().put(await call<Vm>('POST', path('vms', vm.name, 'device-remove'), { device: name, force })),
    });
  const action = may && (
    <button onClick={() => add(true)}>
      <Icon name="plus" size={14} />
      Add a device
    </button>
  );
  return (
    <Panel title="Devices of the host" action={action} flush>
      {names.length ? (
        <ul class="parts">
          {names.map((name) => (
            <Row
              key={name}
              icon="other"
              name={name}
              about={
                <>
                  {[lent[name] && `taken from ${lent[name]}`, state(name)].filter(Boolean).join(' · ')}
                  {errors[name] && <span class="wrong-text"> {errors[name]}</span>}
                </>
              }
            >
              {can('vm', 'device-remove') && wanted.includes(name) && (
                <button class="quiet" aria-label={`Take ${name} away`} onClick={() => remove(name)}>
                  Take away
                </button>
              )}
            </Row>
          ))}
        </ul>
      ) : (
        <p class="muted parts-note">It has none.</p>
      )}
      {adding && <AddDevice vm={vm} onClose={() => add(false)} />}
    </Panel>
  );
}

/* ---- boot order ---- */

const PLACES: Record<string, string> = { disk: 'Disks', cdrom: 'Optical drive', network: 'Network' };

function Boot({ vm }: { vm: Vm }) {
  const words = vm.spec.boot ? vm.spec.boot.split(',') : [];
  const first = words[0]?.startsWith('volume:') ? words[0] : '';
  const given = words.filter((p) => p !== first);
  const order = [...given, ...Object.keys(PLACES).filter((p) => !given.includes(p))];
  const may = can('vm', 'update');
  const set = (volume: string, places: string[]) =>
    change(vm, { boot: [...(volume ? [volume] : []), ...places].join(',') }).catch(fail('The boot order stays'));
  const move = (i: number, by: number) => {
    const next = [...order];
    next.splice(i + by, 0, ...next.splice(i, 1));
    void set(first, next);
  };
  return (
    <Panel title="Boot order" action={may && <a href={to('machines', vm.name, 'settings')}>Firmware and the rest</a>} flush>
      <ol class="parts">
        {((vm.spec.volumes ?? []).length > 0 || first) && (
          <Row icon="right" name="Before all others">
            <select aria-label="Volume that it boots from" disabled={!may} value={first} onChange={(e) => void set(e.currentTarget.value, order)}>
              <option value="">nothing</option>
              {(vm.spec.volumes ?? []).map((v) => (
                <option key={v} value={`volume:${v}`}>
                  {v}
                </option>
              ))}
            </select>
          </Row>
        )}
        {order.map((p, i) => (
          <Row key={p} icon="right" name={PLACES[p] ?? p}>
            {may && (
              <>
                <button class="quiet square" aria-label={`${PLACES[p] ?? p}: earlier`} disabled={i === 0} onClick={() => move(i, -1)}>
                  <Icon name="up" size={14} />
                </button>
                <button class="quiet square" aria-label={`${PLACES[p] ?? p}: later`} disabled={i === order.length - 1} onClick={() => move(i, 1)}>
                  <Icon name="down" size={14} />
                </button>
              </>
            )}
          </Row>
        ))}
      </ol>
      <p class="muted parts-note">
        {vm.status.boots_by === 'kernel' ? 'It boots its kernel directly, without firmware: the order is not used.' : 'What firmware tries, the first one first.'}
      </p>
    </Panel>
  );
}

/* ---- its screen and keyboard ---- */

async function shoot(vm: Vm): Promise<void> {
  const answer = await request('GET', path('vms', vm.name, 'screenshot'), undefined, { accept: 'image/png' });
  const link = document.createElement('a');
  link.href = URL.createObjectURL(await answer.blob());
  link.download = `${vm.name}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function Keyboard({ vm }: { vm: Vm }) {
  const [text, setText] = useState('');
  const [keys, setKeys] = useState('ctrl-alt-del');
  const post = (verb: string, args: Values) => call('POST', path('vms', vm.name, verb), args);
  const type = (e: Event) => {
    e.preventDefault();
    post('type', { text, enter: true }).then(() => setText('')).catch(fail('The text was not typed'));
  };
  const press = (e: Event) => {
    e.preventDefault();
    post('send-key', { keys }).catch(fail('The keys were not pressed'));
  };
  const action = can('vm', 'screenshot') && (
    <button onClick={() => void shoot(vm).catch(fail('There is no picture'))}>
      <Icon name="download" size={14} />
      Screenshot
    </button>
  );
  return (
    <Panel title="Screen and keyboard" action={action} class="keyboard">
      {can('vm', 'type') && (
        <form onSubmit={type}>
          <label>
            Text to type
            <input value={text} onInput={(e) => setText(e.currentTarget.value)} autocomplete="off" spellcheck={false} />
          </label>
          <button type="submit">Type it, and Enter</button>
        </form>
      )}
      {can('vm', 'send-key') && (
        <form onSubmit={press}>
          <label>
            Keys to press together
            <input value={keys} onInput={(e) => setKeys(e.currentTarget.value)} autocomplete="off" spellcheck={false} />
          </label>
          <button type="submit" disabled={!keys}>
            Press them
          </button>
        </form>
      )}
    </Panel>
  );
}

export function Hardware({ vm }: { vm: Vm }) {
  const seen = (vm.spec.vga ?? 'none') !== 'none' && !!vm.status.pid;
  return (
    <>
      <Pending vm={vm} />
      <div class="halves">
        <div class="column">
          {can('vm', 'update') && <Size vm={vm} />}
          {seen && (can('vm', 'screenshot') || can('vm', 'type')) && <Keyboard vm={vm} />}
        </div>
        <div class="column">
          <Nics vm={vm} />
          <Disks vm={vm} />
          <Devices vm={vm} />
          <Boot vm={vm} />
        </div>
      </div>
    </>
  );
}

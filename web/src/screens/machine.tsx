// SPDX-License-Identifier: GPL-2.0-or-later
// One machine: how it is, its console, screen, snapshots, events, log and settings.
import { signal } from '@preact/signals';
import { useEffect, useState } from 'preact/hooks';
import { Failure, request, path } from '../api/client';
import { can, resource } from '../api/document';
import type { Vm } from '../api/schema';
import { bytes, exact, label, lasting, percent, rate } from '../format';
import { go, to } from '../router';
import { events, machines, snapshots } from '../store';
import { Ago, Copy, Empty, Facts, FailureNote, Head, Loading, Note, Panel, State, Tabs } from '../ui/bits';
import { Chart } from '../ui/chart';
import { Form } from '../ui/form';
import { Icon } from '../ui/icon';
import { Menu } from '../ui/menu';
import { toast } from '../ui/toast';
import { RANGES, useHistory } from '../history';
import { allowed, Calls, menuOf, run } from './actions';
import { vmGroups } from './create_machine';
import { EventList } from './event_list';
import { Hardware, Pending } from './hardware';
import { Picture } from './picture';
import { Snapshots } from './snapshots';
import { Stream } from './stream';

/* What was chosen last holds for each machine that is looked at. */
const chosen = signal(RANGES[0]!);

function Graphs({ vm }: { vm: Vm }) {
  const range = chosen.value;
  const rows = useHistory(vm, range);
  const times = rows.map((s) => s.time);
  const SPAN = range.seconds * 1000;
  return (
    <>
    <div class="segments ranges" role="group" aria-label="How far the graphs look back">
      {RANGES.map((r) => (
        <button key={r.id} aria-pressed={r === range} onClick={() => (chosen.value = r)}>
          {r.title}
        </button>
      ))}
    </div>
    <div class="graphs">
      <Chart title="Processor" span={SPAN} times={times} format={percent} ceiling={0.1} series={[{ name: 'of its processors', color: 1, values: rows.map((s) => s.cpu / vm.spec.cpus) }]} />
      <Chart title="Memory" span={SPAN} times={times} format={bytes} binary ceiling={vm.spec.memory} series={[{ name: 'of the host', color: 1, values: rows.map((s) => s.memory) }]} />
      <Chart
        title="Disk" span={SPAN} times={times} format={rate} binary ceiling={1024}
        series={[{ name: 'read', color: 1, values: rows.map((s) => s.diskRead) }, { name: 'written', color: 2, values: rows.map((s) => s.diskWrite) }]}
      />
      <Chart
        title="Network" span={SPAN} times={times} format={rate} binary ceiling={1024}
        series={[{ name: 'in', color: 1, values: rows.map((s) => s.netIn) }, { name: 'out', color: 2, values: rows.map((s) => s.netOut) }]}
      />
    </div>
    </>
  );
}

/** Addresses to go to: ports of this host that lead into the guest. */
function Forwards({ vm }: { vm: Vm }) {
  if (!vm.spec.forward.length) return <span class="muted">none</span>;
  return (
    <ul class="plain mono">
      {vm.spec.forward.map((f) => (
        <li key={f}>{f}</li>
      ))}
    </ul>
  );
}

function About({ vm }: { vm: Vm }) {
  const s = vm.status;
  const addresses = s.addresses ?? [];
  const shown = new Set(['image', 'cpus', 'memory', 'disk', 'forward', 'network', 'restart', 'power', 'user_data', 'ssh_key', 'append', 'hostname', 'user']);
  const more = Object.entries(vm.spec).filter(([k, v]) => !shown.has(k) && v !== '' && v !== null && !(Array.isArray(v) && !v.length) && typeof v !== 'object');
  return (
    <div class="halves">
      <Panel title="Machine">
        <Facts
          rows={[
            ['Image', vm.spec.image === 'none' ? 'none' : <a href="#/images">{vm.spec.image}</a>],
            ['Processors', vm.spec.cpus],
            ['Memory', bytes(vm.spec.memory)],
            ['Disk', vm.spec.disk ? bytes(vm.spec.disk) : vm.spec.image === 'none' ? 'none' : 'as the image'],
            ['Boots by', s.boots_by],
            ['Medium', s.medium],
            ['Medium refused', s.medium_error],
            ['UUID', s.uuid && <span class="mono">{s.uuid}</span>],
            ['Restart', vm.spec.restart],
            ...more.map(([k, v]): [string, string] => [label(k), String(v)]),
            ['Created', <span title={exact(vm.created)}><Ago time={vm.created} /></span>],
            ['Process', s.pid],
            ['ID', <span class="with-copy mono">{vm.id}<Copy text={vm.id} what="the ID" /></span>],
          ]}
        />
      </Panel>
      <Panel title="Guest">
        <Facts
          rows={[
            ['System', s.system ?? <span class="muted">{s.state === 'running' ? 'its agent has not answered' : 'not known while it is off'}</span>],
            ['Calls itself', s.calls_itself],
            ['Addresses', addresses.length ? <ul class="plain mono">{addresses.map((a) => <li key={a}>{a}</li>)}</ul> : undefined],
            ['Network', vm.spec.network],
            ['Forwards', <Forwards vm={vm} />],
            ['Agent', s.agent],
          ]}
        />
      </Panel>
    </div>
  );
}

function Trouble({ vm }: { vm: Vm }) {
  const s = vm.status;
  if (s.state !== 'failed' && !(s.state === 'stopped' && s.last_words && s.exit_code)) return null;
  return (
    <Note tone={s.state === 'failed' ? 'bad' : 'warn'} title={s.reason ? s.reason.charAt(0).toUpperCase() + s.reason.slice(1) : `It ended with exit code ${s.exit_code}`}>
      {s.last_words && <pre class="words">{s.last_words}</pre>}
      {s.next_start && (
        <p>
          It is started again at {exact(s.next_start)}, as its restart policy says.
        </p>
      )}
    </Note>
  );
}

function Settings({ vm }: { vm: Vm }) {
  const schema = resource('vm')?.update;
  if (!schema) return null;
  return (
    <Panel title="What is wanted of it" class="settings">
      <Form
        key={JSON.stringify(vm.spec)}
        schema={schema}
        start={vm.spec as unknown as Record<string, unknown>}
        groups={vmGroups.map((g) => ({ ...g, open: true }))}
        hidden={['power']}
        changesOnly
        verb="Save"
        before={<Pending vm={vm} />}
        onSubmit={async (_, changes) => {
          let late = false;
          if (!Object.keys(changes).length) return toast({ tone: 'good', title: 'Nothing to save' });
          try {
            const saved = await machines().update(vm, changes);
            late = Object.values((saved.status.pending ?? {}) as Record<string, string>).some((why) => why.includes('restart'));
          } catch (e) {
            if (e instanceof Failure && e.code === 'changed') await machines().look(vm.name);
            throw e;
          }
          toast({ tone: 'good', title: `Saved ${vm.name}`, text: late ? 'Some of it holds from the next restart on.' : undefined });
        }}
      />
    </Panel>
  );
}

function Log({ vm }: { vm: Vm }) {
  const [text, setText] = useState<string | null>(null);
  const [old, setOld] = useState(false);
  const [failure, fail] = useState<unknown>(null);
  const look = () => {
    fail(null);
    request('GET', `${path('vms', vm.name, 'log')}${old ? '?old=true' : ''}`, undefined, { accept: 'text/plain' })
      .then((a) => a.text())
      .then(setText)
      .catch(fail);
  };
  useEffect(look, [vm.name, old, vm.status.since]);
  return (
    <Panel
      title={old ? 'The log of the process before' : 'What its process said since the last start'}
      action={
        <span class="actions">
          <button aria-pressed={old} onClick={() => setOld(!old)}>
            The one before
          </button>
          <button onClick={look}>
            <Icon name="restart" size={14} />
            Read again
          </button>
        </span>
      }
    >
      {failure ? <FailureNote failure={failure} again={look} /> : text === null ? <Loading rows={3} /> : text ? <pre class="log" tabIndex={0} aria-label="Log">{text}</pre> : <p class="muted">It has said nothing, which is good.</p>}
    </Panel>
  );
}

export function Machine({ name, tab }: { name: string; tab: string }) {
  const all = machines().use();
  const vm = all.items.value.get(name);
  const count = [...snapshots().use().items.value.values()].filter((s) => s.spec.vm === name).length;
  if (!vm) {
    if (all.failure.value) return <FailureNote failure={all.failure.value} again={() => void all.load()} />;
    if (!all.loaded.value) return <Loading rows={6} />;
    return (
      <>
        <Head title={name} back={{ href: '#/machines', label: 'Machines' }} />
        <Empty icon="machine" title="There is no such machine" text={`No machine is called “${name}”. It may have been deleted.`}>
          <a class="button" href="#/machines">
            All machines
          </a>
        </Empty>
      </>
    );
  }
  const own = events.value.filter((e) => e.id === vm.id || (e.kind === 'snapshot' && e.name.startsWith(`${name}.`)));
  const hasScreen = can('vm', 'ticket') && (vm.spec.vga ?? 'none') !== 'none';
  const tabs = [
    { id: 'overview', title: 'Overview' },
    ...(can('vm', 'ticket') ? [{ id: 'console', title: 'Console' }] : []),
    ...(hasScreen ? [{ id: 'screen', title: 'Screen' }] : []),
    { id: 'hardware', title: 'Hardware' },
    ...(resource('snapshot') ? [{ id: 'snapshots', title: 'Snapshots', count }] : []),
    { id: 'events', title: 'Events' },
    { id: 'log', title: 'Log' },
    ...(can('vm', 'update') ? [{ id: 'settings', title: 'Settings' }] : []),
  ].map((t) => ({ ...t, href: t.id === 'overview' ? to('machines', name) : to('machines', name, t.id) }));
  const quick = allowed(vm).filter((a) => ['start', 'resume', 'stop', 'restart', 'pause'].includes(a.verb));
  const more = menuOf(vm, quick.map((a) => a.verb), (verb) => verb === 'delete' && go('machines'));
  const pending = all.pending.value.get(name);
  return (
    <>
      <Head
        title={name}
        back={{ href: '#/machines', label: 'Machines' }}
        badge={<State state={vm.status.state} pending={pending} title={vm.status.reason} />}
        sub={
          <>
            {vm.spec.image} · {vm.spec.cpus} CPU · {bytes(vm.spec.memory)} · {vm.status.state} for <time title={exact(vm.status.since)}>{lasting(vm.status.since)}</time>
            {vm.status.work ? ` · ${vm.status.work} under way` : ''}
          </>
        }
      >
        {quick.map((a) => (
          <button key={a.verb} class={a.verb === 'start' || a.verb === 'resume' ? 'primary' : ''} disabled={!!pending} onClick={() => run(a, [vm])}>
            <Icon name={a.icon} size={15} />
            {a.label}
          </button>
        ))}
        {more.length > 0 && <Menu label={`More for ${name}`} items={more} />}
      </Head>
      <Tabs label={`Views of ${name}`} tabs={tabs} now={tab} />
      {tab !== 'console' && tab !== 'screen' && <Trouble vm={vm} />}
      {tab === 'overview' && (
        <>
          <Pending vm={vm} />
          <Graphs vm={vm} />
          {hasScreen && !!vm.status.pid && can('vm', 'screenshot') && <Picture vm={vm} />}
          <About vm={vm} />
          <Panel title="Events" action={<a href={to('machines', name, 'events')}>All of them</a>} flush>
            <EventList events={own.slice(0, 6)} plain />
          </Panel>
        </>
      )}
      {tab === 'console' && <Stream key="serial" what="serial" vm={vm} />}
      {tab === 'screen' && <Stream key="vnc" what="vnc" vm={vm} />}
      {tab === 'hardware' && <Hardware vm={vm} />}
      {tab === 'snapshots' && <Snapshots vm={vm} />}
      {tab === 'events' && (
        <Panel flush>
          <EventList events={own} plain empty="Nothing has happened to it that is still remembered." />
        </Panel>
      )}
      {tab === 'log' && <Log vm={vm} />}
      {tab === 'settings' && <Settings vm={vm} />}
      <Calls />
    </>
  );
}

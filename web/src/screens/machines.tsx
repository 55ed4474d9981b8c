// SPDX-License-Identifier: GPL-2.0-or-later
// The list of machines.
import { useMemo, useState } from 'preact/hooks';
import { can } from '../api/document';
import type { Vm } from '../api/schema';
import { bytes, percent, plural } from '../format';
import { place, setQuery, to } from '../router';
import { machines } from '../store';
import { Ago, Empty, FailureNote, Head, Loading, Meter, State } from '../ui/bits';
import { Icon } from '../ui/icon';
import { Menu } from '../ui/menu';
import { sorted, Table, type Column, type Order } from '../ui/table';
import { lastSample, useUsage } from '../usage';
import { actions, allowed, Calls, menuOf, run } from './actions';
import { NewMachine } from './create_machine';

const FILTERS: { id: string; title: string; has: (s: string) => boolean }[] = [
  { id: '', title: 'All', has: () => true },
  { id: 'running', title: 'Running', has: (s) => ['running', 'starting', 'restarting', 'resuming'].includes(s) },
  { id: 'stopped', title: 'Stopped', has: (s) => ['stopped', 'stopping', 'creating'].includes(s) },
  { id: 'paused', title: 'Paused', has: (s) => ['paused', 'pausing', 'suspended', 'suspending'].includes(s) },
  { id: 'failed', title: 'Failed', has: (s) => s === 'failed' },
];

const pendingOf = (vm: Vm) => machines().pending.value.get(vm.name);

/** Where it is to be reached: addresses that the guest has, else ports of this host. */
function where(vm: Vm): string {
  const own = (vm.status.addresses ?? []).filter((a) => !a.startsWith('fe80') && a !== '::1' && !a.startsWith('127.'));
  return [...own.slice(0, 1), ...vm.spec.forward].join(', ');
}

function columns(): Column<Vm>[] {
  return [
    {
      id: 'name', title: 'Name', sort: (m) => m.name, class: 'main',
      cell: (m) => (
        <>
          <a class="row-link" href={to('machines', m.name)}>
            {m.name}
          </a>
          <small class="only-s muted">
            {m.spec.image} · {bytes(m.spec.memory)}
          </small>
        </>
      ),
    },
    { id: 'state', title: 'State', sort: (m) => m.status.state, class: 'state-cell', cell: (m) => <State state={m.status.state} pending={pendingOf(m)} title={m.status.reason} /> },
    { id: 'image', title: 'Image', sort: (m) => m.spec.image, class: 'hide-s', cell: (m) => m.spec.image },
    {
      id: 'cpu', title: 'CPU', sort: (m) => lastSample(m.id)?.cpu ?? -1, class: 'num hide-s usage',
      cell: (m) => {
        const s = lastSample(m.id);
        return (
          <>
            {s ? <Meter value={s.cpu / m.spec.cpus} label={`CPU ${percent(s.cpu / m.spec.cpus)}`} tone="plain" /> : <i class="meter-room" />}
            <span>{s ? percent(s.cpu / m.spec.cpus) : <span class="muted">–</span>}</span>
            {m.spec.cpus > 1 && <small class="muted of">of {m.spec.cpus}</small>}
          </>
        );
      },
    },
    {
      id: 'memory', title: 'Memory', sort: (m) => m.spec.memory, class: 'num hide-s usage',
      cell: (m) => {
        const s = lastSample(m.id);
        return (
          <>
            {s ? <Meter value={s.memory / m.spec.memory} label={`memory ${percent(s.memory / m.spec.memory)}`} tone="plain" /> : <i class="meter-room" />}
            <span title={s ? `its process takes ${bytes(s.memory)} of the host, the guest has ${bytes(m.spec.memory)}` : undefined}>
              {s ? bytes(s.memory) : <span class="muted">{bytes(m.spec.memory)}</span>}
            </span>
          </>
        );
      },
    },
    { id: 'where', title: 'Address', sort: where, class: 'hide-m cut mono', cell: (m) => where(m) || <span class="muted">–</span> },
    { id: 'since', title: 'Since', sort: (m) => -Date.parse(m.status.since), class: 'hide-m', cell: (m) => <Ago time={m.status.since} /> },
    {
      id: 'do', title: 'Actions', hidden: true, class: 'do',
      cell: (m) => {
        const quick = allowed(m).find((a) => ['start', 'resume', 'stop'].includes(a.verb));
        const more = menuOf(m, quick ? [quick.verb] : []);
        return (
          <span class="row-actions">
            {quick && (
              <button class="square" aria-label={`${quick.label} ${m.name}`} title={quick.label} disabled={!!pendingOf(m)} onClick={() => run(quick, [m])}>
                <Icon name={quick.icon} size={15} />
              </button>
            )}
            {more.length > 0 && <Menu label={`More for ${m.name}`} items={more} />}
          </span>
        );
      },
    },
  ];
}

export function Machines() {
  useUsage();
  const all = machines().use();
  const query = place.value.query;
  const text = query.get('find') ?? '';
  const filter = FILTERS.find((f) => f.id === (query.get('state') ?? '')) ?? FILTERS[0]!;
  const order: Order = { by: query.get('by') ?? 'name', down: query.get('down') === '1' };
  const [chosen, choose] = useState<ReadonlySet<string>>(new Set());
  const items = all.items.value;
  const cols = columns();
  const byUsage = order.by === 'cpu' ? Math.floor(Date.now() / 4000) : 0; // rows do not jump at each answer
  const rows = useMemo(() => {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const fit = [...items.values()].filter((m) => {
      const hay = `${m.name} ${m.spec.image} ${where(m)} ${m.status.system ?? ''}`.toLowerCase();
      return filter.has(m.status.state) && words.every((w) => hay.includes(w));
    });
    return sorted(fit, cols, order);
  }, [items, text, filter.id, order.by, order.down, byUsage]);
  const picked = rows.filter((m) => chosen.has(m.name));
  const offered = actions.filter((a) => a.verb !== 'resume' && can('vm', a.verb) && picked.some((m) => a.when(m.status.state)));
  const done = () => choose(new Set());

  return (
    <>
      <Head title="Machines">
        <NewMachine />
      </Head>
      {all.failure.value && <FailureNote failure={all.failure.value} again={() => void all.load()} />}
      {!all.loaded.value && !all.failure.value ? (
        <Loading rows={8} />
      ) : items.size === 0 ? (
        <Empty icon="machine" title="No machines yet" text="A machine is made of an image and runs until you stop it. It costs memory only for what its guest uses.">
          <NewMachine />
          <a class="button" href="#/images">
            Look at images
          </a>
        </Empty>
      ) : (
        <>
          <div class="toolbar">
            <label class="search">
              <Icon name="search" size={15} />
              <input type="search" aria-label="Find machines" placeholder="Find by name, image, address" value={text} onInput={(e) => setQuery({ find: e.currentTarget.value })} />
            </label>
            <div class="segments" role="group" aria-label="State">
              {FILTERS.map((f) => {
                const n = f.id ? [...items.values()].filter((m) => f.has(m.status.state)).length : items.size;
                if (!n && f.id && f.id !== filter.id) return null;
                return (
                  <button key={f.id} aria-pressed={f.id === filter.id} onClick={() => setQuery({ state: f.id })}>
                    {f.title}
                    <span class="count">{n}</span>
                  </button>
                );
              })}
            </div>
          </div>
          {picked.length > 0 && offered.length > 0 && (
            <div class="bulk" role="group" aria-label="For the chosen machines">
              <strong>{picked.length} chosen</strong>
              {offered.map((a) => (
                <button key={a.verb} class={a.danger ? 'danger-text' : ''} onClick={() => run(a, picked, a.verb === 'delete' ? done : undefined)}>
                  <Icon name={a.icon} size={14} />
                  {a.label}
                </button>
              ))}
              <button class="quiet" onClick={done}>
                Clear
              </button>
            </div>
          )}
          {rows.length === 0 ? (
            <Empty icon="search" title="Nothing fits" text="No machine is like that.">
              <button onClick={() => setQuery({ find: '', state: '' })}>Show all</button>
            </Empty>
          ) : (
            <div class="panel flush">
              <Table
                label="Machines"
                columns={cols}
                rows={rows}
                rowKey={(m) => m.name}
                order={order}
                onOrder={(o) => setQuery({ by: o.by === 'name' ? '' : o.by, down: o.down ? '1' : '' })}
                chosen={actions.some((a) => can('vm', a.verb)) ? chosen : undefined}
                onChoose={choose}
              />
            </div>
          )}
          <p class="foot muted" role="status">
            {rows.length === items.size ? plural(items.size, 'machine') : `${rows.length} of ${plural(items.size, 'machine')}`}
          </p>
        </>
      )}
      <Calls />
    </>
  );
}

// SPDX-License-Identifier: GPL-2.0-or-later
// The snapshots of a machine as the tree that they are, with the place where the machine is now.
import { useState } from 'preact/hooks';
import { can, resource } from '../api/document';
import type { Snapshot, Vm } from '../api/schema';
import { snapshots } from '../store';
import { Ago, Empty, FailureNote, Loading, Panel, State } from '../ui/bits';
import { ask, Dialog } from '../ui/dialog';
import { Form } from '../ui/form';
import { Icon } from '../ui/icon';

interface Node {
  snapshot: Snapshot;
  children: Node[];
}

/** What belongs under what. A snapshot whose parent was removed stands at the top. */
function treeOf(all: Snapshot[]): Node[] {
  const nodes = new Map(all.map((s) => [s.id, { snapshot: s, children: [] as Node[] }]));
  const roots: Node[] = [];
  for (const n of nodes.values()) (nodes.get(n.snapshot.status.parent ?? '')?.children ?? roots).push(n);
  const order = (list: Node[]) => {
    list.sort((a, b) => a.snapshot.created.localeCompare(b.snapshot.created));
    list.forEach((n) => order(n.children));
  };
  order(roots);
  return roots;
}

const short = (s: Snapshot) => s.name.slice(s.spec.vm.length + 1);

function Now({ vm }: { vm: Vm }) {
  return (
    <li class="now">
      <div class="node">
        <i class="knot" aria-hidden="true" />
        <span class="grow">
          <b>Now</b> <span class="muted">{vm.status.state}</span>
        </span>
      </div>
    </li>
  );
}

function Branch({ node, vm, base }: { node: Node; vm: Vm; base: string | undefined }) {
  const s = node.snapshot;
  const pending = snapshots().pending.value.get(s.name);
  const revert = () =>
    ask({
      title: `Go back to ${short(s)}?`,
      text: (
        <>
          <p>
            What {vm.name} has done since its last snapshot is lost. Other snapshots stay.{vm.status.pid ? ' It runs, and is ended first.' : ''}
          </p>
          <p>{s.status.live ? 'The snapshot has memory: the machine goes on at that instant.' : 'The snapshot has the disk alone: the machine is off afterwards.'}</p>
        </>
      ),
      verb: 'Revert',
      danger: true,
      run: () => void snapshots().act(s.name, 'revert'),
    });
  const remove = () =>
    ask({
      title: `Remove the snapshot ${short(s)}?`,
      text: <p>It can no longer be gone back to. The machine and its other snapshots stay as they are.</p>,
      verb: 'Remove',
      danger: true,
      run: () => void snapshots().act(s.name, 'delete'),
    });
  return (
    <li>
      <div class="node">
        <i class="knot" aria-hidden="true" />
        <span class="grow">
          <b>{short(s)}</b>
          {s.status.state !== 'ready' || pending ? <State state={s.status.state} pending={pending} /> : null}
          <small class="muted">
            <Ago time={s.created} /> · {s.status.live ? 'disk and memory' : 'disk'}
          </small>
          {s.status.reason && <small class="wrong-text">{s.status.reason}</small>}
        </span>
        <span class="row-actions">
          {can('snapshot', 'revert') && (
            <button disabled={s.status.state !== 'ready' || !!pending} onClick={revert} aria-label={`Revert to ${short(s)}`}>
              <Icon name="revert" size={14} />
              Revert
            </button>
          )}
          {can('snapshot', 'delete') && (
            <button class="square" disabled={!!pending} onClick={remove} aria-label={`Remove ${short(s)}`} title="Remove">
              <Icon name="trash" size={14} />
            </button>
          )}
        </span>
      </div>
      {(node.children.length > 0 || base === s.id) && (
        <ul>
          {node.children.map((c) => (
            <Branch key={c.snapshot.id} node={c} vm={vm} base={base} />
          ))}
          {base === s.id && <Now vm={vm} />}
        </ul>
      )}
    </li>
  );
}

function Create({ vm, onClose }: { vm: Vm; onClose: () => void }) {
  const schema = resource('snapshot')?.create ?? {};
  return (
    <Dialog title={`Snapshot of ${vm.name}`} onClose={onClose}>
      <Form
        schema={{ ...schema, required: [] }}
        hidden={['vm']}
        withName
        nameHelp="how you call this state, such as before-upgrade"
        verb="Create"
        onCancel={onClose}
        onSubmit={async (name, spec) => {
          await snapshots().create({ name: `${vm.name}.${name}`, spec: { ...spec, vm: vm.name } });
          onClose();
        }}
      />
    </Dialog>
  );
}

export function Snapshots({ vm }: { vm: Vm }) {
  const [creating, create] = useState(false);
  const all = snapshots().use();
  const own = [...all.items.value.values()].filter((s) => s.spec.vm === vm.name);
  const roots = treeOf(own);
  const base = own.some((s) => s.id === vm.status.snapshot) ? vm.status.snapshot : undefined;
  const button = can('snapshot', 'create') && (
    <button class="primary" onClick={() => create(true)}>
      <Icon name="snapshot" />
      Create a snapshot
    </button>
  );
  return (
    <>
      {all.failure.value && <FailureNote failure={all.failure.value} again={() => void all.load()} />}
      {!all.loaded.value && !all.failure.value ? (
        <Loading rows={3} />
      ) : own.length === 0 ? (
        <Empty icon="snapshot" title="No snapshots" text="A snapshot keeps the machine as it is, also while it runs: its disk and its memory at the same instant. You can go back to it.">
          {button}
        </Empty>
      ) : (
        <Panel title="Snapshots" action={button} class="tree-panel">
          <ul class="tree" aria-label="Snapshots, each under the one that it goes on from">
            {roots.map((n) => (
              <Branch key={n.snapshot.id} node={n} vm={vm} base={base} />
            ))}
            {!base && <Now vm={vm} />}
          </ul>
        </Panel>
      )}
      {creating && <Create vm={vm} onClose={() => create(false)} />}
    </>
  );
}

// SPDX-License-Identifier: GPL-2.0-or-later
// Any resource that the API has, by its schemas: list, creation, actions, deletion. Networks, volumes, templates and tokens
// are shown so.
import { useState } from 'preact/hooks';
import { actionsOf, can, type Resource, type Schema } from '../api/document';
import { bytes, label } from '../format';
import { iconOf, titleOf } from '../kinds';
import { place, setQuery } from '../router';
import { collection, type Item } from '../store';
import { Ago, Copy, Empty, Facts, FailureNote, Head, Loading, Note, State } from '../ui/bits';
import { ask, Dialog } from '../ui/dialog';
import { Form } from '../ui/form';
import { Icon } from '../ui/icon';
import { Menu, type MenuItem } from '../ui/menu';
import { sorted, Table, type Column, type Order } from '../ui/table';
import { Calls, openCall } from './actions';

const MOST_COLUMNS = 5;
const SECRETS = ['secret', 'token'];

interface Place {
  part: 'spec' | 'status';
  name: string;
  schema: Schema;
}

function fieldsOf(r: Resource): Place[] {
  return (['spec', 'status'] as const).flatMap((part) =>
    Object.entries(r.item.properties?.[part]?.properties ?? {}).map(([name, schema]) => ({ part, name, schema })),
  );
}

function Value({ field, value }: { field: Place; value: unknown }) {
  if (value === undefined || value === null || value === '') return <span class="muted">–</span>;
  if (field.name === 'state') return <State state={String(value)} />;
  if (field.schema.format === 'date-time') return <Ago time={String(value)} />;
  if (field.schema['x-unit'] === 'bytes') return <>{bytes(Number(value))}</>;
  if (Array.isArray(value)) return value.length ? <>{value.join(', ')}</> : <span class="muted">–</span>;
  if (typeof value === 'boolean') return <>{value ? 'yes' : 'no'}</>;
  if (typeof value === 'object') return <code>{JSON.stringify(value)}</code>;
  return <>{String(value)}</>;
}

const valueOf = (i: Item, f: Place): unknown => i[f.part]?.[f.name];

/** Those that the command line lists; without a word on that, those that are single values. */
function listed(r: Resource): Place[] {
  const all = fieldsOf(r).filter((f) => f.name !== 'state');
  const told = all.filter((f) => f.schema['x-column']);
  const rest = all.filter((f) => !['array', 'object'].includes(f.schema.type ?? '') && f.name !== 'reason');
  return (told.length ? told : rest).slice(0, MOST_COLUMNS);
}

function Details({ resource, item, onClose }: { resource: Resource; item: Item; onClose: () => void }) {
  const rows = fieldsOf(resource).filter((f) => valueOf(item, f) !== undefined);
  return (
    <Dialog title={item.name} wide onClose={onClose}>
      <div class="dialog-body">
        <Facts
          rows={[
            ...rows.map((f): [string, preact.ComponentChildren] => [label(f.name), <Value field={f} value={valueOf(item, f)} />]),
            ['Created', <Ago time={item.created} />],
            ['ID', <span class="with-copy mono">{item.id}<Copy text={item.id} what="the ID" /></span>],
          ]}
        />
      </div>
      <footer>
        <button data-first onClick={onClose}>
          Close
        </button>
      </footer>
    </Dialog>
  );
}

function Secret({ name, secret, onClose }: { name: string; secret: string; onClose: () => void }) {
  return (
    <Dialog title={`The secret of ${name}`} onClose={onClose}>
      <div class="dialog-body">
        <Note tone="warn" text="It is shown only now. Keep it where nobody else reads it." />
        <p class="secret">
          <code tabIndex={0}>{secret}</code>
          <Copy text={secret} what="the secret" />
        </p>
      </div>
      <footer>
        <button data-first class="primary" onClick={onClose}>
          I have it
        </button>
      </footer>
    </Dialog>
  );
}

function findSecret(made: Item): string | undefined {
  for (const part of [made as unknown as Record<string, unknown>, made.status, made.spec])
    for (const word of SECRETS) if (typeof part?.[word] === 'string') return part[word] as string;
  return undefined;
}

export function Things({ resource: r }: { resource: Resource }) {
  const [creating, create] = useState(false);
  const [editing, edit] = useState<Item | null>(null);
  const [shown, show] = useState<Item | null>(null);
  const [secret, setSecret] = useState<{ name: string; secret: string } | null>(null);
  const all = collection(r.kind).use();
  const query = place.value.query;
  const text = (query.get('find') ?? '').toLowerCase();
  const order: Order = { by: query.get('by') ?? 'name', down: query.get('down') === '1' };
  const noun = titleOf(r).replace(/s$/, '').toLowerCase();
  const hasState = fieldsOf(r).some((f) => f.name === 'state');
  const actions = actionsOf(r.kind);

  const remove = (i: Item) =>
    ask({
      title: `Delete the ${noun} ${i.name}?`,
      text: <p>{r.verbs.delete?.help}. This cannot be undone.</p>,
      verb: 'Delete',
      danger: true,
      run: () => void all.act(i.name, 'delete'),
    });
  const menu = (i: Item): MenuItem[] => [
    ...(can(r.kind, 'update') ? [{ label: 'Edit …', icon: 'edit' as const, run: () => edit(i) }] : []),
    ...actions.map((v) => ({ label: `${label(v.name)} …`, icon: 'right' as const, run: () => openCall(r.kind, i.name, v) })),
    ...(can(r.kind, 'delete') ? [{ label: 'Delete', icon: 'trash' as const, danger: true, run: () => remove(i) }] : []),
  ];
  const columns: Column<Item>[] = [
    {
      id: 'name', title: 'Name', class: 'main', sort: (i) => i.name,
      cell: (i) => (
        <button class="link" onClick={() => show(i)}>
          {i.name}
        </button>
      ),
    },
    ...(hasState ? [{ id: 'state', title: 'State', class: 'state-cell', sort: (i: Item) => String(i.status?.state ?? ''), cell: (i: Item) => <State state={String(i.status?.state ?? '')} pending={all.pending.value.get(i.name)} title={String(i.status?.reason ?? '')} /> }] : []),
    ...listed(r).map((f, n): Column<Item> => ({
      id: f.name, title: label(f.name), class: n ? 'hide-s cut' : 'cut', sort: (i) => (typeof valueOf(i, f) === 'number' ? (valueOf(i, f) as number) : String(valueOf(i, f) ?? '')),
      cell: (i) => <Value field={f} value={valueOf(i, f)} />,
    })),
    { id: 'created', title: 'Created', class: 'hide-s', sort: (i) => -Date.parse(i.created), cell: (i) => <Ago time={i.created} /> },
    { id: 'do', title: 'Actions', hidden: true, class: 'do', cell: (i) => <span class="row-actions">{menu(i).length > 0 && <Menu label={`More for ${i.name}`} items={menu(i)} />}</span> },
  ];
  const fit = [...all.items.value.values()].filter((i) => !text || JSON.stringify([i.name, i.spec]).toLowerCase().includes(text));
  const rows = sorted(fit, columns, order);
  const button = r.create && can(r.kind, 'create') && (
    <button class="primary" onClick={() => create(true)}>
      <Icon name="plus" />
      New {noun}
    </button>
  );
  return (
    <>
      <Head title={titleOf(r)}>{button}</Head>
      {all.failure.value && <FailureNote failure={all.failure.value} again={() => void all.load()} />}
      {!all.loaded.value && !all.failure.value ? (
        <Loading />
      ) : all.items.value.size === 0 ? (
        !all.failure.value && (
          <Empty icon={iconOf(r)} title={`No ${titleOf(r).toLowerCase()} yet`} text={`A ${noun} is ${r.help}.`}>
            {button}
          </Empty>
        )
      ) : (
        <>
          {all.items.value.size > 5 && (
            <div class="toolbar">
              <label class="search">
                <Icon name="search" size={15} />
                <input type="search" aria-label={`Find ${titleOf(r).toLowerCase()}`} placeholder="Find" value={query.get('find') ?? ''} onInput={(e) => setQuery({ find: e.currentTarget.value })} />
              </label>
            </div>
          )}
          <div class="panel flush">
            <Table label={titleOf(r)} columns={columns} rows={rows} rowKey={(i) => i.name} order={order} onOrder={(o) => setQuery({ by: o.by, down: o.down ? '1' : '' })} />
          </div>
        </>
      )}
      {creating && r.create && (
        <Dialog title={`New ${noun}`} wide onClose={() => create(false)}>
          <Form
            schema={r.create}
            withName={r.named}
            verb="Create"
            onCancel={() => create(false)}
            onSubmit={async (name, spec) => {
              const made = await all.create({ ...(r.named ? { name } : {}), spec });
              const word = findSecret(made);
              create(false);
              if (word) setSecret({ name: made.name, secret: word });
            }}
          />
        </Dialog>
      )}
      {editing && r.update && (
        <Dialog title={`Edit ${editing.name}`} wide onClose={() => edit(null)}>
          <Form
            schema={r.update}
            start={editing.spec}
            changesOnly
            verb="Save"
            onCancel={() => edit(null)}
            onSubmit={async (_, changes) => {
              if (Object.keys(changes).length) await all.update(editing, changes);
              edit(null);
            }}
          />
        </Dialog>
      )}
      {shown && <Details resource={r} item={all.get(shown.name) ?? shown} onClose={() => show(null)} />}
      {secret && <Secret {...secret} onClose={() => setSecret(null)} />}
      <Calls />
    </>
  );
}

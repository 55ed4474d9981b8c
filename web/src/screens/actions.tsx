// SPDX-License-Identifier: GPL-2.0-or-later
// What can be done with a machine, and when. Those that lose something ask first.
import { signal } from '@preact/signals';
import { actionsOf, can, resources, type Verb } from '../api/document';
import { path, call } from '../api/client';
import type { Vm } from '../api/schema';
import { label, plural } from '../format';
import { go } from '../router';
import { jobs, machines } from '../store';
import { ask, Dialog } from '../ui/dialog';
import { Form } from '../ui/form';
import type { IconName } from '../ui/icon';
import type { MenuItem } from '../ui/menu';
import { toast } from '../ui/toast';

interface Action {
  verb: string;
  label: string;
  icon: IconName;
  when: (state: string) => boolean;
  danger?: boolean;
  question?: (names: string) => { text: string; choice?: { label: string; help?: string } };
}

const up = (s: string) => ['running', 'paused', 'starting', 'restarting', 'pausing', 'resuming', 'stopping'].includes(s);

export const actions: Action[] = [
  { verb: 'start', label: 'Start', icon: 'play', when: (s) => s === 'stopped' || s === 'failed' || s === 'suspended' },
  { verb: 'resume', label: 'Resume', icon: 'play', when: (s) => s === 'paused' },
  {
    verb: 'stop', label: 'Stop', icon: 'stop', when: (s) => ['running', 'paused', 'starting', 'restarting'].includes(s),
    question: (n) => ({ text: `The guest of ${n} is asked to shut down. If it takes longer than a minute it is ended by force.` }),
  },
  {
    verb: 'restart', label: 'Restart', icon: 'restart', when: (s) => s === 'running' || s === 'paused',
    question: (n) => ({ text: `${n} is shut down and started anew.` }),
  },
  { verb: 'pause', label: 'Pause', icon: 'pause', when: (s) => s === 'running' },
  {
    verb: 'kill', label: 'Kill', icon: 'kill', danger: true, when: up,
    question: (n) => ({ text: `${n} ends at once, as if its power was cut. What the guest has not written to its disk is lost.` }),
  },
  {
    verb: 'delete', label: 'Delete', icon: 'trash', danger: true, when: (s) => s !== 'deleting',
    question: (n) => ({ text: `${n} is deleted with its disk and its snapshots. This cannot be undone.` }),
  },
];

/* Operations with a screen of their own, or none for people. */
const ELSEWHERE = new Set(['list', 'get', 'create', 'update', 'wait', 'console', 'agent', 'log', 'ticket', 'screen', 'screenshot', 'pointer', 'send-key', 'type', 'insert', 'eject', 'nic-add', 'nic-remove', 'device-add', 'device-remove', ...actions.map((a) => a.verb)]);
const ELSE_ICONS: Record<string, IconName> = { clone: 'copy', suspend: 'pause', capture: 'template', export: 'download' };

/** An operation of the API that wants arguments, as a dialog. */
interface Call {
  kind: string;
  plural: string;
  name: string;
  verb: Verb;
}
const calling = signal<Call | null>(null);

export function openCall(kind: string, name: string, verb: Verb): void {
  calling.value = { kind, plural: resources.value.get(kind)?.plural ?? `${kind}s`, name, verb };
}

export function Calls() {
  const c = calling.value;
  if (!c) return null;
  const close = () => {
    calling.value = null;
  };
  return (
    <Dialog title={`${label(c.verb.name)} ${c.name}`} onClose={close}>
      <Form
        schema={c.verb.args}
        verb={label(c.verb.name)}
        before={<p class="prose">{c.verb.help}.</p>}
        onCancel={close}
        onSubmit={async (_, args) => {
          const made = await call<{ kind?: string; name?: string }>(c.verb.method, path(c.plural, c.name, c.verb.name), args);
          close();
          toast({ tone: 'good', title: `${label(c.verb.name)} ${c.name}`, text: made?.kind === 'job' ? 'It is being done: see Jobs.' : undefined });
          void jobs().load();
          void machines().load();
          if (c.verb.name === 'clone' && made?.kind === 'vm' && made.name) go('machines', made.name);
        }}
      />
    </Dialog>
  );
}

async function each(verb: string, vms: readonly Vm[], args?: (vm: Vm) => Record<string, unknown> | undefined): Promise<boolean> {
  const results = await Promise.all(vms.map((vm) => machines().act(vm.name, verb, args?.(vm))));
  return results.every((r) => r !== false);
}

export function run(action: Action, vms: readonly Vm[], after?: () => void): void {
  const these = vms.filter((vm) => action.when(vm.status.state));
  if (!these.length) return;
  const args = action.verb === 'delete' ? (vm: Vm) => (up(vm.status.state) ? { force: true } : undefined) : undefined;
  const work = async () => {
    if (await each(action.verb, these, args)) after?.();
  };
  if (!action.question) return void work();
  const one = these.length === 1;
  const names = one ? these[0]!.name : plural(these.length, 'machine');
  const q = action.question(one ? `“${names}”` : `Each of ${names}`);
  const live = these.filter((vm) => up(vm.status.state)).length;
  ask({
    title: `${action.label} ${one ? names : names}?`,
    text: (
      <>
        <p>{q.text}</p>
        {action.verb === 'delete' && live > 0 && <p>{one ? 'It runs and is ended first.' : `${live} of them run and are ended first.`}</p>}
      </>
    ),
    verb: action.label,
    danger: action.danger,
    // The dialog need not wait: the list shows how far it is.
    run: () => void work(),
  });
}

export const allowed = (vm: Vm): Action[] => actions.filter((a) => a.when(vm.status.state) && can('vm', a.verb));

/** What the menu of a machine has: all that the buttons beside it do not. */
export function menuOf(vm: Vm, beside: string[] = [], after?: (verb: string) => void): MenuItem[] {
  const own = allowed(vm).filter((a) => !beside.includes(a.verb));
  const item = (a: Action): MenuItem => ({ label: a.label, icon: a.icon, danger: a.danger, run: () => run(a, [vm], () => after?.(a.verb)) });
  const more = actionsOf('vm').filter((v) => !ELSEWHERE.has(v.name));
  return [
    ...own.filter((a) => !a.danger).map(item),
    ...more.map((v) => ({ label: `${label(v.name)} …`, icon: ELSE_ICONS[v.name] ?? ('right' as const), run: () => openCall('vm', vm.name, v) })),
    ...own.filter((a) => a.danger).map(item),
  ];
}

// SPDX-License-Identifier: GPL-2.0-or-later
// The serial line and the screen of a machine: a ticket of the API, and a WebSocket that it opens. The terminal and the
// viewer are loaded only here.
import { useEffect, useRef, useState } from 'preact/hooks';
import { call, path, sentence } from '../api/client';
import type { Vm } from '../api/schema';
import { can } from '../api/document';
import { Note, State } from '../ui/bits';
import { Icon } from '../ui/icon';
import { toast } from '../ui/toast';

export type What = 'serial' | 'vnc';

interface Ticket {
  url: string;
}

export interface View {
  close: () => void;
  focus: () => void;
}

export interface Ends {
  opened: () => void;
  closed: (why: string) => void;
}

/** The address of a WebSocket that a fresh ticket opens. */
async function address(vm: string, what: What, port: number): Promise<string> {
  const ticket = await call<Ticket>('POST', path('vms', vm, 'ticket'), what === 'serial' ? { what, port } : { what });
  const url = new URL(ticket.url, location.href);
  url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
  return url.href;
}

async function open(what: What, url: string, into: HTMLElement, ends: Ends): Promise<View> {
  if (what === 'vnc') return (await import('../ui/viewer')).viewer(url, into, ends);
  return (await import('../ui/terminal')).terminal(url, into, ends);
}

/** Keys that the browser's system would take itself. */
async function press(vm: string): Promise<void> {
  try {
    await call('POST', path('vms', vm, 'send-key'), { keys: 'ctrl-alt-del' });
  } catch (e) {
    toast({ tone: 'bad', title: 'The keys were not sent', text: sentence(e) });
  }
}

export function Stream({ vm, what }: { vm: Vm; what: What }) {
  const into = useRef<HTMLDivElement>(null);
  const frame = useRef<HTMLDivElement>(null);
  const view = useRef<View | null>(null);
  const [line, setLine] = useState<'opening' | 'open' | 'closed'>('opening');
  const [why, setWhy] = useState('');
  const [attempt, again] = useState(0);
  const [port, setPort] = useState(1);
  const ports = what === 'serial' ? (vm.spec.serial_ports ?? 1) : 1;
  const on = !!vm.status.pid && vm.status.state !== 'deleting';
  const process = on ? vm.status.pid : 0;

  useEffect(() => {
    if (!process || !into.current) return;
    let gone = false;
    setLine('opening');
    setWhy('');
    const ends: Ends = {
      opened: () => !gone && setLine('open'),
      closed: (reason) => {
        if (gone) return;
        setLine('closed');
        setWhy(reason);
      },
    };
    address(vm.name, what, port)
      .then((url) => (gone ? null : open(what, url, into.current!, ends)))
      .then((v) => {
        view.current = v;
        if (gone) v?.close();
        else v?.focus();
      })
      .catch((e) => ends.closed(sentence(e)));
    return () => {
      gone = true;
      view.current?.close();
      view.current = null;
      into.current?.replaceChildren();
    };
  }, [vm.name, process, attempt, port]);

  const words = { opening: 'connecting', open: 'connected', closed: 'closed' };
  return (
    <section class="stream" aria-label={what === 'serial' ? 'Serial console' : 'Screen'}>
      {!on && (
        <Note tone="info" title={`${vm.name} does not run`}>
          <p>{what === 'serial' ? 'Its console' : 'Its screen'} opens here by itself when it is started.</p>
        </Note>
      )}
      {on && why && (
        <Note tone="warn" title={what === 'serial' ? 'The console is closed' : 'The screen is closed'}>
          <p>{why}</p>
          <p>
            <button onClick={() => again(attempt + 1)}>Connect again</button>
          </p>
        </Note>
      )}
      <div ref={frame} class={`stream-frame ${what}`} hidden={!on}>
        <header>
          <State state={words[line] === 'connected' ? 'live' : words[line]} />
          <span class="grow muted small">
            {what === 'serial' ? 'Serial line. Tab stays in the console; Shift+Escape leaves it.' : 'Keys and pointer go to the guest while the picture has the focus.'}
          </span>
          {ports > 1 && (
            <select aria-label="Serial port" value={port} onChange={(e) => setPort(Number(e.currentTarget.value))}>
              {Array.from({ length: ports }, (_, i) => (
                <option key={i} value={i + 1}>
                  COM{i + 1}
                </option>
              ))}
            </select>
          )}
          {what === 'vnc' && can('vm', 'send-key') && (
            <button class="quiet" disabled={line !== 'open'} onClick={() => void press(vm.name)}>
              <Icon name="kill" size={14} />
              Ctrl Alt Del
            </button>
          )}
          <button class="quiet" onClick={() => void frame.current?.requestFullscreen()}>
            <Icon name="expand" size={14} />
            Whole screen
          </button>
        </header>
        <div
          ref={into}
          class="stream-body"
          onKeyDownCapture={(e) => {
            if (e.key !== 'Escape' || !e.shiftKey) return;
            e.preventDefault();
            e.stopPropagation();
            frame.current?.querySelector<HTMLElement>('header button')?.focus();
          }}
        />
      </div>
    </section>
  );
}

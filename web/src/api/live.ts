// SPDX-License-Identifier: GPL-2.0-or-later
// The events of the manager as they happen: server-sent events (WHATWG HTML section 9.2), read by fetch, since EventSource
// gives only events of names that are known before, and does not say why it failed. A connection that is lost is built up
// again, at once and then ever more slowly, and goes on behind the last event; what was missed comes with it.
import { signal } from '@preact/signals';
import { addEvents, events, reloadAll } from '../store';
import { call, Failure, request } from './client';
import type { Event } from './schema';

export type Live = 'connecting' | 'live' | 'lost';
export const live = signal<Live>('connecting');
/** When the next attempt comes, as Date.now() counts. */
export const nextTry = signal(0);

const FIRST_EVENTS = 500;
const SLOWEST = 15_000; // ms

let stopper: AbortController | null = null;
let hurry: (() => void) | null = null;

/** Calls `take` with the data of each message. */
async function read(body: ReadableStream<Uint8Array>, take: (data: string[]) => void): Promise<void> {
  const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value;
    const messages = rest.split('\n\n');
    rest = messages.pop() ?? '';
    take(
      messages.flatMap((m) => {
        const lines = m.split('\n').filter((l) => l.startsWith('data:'));
        return lines.length ? [lines.map((l) => l.slice(5).trimStart()).join('\n')] : [];
      }),
    );
  }
}

/** The newest events that there are, so that screens have something to show. */
async function catchUp(): Promise<void> {
  const known = events.value[0]?.seq;
  if (known !== undefined) return;
  const newest = await call<{ items: Event[] }>('GET', `/v1/events?newest=true&limit=${FIRST_EVENTS}`);
  addEvents(newest.items, true);
}

async function follow(signal: AbortSignal): Promise<void> {
  await catchUp();
  const last = events.value[0]?.seq ?? 0;
  const answer = await request('GET', `/v1/events?after=${last}`, undefined, { signal, accept: 'text/event-stream' });
  if (!answer.body) throw new Failure(0, 'failed', '', 'the stream of events is empty', '');
  live.value = 'live';
  reloadAll();
  await read(answer.body, (data) => addEvents(data.map((d) => JSON.parse(d) as Event)));
}

const pause = (ms: number, signal: AbortSignal): Promise<void> =>
  new Promise((done) => {
    const finish = () => {
      clearTimeout(timer);
      hurry = null;
      done();
    };
    const timer = setTimeout(finish, ms);
    hurry = finish;
    signal.addEventListener('abort', finish, { once: true });
  });

export function start(): void {
  if (stopper) return;
  const own = new AbortController();
  stopper = own;
  void (async () => {
    let wait = 0;
    while (!own.signal.aborted) {
      try {
        await follow(own.signal);
      } catch (e) {
        if (e instanceof Failure && e.status === 401) return;
      }
      if (own.signal.aborted) return;
      if (live.value === 'live') wait = 0;
      live.value = 'lost';
      wait = Math.min(SLOWEST, wait ? wait * 2 : 500);
      nextTry.value = Date.now() + wait;
      await pause(wait, own.signal);
    }
  })();
}

export function stop(): void {
  stopper?.abort();
  stopper = null;
  live.value = 'connecting';
}

export function tryNow(): void {
  hurry?.();
}

window.addEventListener('online', tryNow);

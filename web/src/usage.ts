// SPDX-License-Identifier: GPL-2.0-or-later
// What machines and the host use, as rates over time: counters are asked for again and again while somebody looks, and
// their differences kept for the graphs.
import { signal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { call, list } from './api/client';
import type { Host, Usage } from './api/schema';

export interface Sample {
  time: number; // ms
  cpu: number; // processors that it keeps busy: 1 is one
  memory: number; // bytes
  diskRead: number; // bytes a second
  diskWrite: number;
  netIn: number;
  netOut: number;
}

export interface HostSample {
  time: number;
  cpu: number; // 0 to 1
  memory: number;
}

const KEEP = 300; // samples of one thing
const LOOKED_AT = 2000; // ms between two questions while a screen shows them
const BESIDE = 10_000; // otherwise: there is something to show when one is opened

const history = new Map<string, Sample[]>(); // by id
const before = new Map<string, Usage>();
export const usage = signal<ReadonlyMap<string, Usage>>(new Map()); // by name
export const host = signal<Host | null>(null);
export const hostHistory = signal<readonly HostSample[]>([]);
/** Grows with each answer. */
export const tick = signal(0);

let watchers = 0;
let timer = 0;
let asking = false;
let hostBefore: { busy: number; idle: number } | null = null;

/** Whoever shows them is drawn again when there are more. */
export function samples(id: string): readonly Sample[] {
  void tick.value;
  return history.get(id) ?? [];
}

export const lastSample = (id: string): Sample | undefined => samples(id).at(-1);

function keep<T>(row: T[], one: T): void {
  row.push(one);
  if (row.length > KEEP) row.shift();
}

function takeUsage(now: Usage): void {
  if (!now.time) return;
  const last = before.get(now.id);
  if (last?.time === now.time) return;
  before.set(now.id, now);
  const time = Date.parse(now.time);
  const seconds = last?.time ? (time - Date.parse(last.time)) / 1000 : 0;
  // A machine that began anew counts from 0 again.
  if (!last || seconds <= 0 || (now.cpu_ms ?? 0) < (last.cpu_ms ?? 0)) return;
  const rate = (field: keyof Usage) => Math.max(0, Number(now[field] ?? 0) - Number(last[field] ?? 0)) / seconds;
  const row = history.get(now.id) ?? [];
  history.set(now.id, row);
  keep(row, {
    time,
    cpu: rate('cpu_ms') / 1000,
    memory: now.resident ?? 0,
    diskRead: rate('disk_read_bytes'),
    diskWrite: rate('disk_written_bytes'),
    netIn: rate('net_received_bytes'),
    netOut: rate('net_sent_bytes'),
  });
}

function takeHost(h: Host): void {
  host.value = h;
  const busy = h.cpu_busy_ms ?? 0;
  const idle = h.cpu_idle_ms ?? 0;
  const all = hostBefore ? busy - hostBefore.busy + (idle - hostBefore.idle) : 0;
  if (hostBefore && all > 0) {
    const next = [...hostHistory.value];
    keep(next, {
      time: Date.now(),
      cpu: (busy - hostBefore.busy) / all,
      memory: (h.memory ?? 0) - (h.memory_available ?? 0),
    });
    hostHistory.value = next;
  }
  hostBefore = { busy, idle };
}

async function ask(): Promise<void> {
  if (asking || document.hidden) return;
  asking = true;
  try {
    const [all, h] = await Promise.all([list<Usage>('/v1/usage'), call<Host>('GET', '/v1/hosts/local')]);
    all.forEach(takeUsage);
    takeHost(h);
    usage.value = new Map(all.map((u) => [u.name, u]));
    const there = new Set(all.map((u) => u.id));
    for (const id of history.keys()) if (!there.has(id)) history.delete(id);
    for (const id of before.keys()) if (!there.has(id)) before.delete(id);
    tick.value++;
  } catch {
    // The line that follows the events tells of a manager that is gone.
  } finally {
    asking = false;
  }
}

function arm(): void {
  clearInterval(timer);
  timer = window.setInterval(() => void ask(), watchers ? LOOKED_AT : BESIDE);
}

export function startUsage(): void {
  void ask();
  arm();
}

export function stopUsage(): void {
  clearInterval(timer);
  history.clear();
  before.clear();
  hostBefore = null;
  hostHistory.value = [];
  usage.value = new Map();
}

/** A screen that shows them. */
export function useUsage(): number {
  useEffect(() => {
    watchers++;
    void ask();
    arm();
    return () => {
      watchers--;
      arm();
    };
  }, []);
  return tick.value;
}

document.addEventListener('visibilitychange', () => {
  if (!document.hidden && timer) void ask();
});

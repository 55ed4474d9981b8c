// SPDX-License-Identifier: GPL-2.0-or-later
// What the portal knows of the manager's resources. A collection is loaded when a screen first asks for it and kept true by
// events from then on. An action shows at once as `pending`; what it really did is what the API answers.
import { signal, type Signal } from '@preact/signals';
import { call, Failure, list, path, sentence } from './api/client';
import { resources } from './api/document';
import type { Event, Image, Job, Snapshot, Vm } from './api/schema';
import { toast } from './ui/toast';

export interface Item {
  kind: string;
  id: string;
  name: string;
  revision: number;
  created: string;
  spec: Record<string, unknown>;
  status: Record<string, unknown>;
}

const GATHER = 120; // ms; events that come together lead to one look
const FEW = 8; // changed items that are asked for one by one

export class Collection<T extends { name: string; revision: number; kind: string }> {
  readonly items: Signal<ReadonlyMap<string, T>> = signal(new Map());
  readonly loaded = signal(false);
  readonly failure = signal<Failure | null>(null);
  readonly pending: Signal<ReadonlyMap<string, string>> = signal(new Map());
  private used = false;
  private loading: Promise<void> | null = null;
  private again = false; // what was asked for while a list was on its way may not be in it
  private newer = new Set<string>(); // put or removed meanwhile
  private changed = new Set<string>();
  private timer = 0;

  constructor(
    readonly kind: string,
    readonly plural: string,
  ) {}

  /** To be called by whoever shows it. */
  use(): this {
    if (!this.used) {
      this.used = true;
      void this.load();
    }
    return this;
  }

  load(): Promise<void> {
    if (!this.used) return Promise.resolve();
    if (this.loading) {
      this.again = true;
      return this.loading;
    }
    this.newer.clear();
    this.loading = list<T>(path(this.plural))
      .then((all) => {
        this.items.value = this.merged(all);
        this.loaded.value = true;
        this.failure.value = null;
      })
      .catch((e) => {
        this.failure.value = e instanceof Failure ? e : new Failure(0, 'failed', '', sentence(e), '');
      })
      .finally(() => {
        this.loading = null;
        if (!this.again) return;
        this.again = false;
        return this.load();
      });
    return this.loading;
  }

  /** The list, but for what is known to be newer. */
  private merged(all: readonly T[]): Map<string, T> {
    const next = new Map(all.map((i) => [i.name, i]));
    for (const name of this.newer) {
      const known = this.items.value.get(name);
      if (!known) next.delete(name);
      else if (known.revision >= (next.get(name)?.revision ?? 0)) next.set(name, known);
    }
    return next;
  }

  get(name: string): T | undefined {
    return this.items.value.get(name);
  }

  put(item: T): void {
    const known = this.items.value.get(item.name);
    if (known && known.revision > item.revision) return;
    this.newer.add(item.name);
    const next = new Map(this.items.value);
    next.set(item.name, item);
    this.items.value = next;
  }

  remove(name: string): void {
    this.newer.add(name);
    if (!this.items.value.has(name)) return;
    const next = new Map(this.items.value);
    next.delete(name);
    this.items.value = next;
  }

  /** Something has happened to it. */
  touch(name: string): void {
    if (!this.used) return;
    this.changed.add(name);
    this.timer ||= window.setTimeout(() => void this.refresh(), GATHER);
  }

  private async refresh(): Promise<void> {
    const names = [...this.changed];
    this.changed.clear();
    try {
      if (names.length > FEW) await this.load();
      else await Promise.all(names.map((n) => this.look(n)));
    } finally {
      this.timer = 0;
      if (this.changed.size) this.timer = window.setTimeout(() => void this.refresh(), GATHER);
    }
  }

  async look(name: string): Promise<void> {
    try {
      this.put(await call<T>('GET', path(this.plural, name)));
    } catch (e) {
      if (e instanceof Failure && e.status === 404) this.remove(name);
    }
  }

  private mark(name: string, verb: string | null): void {
    const next = new Map(this.pending.value);
    if (verb) next.set(name, verb);
    else next.delete(name);
    this.pending.value = next;
  }

  async create(body: unknown): Promise<T> {
    const item = await call<T>('POST', path(this.plural), body);
    this.put(item);
    return item;
  }

  async update(item: T, spec: Record<string, unknown>): Promise<T> {
    const next = await call<T>('PATCH', path(this.plural, item.name), { spec }, { revision: item.revision });
    this.put(next);
    return next;
  }

  /** An action, or delete. A failure is told, and comes back as false. */
  async act(name: string, verb: string, args?: Record<string, unknown>): Promise<T | boolean> {
    const op = resources.value.get(this.kind)?.verbs[verb];
    this.mark(name, verb);
    try {
      if (verb === 'delete') {
        const words = new URLSearchParams(Object.entries(args ?? {}).map(([k, v]) => [k, String(v)]));
        const query = words.size ? `?${words}` : '';
        const left = await call<T | undefined>('DELETE', path(this.plural, name) + query);
        if (left?.name && (left as unknown as Item).status?.state === 'deleting') this.put(left);
        else this.remove(name);
        return true;
      }
      const item = await call<T>(op?.method ?? 'POST', path(this.plural, name, verb), args ?? {});
      if (item?.kind === this.kind && item.name) this.put(item);
      return item ?? true;
    } catch (e) {
      toast({ tone: 'bad', title: `${verb} ${name}`, text: sentence(e) });
      void this.look(name);
      return false;
    } finally {
      this.mark(name, null);
    }
  }
}

const collections = new Map<string, Collection<Item>>();

export function collection(kind: string): Collection<Item> {
  let c = collections.get(kind);
  if (!c) {
    c = new Collection<Item>(kind, resources.value.get(kind)?.plural ?? kind + 's');
    collections.set(kind, c);
  }
  return c;
}

export const machines = (): Collection<Vm> => collection('vm') as unknown as Collection<Vm>;
export const images = (): Collection<Image> => collection('image') as unknown as Collection<Image>;
export const snapshots = (): Collection<Snapshot> => collection('snapshot') as unknown as Collection<Snapshot>;
export const jobs = (): Collection<Job> => collection('job') as unknown as Collection<Job>;

export function reloadAll(): void {
  for (const c of collections.values()) void c.load();
}

export function forgetAll(): void {
  collections.clear();
  events.value = [];
}

/* ---- events ---- */

export const MOST_EVENTS = 2000;
/** The newest first. */
export const events = signal<readonly Event[]>([]);

/** `old`: they are from before anything was loaded, and change nothing that is known. */
export function addEvents(more: readonly Event[], old = false): void {
  const last = events.value[0]?.seq ?? 0;
  const fresh = more.filter((e) => e.seq > last);
  if (!fresh.length) return;
  events.value = [...fresh.reverse(), ...events.value].slice(0, MOST_EVENTS);
  if (old) return;
  for (const e of fresh) {
    collections.get(e.kind)?.touch(e.name);
    // A snapshot is called MACHINE.NAME, and the machine goes on from it.
    if (e.kind === 'snapshot') collections.get('vm')?.touch(e.name.slice(0, e.name.lastIndexOf('.')));
  }
}

// SPDX-License-Identifier: GPL-2.0-or-later
// Calls of the API. What goes wrong is a Failure, with the reason and the remedy that the API gives.
import { signal } from '@preact/signals';

export class Failure extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly field: string,
    readonly reason: string,
    readonly remedy: string,
  ) {
    super(reason);
  }
}

export interface Session {
  caller: string;
  role: string;
  expires?: string;
  may?: string[]; // permissions; without them: everything
}

/** null: nobody is signed in; undefined: not known yet. */
export const session = signal<Session | null | undefined>(undefined);

/** The last call came through. */
export const reachable = signal(true);

const unreachable = () =>
  new Failure(0, 'unreachable', '', 'the manager does not answer', 'see whether vivd runs on that host: viv doctor');

async function failure(answer: Response): Promise<Failure> {
  const text = await answer.text();
  try {
    const f = JSON.parse(text) as Partial<Failure>;
    return new Failure(answer.status, f.code ?? '', f.field ?? '', f.reason ?? answer.statusText, f.remedy ?? '');
  } catch {
    return new Failure(answer.status, 'failed', '', `the manager answered ${answer.status} ${answer.statusText}`, '');
  }
}

function key(): string {
  const words = crypto.getRandomValues(new Uint32Array(4));
  return 'portal-' + Array.from(words, (w) => w.toString(16).padStart(8, '0')).join('');
}

export interface Options {
  signal?: AbortSignal;
  revision?: number; // only if it is still this one
  accept?: string;
}

export async function request(method: string, path: string, body?: unknown, options: Options = {}): Promise<Response> {
  const headers: Record<string, string> = { Accept: options.accept ?? 'application/json', 'X-Viv-Portal': '1' };
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  if (method === 'POST') headers['Idempotency-Key'] = key();
  if (options.revision !== undefined) headers['If-Match'] = `"${options.revision}"`;
  let answer: Response;
  try {
    answer = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: options.signal,
      credentials: 'same-origin',
      cache: 'no-store',
    });
  } catch (e) {
    if (options.signal?.aborted) throw e;
    reachable.value = false;
    throw unreachable();
  }
  reachable.value = true;
  if (answer.status === 401 && path !== '/v1/session') session.value = null;
  if (!answer.ok) throw await failure(answer);
  return answer;
}

export async function call<T>(method: string, path: string, body?: unknown, options?: Options): Promise<T> {
  const answer = await request(method, path, body, options);
  const text = await answer.text();
  return (text ? JSON.parse(text) : undefined) as T;
}

/** All pages of a list. */
export async function list<T>(path: string, query: Record<string, string> = {}): Promise<T[]> {
  const all: T[] = [];
  let after: string | undefined;
  do {
    const words = new URLSearchParams(query);
    if (after) words.set('after', after);
    const page = await call<{ items: T[]; next?: string }>('GET', `${path}?${words}`);
    all.push(...page.items);
    after = page.next;
  } while (after);
  return all;
}

export const path = (plural: string, name?: string, verb?: string): string =>
  '/v1/' + [plural, name, verb].filter((w) => w !== undefined).map((w) => encodeURIComponent(w as string)).join('/');

/** Who is signed in. A manager that knows no sessions is asked over a socket that only its owner reaches. */
export async function findSession(): Promise<void> {
  try {
    session.value = await call<Session>('GET', '/v1/session');
  } catch (e) {
    if (!(e instanceof Failure)) throw e;
    session.value = e.status === 404 ? { caller: 'local', role: 'admin' } : null;
    if (e.code === 'unreachable') throw e;
  }
}

export async function signIn(proof: { token: string } | { code: string }): Promise<void> {
  session.value = await call<Session>('POST', '/v1/session', proof);
}

export async function signOut(): Promise<void> {
  await call('DELETE', '/v1/session');
  session.value = null;
}

export const sentence = (e: unknown): string =>
  e instanceof Failure ? e.reason + (e.remedy ? `: ${e.remedy}` : '') : e instanceof Error ? e.message : String(e);

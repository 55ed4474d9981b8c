// SPDX-License-Identifier: GPL-2.0-or-later
// Places of the portal are kept behind the #, since names of machines may have dots: #/machines/web/console.
import { signal } from '@preact/signals';

export interface Place {
  parts: string[];
  query: URLSearchParams;
}

function read(): Place {
  // A one-time code (screens/signin.tsx) is no place.
  if (location.hash.startsWith('#code=')) return { parts: [], query: new URLSearchParams() };
  const [where = '', query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const parts = where
    .split('/')
    .filter(Boolean)
    .map((p) => {
      try {
        return decodeURIComponent(p);
      } catch {
        return p;
      }
    });
  return { parts, query: new URLSearchParams(query) };
}

export const place = signal<Place>(read());
window.addEventListener('hashchange', () => {
  place.value = read();
});

export const to = (...parts: string[]): string => '#/' + parts.map(encodeURIComponent).join('/');

export function go(...parts: string[]): void {
  location.hash = to(...parts);
}

/** Filters and the like: part of the place, but no step of the history. */
export function setQuery(changes: Record<string, string>): void {
  const query = new URLSearchParams(place.value.query);
  for (const [k, v] of Object.entries(changes)) {
    if (v) query.set(k, v);
    else query.delete(k);
  }
  const words = query.toString();
  history.replaceState(null, '', to(...place.value.parts) + (words ? `?${words}` : ''));
  place.value = { parts: place.value.parts, query };
}

// SPDX-License-Identifier: GPL-2.0-or-later
// How kinds of resources are called and drawn.
import { resources, type Resource } from './api/document';
import { label } from './format';
import type { IconName } from './ui/icon';

/* Resources that have no place of their own in the navigation: they are shown where they belong. */
const INSIDE = new Set(['vm', 'image', 'job', 'event', 'usage', 'host', 'snapshot', 'session', 'forward', 'attachment', 'set']);
const KNOWN: Record<string, { title: string; icon: IconName }> = {
  template: { title: 'Templates', icon: 'template' },
  net: { title: 'Networks', icon: 'network' },
  network: { title: 'Networks', icon: 'network' },
  volume: { title: 'Volumes', icon: 'volume' },
  token: { title: 'Tokens', icon: 'token' },
  system: { title: 'Guest systems', icon: 'other' },
};

export const titleOf = (r: Resource): string => KNOWN[r.kind]?.title ?? label(r.plural);
export const iconOf = (r: Resource): IconName => KNOWN[r.kind]?.icon ?? 'other';

/** Those that have a screen drawn from their schemas. */
export function others(): Resource[] {
  const all = [...resources.value.values()].filter((r) => r.verbs.list && !INSIDE.has(r.kind));
  const rank = (r: Resource) => (Object.keys(KNOWN).indexOf(r.kind) + 99) % 99;
  return all.sort((a, b) => rank(a) - rank(b));
}

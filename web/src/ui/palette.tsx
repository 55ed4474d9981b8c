// SPDX-License-Identifier: GPL-2.0-or-later
// Ctrl-K: go to a place or a machine by typing a part of its name.
import { signal } from '@preact/signals';
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { resources } from '../api/document';
import { label } from '../format';
import { to } from '../router';
import { collection, machines } from '../store';
import { Icon, type IconName } from './icon';
import { State } from './bits';

interface Target {
  title: string;
  kind: string;
  icon: IconName;
  href: string;
  state?: string;
}

const MOST = 12;
const open = signal(false);

export function openPalette(): void {
  open.value = true;
}

function targets(): Target[] {
  const places: [string, string, IconName][] = [
    ['Overview', '', 'overview'], ['Machines', 'machines', 'machine'], ['Images', 'images', 'image'], ['Jobs', 'jobs', 'job'],
    ['Events', 'events', 'event'], ['System', 'system', 'system'],
  ];
  const known = new Set(places.map((p) => p[1]));
  for (const r of resources.value.values())
    if (r.verbs.list && r.create && !known.has(r.plural) && !['vm', 'snapshot'].includes(r.kind)) places.push([label(r.plural), r.plural, 'other']);
  return [
    ...places.map(([title, p, icon]) => ({ title, kind: 'place', icon, href: to(...(p ? [p] : [])) })),
    ...[...machines().items.value.values()].map((m) => ({
      title: m.name, kind: 'machine', icon: 'machine' as const, href: to('machines', m.name), state: m.status.state as string,
    })),
    ...[...collection('image').items.value.values()].map((i) => ({ title: i.name, kind: 'image', icon: 'image' as const, href: to('images') })),
  ];
}

function Box() {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  const [text, setText] = useState('');
  const [at, setAt] = useState(0);
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const found = targets().filter((t) => words.every((w) => `${t.title} ${t.kind}`.toLowerCase().includes(w))).slice(0, MOST);
  const close = () => {
    open.value = false;
  };
  useEffect(() => {
    dialog.current?.showModal();
    return () => dialog.current?.close();
  }, []);
  const take = (t: Target | undefined) => {
    if (!t) return;
    close();
    location.hash = t.href;
  };
  return (
    <dialog
      ref={dialog}
      class="palette"
      aria-label="Find"
      onCancel={(e) => {
        e.preventDefault();
        close();
      }}
      onClick={(e) => e.target === dialog.current && close()}
    >
      <div class="palette-input">
        <Icon name="search" />
        <input
          autoFocus
          role="combobox"
          aria-expanded="true"
          aria-controls={id}
          aria-label="Find a place or a machine"
          aria-activedescendant={found.length ? `${id}-${Math.min(at, found.length - 1)}` : undefined}
          placeholder="Machines, images, places"
          value={text}
          autocomplete="off"
          spellcheck={false}
          onInput={(e) => {
            setText(e.currentTarget.value);
            setAt(0);
          }}
          onKeyDown={(e) => {
            if (e.key === 'ArrowDown' || e.key === 'ArrowUp') {
              e.preventDefault();
              setAt((at + (e.key === 'ArrowDown' ? 1 : found.length - 1)) % Math.max(1, found.length));
            } else if (e.key === 'Enter') {
              e.preventDefault();
              take(found[at]);
            }
          }}
        />
      </div>
      <div id={id} role="listbox" aria-label="Found" class="palette-list">
        {found.map((t, i) => (
          <div key={t.href + t.title} id={`${id}-${i}`} role="option" aria-selected={i === at} onClick={() => take(t)} onPointerMove={() => setAt(i)}>
            <Icon name={t.icon} />
            <span class="grow">{t.title}</span>
            {t.state ? <State state={t.state} /> : <span class="muted">{t.kind}</span>}
          </div>
        ))}
      </div>
      {!found.length && <p class="palette-none muted">Nothing is called so.</p>}
    </dialog>
  );
}

export function Palette() {
  return open.value ? <Box /> : null;
}

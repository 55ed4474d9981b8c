// SPDX-License-Identifier: GPL-2.0-or-later
// Short notes at the edge of the screen. A failure stays until it is closed.
import { signal } from '@preact/signals';
import { Icon } from './icon';

export interface Toast {
  tone: 'good' | 'bad';
  title: string;
  text?: string;
}

const MOST = 4;
const STAYS = 5000; // ms
let count = 0;
const toasts = signal<(Toast & { id: number })[]>([]);

const close = (id: number) => {
  toasts.value = toasts.value.filter((t) => t.id !== id);
};

export function toast(t: Toast): void {
  const id = ++count;
  toasts.value = [...toasts.value, { ...t, id }].slice(-MOST);
  if (t.tone === 'good') setTimeout(() => close(id), STAYS);
}

export function Toasts() {
  return (
    <div class="toasts" role="region" aria-label="Notes" aria-live="polite">
      {toasts.value.map((t) => (
        <div key={t.id} class={`toast ${t.tone}`} role={t.tone === 'bad' ? 'alert' : undefined}>
          <Icon name={t.tone} size={18} />
          <div class="grow">
            <strong>{t.title}</strong>
            {t.text && <p>{t.text}</p>}
          </div>
          <button class="quiet square" aria-label="Close this note" onClick={() => close(t.id)}>
            <Icon name="close" size={14} />
          </button>
        </div>
      ))}
    </div>
  );
}

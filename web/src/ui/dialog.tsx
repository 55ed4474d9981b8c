// SPDX-License-Identifier: GPL-2.0-or-later
// Dialogs: the browser's own <dialog>, which keeps the focus inside, closes by Escape and gives the focus back.
import { signal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { sentence } from '../api/client';
import { Icon } from './icon';
import { Note } from './bits';

interface DialogProps {
  title: string;
  wide?: boolean;
  onClose: () => void;
  children: ComponentChildren;
}

export function Dialog({ title, wide, onClose, children }: DialogProps) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const dialog = ref.current;
    dialog?.showModal();
    dialog?.querySelector<HTMLElement>('[data-first], input:not([type=hidden]), select, textarea')?.focus();
    return () => dialog?.close();
  }, []);
  return (
    <dialog
      ref={ref}
      class={wide ? 'wide' : ''}
      aria-labelledby={id}
      onCancel={(e) => {
        e.preventDefault();
        onClose();
      }}
      onClick={(e) => e.target === ref.current && onClose()}
    >
      <header>
        <h2 id={id}>{title}</h2>
        <button type="button" class="quiet square" aria-label="Close" onClick={onClose}>
          <Icon name="close" />
        </button>
      </header>
      {children}
    </dialog>
  );
}

/* ---- questions ---- */

export interface Question {
  title: string;
  text: ComponentChildren;
  verb: string; // on the button
  danger?: boolean;
  choice?: { label: string; help?: string; standard?: boolean }; // one more thing to tick
  typed?: string; // to be typed before it can be done
  run: (ticked: boolean) => Promise<unknown> | void;
}

const question = signal<Question | null>(null);

export function ask(q: Question): void {
  question.value = q;
}

function Asked({ q }: { q: Question }) {
  const [ticked, tick] = useState(q.choice?.standard ?? false);
  const [typed, type] = useState('');
  const [busy, setBusy] = useState(false);
  const [failure, fail] = useState('');
  const close = () => {
    question.value = null;
  };
  const submit = async (e: Event) => {
    e.preventDefault();
    setBusy(true);
    try {
      await q.run(ticked);
      close();
    } catch (error) {
      fail(sentence(error));
      setBusy(false);
    }
  };
  return (
    <Dialog title={q.title} onClose={close}>
      <form onSubmit={submit}>
        <div class="dialog-body">
          <div class="prose">{q.text}</div>
          {q.choice && (
            <label class="check">
              <input type="checkbox" checked={ticked} onChange={(e) => tick(e.currentTarget.checked)} />
              <span>
                {q.choice.label}
                {q.choice.help && <small>{q.choice.help}</small>}
              </span>
            </label>
          )}
          {q.typed && (
            <label class="field">
              <span>
                Type <code>{q.typed}</code> to go on
              </span>
              <input value={typed} onInput={(e) => type(e.currentTarget.value)} autocomplete="off" spellcheck={false} />
            </label>
          )}
          {failure && <Note tone="bad" text={failure} />}
        </div>
        <footer>
          <button type="button" onClick={close}>
            Cancel
          </button>
          <button
            data-first
            type="submit"
            class={q.danger ? 'danger' : 'primary'}
            disabled={busy || (q.typed !== undefined && typed !== q.typed)}
          >
            {q.verb}
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

export function Questions() {
  return question.value ? <Asked q={question.value} /> : null;
}

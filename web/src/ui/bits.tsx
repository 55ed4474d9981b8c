// SPDX-License-Identifier: GPL-2.0-or-later
// Small parts that every screen has: states, notes, empty places, meters, head lines.
import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { Failure } from '../api/client';
import { ago, exact } from '../format';
import { Icon, type IconName } from './icon';
import { toast } from './toast';

const tones: Record<string, string> = {
  running: 'good', ready: 'good', done: 'good', good: 'good', live: 'good', active: 'good', attached: 'good',
  starting: 'busy', creating: 'busy', stopping: 'busy', restarting: 'busy', pausing: 'busy', resuming: 'busy', deleting: 'busy',
  building: 'busy', reverting: 'busy', cloning: 'busy', capturing: 'busy',
  suspending: 'busy',
  paused: 'warn', suspended: 'warn', note: 'warn', cancelled: 'warn', expired: 'warn',
  failed: 'bad', bad: 'bad',
};

const doing: Record<string, string> = {
  start: 'starting', stop: 'stopping', kill: 'stopping', restart: 'restarting', pause: 'pausing', resume: 'resuming', delete: 'deleting',
  revert: 'reverting', cancel: 'cancelling', clone: 'cloning',
};

/** What something is doing; `pending`: the action that was asked for just now. */
export function State({ state, pending, title }: { state: string; pending?: string; title?: string }) {
  const word = pending ? (doing[pending] ?? pending) : state;
  const tone = pending ? 'busy' : (tones[state] ?? 'idle');
  return (
    <span class={`state ${tone}`} title={title}>
      <i aria-hidden="true" />
      {word}
    </span>
  );
}

export function Note({ tone, text, title, children }: { tone: 'bad' | 'warn' | 'info' | 'good'; text?: string; title?: string; children?: ComponentChildren }) {
  return (
    <div class={`note ${tone}`} role={tone === 'bad' ? 'alert' : undefined}>
      <Icon name={tone} size={18} />
      <div class="grow">
        {title && <strong>{title}</strong>}
        {text && <p>{text}</p>}
        {children}
      </div>
    </div>
  );
}

export function FailureNote({ failure, again }: { failure: unknown; again?: () => void }) {
  const f = failure instanceof Failure ? failure : null;
  return (
    <Note tone="bad" title={f ? `${f.reason.charAt(0).toUpperCase()}${f.reason.slice(1)}` : String(failure)}>
      {f?.remedy && <p>{f.remedy}</p>}
      {again && (
        <p>
          <button onClick={again}>Try again</button>
        </p>
      )}
    </Note>
  );
}

export function Empty({ icon, title, text, children }: { icon: IconName; title: string; text: ComponentChildren; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <span class="empty-icon">
        <Icon name={icon} size={26} />
      </span>
      <h2>{title}</h2>
      <p>{text}</p>
      {children && <div class="empty-actions">{children}</div>}
    </div>
  );
}

export function Loading({ rows = 6 }: { rows?: number }) {
  return (
    <div class="skeleton" role="status" aria-label="Loading">
      {Array.from({ length: rows }, (_, i) => (
        <span key={i} />
      ))}
    </div>
  );
}

export function Meter({ value, label, tone }: { value: number; label: string; tone?: string }) {
  const share = Math.max(0, Math.min(1, value || 0));
  return (
    <span class={`meter ${tone ?? (share > 0.9 ? 'bad' : share > 0.75 ? 'warn' : '')}`} role="img" aria-label={label}>
      <i style={{ width: `${share * 100}%` }} />
    </span>
  );
}

export function Progress({ value, label }: { value: number; label: string }) {
  return (
    <span class="progress" role="progressbar" aria-label={label} aria-valuenow={value} aria-valuemin={0} aria-valuemax={100}>
      <i style={{ width: `${value}%` }} />
    </span>
  );
}

export function Ago({ time }: { time: string | undefined }) {
  return (
    <time dateTime={time} title={exact(time)}>
      {ago(time)}
    </time>
  );
}

export function Copy({ text, what }: { text: string; what: string }) {
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      toast({ tone: 'good', title: `Copied ${what}` });
    } catch {
      toast({ tone: 'bad', title: 'Not copied', text: 'The browser does not let this page write to the clipboard: select the text and copy it.' });
    }
  };
  return (
    <button class="quiet square" type="button" aria-label={`Copy ${what}`} onClick={() => void copy()}>
      <Icon name="copy" size={14} />
    </button>
  );
}

interface HeadProps {
  title: string;
  back?: { href: string; label: string };
  badge?: ComponentChildren;
  sub?: ComponentChildren;
  children?: ComponentChildren; // actions
}

let moved = false;

/** The head of a screen. It takes the focus when the screen comes, so that a reader says where one is. */
export function Head({ title, back, badge, sub, children }: HeadProps) {
  const ref = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = `${title} · Vivarium`;
    // Not when the page itself comes: the first Tab then leads to the link that skips the navigation.
    if (moved) ref.current?.focus({ preventScroll: true });
    moved = true;
  }, [title]);
  return (
    <header class="head">
      <div class="head-title">
        {back && (
          <a class="crumb" href={back.href}>
            <Icon name="back" size={14} />
            {back.label}
          </a>
        )}
        <div class="head-line">
          <h1 ref={ref} tabIndex={-1}>
            {title}
          </h1>
          {badge}
        </div>
        {sub && <p class="muted">{sub}</p>}
      </div>
      {children && <div class="actions">{children}</div>}
    </header>
  );
}

export function Panel({ title, action, children, flush, class: name }: { title?: string; action?: ComponentChildren; children: ComponentChildren; flush?: boolean; class?: string }) {
  return (
    <section class={`panel ${flush ? 'flush' : ''} ${name ?? ''}`} aria-label={title}>
      {title && (
        <header>
          <h2>{title}</h2>
          {action}
        </header>
      )}
      {children}
    </section>
  );
}

export function Facts({ rows }: { rows: [string, ComponentChildren][] }) {
  return (
    <dl class="facts">
      {rows
        .filter(([, v]) => v !== undefined && v !== null && v !== '')
        .map(([k, v]) => (
          <div key={k}>
            <dt>{k}</dt>
            <dd>{v}</dd>
          </div>
        ))}
    </dl>
  );
}

export function Tabs({ label, tabs, now }: { label: string; tabs: { id: string; title: string; href: string; count?: number }[]; now: string }) {
  return (
    <nav class="tabs" aria-label={label}>
      {tabs.map((t) => (
        <a key={t.id} href={t.href} aria-current={t.id === now ? 'page' : undefined}>
          {t.title}
          {!!t.count && <span class="count">{t.count}</span>}
        </a>
      ))}
    </nav>
  );
}

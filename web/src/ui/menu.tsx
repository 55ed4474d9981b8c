// SPDX-License-Identifier: GPL-2.0-or-later
// A button that opens a menu (WAI-ARIA menu button pattern): arrow keys, Home, End, first letters, Escape.
import { useEffect, useId, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { Icon, type IconName } from './icon';

export interface MenuItem {
  label: string;
  icon?: IconName;
  danger?: boolean;
  disabled?: boolean;
  run: () => void;
}

export function Menu({ label, items, icon = 'more', text }: { label: string; items: MenuItem[]; icon?: IconName; text?: string }) {
  const [open, setOpen] = useState(false);
  const button = useRef<HTMLButtonElement>(null);
  const list = useRef<HTMLDivElement>(null);
  const id = useId();

  const entries = () => [...(list.current?.querySelectorAll<HTMLElement>('[role=menuitem]:not(:disabled)') ?? [])];
  const close = (refocus: boolean) => {
    setOpen(false);
    if (refocus) button.current?.focus();
  };

  // Fixed, so that no table cuts it off.
  useLayoutEffect(() => {
    if (!open || !list.current || !button.current) return;
    const at = button.current.getBoundingClientRect();
    const box = list.current.getBoundingClientRect();
    const below = at.bottom + 4 + box.height <= window.innerHeight;
    list.current.style.top = `${below ? at.bottom + 4 : Math.max(4, at.top - 4 - box.height)}px`;
    list.current.style.left = `${Math.max(4, Math.min(at.right - box.width, window.innerWidth - box.width - 4))}px`;
    entries()[0]?.focus();
  }, [open]);

  useEffect(() => {
    if (!open) return;
    const away = (e: Event) => {
      if (!list.current?.contains(e.target as Node) && !button.current?.contains(e.target as Node)) setOpen(false);
    };
    const gone = () => setOpen(false);
    document.addEventListener('pointerdown', away);
    window.addEventListener('scroll', gone, true);
    window.addEventListener('resize', gone);
    return () => {
      document.removeEventListener('pointerdown', away);
      window.removeEventListener('scroll', gone, true);
      window.removeEventListener('resize', gone);
    };
  }, [open]);

  const keys = (e: KeyboardEvent) => {
    const all = entries();
    const at = all.indexOf(document.activeElement as HTMLElement);
    const next: Record<string, number> = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 };
    if (e.key in next) all.at(next[e.key]! % all.length)?.focus();
    else if (e.key === 'Escape') close(true);
    else if (e.key === 'Tab') return setOpen(false);
    else if (e.key.length === 1 && /\S/.test(e.key)) {
      const rest = [...all.slice(at + 1), ...all.slice(0, at + 1)];
      rest.find((i) => i.textContent?.trim().toLowerCase().startsWith(e.key.toLowerCase()))?.focus();
    } else return;
    if (e.key !== 'Enter' && e.key !== ' ') {
      e.preventDefault();
      e.stopPropagation();
    }
  };

  return (
    <span class="menu">
      <button
        ref={button}
        class={text ? '' : 'square'}
        type="button"
        aria-label={text ? undefined : label}
        aria-haspopup="menu"
        aria-expanded={open}
        aria-controls={open ? id : undefined}
        onClick={() => setOpen(!open)}
        onKeyDown={(e) => {
          if (e.key === 'ArrowDown') {
            e.preventDefault();
            setOpen(true);
          }
        }}
      >
        {text}
        <Icon name={icon} />
      </button>
      {open && (
        <div ref={list} id={id} class="menu-list" role="menu" aria-label={label} onKeyDown={keys}>
          {items.map((i) => (
            <button
              key={i.label}
              type="button"
              role="menuitem"
              tabIndex={-1}
              class={i.danger ? 'danger-text' : ''}
              disabled={i.disabled}
              onClick={() => {
                close(true);
                i.run();
              }}
            >
              {i.icon && <Icon name={i.icon} />}
              {i.label}
            </button>
          ))}
        </div>
      )}
    </span>
  );
}

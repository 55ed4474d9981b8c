// SPDX-License-Identifier: GPL-2.0-or-later
// Tables that sort, choose and stay quick with thousands of rows: of long ones only what is near the window is drawn, and
// rows above and below it are room. All rows are of one height.
import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { Icon } from './icon';

export interface Column<T> {
  id: string;
  title: string;
  cell: (row: T) => ComponentChildren;
  sort?: (row: T) => string | number;
  class?: string; // "num", "wide", "hide-s" (not on a phone), "hide-m"
  hidden?: boolean; // its title is for readers only
}

export interface Order {
  by: string;
  down: boolean;
}

interface TableProps<T> {
  label: string;
  columns: Column<T>[];
  rows: readonly T[]; // in the order in which they are shown
  rowKey: (row: T) => string;
  order?: Order;
  onOrder?: (order: Order) => void;
  chosen?: ReadonlySet<string>;
  onChoose?: (chosen: ReadonlySet<string>) => void;
}

const FEW = 80; // rows that are drawn in any case
const MORE = 12; // rows beyond the window's edges

export function sorted<T>(rows: readonly T[], columns: Column<T>[], order: Order): T[] {
  const key = columns.find((c) => c.id === order.by)?.sort;
  if (!key) return [...rows];
  const collator = new Intl.Collator(undefined, { numeric: true });
  const sign = order.down ? -1 : 1;
  return [...rows].sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    return sign * (typeof x === 'number' && typeof y === 'number' ? x - y : collator.compare(String(x), String(y)));
  });
}

/** Which rows are near the window. */
function useWindow(count: number, rowHeight: number) {
  const body = useRef<HTMLTableSectionElement>(null);
  const [range, setRange] = useState({ from: 0, to: FEW });
  useEffect(() => {
    if (count <= FEW) return;
    let frame = 0;
    const look = () => {
      frame = 0;
      const top = body.current?.getBoundingClientRect().top ?? 0;
      const from = Math.max(0, Math.floor(-top / rowHeight) - MORE);
      const to = Math.min(count, Math.ceil((window.innerHeight - top) / rowHeight) + MORE);
      setRange((r) => (r.from === from && r.to === to ? r : { from, to }));
    };
    const soon = () => {
      frame ||= requestAnimationFrame(look);
    };
    look();
    window.addEventListener('scroll', soon, { passive: true });
    window.addEventListener('resize', soon);
    return () => {
      cancelAnimationFrame(frame);
      window.removeEventListener('scroll', soon);
      window.removeEventListener('resize', soon);
    };
  }, [count, rowHeight]);
  if (count <= FEW) return { body, from: 0, to: count };
  return { body, from: Math.min(range.from, count), to: Math.min(range.to, count) };
}

export function Table<T>({ label, columns, rows, rowKey, order, onOrder, chosen, onChoose }: TableProps<T>) {
  const narrow = useNarrow();
  const rowHeight = narrow ? 60 : 44;
  const { body, from, to } = useWindow(rows.length, rowHeight);
  const all = rows.length > 0 && !!chosen && rows.every((r) => chosen.has(rowKey(r)));
  const span = columns.length + (chosen ? 1 : 0);

  const choose = (key: string, on: boolean) => {
    const next = new Set(chosen);
    if (on) next.add(key);
    else next.delete(key);
    onChoose?.(next);
  };

  // Arrow keys go from one row's link to the next one's.
  const keys = (e: KeyboardEvent) => {
    if (e.key !== 'ArrowDown' && e.key !== 'ArrowUp') return;
    const row = (e.target as Element).closest('tr');
    if (!row || (e.target as Element).closest('[role=menu]')) return;
    const next = e.key === 'ArrowDown' ? row.nextElementSibling : row.previousElementSibling;
    const link = next?.querySelector<HTMLElement>('a, button, input');
    if (!link) return;
    e.preventDefault();
    link.focus();
  };

  return (
    <table class="table" aria-label={label} aria-rowcount={rows.length + 1} onKeyDown={keys}>
      <thead>
        <tr aria-rowindex={1}>
          {chosen && (
            <th class="choose" scope="col">
              <input
                type="checkbox"
                aria-label="Choose all"
                checked={all}
                onChange={(e) => onChoose?.(new Set(e.currentTarget.checked ? rows.map(rowKey) : []))}
              />
            </th>
          )}
          {columns.map((c) => {
            const mine = order?.by === c.id;
            return (
              <th key={c.id} class={c.class} scope="col" aria-sort={mine ? (order.down ? 'descending' : 'ascending') : undefined}>
                {c.sort && onOrder ? (
                  <button type="button" class="sort" onClick={() => onOrder({ by: c.id, down: mine ? !order.down : false })}>
                    {c.title}
                    {mine && <Icon name={order.down ? 'down' : 'up'} size={12} />}
                  </button>
                ) : (
                  <span class={c.hidden ? 'for-readers' : ''}>{c.title}</span>
                )}
              </th>
            );
          })}
        </tr>
      </thead>
      <tbody ref={body}>
        {from > 0 && (
          <tr aria-hidden="true" class="room">
            <td colSpan={span} style={{ height: `${from * rowHeight}px` }} />
          </tr>
        )}
        {rows.slice(from, to).map((row, i) => {
          const key = rowKey(row);
          return (
            <tr key={key} aria-rowindex={from + i + 2} class={chosen?.has(key) ? 'chosen' : ''}>
              {chosen && (
                <td class="choose">
                  <input
                    type="checkbox"
                    aria-label={`Choose ${key}`}
                    checked={chosen.has(key)}
                    onChange={(e) => choose(key, e.currentTarget.checked)}
                  />
                </td>
              )}
              {columns.map((c) => (
                <td key={c.id} class={c.class}>
                  {c.cell(row)}
                </td>
              ))}
            </tr>
          );
        })}
        {to < rows.length && (
          <tr aria-hidden="true" class="room">
            <td colSpan={span} style={{ height: `${(rows.length - to) * rowHeight}px` }} />
          </tr>
        )}
      </tbody>
    </table>
  );
}

const phone = matchMedia('(max-width: 640px)');

export function useNarrow(): boolean {
  const [narrow, setNarrow] = useState(phone.matches);
  useEffect(() => {
    const change = () => setNarrow(phone.matches);
    phone.addEventListener('change', change);
    return () => phone.removeEventListener('change', change);
  }, []);
  return narrow;
}

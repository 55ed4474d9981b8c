// SPDX-License-Identifier: GPL-2.0-or-later
// What a machine used in the past, as the manager keeps it: the graphs begin with it. For the shortest span the newest
// samples of usage.ts follow as they come.
import { useEffect, useState } from 'preact/hooks';
import { call, path } from './api/client';
import type { Vm } from './api/schema';
import { samples, useUsage, type Sample } from './usage';

export interface Range {
  id: string;
  title: string;
  seconds: number;
}

const HOUR = 3600;
export const RANGES: readonly Range[] = [
  { id: 'minutes', title: '10 min', seconds: 600 },
  { id: 'hour', title: 'Hour', seconds: HOUR },
  { id: 'day', title: 'Day', seconds: 24 * HOUR },
  { id: 'month', title: 'Month', seconds: 31 * 24 * HOUR },
  { id: 'year', title: 'Year', seconds: 366 * 24 * HOUR },
];

interface Kept {
  from: string;
  step: number;
  series: Record<string, { avg: (number | null)[] }>;
}

const FIELDS = 'cpu,resident,disk_read_bytes,disk_written_bytes,net_received_bytes,net_sent_bytes';
const POINTS = 300;

function rows(kept: Kept): Sample[] {
  const begin = Date.parse(kept.from);
  const value = (field: string, i: number) => kept.series[field]?.avg[i] ?? NaN;
  const count = kept.series.cpu?.avg.length ?? 0;
  return Array.from({ length: count }, (_, i) => ({
    time: begin + (i + 0.5) * kept.step * 1000,
    cpu: value('cpu', i),
    memory: value('resident', i),
    diskRead: value('disk_read_bytes', i),
    diskWrite: value('disk_written_bytes', i),
    netIn: value('net_received_bytes', i),
    netOut: value('net_sent_bytes', i),
  }));
}

/** NaN where nothing is known; the first and the last moment of the range are in it. */
export function useHistory(vm: Vm, range: Range): readonly Sample[] {
  useUsage();
  const [kept, setKept] = useState<{ of: string; rows: Sample[] }>({ of: '', rows: [] });
  const of = `${vm.id} ${range.id}`;
  useEffect(() => {
    let gone = false;
    const look = () => {
      if (document.hidden) return;
      call<Kept>('GET', `${path('vms', vm.name, 'history')}?last=${range.seconds}&fields=${FIELDS}`)
        .then((k) => !gone && setKept({ of, rows: rows(k) }))
        .catch(() => undefined); // the line that follows the events tells of a manager that is gone
    };
    look();
    const timer = setInterval(look, Math.max(30, range.seconds / POINTS) * 1000);
    document.addEventListener('visibilitychange', look);
    return () => {
      gone = true;
      clearInterval(timer);
      document.removeEventListener('visibilitychange', look);
    };
  }, [of]);
  const past = kept.of === of ? kept.rows : [];
  const live = samples(vm.id);
  const known = past.filter((s) => !Number.isNaN(s.cpu)).at(-1)?.time ?? 0;
  const news = live.filter((s) => s.time > known);
  return news.length ? [...past.filter((s) => s.time < news[0]!.time), ...news] : past;
}

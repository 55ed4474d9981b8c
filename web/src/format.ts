// SPDX-License-Identifier: GPL-2.0-or-later
// Sizes, rates and times as people say them.
import { signal } from '@preact/signals';

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

export function bytes(n: number): string {
  let unit = 0;
  while (n >= 1024 && unit < UNITS.length - 1) {
    n /= 1024;
    unit++;
  }
  const digits = unit === 0 || n >= 100 || Number.isInteger(n) ? 0 : 1;
  return `${n.toFixed(digits)} ${UNITS[unit]}`;
}

export const rate = (n: number): string => `${bytes(Math.round(n))}/s`;

export const percent = (n: number): string => `${Number((n * 100).toFixed(n < 0.0995 ? 1 : 0))} %`;

/** "1.5G", "512M", "4096" into bytes; NaN if it is none. */
export function readSize(text: string): number {
  const m = /^\s*(\d+(?:[.,]\d+)?)\s*([kmgtp]?)(?:i?b)?\s*$/i.exec(text);
  if (!m) return NaN;
  const power = ' kmgtp'.indexOf((m[2] || ' ').toLowerCase());
  return Math.round(Number(m[1]!.replace(',', '.')) * 1024 ** power);
}

/** What readSize reads: the same number in the largest unit that leaves no rest. */
export function shortSize(n: number): string {
  let unit = 0;
  while (n >= 1024 && n % 1024 === 0 && unit < 5) {
    n /= 1024;
    unit++;
  }
  return `${n}${['', 'K', 'M', 'G', 'T', 'P'][unit]}`;
}

/** Now, a step each few seconds: what shows "3 minutes ago" follows it. */
export const now = signal(Date.now());
setInterval(() => {
  now.value = Date.now();
}, 5000);

export function ago(time: string | undefined): string {
  if (!time) return '';
  const seconds = Math.max(0, Math.round((now.value - Date.parse(time)) / 1000));
  if (seconds < 10) return 'just now';
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  const days = Math.floor(seconds / 86_400);
  return days === 1 ? 'yesterday' : `${days} days ago`;
}

/** How long something has been so: "42 s", "3 h". */
export const lasting = (time: string | undefined): string => ago(time).replace(' ago', '').replace('just now', 'a moment').replace('yesterday', 'a day');

export function exact(time: string | undefined): string {
  return time ? new Date(time).toLocaleString() : '';
}

export function clock(time: number | string): string {
  return new Date(time).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false });
}

/** A moment on an axis that is `span` ms long. */
export function moment(time: number, span: number): string {
  if (span <= 2 * 3600_000) return clock(time);
  const day = span > 48 * 3600_000 ? new Date(time).toLocaleDateString([], { day: 'numeric', month: 'short' }) : '';
  const hour = span <= 40 * 86400_000 ? new Date(time).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', hour12: false }) : '';
  return [day, hour].filter(Boolean).join(' ');
}

/** "user_data" as a label: "User data". */
export function label(name: string): string {
  const words = name.replaceAll('_', ' ').replaceAll('-', ' ');
  const whole: Record<string, string> = {
    cpus: 'Processors', cpus_max: 'Most processors', devices: 'Devices of the host', memory_max: 'Most memory', cpu: 'CPU backend', cpu_model: 'Processor model', hpet: 'HPET',
    id: 'ID', mac: 'MAC address', nic_model: 'Model of interfaces', nic_rom: 'ROM of interfaces', tftp: 'TFTP folder', bootfile: 'Boot file',
    pid: 'Process', share: 'Shared folders', smbios: 'SMBIOS', ssh_key: 'SSH keys',
  };
  return whole[name] ?? words.charAt(0).toUpperCase() + words.slice(1);
}

export const plural = (n: number, one: string, many = one + 's'): string => `${n} ${n === 1 ? one : many}`;

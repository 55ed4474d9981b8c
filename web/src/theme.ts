// SPDX-License-Identifier: GPL-2.0-or-later
// Light, dark, or as the system has it; public/theme.js sets it before the first drawing.
import { effect, signal } from '@preact/signals';

export type Theme = 'auto' | 'light' | 'dark';

function stored(): Theme {
  try {
    const t = localStorage.getItem('viv.theme');
    return t === 'light' || t === 'dark' ? t : 'auto';
  } catch {
    return 'auto';
  }
}

export const theme = signal<Theme>(stored());

const dark = matchMedia('(prefers-color-scheme: dark)');
const systemDark = signal(dark.matches);
dark.addEventListener('change', () => {
  systemDark.value = dark.matches;
});

export const isDark = (): boolean => (theme.value === 'auto' ? systemDark.value : theme.value === 'dark');

effect(() => {
  const t = theme.value;
  if (t === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = t;
  try {
    if (t === 'auto') localStorage.removeItem('viv.theme');
    else localStorage.setItem('viv.theme', t);
  } catch {
    // It holds until the page is closed.
  }
});

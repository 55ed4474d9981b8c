// SPDX-License-Identifier: GPL-2.0-or-later
// The chosen theme, before anything is drawn: a file of its own, since the policy of contents forbids scripts in pages.
try {
  const theme = localStorage.getItem('viv.theme');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch {
  // Without storage the system's colours hold.
}

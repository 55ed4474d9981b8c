// SPDX-License-Identifier: GPL-2.0-or-later
// The pictures of docs/portal.md, of whatever a manager has.
// usage: node shots.mjs SETTINGS.json FOLDER [PATTERN]     settings: {"url": ..., "token": ..., "chromium": "/usr/bin/chromium", "machine": NAME}
import { readFileSync } from 'node:fs';
import { Driver, sleep } from './driver.mjs';

const settings = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const folder = process.argv[3];
const name = settings.machine;
const d = await Driver.start(settings.chromium);
await d.page.goto(settings.url);
await d.type('Token or one-time code', settings.token);
await d.button('Sign in');
await d.see('Overview', 'h1');

const WIDE = [1280, 820];
const PHONE = [390, 780];
const pictures = [
  ['overview-light', '', 'light', WIDE, 20_000],
  ['overview-dark', '', 'dark', WIDE, 500],
  ['machines-light', 'machines', 'light', WIDE, 3000],
  ['machine-dark', `machines/${name}`, 'dark', WIDE, 30_000],
  ['machine-light', `machines/${name}`, 'light', WIDE, 500],
  ['console-light', `machines/${name}/console`, 'light', WIDE, 3000],
  ['snapshots-light', `machines/${name}/snapshots`, 'light', WIDE, 1000],
  ['hardware-light', `machines/${name}/hardware`, 'light', WIDE, 1000],
  ['settings-dark', `machines/${name}/settings`, 'dark', WIDE, 1000],
  ['images-light', 'images', 'light', WIDE, 1000],
  ['events-dark', 'events', 'dark', WIDE, 1000],
  ['system-light', 'system', 'light', WIDE, 1500],
  ['new-machine-light', 'machines', 'light', WIDE, 1000, 'New machine'],
  ['machines-phone-light', 'machines', 'light', PHONE, 1500],
  ['machine-phone-dark', `machines/${name}`, 'dark', PHONE, 2000],
];
for (const [file, where, scheme, [width, height], wait, button] of pictures.filter((p) => p[0].match(process.argv[4] ?? ''))) {
  await d.size(width, height);
  await d.colours(scheme);
  await d.go(settings.url, where);
  if (where.endsWith('/console')) {
    await d.see('live', '.stream');
    await d.page.focus('.xterm-helper-textarea');
    await d.press('Enter');
  }
  await sleep(wait);
  if (button) {
    await d.button(button);
    await sleep(400);
  }
  await d.page.screenshot({ path: `${folder}/${file}.png`, optimizeForSpeed: false });
  if (button) await d.press('Escape');
}
await d.browser.close();

// SPDX-License-Identifier: GPL-2.0-or-later
// The portal as a person uses it, with a real manager and real machines. tests/guest/test_portal.py starts both.
// usage: node portal.mjs SETTINGS.json     {url, code, token, viewer, chromium, folder, vivd, kernel}
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import https from 'node:https';
import { Driver, runAll, sleep, until } from './driver.mjs';

const settings = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const { url } = settings;
const d = await Driver.start(settings.chromium);

/** The API beside the portal, as somebody else uses it. */
function api(method, path, body) {
  return new Promise((done, failed) => {
    const headers = { Authorization: `Bearer ${settings.token}`, 'Content-Type': 'application/json' };
    const request = https.request(`${url}${path}`, { method, headers, rejectUnauthorized: false }, (answer) => {
      let text = '';
      answer.on('data', (more) => (text += more));
      answer.on('end', () => done({ status: answer.statusCode, body: text ? JSON.parse(text) : null }));
    });
    request.on('error', failed);
    request.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

const machine = (name, spec = {}) =>
  api('POST', '/v1/vms', { name, spec: { image: 'tiny', memory: 96 << 20, network: 'none', ...spec } });
const screen = () => d.page.evaluate(() => document.querySelector('.xterm-rows')?.innerText ?? '');

async function console_(line, answer) {
  await (await d.page.waitForSelector('.xterm-helper-textarea')).focus();
  await d.page.keyboard.type(`${line}\n`);
  if (answer) await until(`'${answer}' on the console`, async () => (await screen()).includes(answer));
}

const SCREENS = ['', 'machines', 'machines/web', 'machines/web/console', 'machines/web/hardware', 'machines/web/snapshots', 'machines/web/events', 'machines/web/log', 'machines/web/settings', 'images', 'systems', 'jobs', 'events', 'system', 'nowhere'];

const cases = [];
const test = (name, work) => cases.push([name, work]);

test('a code in the address signs in, once', async () => {
  await d.page.goto(`${url}/#code=${settings.code}`);
  await d.see('Overview', 'h1');
  assert.ok(!d.page.url().includes(settings.code), 'the code stays in the address');
  await d.see('Live');
  await d.fresh();
  await d.page.goto(`${url}/#code=${settings.code}`);
  await d.see('has expired or was used');
});

test('a wrong token is refused with reason and remedy, a good one signs in', async () => {
  await d.type('Token or one-time code', 'viv_wrong');
  await d.button('Sign in');
  await d.see('viv token create');
  assert.deepEqual(await d.axe('sign in'), []);
  await d.type('Token or one-time code', settings.token);
  await d.button('Sign in');
  await d.see('Overview', 'h1');
});

test('with nothing there the screens say what to do', async () => {
  await d.see('Nothing lives here yet');
  const wrong = [];
  for (const where of ['', 'machines', 'images', 'jobs', 'events']) {
    await d.go(url, where);
    await sleep(150);
    wrong.push(...(await d.axe(`empty ${where}`)));
  }
  assert.deepEqual(wrong, []);
  await d.go(url, 'images');
  await d.see('No images yet');
});

test('an image is imported, with its job, and a failure says why', async () => {
  await d.button('Build an image');
  await d.type('Name', 'tiny');
  await d.type('Source', settings.guest);
  await d.button('Build');
  await d.see('ready', '.cards');
  await (await d.find('button', 'Import').waitHandle()).click();
  await d.type('Name', 'disk');
  await d.type('File', `${settings.folder}/media/nothing.raw`);
  await d.click('button', 'Import');
  await d.see('nothing.raw', 'main, dialog', 60_000);
  await d.go(url, 'jobs');
  await d.see('tiny');
});

test('a machine is made by the form and started', async () => {
  await d.go(url, 'machines');
  await d.button('New machine');
  await d.button('Create');
  await d.see('it needs a name', 'dialog');
  await d.type('Name', 'web');
  await d.choose('Image', 'tiny');
  await d.type('Memory', '96M');
  assert.deepEqual(await d.axe('new machine'), []);
  await d.button('Create');
  await d.see('web', 'h1');
  await d.see('running', '.head');
});

test('the console is typed and read', async () => {
  await d.tab('Console');
  await d.see('live', '.stream');
  await until('the prompt of a shell', async () => (await screen()).includes('/ #'));
  await console_('echo $((6*7))-is-it', '42-is-it');
  await console_('printf "\\033[31mred\\033[0m\\n"; while :; do :; done &');
});

test('graphs move', async () => {
  await d.tab('Overview');
  const figure = () => d.page.evaluate(() => document.querySelector('.chart .legend b')?.textContent ?? '');
  await until('a busy processor', async () => parseFloat(await figure()) > 5, 60_000);
  const path = () => d.page.evaluate(() => document.querySelector('.chart path.line')?.getAttribute('d') ?? '');
  // On a busy host some seconds are not known: a line needs two that follow each other.
  const before = await until('a line', async () => /L/.test(await path()) && path(), 60_000);
  await until('another line', async () => (await path()) !== before, 60_000);
  await d.go(url, '');
  await until('figures of the busiest machine', async () => /web\s+\d[\d.]* %/.test(await d.text('.busiest')), 60_000);
  await d.go(url, 'machines/web');
});

test('graphs begin with the kept history, as far back as is chosen', async () => {
  const path = () => d.page.evaluate(() => document.querySelector('.chart path.line')?.getAttribute('d') ?? '');
  const pressed = () => d.page.evaluate(() => document.querySelector('.ranges [aria-pressed=true]')?.textContent);
  assert.equal(await pressed(), '10 min');
  const drawn = await until('a line', path);
  // Nothing of this page is left, and the line is not begun anew.
  await d.page.reload();
  await d.see('web', 'h1');
  const points = (s) => s.split(/[ML]/).length;
  await until('the line from before', async () => points(await path()) >= points(drawn) / 2 && points(await path()) > 4, 60_000);
  for (const range of ['Hour', 'Day', 'Month', 'Year']) {
    await d.button(range);
    await until(`the range ${range}`, async () => (await pressed()) === range);
    await until('a figure or a gap', () => d.page.evaluate(() => !!document.querySelector('.chart svg text')));
  }
  assert.deepEqual(await d.axe('ranges'), []);
  await d.button('10 min');
});

test('a screen is seen, and keys that are typed in it arrive in the guest', async () => {
  const spec = { image: 'none', firmware: 'bios', cdrom: `${settings.folder}/media/keys.iso`, vga: 'std', memory: 32 << 20, power: 'on' };
  assert.equal((await machine('seen', spec)).status, 201);
  await d.go(url, 'machines/seen');
  await d.see('running', '.head', 60_000);
  const lit = (canvas) =>
    d.page.evaluate((selector) => {
      const c = document.querySelector(selector);
      if (!c?.width) return 0;
      const { data } = c.getContext('2d').getImageData(0, 0, c.width, c.height);
      let n = 0;
      for (let i = 0; i < data.length; i += 4) n += data[i] + data[i + 1] + data[i + 2] > 100 ? 1 : 0;
      return n;
    }, canvas);
  await until('a picture of it', async () => (await lit('.picture canvas')) > 500, 60_000);
  await d.tab('Screen');
  await d.see('live', '.stream', 60_000);
  await until('the same in the viewer', async () => (await lit('.stream canvas')) > 500, 60_000);
  await (await d.page.$('.stream canvas')).focus();
  await d.page.keyboard.type('ab3');
  await d.page.keyboard.down('Shift');
  await d.page.keyboard.press('KeyC');
  await d.page.keyboard.up('Shift');
  await d.tab('Console');
  await d.see('live', '.stream');
  await until('the keys at the guest', async () => (await screen()).includes('ab3C'));
  await d.tab('Screen');
  await d.see('live', '.stream', 60_000);
  await d.button('Ctrl Alt Del');
  // A BIOS starts again by a triple fault.
  await until('the guest to start again', async () => (await api('GET', '/v1/events?name=seen&what=crashed')).body.items.length > 0);
  assert.deepEqual(await d.axe('screen'), []);
  await d.tab('Overview');
  await until('a picture of it', async () => (await lit('.picture canvas')) > 500, 60_000);
  assert.deepEqual(await d.axe('picture'), []);
  await api('DELETE', '/v1/vms/seen?force=true');
  await d.go(url, 'machines/web');
});

test('a snapshot is made, gone back to and removed', async () => {
  await d.tab('Console');
  await d.see('live', '.stream');
  await console_('kill %1; echo old >/state; cat /state', 'old');
  await d.tab('Snapshots');
  await d.button('Create a snapshot');
  await d.type('Name', 'before');
  await d.button('Create');
  await d.see('disk and memory', '.tree', 60_000);
  await d.see('Now', '.tree ul');
  await d.tab('Console');
  await d.see('live', '.stream');
  await console_('echo new >/state; echo is-$(cat /state)', 'is-new');
  await d.tab('Snapshots');
  await d.button('Revert to before');
  await d.see('goes on at that instant', 'dialog');
  await d.button('Revert');
  await until('the revert', async () => (await api('GET', '/v1/events?newest=true&limit=50')).body.items.some((e) => e.what === 'reverted'), 60_000).catch(() => undefined);
  await d.see('running', '.head', 60_000);
  await d.tab('Console');
  await until('the old state', async () => {
    // It connects anew meanwhile.
    await console_('echo is-$(cat /state)').catch(() => undefined);
    await sleep(400);
    return (await screen()).includes('is-old');
  }, 60_000);
  await d.tab('Snapshots');
  await d.button('Remove before');
  await d.button('Remove');
  await d.see('No snapshots');
});

test('a machine is paused, goes on, and its settings are changed', async () => {
  await d.tab('Overview');
  await d.button('Pause');
  await d.see('paused', '.head .state');
  await d.button('Resume');
  await d.see('running', '.head .state');
  await d.tab('Settings');
  await d.type('Memory', '128M');
  await d.choose('Restart', 'on-failure');
  await d.button('Save');
  await d.see('Saved web');
  const { spec } = (await api('GET', '/v1/vms/web')).body;
  assert.equal(spec.memory, 128 << 20);
  assert.equal(spec.restart, 'on-failure');
  await d.type('Memory', '1K');
  await d.button('Save');
  await d.see('at least 16 MiB');
});

test('interfaces, disks, memory and the boot order are changed while it runs', async () => {
  const web = async () => (await api('GET', '/v1/vms/web')).body;
  assert.equal((await api('POST', '/v1/volumes', { name: 'data', spec: { size: 8 << 20 } })).status, 201);
  await d.tab('Hardware');
  assert.equal((await api('POST', '/v1/networks', { name: 'lan' })).status, 201);
  await d.see('user', '.parts');
  await d.button('Add an interface');
  await d.page.waitForSelector('dialog option[value=lan]');
  await d.choose('Network', 'lan');
  await d.type('MAC address', '02:00:5e:10:00:01');
  assert.deepEqual(await d.axe('new interface'), []);
  await d.button('Add');
  await until('the interface in the machine', async () => (await web()).status.nics?.includes('lan/virtio/02:00:5e:10:00:01'), 60_000);
  await d.see('virtio · 02:00:5e:10:00:01', '.parts');
  await until('a volume that is free', async () => (await api('GET', '/v1/volumes/data')).body.status.state === 'ready');
  await d.button('Attach a volume');
  await d.page.waitForSelector('dialog option[value=data]');
  await d.button('Attach');
  await until('the volume in the machine', async () => (await web()).spec.volumes.join() === 'data');
  await d.button('Detach data');
  await d.button('Detach');
  await until('the end of the volume', async () => !(await web()).spec.volumes.length, 60_000);
  await d.button('Optical drive: earlier');
  await until('the order', async () => (await web()).spec.boot === 'cdrom,disk,network');
  await d.type('Balloon', '64M');
  await d.button('Apply');
  await until('the balloon', async () => (await web()).spec.balloon === 64 << 20);
  await d.button('Remove the interface in lan');
  await d.button('Remove');
  await until('the end of the interface', async () => (await web()).spec.network === 'user' && (await web()).status.nics?.length === 1, 60_000);
  await d.seeNot('Remove the interface in lan', '.parts');
});

test('what somebody else does appears by itself', async () => {
  await d.go(url, 'events');
  await d.see('Events', 'h1');
  assert.equal((await machine('elsewhere')).status, 201);
  await d.see('elsewhere', '.events');
  await d.go(url, 'machines');
  await d.see('elsewhere', '.table');
  await api('POST', '/v1/vms/elsewhere/start');
  await until('two machines that run', async () => ((await d.text('.table')).match(/running/g) ?? []).length === 2);
});

test('machines are found, sorted and chosen', async () => {
  await d.type('Find machines', 'else', 'searchbox');
  await d.see('1 of 2 machines');
  await d.type('Find machines', 'zzz', 'searchbox');
  await d.see('Nothing fits');
  await d.button('Show all');
  await d.button('Name');
  const names = () => d.page.evaluate(() => [...document.querySelectorAll('.row-link')].map((a) => a.textContent));
  await until('the other order', async () => (await names()).join() === 'web,elsewhere');
  await d.click('checkbox', 'Choose elsewhere');
  await d.see('1 chosen');
  await d.button('Kill');
  await d.see('as if its power was cut', 'dialog');
  await (await d.page.$('dialog button.danger')).click();
  await until('a machine that is off', async () => (await api('GET', '/v1/vms/elsewhere')).body.status.state === 'stopped');
  await d.see('stopped', '.table');
});

test('everything can be reached and done by keys alone', async () => {
  await d.page.goto(`${url}/#/machines`);
  await d.page.reload();
  await d.see('elsewhere', '.table');
  await d.press('Tab');
  assert.equal(await d.focused(), 'Skip to the content');
  await d.press('Enter');
  assert.equal(await d.page.evaluate(() => document.activeElement.id), 'content');
  await d.press('Tab');
  assert.match(await d.focused(), /New machine/);
  await d.press('Enter');
  await d.see('New machine', 'dialog');
  await until('the focus in the form', async () => (await d.focused()) === 'name');
  for (let i = 0; i < 25; i++) {
    await d.press('Tab');
    assert.ok(await d.page.evaluate(() => !!document.activeElement.closest('dialog') || document.activeElement === document.body), 'the focus left the dialog');
  }
  await d.press('Escape');
  await until('the end of the dialog', () => d.page.evaluate(() => !document.querySelector('dialog')));
  assert.match(await d.focused(), /New machine/);
  await d.page.keyboard.down('Control');
  await d.press('k');
  await d.page.keyboard.up('Control');
  await d.see('Overview', 'dialog.palette');
  await d.page.keyboard.type('elsew');
  await d.press('Enter');
  await d.see('elsewhere', 'h1');
  await until('the focus on the head of the screen', async () => (await d.focused()) === 'elsewhere');
  const more = async () => /More for elsewhere/.test(await d.focused());
  for (let i = 0; i < 12 && !(await more()); i++) await d.press('Tab');
  assert.ok(await more(), 'no way to the menu by Tab');
  await d.press('ArrowDown');
  await until('the focus in the menu', () => d.page.$('[role=menuitem]:focus'));
  await d.press('End');
  await until('the focus on Delete', async () => (await d.focused()) === 'Delete');
  await d.press('Escape');
  await until('the focus back on the button', more);
  await d.press('Enter');
  await until('the focus in the menu', () => d.page.$('[role=menuitem]:focus'));
  await d.page.keyboard.type('d');
  await d.press('Enter');
  await d.see('cannot be undone', 'dialog');
  await until('the focus on the button', () => d.page.$('dialog button.danger:focus'));
  await d.press('Enter');
  await d.see('Machines', 'h1');
  await d.seeNot('elsewhere', '.table');
  assert.equal((await api('GET', '/v1/vms/elsewhere')).status, 404);
});

test('axe finds nothing on any screen, in both colours and at the width of a phone, and nothing is cut off', async () => {
  const wrong = [];
  await machine('failing', { append: 'x', cpu: 'ref' });
  for (const [width, height] of [[1280, 860], [360, 780]]) {
    await d.size(width, height);
    for (const scheme of ['light', 'dark']) {
      await d.colours(scheme);
      for (const where of SCREENS) {
        await d.go(url, where);
        await until('the screen', () => d.page.$('main h1, main h2'));
        await sleep(120);
        // All rules once at each width; what the other colours can change in both.
        const rules = (scheme === 'light') === (width > 1000) ? undefined : ['color-contrast', 'target-size'];
        wrong.push(...(await d.axe(`${where} ${scheme} ${width}`, rules)));
        const more = await d.overflow();
        if (more > 0) wrong.push(`${where} at ${width}: ${more} pixels too wide`);
      }
    }
  }
  await d.go(url, 'machines');
  await d.button('Places');
  await d.see('Events', '.side.open');
  wrong.push(...(await d.axe('places on a phone')));
  await d.press('Escape');
  await d.size(1280, 860);
  assert.deepEqual(wrong, []);
});

test('a lost connection is shown, and made again by itself', async () => {
  await d.go(url, 'machines');
  const { pid } = (await api('GET', '/v1/hosts/local')).body;
  process.kill(pid, 'SIGKILL');
  await d.see('The connection to the manager is lost');
  await d.see('Not connected');
  spawn(settings.vivd, ['--idle', '0'], { detached: true, stdio: 'ignore' }).unref();
  await d.see('Live', '.side', 60_000);
  await d.seeNot('The connection to the manager is lost');
  await machine('after');
  await d.see('after', '.table');
});

test('a thousand machines stay fluid', async () => {
  const template = (await api('GET', '/v1/vms/web')).body;
  const many = Array.from({ length: 1000 }, (_, i) => ({ ...template, id: `vm-${i}`, name: `m-${String(i).padStart(4, '0')}` }));
  await d.page.setRequestInterception(true);
  const answer = (request) => {
    if (new URL(request.url()).pathname === '/v1/vms') return request.respond({ status: 200, contentType: 'application/json', body: JSON.stringify({ items: many }) });
    return request.continue();
  };
  d.page.on('request', answer);
  await d.page.reload();
  await d.see('1000 machines');
  await d.page.evaluate(() => window.scrollTo(0, document.body.scrollHeight));
  await d.see('m-0999', '.table');
  // What is done, not how long it takes, which is up to the host: rows that are there and that are made for a step, and
  // frames until the rows of the new place are drawn.
  const work = await d.page.evaluate(async () => {
    const frame = () => new Promise((done) => requestAnimationFrame(done));
    const table = document.querySelector('.table tbody');
    const isThere = () => {
      const row = document.elementFromPoint(innerWidth / 2, innerHeight / 2)?.closest('tr');
      return !!row && !row.classList.contains('room');
    };
    const made = (records) => records.flatMap((r) => [...r.addedNodes]).filter((n) => n.nodeName === 'TR').length;
    const worst = { rows: 0, made: 0, frames: 0 };
    let rows = 0;
    const watch = new MutationObserver((records) => (rows += made(records)));
    watch.observe(table, { childList: true, subtree: true });
    for (let i = 0; i < 30; i++) {
      let frames = 0;
      rows = 0;
      window.scrollTo(0, 200 + i * 1300);
      do await frame(); while (!isThere() && ++frames < 100);
      worst.frames = Math.max(worst.frames, frames);
      worst.made = Math.max(worst.made, rows);
      worst.rows = Math.max(worst.rows, table.childElementCount);
    }
    watch.disconnect();
    return worst;
  });
  console.log(`# at most: ${work.rows} rows there, ${work.made} made for a step of scrolling, ${work.frames} frames until they are seen`);
  assert.ok(work.rows < 120, `${work.rows} rows are drawn`);
  assert.ok(work.made > 0 && work.made < 120, `a step of scrolling made ${work.made} rows`);
  assert.ok(work.frames < 10, `a step of scrolling took ${work.frames} frames`);
  await d.page.evaluate(() => window.scrollTo(0, 0));
  await d.type('Find machines', '77', 'searchbox');
  await d.see('of 1000 machines');
  const left = await d.page.evaluate(() => document.querySelectorAll('.table tbody tr').length);
  assert.equal(left, many.filter((m) => m.name.includes('77')).length);
  d.page.off('request', answer);
  await d.page.setRequestInterception(false);
});

test('a viewer sees everything and is offered nothing that is forbidden', async () => {
  await d.fresh();
  await d.page.goto(url);
  await d.type('Token or one-time code', settings.viewer);
  await d.button('Sign in');
  await d.see('Overview', 'h1');
  await d.go(url, 'machines/web');
  await d.see('web', 'h1');
  const offered = await d.page.evaluate(() => [...document.querySelectorAll('main button')].map((b) => b.innerText));
  assert.ok(!offered.some((b) => /Stop|Start|Restart|Delete/.test(b)), `${offered}`);
  await d.go(url, 'machines');
  await d.see('web', '.table');
  assert.ok(!(await d.text('main')).includes('New machine'));
});

test('a machine is deleted with its dialog, and signing out ends the session', async () => {
  await d.fresh();
  await d.page.goto(url);
  await d.type('Token or one-time code', settings.token);
  await d.button('Sign in');
  await d.see('Overview', 'h1');
  await d.go(url, 'machines/web');
  await d.see('web', 'h1');
  await d.menu('More for web', 'Delete');
  await d.see('It runs and is ended first', 'dialog');
  await d.button('Cancel');
  await d.menu('More for web', 'Delete');
  await (await d.page.waitForSelector('dialog button.danger')).click();
  await d.see('Machines', 'h1');
  await until('its end', async () => (await api('GET', '/v1/vms/web')).status === 404);
  await d.button('Sign out');
  await d.see('Sign in to Vivarium');
  await d.page.reload();
  await d.see('Sign in to Vivarium');
});

const failed = await runAll(cases, d);
await d.browser.close();
process.exit(failed ? 1 : 0);

// SPDX-License-Identifier: GPL-2.0-or-later
// What the cases of portal.mjs share: a browser, words for what a person does in it, and results as TAP.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import puppeteer from 'puppeteer-core';

const PATIENCE = 30_000; // ms; a host that does ten things at once is slow
const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const quote = (text) => text.replaceAll('\\', '\\\\').replaceAll('"', '\\"');

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** The value of `look` as soon as there is one. */
export async function until(what, look, patience = PATIENCE) {
  const end = Date.now() + patience;
  for (;;) {
    const value = await look();
    if (value) return value;
    if (Date.now() > end) throw new Error(`${what} did not happen within ${patience / 1000} s`);
    await sleep(50);
  }
}

export class Driver {
  static async start(chromium) {
    const d = new Driver();
    d.browser = await puppeteer.launch({
      executablePath: chromium,
      headless: true,
      // Its own sandbox needs namespaces that a test's host may not give.
      args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu', '--force-prefers-reduced-motion'],
      acceptInsecureCerts: true,
    });
    await d.fresh();
    return d;
  }

  /** A page of its own, signed in nowhere. */
  async fresh() {
    await this.context?.close();
    this.context = await this.browser.createBrowserContext();
    this.page = await this.context.newPage();
    this.page.setDefaultTimeout(PATIENCE);
    this.complaints = [];
    this.page.on('pageerror', (e) => this.complaints.push(`error in the page: ${e.stack ?? e}`));
    this.page.on('console', (m) => {
      if (/Content.Security.Policy|Refused to/i.test(m.text())) this.complaints.push(m.text());
    });
    await this.size(1280, 860);
  }

  size(width, height) {
    return this.page.setViewport({ width, height });
  }

  colours(scheme) {
    return this.page.emulateMediaFeatures([
      { name: 'prefers-color-scheme', value: scheme },
      { name: 'prefers-reduced-motion', value: 'reduce' },
    ]);
  }

  async go(url, where) {
    const now = this.page.url();
    if (!now.startsWith(url)) await this.page.goto(`${url}/#/${where}`);
    else await this.page.evaluate((w) => (location.hash = `#/${w}`), where);
  }

  /** The element of that role and name, visible. */
  find(role, name) {
    return this.page.locator(`::-p-aria([name="${quote(name)}"][role="${role}"])`);
  }

  /**
   * Presses it. What a page gets to know meanwhile may move it away between the look at its place and the press: what
   * was pressed is compared, and a press beside it made again.
   */
  async click(role, name) {
    const said = (e) => {
      throw new Error(`no ${role} '${name}' could be pressed: ${e.message}`);
    };
    for (let tries = 0; tries < 5; tries++) {
      const handle = await this.find(role, name).waitHandle().catch(said);
      await this.page.evaluate(() => {
        window.pressed = undefined;
        addEventListener('click', (e) => (window.pressed = e.target), { capture: true, once: true });
      });
      await this.find(role, name).click().catch(said);
      const beside = await handle
        .evaluate((e, wanted) => {
          const pressed = window.pressed;
          if (!pressed || e.contains(pressed)) return false;
          const other = pressed.closest?.('button, a, summary, [role]');
          return (other?.getAttribute('aria-label') || other?.innerText || '').trim() !== wanted;
        }, name)
        .catch(() => false); // the page has gone on
      if (!beside) return;
    }
    throw new Error(`${role} '${name}' does not hold still`);
  }

  button(name) {
    return this.click('button', name);
  }

  link(name) {
    return this.click('link', name);
  }

  /** One of the views of a machine. */
  tab(name) {
    return this.page.locator(`nav.tabs ::-p-text(${name})`).click();
  }

  async type(name, text, role = 'textbox') {
    const handle = await this.find(role, name).waitHandle();
    await handle.click({ count: 3 });
    await handle.type(text);
  }

  /** Picks a choice of a list. */
  async choose(name, value) {
    const handle = await this.find('combobox', name).waitHandle();
    await handle.select(value);
  }

  /** Opens a menu and takes something of it. */
  async menu(button, item) {
    await this.button(button);
    await this.click('menuitem', item);
  }

  text(selector = 'body') {
    return this.page.evaluate((s) => document.querySelector(s)?.innerText ?? '', selector);
  }

  see(text, selector, patience) {
    return until(`'${text}' on the screen`, async () => (await this.text(selector)).includes(text), patience);
  }

  seeNot(text, selector) {
    return until(`the end of '${text}' on the screen`, async () => !(await this.text(selector)).includes(text));
  }

  focused() {
    return this.page.evaluate(() => {
      const e = document.activeElement;
      return e ? e.getAttribute('aria-label') || e.innerText || e.getAttribute('name') || e.tagName : '';
    });
  }

  press(...keys) {
    return keys.reduce((before, key) => before.then(() => this.page.keyboard.press(key)), Promise.resolve());
  }

  /** What axe finds wrong, as sentences. */
  async axe(where, rules = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']) {
    if (!(await this.page.evaluate(() => 'axe' in window))) await this.page.evaluate(axeSource);
    const found = await this.page.evaluate((r) => window.axe.run(document, { resultTypes: ['violations'], runOnly: r }), rules);
    return found.violations.map((v) => `${where}: ${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map((n) => `${n.html.slice(0, 160)} ${n.any[0]?.message ?? ''}`).join(' | ')}`);
  }

  /** How many pixels the page is wider than the window. */
  overflow() {
    return this.page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  }
}

/* ---- results ---- */

export async function runAll(cases, driver) {
  console.log(`1..${cases.length}`);
  let failed = 0;
  const enough = 3; // failures; the rest would wait in vain as well
  for (const [i, [name, work]] of cases.entries()) {
    if (failed >= enough) {
      console.log(`not ok ${i + 1} - ${name}`);
      continue;
    }
    const begun = Date.now();
    let wrong = null;
    try {
      await work();
      if (driver.complaints.length) wrong = driver.complaints.splice(0).join('\n');
    } catch (e) {
      const screen = await driver.text().catch(() => '');
      wrong = `${e.stack ?? e}\n--- the screen: ${screen.replace(/\s+/g, ' ').slice(0, 3000)}\n${driver.complaints.splice(0).join('\n')}`;
      await driver.page.screenshot({ path: `${process.env.VIV_PORTAL_SHOTS ?? '/tmp'}/viv-portal-failed-${i + 1}.png` }).catch(() => undefined);
    }
    if (wrong) {
      failed++;
      console.log(`# ${wrong.replaceAll('\n', '\n# ')}`);
    }
    console.log(`${wrong ? 'not ok' : 'ok'} ${i + 1} - ${name}`);
    console.log(`# ${Date.now() - begun} ms`);
  }
  return failed;
}

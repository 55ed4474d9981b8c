// SPDX-License-Identifier: GPL-2.0-or-later
// A terminal (xterm.js) at the end of a WebSocket that carries the bytes of a serial line.
import { FitAddon } from '@xterm/addon-fit';
import { Terminal } from '@xterm/xterm';
import '@xterm/xterm/css/xterm.css';
import type { Ends, View } from '../screens/stream';

/**
 * The document that xterm.js sees. It puts style elements with its measures into the page, which the policy of contents
 * forbids; these become style sheets made by script, which it allows.
 */
function quietDocument(): Document {
  const standIn = (): HTMLElement => {
    const element = document.createElement('span');
    const sheet = new CSSStyleSheet();
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
    element.hidden = true;
    Object.defineProperty(element, 'textContent', { set: (text: string) => sheet.replaceSync(text) });
    element.remove = () => {
      document.adoptedStyleSheets = document.adoptedStyleSheets.filter((s) => s !== sheet);
      Element.prototype.remove.call(element);
    };
    return element;
  };
  return new Proxy(document, {
    get(target, name) {
      if (name === 'createElement') return (tag: string) => (tag === 'style' ? standIn() : target.createElement(tag));
      const value = Reflect.get(target, name, target) as unknown;
      return typeof value === 'function' ? (value as () => unknown).bind(target) : value;
    },
  });
}

const theme = {
  background: '#0f1412', foreground: '#dfe7e3', cursor: '#5fd6a2', cursorAccent: '#0f1412', selectionBackground: '#2f5a49',
  black: '#1c2321', red: '#f28b82', green: '#7fd8a8', yellow: '#e6c97a', blue: '#8ab4f8', magenta: '#d7aefb', cyan: '#78d9ec', white: '#d5dcd9',
  brightBlack: '#7d8a85', brightRed: '#f6aea9', brightGreen: '#a8e6c4', brightYellow: '#f0dca3', brightBlue: '#aecbfa', brightMagenta: '#e6cdfc', brightCyan: '#a5e7f4', brightWhite: '#ffffff',
};

export async function terminal(url: string, into: HTMLElement, ends: Ends): Promise<View> {
  const fonts = '"JetBrains Mono Variable", ui-monospace, "DejaVu Sans Mono", monospace';
  await document.fonts.load('13px "JetBrains Mono Variable"').catch(() => undefined);
  const term = new Terminal({
    documentOverride: quietDocument(), theme, fontFamily: fonts, fontSize: 13, lineHeight: 1.2, scrollback: 5000, cursorBlink: true,
    minimumContrastRatio: 4.5, screenReaderMode: false,
  });
  const fit = new FitAddon();
  term.loadAddon(fit);
  into.replaceChildren();
  term.open(into);
  term.textarea?.setAttribute('aria-label', 'Serial console: what is typed goes to the machine');
  fit.fit();
  const watch = new ResizeObserver(() => fit.fit());
  watch.observe(into);

  const socket = new WebSocket(url, 'binary');
  socket.binaryType = 'arraybuffer';
  const bytes = new TextEncoder();
  let opened = false;
  socket.onopen = () => {
    opened = true;
    ends.opened();
  };
  socket.onmessage = (e) => term.write(typeof e.data === 'string' ? e.data : new Uint8Array(e.data as ArrayBuffer));
  socket.onclose = (e) => ends.closed(e.reason || (opened ? 'the line has ended: the machine was stopped, or the manager went away' : 'the connection was refused'));
  term.onData((text) => socket.readyState === WebSocket.OPEN && socket.send(bytes.encode(text)));
  term.onBinary((text) => socket.readyState === WebSocket.OPEN && socket.send(Uint8Array.from(text, (c) => c.charCodeAt(0))));

  return {
    focus: () => term.focus(),
    close: () => {
      socket.onclose = null;
      socket.close();
      watch.disconnect();
      term.dispose();
    },
  };
}

// SPDX-License-Identifier: GPL-2.0-or-later
// A machine's screen (noVNC) at the end of a WebSocket that carries the bytes of RFB.
import RFB from '@novnc/novnc';
import type { Ends, View } from '../screens/stream';

export async function viewer(url: string, into: HTMLElement, ends: Ends): Promise<View> {
  into.replaceChildren();
  const rfb = new RFB(into, url, { wsProtocols: ['binary'], shared: true });
  rfb.scaleViewport = true;
  rfb.background = 'transparent';
  rfb.addEventListener('connect', () => {
    ends.opened();
    into.querySelector('canvas')?.setAttribute('aria-label', 'Screen of the machine');
    rfb.focus();
  });
  rfb.addEventListener('disconnect', (e: CustomEvent<{ clean: boolean }>) =>
    ends.closed(e.detail.clean ? 'the screen has ended: the machine was stopped' : 'the screen cannot be reached'),
  );
  rfb.addEventListener('securityfailure', (e: CustomEvent<{ reason?: string }>) => ends.closed(e.detail.reason ?? 'the screen was refused'));
  return { focus: () => rfb.focus(), close: () => rfb.disconnect() };
}

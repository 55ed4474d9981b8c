// SPDX-License-Identifier: GPL-2.0-or-later
// As much of noVNC as the portal uses; the package has no types of its own.
declare module '@novnc/novnc' {
  export default class RFB {
    constructor(target: HTMLElement, url: string, options?: { wsProtocols?: string[]; shared?: boolean });
    scaleViewport: boolean;
    background: string;
    focus(): void;
    disconnect(): void;
    addEventListener<T>(type: string, handler: (e: CustomEvent<T>) => void): void;
  }
}

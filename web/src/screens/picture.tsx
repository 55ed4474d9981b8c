// SPDX-License-Identifier: GPL-2.0-or-later
// A small picture of a machine's screen, which leads to it.
import { useEffect, useRef, useState } from 'preact/hooks';
import { path, request } from '../api/client';
import type { Vm } from '../api/schema';
import { to } from '../router';
import { Panel } from '../ui/bits';

const AGAIN = 5000; // ms

export function Picture({ vm }: { vm: Vm }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [there, setThere] = useState(false);

  useEffect(() => {
    let gone = false;
    const look = async () => {
      if (document.hidden) return;
      try {
        const answer = await request('GET', path('vms', vm.name, 'screenshot'), undefined, { accept: 'image/png' });
        const image = await createImageBitmap(await answer.blob());
        if (gone || !canvas.current) return;
        canvas.current.width = image.width;
        canvas.current.height = image.height;
        canvas.current.getContext('2d')?.drawImage(image, 0, 0);
        setThere(true);
      } catch {
        if (!gone) setThere(false); // it has just ended, or has none yet
      }
    };
    void look();
    const timer = setInterval(() => void look(), AGAIN);
    return () => {
      gone = true;
      clearInterval(timer);
    };
  }, [vm.name, vm.status.pid]);

  return (
    <Panel title="Screen" class="picture">
      <a href={to('machines', vm.name, 'screen')} aria-label={`Go to the screen of ${vm.name}`}>
        <canvas ref={canvas} role="img" aria-label={`Screen of ${vm.name}`} hidden={!there} />
        {!there && <span class="muted">There is no picture yet.</span>}
      </a>
    </Panel>
  );
}

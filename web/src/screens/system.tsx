// SPDX-License-Identifier: GPL-2.0-or-later
// The manager and its host: what it can do and what is missing, colours, keys.
import { useEffect, useState } from 'preact/hooks';
import { call } from '../api/client';
import { version } from '../api/document';
import type { Host } from '../api/schema';
import { bytes, label } from '../format';
import { theme, type Theme } from '../theme';
import { Copy, Facts, FailureNote, Head, Loading, Panel } from '../ui/bits';
import { Icon, type IconName } from '../ui/icon';

interface Check {
  state: 'good' | 'note' | 'bad';
  text: string;
  remedy: string;
}

const icons: Record<Check['state'], IconName> = { good: 'good', note: 'warn', bad: 'bad' };
const tone: Record<Check['state'], string> = { good: 'good', note: 'warn', bad: 'bad' };
const rank = { bad: 0, note: 1, good: 2 };

function Checks({ checks }: { checks: Record<string, Check> }) {
  const rows = Object.entries(checks).sort(([, a], [, b]) => rank[a.state] - rank[b.state]);
  return (
    <ul class="checks">
      {rows.map(([name, c]) => (
        <li key={name} class={tone[c.state]}>
          <Icon name={icons[c.state]} size={17} />
          <div>
            <b>{label(name)}</b> <span>{c.text}</span>
            {c.remedy && <p class="muted">{c.remedy}</p>}
          </div>
        </li>
      ))}
    </ul>
  );
}

const themes: { id: Theme; title: string }[] = [
  { id: 'auto', title: 'As the system' },
  { id: 'light', title: 'Light' },
  { id: 'dark', title: 'Dark' },
];

const keys: [string, string][] = [
  ['Ctrl K', 'find a machine or a place'],
  ['↑ ↓', 'from row to row of a table'],
  ['Esc', 'close a dialog or a menu'],
  ['Shift Esc', 'leave the console'],
];

export function System() {
  const [host, setHost] = useState<Host | null>(null);
  const [failure, fail] = useState<unknown>(null);
  const look = () => {
    fail(null);
    call<Host>('GET', '/v1/hosts/local/doctor').then(setHost).catch(fail);
  };
  useEffect(look, []);
  return (
    <>
      <Head title="System">
        <button onClick={look}>
          <Icon name="restart" />
          Check again
        </button>
      </Head>
      {failure !== null && <FailureNote failure={failure} again={look} />}
      {!host && !failure && <Loading />}
      {host && (
        <div class="halves">
          <Panel title="What this host can do" flush>
            <Checks checks={host.checks as unknown as Record<string, Check>} />
          </Panel>
          <div class="stack">
            <Panel title="Manager">
              <Facts
                rows={[
                  ['Version', host.version],
                  ['Process', host.pid],
                  ['Takes', bytes(host.resident)],
                  ['Machines', host.machines],
                  ['Folder', <span class="with-copy mono">{host.folder}<Copy text={host.folder} what="the folder" /></span>],
                  ['API', <a href="/openapi.json" target="_blank" rel="noopener">OpenAPI {version.value}</a>],
                ]}
              />
            </Panel>
            <Panel title="Colours">
              <div class="segments" role="group" aria-label="Colours">
                {themes.map((t) => (
                  <button key={t.id} aria-pressed={theme.value === t.id} onClick={() => (theme.value = t.id)}>
                    {t.title}
                  </button>
                ))}
              </div>
            </Panel>
            <Panel title="Keys">
              <dl class="facts keys">
                {keys.map(([k, what]) => (
                  <div key={k}>
                    <dt>
                      <kbd>{k}</kbd>
                    </dt>
                    <dd>{what}</dd>
                  </div>
                ))}
              </dl>
            </Panel>
          </div>
        </div>
      )}
    </>
  );
}

// SPDX-License-Identifier: GPL-2.0-or-later
// The first screen: how the host is, which machines work hardest, what runs and what has happened.
import { bytes, percent, plural } from '../format';
import { to } from '../router';
import { events, images, jobs, machines } from '../store';
import { Empty, FailureNote, Head, Loading, Meter, Panel, Progress, State } from '../ui/bits';
import { Spark } from '../ui/chart';
import { Icon } from '../ui/icon';
import { host, hostHistory, lastSample, useUsage } from '../usage';
import { NewMachine } from './create_machine';
import { EventList } from './event_list';
import { newestFirst } from './jobs';

function Tile({ title, figure, sub, spark, meter }: { title: string; figure: string; sub: string; spark?: readonly number[]; meter?: number }) {
  return (
    <section class="panel tile" aria-label={title}>
      <h2>{title}</h2>
      <p class="figure">{figure}</p>
      <p class="muted sub">{sub}</p>
      {spark && <Spark values={spark} most={1} />}
      {meter !== undefined && <Meter value={meter} label={`${title}: ${percent(meter)}`} />}
    </section>
  );
}

function Tiles() {
  const all = [...machines().items.value.values()];
  const on = all.filter((m) => m.status.state === 'running').length;
  const bad = all.filter((m) => m.status.state === 'failed').length;
  const h = host.value;
  const last = hostHistory.value.at(-1);
  const used = h?.memory ? h.memory - (h.memory_available ?? 0) : 0;
  const diskUsed = h?.disk ? h.disk - (h.disk_free ?? 0) : 0;
  return (
    <div class="tiles">
      <Tile title="Machines" figure={String(on)} sub={`running of ${all.length}${bad ? `, ${bad} failed` : ''}`} meter={all.length ? on / all.length : undefined} />
      <Tile title="Processors" figure={last ? percent(last.cpu) : '–'} sub={h?.cpus ? `of ${plural(h.cpus, 'processor')} of the host` : ' '} spark={hostHistory.value.slice(-60).map((s) => s.cpu)} />
      <Tile title="Memory" figure={h?.memory ? bytes(used) : '–'} sub={h?.memory ? `in use of ${bytes(h.memory)}` : ' '} meter={h?.memory ? used / h.memory : undefined} />
      <Tile title="Disk" figure={h?.disk ? bytes(h.disk_free ?? 0) : '–'} sub={h?.disk ? `free of ${bytes(h.disk)}` : ' '} meter={h?.disk ? diskUsed / h.disk : undefined} />
    </div>
  );
}

function Busiest() {
  const all = [...machines().items.value.values()].filter((m) => m.status.state === 'running');
  const top = all.sort((a, b) => (lastSample(b.id)?.cpu ?? 0) - (lastSample(a.id)?.cpu ?? 0) || a.name.localeCompare(b.name)).slice(0, 6);
  if (!top.length)
    return (
      <p class="nothing muted">
        <Icon name="machine" />
        No machine runs.
      </p>
    );
  return (
    <ul class="busiest">
      {top.map((m) => {
        const s = lastSample(m.id);
        return (
          <li key={m.id}>
            <a href={to('machines', m.name)}>{m.name}</a>
            <Meter value={s ? s.cpu / m.spec.cpus : 0} label={`CPU of ${m.name}`} tone="plain" />
            <span class="num">{s ? percent(s.cpu / m.spec.cpus) : '–'}</span>
            <span class="num muted">{s ? bytes(s.memory) : '–'}</span>
          </li>
        );
      })}
    </ul>
  );
}

function Work() {
  const rows = newestFirst(jobs().use().items.value).slice(0, 5);
  if (!rows.length)
    return (
      <p class="nothing muted">
        <Icon name="job" />
        Nothing is being done.
      </p>
    );
  return (
    <ul class="work">
      {rows.map((j) => (
        <li key={j.id}>
          <span>
            <b>{j.spec.action}</b> {j.spec.object}
          </span>
          {j.status.state === 'running' ? <Progress value={j.status.progress} label={`${j.spec.action} ${j.spec.object}`} /> : <span class="grow" />}
          {j.status.state === 'running' ? <span class="num">{j.status.progress} %</span> : <State state={j.status.state} title={j.status.reason} />}
        </li>
      ))}
    </ul>
  );
}

export function Overview() {
  useUsage();
  const all = machines().use();
  const failed = [...all.items.value.values()].filter((m) => m.status.state === 'failed');
  images().use();
  return (
    <>
      <Head title="Overview">
        <NewMachine />
      </Head>
      {all.failure.value && <FailureNote failure={all.failure.value} again={() => void all.load()} />}
      {!all.loaded.value ? (
        <Loading rows={4} />
      ) : (
        <>
          <Tiles />
          {all.items.value.size === 0 && (
            <Empty icon="machine" title="Welcome" text="Nothing lives here yet. Make an image, and a machine of it.">
              <a class="button" href="#/images">
                Images
              </a>
              <NewMachine />
            </Empty>
          )}
          <div class="halves">
            <Panel title="Busiest machines" action={<a href={`${to('machines')}?by=cpu&down=1`}>All machines</a>} flush>
              <Busiest />
            </Panel>
            <div class="stack">
              {failed.length > 0 && (
                <Panel title="Needs a look" flush>
                  <ul class="work">
                    {failed.slice(0, 4).map((m) => (
                      <li key={m.id}>
                        <a href={to('machines', m.name)}>{m.name}</a>
                        <span class="grow cut muted" title={m.status.reason}>
                          {m.status.reason}
                        </span>
                        <State state="failed" />
                      </li>
                    ))}
                  </ul>
                </Panel>
              )}
              <Panel title="Jobs" action={<a href="#/jobs">All jobs</a>} flush>
                <Work />
              </Panel>
            </div>
          </div>
          <Panel title="Events" action={<a href="#/events">All events</a>} flush>
            <EventList events={events.value.slice(0, 10)} />
          </Panel>
        </>
      )}
    </>
  );
}

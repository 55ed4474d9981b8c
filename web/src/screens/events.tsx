// SPDX-License-Identifier: GPL-2.0-or-later
// All events, as they come.
import { useState } from 'preact/hooks';
import { place, setQuery } from '../router';
import { events, MOST_EVENTS } from '../store';
import { Head } from '../ui/bits';
import { Icon } from '../ui/icon';
import { EventList } from './event_list';

const PAGE = 200;

export function Events() {
  const [shown, show] = useState(PAGE);
  const query = place.value.query;
  const text = (query.get('find') ?? '').toLowerCase();
  const kind = query.get('kind') ?? '';
  const kinds = [...new Set(events.value.map((e) => e.kind))].sort();
  const fit = events.value.filter((e) => (!kind || e.kind === kind) && (!text || `${e.name} ${e.what} ${e.text}`.toLowerCase().includes(text)));
  return (
    <>
      <Head title="Events" sub="What has happened, the newest first. New ones appear by themselves." />
      <div class="toolbar">
        <label class="search">
          <Icon name="search" size={15} />
          <input type="search" aria-label="Find events" placeholder="Find by name or words" value={query.get('find') ?? ''} onInput={(e) => setQuery({ find: e.currentTarget.value })} />
        </label>
        <div class="segments" role="group" aria-label="Kind">
          <button aria-pressed={!kind} onClick={() => setQuery({ kind: '' })}>
            All
          </button>
          {kinds.map((k) => (
            <button key={k} aria-pressed={k === kind} onClick={() => setQuery({ kind: k })}>
              {k}
            </button>
          ))}
        </div>
      </div>
      <div class="panel flush">
        <EventList events={fit.slice(0, shown)} empty={events.value.length ? 'No event is like that.' : undefined} />
      </div>
      {fit.length > shown && (
        <p class="foot">
          <button onClick={() => show(shown + PAGE)}>Show more</button>
        </p>
      )}
      {fit.length <= shown && events.value.length >= MOST_EVENTS && (
        <p class="foot muted">
          Older ones: <code>viv event list</code>
        </p>
      )}
    </>
  );
}

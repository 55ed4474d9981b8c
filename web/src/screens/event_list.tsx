// SPDX-License-Identifier: GPL-2.0-or-later
// Events, the newest first, wherever some are shown.
import type { Event } from '../api/schema';
import { exact } from '../format';
import { to } from '../router';
import { Ago } from '../ui/bits';
import { Icon } from '../ui/icon';

const tone = (what: string): string =>
  /fail|crash|lost/.test(what) ? 'bad' : /running|ready|done|created|resumed/.test(what) ? 'good' : /deleted|stopped|cancelled|killed/.test(what) ? 'idle' : 'busy';

const home = (e: Event): string | null =>
  e.kind === 'vm' ? to('machines', e.name) : e.kind === 'snapshot' ? to('machines', e.name.split('.').slice(0, -1).join('.'), 'snapshots') : e.kind === 'image' ? to('images') : e.kind === 'job' ? to('jobs') : null;

/** Sessions and jobs are called by their ids, which say nothing to people. */
const named = (e: Event): string => (e.name === e.id ? e.kind : e.name);

export function EventList({ events, plain, empty = 'Nothing has happened yet.' }: { events: readonly Event[]; plain?: boolean; empty?: string }) {
  if (!events.length)
    return (
      <p class="nothing muted">
        <Icon name="event" />
        {empty}
      </p>
    );
  return (
    <ol class="events" aria-label="Events">
      {events.map((e) => {
        const href = home(e);
        return (
          <li key={e.seq}>
            <i class={`dot ${tone(e.what)}`} aria-hidden="true" />
            {!plain && (
              <span class="event-name">
                {href && e.what !== 'deleted' ? <a href={href}>{named(e)}</a> : <b>{named(e)}</b>}
                {named(e) === e.name && <small class="muted">{e.kind}</small>}
              </span>
            )}
            <span class="event-text">{e.text}</span>
            <span class="muted event-time" title={exact(e.time)}>
              <Ago time={e.time} />
            </span>
          </li>
        );
      })}
    </ol>
  );
}

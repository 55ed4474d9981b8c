// SPDX-License-Identifier: GPL-2.0-or-later
// What is around every screen: who is signed in, the places to go to, the line to the manager.
import { effect, signal } from '@preact/signals';
import { useEffect, useState } from 'preact/hooks';
import { findSession, session, signOut } from './api/client';
import { loadDocument, resource, version } from './api/document';
import { live, nextTry, start, stop, tryNow } from './api/live';
import { now } from './format';
import { iconOf, others, titleOf } from './kinds';
import { place, to } from './router';
import { collection, forgetAll, jobs, machines } from './store';
import { theme, type Theme } from './theme';
import { Empty, FailureNote, Head, Loading } from './ui/bits';
import { Questions } from './ui/dialog';
import { Icon, type IconName } from './ui/icon';
import { Palette, openPalette } from './ui/palette';
import { Toasts } from './ui/toast';
import { startUsage, stopUsage } from './usage';
import { Events } from './screens/events';
import { Images } from './screens/images';
import { Jobs } from './screens/jobs';
import { Machine } from './screens/machine';
import { Machines } from './screens/machines';
import { Overview } from './screens/overview';
import { Things } from './screens/things';
import { SignIn } from './screens/signin';
import { System } from './screens/system';

interface NavItem {
  id: string;
  title: string;
  icon: IconName;
  count?: number;
}

function navigation(): NavItem[][] {
  const running = [...jobs().use().items.value.values()].filter((j) => j.status.state === 'running').length;
  const mid = others().filter((r) => r.kind !== 'token');
  return [
    [
      { id: '', title: 'Overview', icon: 'overview' },
      { id: 'machines', title: 'Machines', icon: 'machine', count: machines().use().items.value.size },
      { id: 'images', title: 'Images', icon: 'image' },
      ...mid.map((r) => ({ id: r.plural, title: titleOf(r), icon: iconOf(r) })),
    ],
    [
      { id: 'jobs', title: 'Jobs', icon: 'job', count: running },
      { id: 'events', title: 'Events', icon: 'event' },
    ],
    [
      ...(resource('token') ? [{ id: resource('token')!.plural, title: 'Tokens', icon: 'token' as const }] : []),
      { id: 'system', title: 'System', icon: 'system' },
    ],
  ];
}

const navOpen = signal(false);
effect(() => {
  void place.value;
  navOpen.value = false;
});

function ThemeSwitch() {
  const next: Record<Theme, Theme> = { auto: 'light', light: 'dark', dark: 'auto' };
  const icon: Record<Theme, IconName> = { auto: 'auto', light: 'sun', dark: 'moon' };
  const words: Record<Theme, string> = { auto: 'as the system', light: 'light', dark: 'dark' };
  return (
    <button class="quiet square" aria-label={`Colours: ${words[theme.value]}. Change`} title={`Colours: ${words[theme.value]}`} onClick={() => (theme.value = next[theme.value])}>
      <Icon name={icon[theme.value]} />
    </button>
  );
}

function Line() {
  const words = { live: 'Live', connecting: 'Connecting', lost: 'Not connected' };
  const tone = { live: 'good', connecting: 'busy', lost: 'bad' };
  return (
    <span class={`state ${tone[live.value]}`} role="status">
      <i aria-hidden="true" />
      {words[live.value]}
    </span>
  );
}

function Lost() {
  void now.value;
  if (live.value !== 'lost') return null;
  return (
    <div class="lost" role="alert">
      <Icon name="warn" size={18} />
      <span class="grow">
        <strong>The connection to the manager is lost.</strong> What is shown is from before
        {nextTry.value > Date.now() + 2000 ? '; it is tried again by itself.' : '; trying again …'}
      </span>
      <button onClick={tryNow}>Try now</button>
    </div>
  );
}

function Side({ at }: { at: string }) {
  return (
    <aside class={`side ${navOpen.value ? 'open' : ''}`} id="side">
      <a class="brand" href="#/">
        <img src="/icon.svg" width="26" height="26" alt="" />
        <span>Vivarium</span>
      </a>
      <button class="find" onClick={openPalette}>
        <Icon name="search" size={15} />
        <span>Find …</span>
        <kbd>Ctrl K</kbd>
      </button>
      <nav aria-label="Places">
        {navigation().map((group, i) => (
          <ul key={i}>
            {group.map((n) => (
              <li key={n.id}>
                <a href={to(...(n.id ? [n.id] : []))} aria-current={at === n.id ? 'page' : undefined}>
                  <Icon name={n.icon} size={17} />
                  <span>{n.title}</span>
                  {!!n.count && <span class="count">{n.count}</span>}
                </a>
              </li>
            ))}
          </ul>
        ))}
      </nav>
      <div class="side-foot">
        <Line />
        <div class="who">
          <span class="grow">
            <b>{session.value?.caller}</b>
            <small>{session.value?.role}</small>
          </span>
          <ThemeSwitch />
          {session.value?.expires && (
            <button class="quiet square" aria-label="Sign out" title="Sign out" onClick={() => void signOut().catch(() => (session.value = null))}>
              <Icon name="out" />
            </button>
          )}
        </div>
      </div>
    </aside>
  );
}

function Screen() {
  const [first = '', name, tab] = place.value.parts;
  if (first === '') return <Overview />;
  if (first === 'machines') return name ? <Machine key={name} name={name} tab={tab ?? 'overview'} /> : <Machines />;
  if (first === 'images') return <Images />;
  if (first === 'jobs') return <Jobs />;
  if (first === 'events') return <Events />;
  if (first === 'system') return <System />;
  const r = others().find((o) => o.plural === first);
  if (r) return <Things key={r.kind} resource={r} />;
  return (
    <>
      <Head title="There is no such place" />
      <Empty icon="search" title="Nothing is here" text="The address leads nowhere in this portal.">
        <a class="button" href="#/">
          Go to the overview
        </a>
      </Empty>
    </>
  );
}

function Shell() {
  const [failure, fail] = useState<unknown>(null);
  const [ready, setReady] = useState(false);
  const begin = () => {
    fail(null);
    loadDocument()
      .then(() => {
        setReady(true);
        start();
        startUsage();
      })
      .catch(fail);
  };
  useEffect(() => {
    begin();
    return () => {
      stop();
      stopUsage();
      forgetAll();
    };
  }, []);
  if (failure) return <main class="alone"><FailureNote failure={failure} again={begin} /></main>;
  if (!ready) return <main class="alone"><Loading rows={4} /></main>;
  return (
    <>
      <a class="skip" href="#content" onClick={(e) => {
        e.preventDefault();
        document.getElementById('content')?.focus();
      }}>
        Skip to the content
      </a>
      <header class="top">
        <button class="quiet square" aria-label="Places" aria-expanded={navOpen.value} aria-controls="side" onClick={() => (navOpen.value = !navOpen.value)}>
          <Icon name={navOpen.value ? 'close' : 'menu'} size={20} />
        </button>
        <a class="brand" href="#/">
          <img src="/icon.svg" width="24" height="24" alt="" />
          <span>Vivarium</span>
        </a>
        <button class="quiet square" aria-label="Find" onClick={openPalette}>
          <Icon name="search" size={18} />
        </button>
      </header>
      {navOpen.value && <div class="veil" onClick={() => (navOpen.value = false)} />}
      <Side at={place.value.parts[0] ?? ''} />
      <main id="content" tabIndex={-1}>
        <Lost />
        <Screen />
      </main>
      <Palette />
    </>
  );
}

/** Keeps jobs that run up to date: their progress is no event. */
function useJobs(on: boolean) {
  useEffect(() => {
    if (!on) return;
    const timer = setInterval(() => {
      if (document.hidden) return;
      for (const j of collection('job').items.value.values())
        if (j.status.state === 'running') collection('job').touch(j.name);
    }, 1000);
    return () => clearInterval(timer);
  }, [on]);
}

export function App() {
  const [failure, fail] = useState<unknown>(null);
  const look = () => {
    fail(null);
    findSession().catch(fail);
  };
  useEffect(look, []);
  useJobs(!!session.value);
  useEffect(() => {
    const key = (e: KeyboardEvent) => {
      if ((e.ctrlKey || e.metaKey) && e.key.toLowerCase() === 'k' && session.value) {
        e.preventDefault();
        openPalette();
      }
      if (e.key === 'Escape' && navOpen.value) navOpen.value = false;
    };
    document.addEventListener('keydown', key);
    return () => document.removeEventListener('keydown', key);
  }, []);
  void version.value;
  return (
    <>
      {failure ? (
        <main class="alone">
          <h1>Vivarium</h1>
          <FailureNote failure={failure} again={look} />
        </main>
      ) : session.value === undefined ? (
        <main class="alone" aria-busy="true" />
      ) : session.value === null ? (
        <SignIn />
      ) : (
        <Shell />
      )}
      <Questions />
      <Toasts />
    </>
  );
}

// SPDX-License-Identifier: GPL-2.0-or-later
// Sign in with a token, or with the one-time code that the address from "viv portal" ends with.
import { useEffect, useState } from 'preact/hooks';
import { signIn } from '../api/client';
import { FailureNote } from '../ui/bits';

/** The code in the address, which is taken out of it at once: it is good only once, and no bookmark. */
function takeCode(): string | null {
  const code = /[#&]code=([^&]+)/.exec(location.hash)?.[1];
  if (!code) return null;
  history.replaceState(null, '', location.pathname);
  return decodeURIComponent(code);
}

const first = takeCode();

export function SignIn() {
  const [word, setWord] = useState('');
  const [busy, setBusy] = useState(false);
  const [failure, fail] = useState<unknown>(null);
  const go = (proof: { token: string } | { code: string }) => {
    setBusy(true);
    fail(null);
    signIn(proof)
      .catch(fail)
      .finally(() => setBusy(false));
  };
  useEffect(() => {
    document.title = 'Sign in · Vivarium';
    if (first) go({ code: first });
    const again = () => {
      const code = takeCode();
      if (code) go({ code });
    };
    window.addEventListener('hashchange', again);
    return () => window.removeEventListener('hashchange', again);
  }, []);
  const submit = (e: Event) => {
    e.preventDefault();
    const text = word.trim();
    if (text) go(text.startsWith('viv_') ? { token: text } : { code: text });
  };
  return (
    <main class="signin">
      <form class="card" onSubmit={submit}>
        <img src="/icon.svg" width="44" height="44" alt="" />
        <h1>Sign in to Vivarium</h1>
        <div class="field">
          <label for="word">Token or one-time code</label>
          <input
            id="word"
            type="password"
            value={word}
            autoFocus
            autocomplete="current-password"
            spellcheck={false}
            aria-describedby="word-help"
            onInput={(e) => setWord(e.currentTarget.value)}
          />
          <small id="word-help" class="help">
            A token begins with <code>viv_</code>
          </small>
        </div>
        {failure !== null && <FailureNote failure={failure} />}
        <button class="primary" disabled={busy || !word.trim()}>
          {busy ? 'Signing in …' : 'Sign in'}
        </button>
        <div class="hint">
          <p>On the machine that runs the manager, this opens the portal without a token:</p>
          <pre>viv portal</pre>
          <p>And this makes a token for another one:</p>
          <pre>viv token create NAME --role operator</pre>
        </div>
      </form>
    </main>
  );
}

// SPDX-License-Identifier: GPL-2.0-or-later
// The portal begins here.
import { render } from 'preact';
import { App } from './app';
import './style/base.css';
import './style/parts.css';
import './style/screens.css';

render(<App />, document.getElementById('app')!);

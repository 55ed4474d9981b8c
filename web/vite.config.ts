// SPDX-License-Identifier: GPL-2.0-or-later
// How the portal is built, and served while somebody works on it: "npm run dev" with VIV_PORTAL_API=https://127.0.0.1:8443
// takes the API of that manager and everything else from src/.
import { defineConfig } from 'vite';

const api = process.env.VIV_PORTAL_API ?? 'https://127.0.0.1:8443';
const proxy = {
  target: api,
  secure: false, // the manager's own certificate
  ws: true,
  headers: { origin: api },
};

export default defineConfig({
  esbuild: { jsx: 'automatic', jsxImportSource: 'preact', legalComments: 'none' },
  build: {
    outDir: process.env.VIV_PORTAL_OUT ?? 'dist',
    emptyOutDir: true,
    target: 'es2022',
    cssTarget: 'chrome123', // light-dark() stays as it is
    assetsInlineLimit: 0, // data: is not among what the content security policy allows
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: { host: '127.0.0.1', proxy: { '/v1': proxy, '/openapi.json': proxy } },
});

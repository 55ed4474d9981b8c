#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Builds the portal (web/) into build/web/dist, out of which meson makes a table in vivd (scripts/gen-portal.py).
# usage: web.sh [build|again|test|check OPENAPI.json]
#   build   if the sources have changed since the last time (scripts/build.sh does this first)
#   again   in any case, also when it did not work the last time
#   test    get what web/test needs
#   check   the types: TypeScript against that document of a manager
# It needs nodejs and npm (group web of scripts/packages.txt) and, the first time, npm's registry. Without them "build"
# says so once and ends well: vivd is built all the same, and tells whoever asks it for the portal how to get one.
set -eu
cd "$(dirname "$0")/.."
mode=${1:-build}
out=$PWD/build/web
stamp=$out/stamp
mkdir -p "$out"

sources() {
    find web -type f ! -path '*/node_modules/*' ! -path 'web/test/*' ! -path 'web/dist/*' ! -name schema.d.ts -print0 |
        LC_ALL=C sort -z
}
sum=$(sources | xargs -0 sha256sum | sha256sum | cut -c 1-32)

missing() { # says what to do, and goes on without the portal
    printf '%s\n' "web: $1" \
        "web: vivd is built without the portal. With nodejs, npm and npm's registry at hand, 'make web' and 'make build' put it in." >&2
    [ "$mode" = build ] || [ "$mode" = again ] || exit 1
    rm -rf "$out/dist"
    echo "none $sum" >"$stamp.new"
    mv "$stamp.new" "$stamp"
    [ "$mode" = build ]
    exit
}

packages() { # node_modules of that folder as its lock file has it
    local want
    want=$(sha256sum "$1/package-lock.json" | cut -d' ' -f1)
    if [ "$(cat "$1/node_modules/.viv-lock" 2>/dev/null)" = "$want" ]; then return 0; fi
    echo "web: getting the packages of $1/package-lock.json"
    (cd "$1" && npm ci --ignore-scripts --no-audit --no-fund --fetch-retries=1 --fetch-timeout=30000 >"$out/npm.log" 2>&1) || return 1
    echo "$want" >"$1/node_modules/.viv-lock"
}

licences() { # of everything that is in the files that browsers get
    echo "The portal of Vivarium contains the following packages."
    local package file
    for package in $(node -p 'Object.keys(require("./web/package.json").dependencies).join(" ")') @preact/signals-core @novnc/novnc/vendor/pako; do
        printf '\n======== %s\n\n' "$package"
        for file in web/node_modules/"$package"/{LICENSE,LICENSE.txt,LICENSE.md}; do
            if [ -f "$file" ]; then cat "$file"; fi
        done
    done
}

exec 9>"$out/lock"
flock 9
if [ "$mode" = build ]; then
    case $(cat "$stamp" 2>/dev/null) in
        "portal $sum") exit 0 ;;
        "none $sum")
            echo "web: vivd has no portal, as before; 'make web' tries again" >&2
            exit 0
            ;;
    esac
fi
if ! command -v npm >/dev/null; then
    scripts/setup.sh web || true
    command -v npm >/dev/null || missing "npm is not installed"
fi
if [ "$mode" = test ]; then
    packages web/test || missing "npm could not get the packages of the test: $(tail -n 1 "$out/npm.log")"
    exit 0
fi
packages web || missing "npm could not get the packages: $(grep -v '^npm notice' "$out/npm.log" | tail -n 1)"

if [ "$mode" = check ]; then
    node web/dev/types.mjs "${2:?the OpenAPI document}" web/src/api/schema.d.ts
    cd web
    exec node_modules/.bin/tsc --noEmit
fi

if ! (cd web && VIV_PORTAL_OUT="$out/dist.new" node_modules/.bin/vite build --logLevel warn --emptyOutDir) >"$out/vite.log" 2>&1; then
    cat "$out/vite.log" >&2
    exit 1 # a mistake in the sources, not something that is missing
fi
licences >"$out/dist.new/licences.txt"
rm -rf "$out/dist"
mv "$out/dist.new" "$out/dist"
echo "portal $sum" >"$stamp.new"
mv "$stamp.new" "$stamp"
echo "web: the portal is in build/web/dist ($(du -sk "$out/dist" | cut -f1) KiB)"

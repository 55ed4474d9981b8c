#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What "make check" does after everything compiled: layout, include direction and licences, scripts
# that parse, static analysis. Each step runs even if one before it failed; exit code 1 if any did.
# clang-tidy remembers in build/check which files it found clean, by a hash of what the compiler sees.
set -u
cd "$(dirname "$0")/.."
folder=build/meson
status=0
mkdir -p build/check
step() { printf '== %s\n' "$*"; }
sources() { find src tests bench -type f \( -name '*.c' -o -name '*.h' \) 2>/dev/null | LC_ALL=C sort; }

step "layout (clang-format; 'make format' repairs it)"
if ! sources | xargs -r clang-format --dry-run -Werror 2>build/check/format.log; then
    grep -c 'error:' build/check/format.log | sed 's/$/ places differ, the first of each file:/'
    grep 'error:' build/check/format.log | awk -F: '!seen[$1]++ { print "  " $1 ":" $2 }'
    status=1
fi

step "includes, licences, sizes (check-includes.py)"
scripts/check-includes.py || status=1

step "scripts parse"
for f in $(find scripts tests bench .ci -type f ! -name '*.pyc' 2>/dev/null); do
    case $(head -c 64 "$f" | head -n 1 | tr -d '\0') in
        '#!'*python3*) python3 -c 'import ast,sys; ast.parse(open(sys.argv[1], encoding="utf-8").read(), sys.argv[1])' "$f" || status=1 ;;
        '#!'*sh) bash -n "$f" || status=1 ;;
    esac
done

tidy_one() {
    local file=$1 hash cache
    hash=$({
        cat .clang-tidy
        clang -E -P -std=gnu17 -D_GNU_SOURCE -Isrc -I"$folder" "$file" 2>&1
    } | sha256sum | cut -d' ' -f1)
    cache=build/check/$(echo "$file" | tr / _)
    if [ "$(cat "$cache" 2>/dev/null)" = "$hash" ]; then return 0; fi
    local log
    if log=$(clang-tidy --quiet -p build/check "$file" 2>/dev/null); then
        echo "$hash" >"$cache"
    else
        printf '%s\n' "$log"
        return 1
    fi
}
export -f tidy_one
export folder
step "static analysis (clang-tidy)"
# A file that two programs have is compiled twice; the second time in one process the analyzer's look at va_list errs.
python3 -c 'import json, sys
once = {c["file"]: c for c in json.load(sys.stdin)}
json.dump(list(once.values()), sys.stdout)' <"$folder/compile_commands.json" >build/check/compile_commands.json
find src -type f -name '*.c' | LC_ALL=C sort |
    xargs -r -P "$(nproc)" -I{} bash -c 'tidy_one "$1"' tidy {} || status=1

if [ $status -eq 0 ]; then echo "check: everything is in order"; else echo "check: see above"; fi
exit $status

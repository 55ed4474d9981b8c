#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Prints the files of one kind, sorted, relative to the root: what meson.build uses as wildcards.
# usage: list-sources.sh core|soft|program|switch|host|cli|tools|agent|trace|stats|test|fuzz|support|all
set -eu
export LC_ALL=C
cd "$(dirname "$0")/.."

files() { # files DIR FIND-EXPRESSION...
    dir=$1
    shift
    if [ -d "$dir" ]; then find "$dir" -type f "$@" | sort; fi
}

case $1 in
    core) files src -name '*.c' ! -name 'main*.c' ! -path 'src/cpu/soft/*' ! -path 'src/tools/*' \
        ! -path 'src/agent/*' ;;
    agent) files src/agent -name '*.c' ;;
    soft) files src/cpu/soft -name '*.c' ! -name 'main*.c' ;;
    program) files src/vm -name 'main.c' ;;
    switch) files src/switch -name 'main.c' ;;
    host) files src/host -name 'main.c' ;;
    cli) files src/cli -name 'main.c' ;;
    tools) files src/tools -name '*.c' ;;
    trace) files src -name 'trace.def' ;;
    stats) files src -name 'stats.def' ;;
    opcodes) files src/cpu/soft -name 'opcodes.tab' ;;
    test) files tests -name 'test_*.c' ;;
    fuzz) files tests/fuzz -name 'fuzz_*.c' ;;
    support) files tests -name '*.c' ! -name 'test_*' ! -name 'fuzz_*' ! -path 'tests/guest/*' ;;
    all) for kind in core soft program switch host cli tools agent trace stats opcodes test fuzz support; do "$0" "$kind"; done ;;
    *) echo "list-sources.sh: unknown kind '$1'" >&2; exit 2 ;;
esac

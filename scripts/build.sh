#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Configures and compiles one build folder.
# usage: build.sh FOLDER program|tests|sanitize
#   program   viv-vm and the tools (needs the packages of group build)
#   tests     everything, with the unit tests (group test)
#   sanitize  the unit tests under AddressSanitizer and UBSan, and the fuzz targets (clang)
# Meson cannot see that a file was added or removed, so the list of files is compared here.
set -eu
cd "$(dirname "$0")/.."
folder=$1
mode=$2
targets=()
options=()
case $mode in
    program) targets=(programs) ;;
    tests) options=(-Dtests=enabled) ;;
    sanitize)
        options=(-Dtests=enabled -Db_sanitize=address,undefined)
        if command -v clang >/dev/null; then
            export CC=clang
            options+=(-Dfuzz=true)
            # Some 200 programs with everything in them: a third of the time that binutils' linker takes.
            if command -v ld.lld >/dev/null; then export CC_LD=lld; fi
        fi
        ;;
    *)
        echo "build.sh: unknown mode '$mode'" >&2
        exit 2
        ;;
esac

scripts/web.sh build
list=$(scripts/list-sources.sh all)
mkdir -p "$folder"
reason=
if [ ! -f "$folder/build.ninja" ]; then
    reason=new
elif [ "$(cat "$folder/sources.list" 2>/dev/null)" != "$list" ]; then
    reason=files
elif [ ${#options[@]} -gt 0 ] && [ "$(cat "$folder/options" 2>/dev/null)" != "${options[*]}" ]; then
    # Without options a folder keeps what it has: "make build" after "make test" changes nothing.
    reason=options
fi
if [ -n "$reason" ]; then
    again=()
    if [ "$reason" = new ]; then rm -rf "$folder/meson-private"; else again=(--reconfigure); fi
    if ! meson setup "${again[@]}" "${options[@]}" "$folder" >"$folder/setup.log" 2>&1; then
        tail -n 20 "$folder/setup.log" >&2
        exit 1
    fi
    printf '%s\n' "$list" >"$folder/sources.list"
    if [ ${#options[@]} -gt 0 ]; then printf '%s\n' "${options[*]}" >"$folder/options"; fi
fi
exec ninja -C "$folder" ${JOBS:+-j"$JOBS"} "${targets[@]}"

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Installs the packages of scripts/packages.txt that are missing.
# usage: setup.sh [GROUP...]        (no group: all of them)
# Exit code 0 when everything is there, 2 when it cannot be put there: the line to run is printed.
# With all installed it only asks dpkg once, so that every make target can begin with it.
set -u
cd "$(dirname "$0")/.." || exit 1
list=scripts/packages.txt

wanted=()
while read -r group package _; do
    case $group in '' | '#'*) continue ;; esac
    # Other makers' packages of nodejs bring npm along and do not go together with Debian's.
    if [ "$group" = web ] && command -v npm >/dev/null; then continue; fi
    if [ $# -eq 0 ] || [[ " $* " == *" $group "* ]]; then wanted+=("$package"); fi
done <"$list"

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "setup: this is no Debian system (dpkg or apt-get is missing); going on with what is there." >&2
    echo "setup: if something is missing, $list names it." >&2
    exit 0
fi

find_missing() {
    missing=()
    local status package
    local -A have=()
    while read -r status package; do
        if [ "$status" = ii ] || [ "$status" = hi ]; then have[$package]=1; fi
    done < <(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' "${wanted[@]}" 2>/dev/null)
    for package in "${wanted[@]}"; do
        if [ -z "${have[$package]:-}" ]; then missing+=("$package"); fi
    done
}

find_missing
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
        as_root=(sudo)
    else
        echo "setup: ${#missing[@]} packages are missing. Install them as root with this line, then try again:" >&2
        echo "apt-get update && apt-get install -y --no-install-recommends ${missing[*]}" >&2
        exit 2
    fi
fi

install_missing() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q install -y \
        --no-install-recommends -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "${missing[@]}"
}

echo "setup: installing ${missing[*]}"
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
# An index that is too old names files that the mirror no longer has, so a failure is tried once
# more with a fresh one. One broken third-party source must not stop us: only the install counts.
if ! install_missing >"$log" 2>&1; then
    "${as_root[@]}" apt-get -q update >"$log" 2>&1
    install_missing >>"$log" 2>&1
fi
find_missing
if [ ${#missing[@]} -ne 0 ]; then
    tail -n 40 "$log" >&2
    echo "setup: apt-get could not install: ${missing[*]} (its last words stand above)." >&2
    echo "setup: check the network and /etc/apt/sources.list, then try again." >&2
    exit 2
fi

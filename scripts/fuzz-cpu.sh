#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The long run of the differential tests of the software CPU against the host's own.
# usage: fuzz-cpu.sh [CASES] [SEED]     (default: 20 million cases, a seed from the clock)
# Every test program with "diff" in its name (tests/cpu/diff/, test_*diff*.c) takes VIV_DIFF_CASES and VIV_DIFF_SEED from
# the environment; a failing run prints the seed, which repeats it.
set -eu
cd "$(dirname "$0")/.."
cases=${1:-20000000}
seed=${2:-$(date +%s)}
case $cases$seed in *[!0-9]*)
    echo "fuzz-cpu: N and SEED are whole numbers, as in: make fuzz-cpu N=50000000 SEED=7" >&2
    exit 2
    ;;
esac
programs=$(scripts/list-sources.sh test | sed -n 's,^tests/,,; /diff/ { s,/test_,/,; s,\.c$,,; s,/,_,g; s,^,test_,p }')
[ -n "$programs" ] || { echo "fuzz-cpu: no test below tests/ has diff in its name" >&2; exit 1; }
for program in $programs; do
    echo "$program: $cases cases, seed $seed"
    VIV_DIFF_CASES=$cases VIV_DIFF_SEED=$seed "build/meson/$program"
done

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the jail costs at the start: a guest that ends at once, with it and without, by turns.

usage: bench/jail.py [TURNS [VIV-VM]...]

Of each variant the CPU time of the process with its helper, the time on the wall, and the page faults: least,
lower quartile, median.
"""
import os
import pathlib
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/guest"))
import mini  # noqa: E402

NULL = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in range(3)]
COLUMNS = "cpu ms", "wall ms", "faults"


def once(words):
    begin = time.perf_counter()
    pid = os.posix_spawn(words[0], words, os.environ, file_actions=NULL)
    _, status, used = os.wait4(pid, 0)
    if status:
        sys.exit(f"{' '.join(words)}: it ended with {os.waitstatus_to_exitcode(status)}")
    return 1e3 * (used.ru_utime + used.ru_stime), 1e3 * (time.perf_counter() - begin), used.ru_minflt


def main():
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    with tempfile.TemporaryDirectory() as folder:
        kernel = pathlib.Path(folder, "off.elf")
        kernel.write_bytes(mini.elf(mini.POWER_OFF))
        variants = {}
        for program in sys.argv[2:] or [str(ROOT / "build/viv-vm")]:
            words = [program, "--memory", "64M", "--kernel", str(kernel), "--nic", "none", "--serial", "none"]
            variants |= {program: words, program + " --no-jail": [*words, "--no-jail"]}
        found = {name: [] for name in variants}
        for _ in range(turns):
            for name, words in variants.items():
                found[name].append(once(words))
    for name, runs in found.items():
        for what, values in zip(COLUMNS, zip(*runs)):
            values = sorted(values)
            print(f"{name:50} {what:8} {values[0]:8.2f} {values[len(values) // 4]:8.2f} {statistics.median(values):8.2f}")


main()

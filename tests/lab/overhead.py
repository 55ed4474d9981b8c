#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a machine under KVM costs beside what its guest does, against QEMU in the same run, as a table.

usage: tests/lab/lab.py -- tests/lab/overhead.py [RUNS]      or, as root, where there is a real KVM

from start to the first instruction: of a guest that says one byte at once, until that is read (median)
private memory: of the process while that guest waits, without the guest's RAM
exits to user space: while Debian's kernel boots with busybox and powers off, by what they are for
"""
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "guest"))
import mini  # noqa: E402
import vivtest  # noqa: E402

MEMORY = 256
TRACING = pathlib.Path("/sys/kernel/tracing")
EXITS = TRACING / "events/kvm/kvm_userspace_exit"


def ours(kernel, *more, initrd=None, append=None):
    words = [vivtest.PROGRAM, "--cpu", "kvm", "--memory", f"{MEMORY}M", "--nic", "none", "--kernel", kernel, "--serial", "stdio"]
    words += ["--initrd", initrd] if initrd else []
    return [str(w) for w in [*words, *(["--append", append] if append else []), *more]]


def qemu(machine):
    def start(kernel, *more, initrd=None, append=None):
        words = [shutil.which("qemu-system-x86_64"), "-accel", "kvm", "-cpu", "host", "-M", machine, "-m", MEMORY,
                 "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-kernel", kernel, "-serial", "stdio"]
        words += ["-initrd", initrd] if initrd else []
        return [str(w) for w in [*words, *(["-append", append] if append else []), *more]]
    return start


PROGRAMS = {"viv-vm": ours, "viv-vm --no-jail": lambda *a, **k: ours(*a, "--no-jail", **k), "QEMU q35": qemu("q35"),
            "QEMU microvm": qemu("microvm,isa-serial=on")}


def first_instruction(start, kernel):
    """Seconds, and private KiB beside the guest's RAM."""
    begin = time.monotonic()
    with subprocess.Popen(start(kernel), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as vm:
        got = vm.stdout.read(1)
        seconds = time.monotonic() - begin
        private = private_kib(vm.pid) if got else 0
        vm.kill()
        error = vm.stderr.read().decode(errors="replace")
    if not got:
        raise RuntimeError(error.strip()[-300:])
    return seconds, private


def private_kib(pid):
    total, skip = 0, False
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text(encoding="ascii", errors="replace").splitlines():
        words = line.split()
        if re.match(r"[0-9a-f]+-[0-9a-f]+$", words[0]):
            first, last = (int(w, 16) for w in words[0].split("-"))
            skip = last - first == MEMORY << 20
        elif words[0] in ("Private_Clean:", "Private_Dirty:") and not skip:
            total += int(words[1])
    return total


def exits(start):
    """Of a boot, by reason; None where the kernel does not count."""
    if not EXITS.exists():
        subprocess.run(["mount", "-t", "tracefs", "tracefs", TRACING], check=False, capture_output=True)
    trigger = EXITS / "trigger"
    if not trigger.exists():
        return None
    if "hist:keys=reason" in trigger.read_text(encoding="ascii"):
        trigger.write_text("!hist:keys=reason\n", encoding="ascii")
    trigger.write_text("hist:keys=reason\n", encoding="ascii")
    words = start(vivtest.GUEST / "vmlinuz", initrd=vivtest.GUEST / "tiny.cpio.gz",
                  append="console=ttyS0 quiet viv.run64=dHJ1ZQ==")
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=300, check=False)
    found = (EXITS / "hist").read_text(encoding="ascii", errors="replace")
    trigger.write_text("!hist:keys=reason\n", encoding="ascii")
    if b"EXIT 0" not in done.stdout:
        raise RuntimeError(f"{words[0]} did not boot: {done.stdout[-200:]!r} {done.stderr[-200:]!r}")
    names = {2: "ports", 6: "devices' memory"}
    counts = {}
    for reason, count in re.findall(r"reason:\s+(\d+)\s.*hitcount:\s+(\d+)", found):
        name = names.get(int(reason), "other")
        counts[name] = counts.get(name, 0) + int(count)
    return counts


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as folder:
        kernel = pathlib.Path(folder) / "kernel"
        kernel.write_bytes(mini.elf(mini.say("x") + mini.STOP))
        print("| | start to first instruction | private memory | exits: ports | devices' memory | other |")
        print("| --- | --- | --- | --- | --- | --- |")
        for name, start in PROGRAMS.items():
            try:
                samples = [first_instruction(start, kernel) for _ in range(runs)]
                row = [f"{statistics.median(s for s, _ in samples) * 1000:.0f} ms",
                       f"{statistics.median(m for _, m in samples) / 1024:.1f} MB"]
                counts = exits(start)
                row += ["?"] * 3 if counts is None else [str(counts.get(k, 0)) for k in ("ports", "devices' memory", "other")]
            except (RuntimeError, OSError, subprocess.TimeoutExpired) as e:
                row = [f"failed: {e}", "", "", "", ""]
            print(f"| {name} | {' | '.join(row)} |", flush=True)
    load = os.getloadavg()[0]
    print(f"\n{runs} runs, {MEMORY} MiB, {os.cpu_count()} processors, load {load:.1f}")


if __name__ == "__main__":
    main()

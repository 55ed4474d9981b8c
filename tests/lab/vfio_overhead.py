#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a read of 4 KiB costs a guest that has an NVMe drive of the host, against QEMU in the same run, as a table.

usage: tests/lab/lab.py --vfio -- tests/lab/vfio_overhead.py [READS]

exits: of the processor from the guest, and of these those that went on to user space, for each read
the reasons of the exits, by their number for each read, follow the table
CPU: of the process with what the kernel does for it, the guest's own time included
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import test_vfio  # noqa: E402
import vivtest  # noqa: E402

TRACING = pathlib.Path("/sys/kernel/tracing")
EVENTS = {"exits": ("kvm_exit", "exit_reason"), "to user space": ("kvm_userspace_exit", "reason")}
NAMES = {0x60: "interrupt of the host", 0x64: "interrupt window", 0x78: "HLT", 0x7b: "port", 0x7c: "MSR", 0x400: "nested page fault"}
SCRIPT = ("until [ -e /dev/nvme0n1 ]; do sleep 1; done; echo 0 >/sys/block/nvme0n1/queue/read_ahead_kb; echo begin''-reading; "
          "read x; dd if=/dev/nvme0n1 of=/dev/null bs=4k count={reads}; echo end''-reading; read x; poweroff -f")


def counted(name, key, action=None):
    """Of an event, so far; with an action its counting is begun or ended."""
    event = TRACING / "events/kvm" / name
    if action is not None:
        (event / "trigger").write_text(f"{action}hist:keys={key}\n", encoding="ascii")
        return 0
    return sum(int(n) for n in re.findall(r"hitcount:\s+(\d+)", (event / "hist").read_text(encoding="ascii", errors="replace")))


def reasons():
    """Exits so far by AMD's code of their reason (APM vol. 2, appendix C)."""
    text = (TRACING / "events/kvm/kvm_exit/hist").read_text(encoding="ascii", errors="replace")
    return {int(k): int(n) for k, n in re.findall(r"exit_reason:\s+(\d+)\s*}\s*hitcount:\s+(\d+)", text)}


def cpu_seconds(pid):
    words = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def measure(argv, reads):
    """What is counted between the guest's two words, for each read."""
    for name, key in EVENTS.values():
        counted(name, key, "")
    try:
        with vivtest.Guest([str(w) for w in argv], timeout=test_vfio.LIMIT) as guest:
            guest.expect("BOOTED")
            guest.shell()
            guest.send_line(SCRIPT.format(reads=reads))
            guest.expect("begin-reading")
            before = {k: counted(*e) for k, e in EVENTS.items()} | {"CPU": cpu_seconds(guest.process.pid)}
            before_by = reasons()
            guest.send_line()
            guest.expect("end-reading")
            after_by = reasons()
            after = {k: counted(*e) for k, e in EVENTS.items()} | {"CPU": cpu_seconds(guest.process.pid)}
    finally:
        for name, key in EVENTS.values():
            counted(name, key, "!")
    return ({k: (after[k] - before[k]) / reads for k in before},
            {k: (n - before_by.get(k, 0)) / reads for k, n in after_by.items()})


def in_words(by):
    """The reasons of exits, the most frequent first."""
    return ", ".join(f"{NAMES.get(k, hex(k))} {n:.2f}" for k, n in sorted(by.items(), key=lambda i: -i[1]) if n >= 0.005)


def main():
    reads = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    if not (TRACING / "events").exists():
        subprocess.run(["mount", "-t", "tracefs", "tracefs", TRACING], check=True)
    base, order = test_vfio.modules(["vfio_pci", "vfio_iommu_type1", *test_vfio.DRIVERS])
    for name in order:
        subprocess.run(["busybox", "insmod", base / name], capture_output=True, check=False)
    address, _ = test_vfio.wait_for(lambda: test_vfio.drive("PLAIN"))
    test_vfio.bind(address, "vfio-pci")
    with tempfile.TemporaryDirectory() as folder:
        test_vfio.Vfio.dir = pathlib.Path(folder)
        kernel = next((test_vfio.lab.KEPT / "kernel/boot").glob("vmlinuz-*"))
        initrd = test_vfio.Vfio.make_initrd()
        words = f"console=ttyS0 quiet nowatchdog mitigations=off viv.modules={','.join(test_vfio.DRIVERS)}"
        same = ["-kernel", kernel, "-initrd", initrd, "-append", words]
        programs = {
            "viv-vm": [vivtest.PROGRAM, "--cpu", "kvm", "--memory", "256M", "--nic", "none", "--serial", "stdio", "--device",
                       f"vfio={address}", *(w.replace("-", "--", 1) if w in ("-kernel", "-initrd", "-append") else w for w in same)],
            "QEMU q35": [shutil.which("qemu-system-x86_64"), "-accel", "kvm", "-cpu", "host", "-M", "q35", "-m", "256", "-nodefaults",
                         "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio", "-device",
                         f"vfio-pci,host={address}", *same]}
        print("| for each read | exits | to user space | CPU |")
        print("| --- | --- | --- | --- |")
        why = {}
        for name, argv in programs.items():
            try:
                m, by = measure(argv, reads)
                why[name] = in_words(by)
                print(f"| {name} | {m['exits']:.1f} | {m['to user space']:.2f} | {m['CPU'] * 1e6:.0f} us |", flush=True)
            except (vivtest.GuestError, OSError) as e:
                print(f"| {name} | failed: {str(e)[-300:]} |", flush=True)
    for name, words in why.items():
        print(f"\n{name}: {words}")
    print(f"\n{reads} reads of 4 KiB, one by one; {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()

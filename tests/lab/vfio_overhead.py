#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a read of 4 KiB costs a guest that has an NVMe drive of the host, against QEMU in the same run, as a table.

usage: tests/lab/lab.py --vfio -- tests/lab/vfio_overhead.py [READS]

exits: of the processor from the guest, and of these those that went on to user space, for each read
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
SCRIPT = ("until [ -e /dev/nvme0n1 ]; do sleep 1; done; echo 0 >/sys/block/nvme0n1/queue/read_ahead_kb; echo begin''-reading; "
          "read x; dd if=/dev/nvme0n1 of=/dev/null bs=4k count={reads}; echo end''-reading; read x; poweroff -f")


def counted(name, key, action=None):
    """Of an event, so far; with an action its counting is begun or ended."""
    event = TRACING / "events/kvm" / name
    if action is not None:
        (event / "trigger").write_text(f"{action}hist:keys={key}\n", encoding="ascii")
        return 0
    return sum(int(n) for n in re.findall(r"hitcount:\s+(\d+)", (event / "hist").read_text(encoding="ascii", errors="replace")))


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
            guest.send_line()
            guest.expect("end-reading")
            after = {k: counted(*e) for k, e in EVENTS.items()} | {"CPU": cpu_seconds(guest.process.pid)}
    finally:
        for name, key in EVENTS.values():
            counted(name, key, "!")
    return {k: (after[k] - before[k]) / reads for k in before}


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
        for name, argv in programs.items():
            try:
                m = measure(argv, reads)
                print(f"| {name} | {m['exits']:.1f} | {m['to user space']:.2f} | {m['CPU'] * 1e6:.0f} us |", flush=True)
            except (vivtest.GuestError, OSError) as e:
                print(f"| {name} | failed: {str(e)[-300:]} |", flush=True)
    print(f"\n{reads} reads of 4 KiB, one by one; {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()

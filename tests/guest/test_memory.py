#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory that Linux gets and gives back while it runs (virtio-mem), also over snapshots and resets."""
import json
import pathlib
import subprocess
import tempfile
import time
import unittest

import drivers
import vivtest

TOOLS = pathlib.Path(vivtest.PROGRAM).resolve().parent
MIB = 1 << 20


class Memory(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="viv-memory-")
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)

    def ctl(self, *words):
        done = subprocess.run([TOOLS / "viv-ctl", "--json", self.dir / "ctl", *map(str, words)], capture_output=True, text=True,
                              timeout=200)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else {}

    def until(self, what, condition, seconds=120):
        end = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), end, f"{what}: {self.ctl('status')}")
            time.sleep(0.2)

    def plugged(self, mib, most=None):
        self.until(f"{mib} MiB", lambda: mib * MIB <= self.ctl("status")["memory_plugged_bytes"] <= (most or mib) * MIB)

    def resident(self):
        return self.ctl("stats", "--names", "none")["resident_bytes"]

    def total(self, guest):
        return int(guest.check("grep MemTotal: /proc/meminfo").split()[1]) >> 10

    def driver(self, guest):
        guest.shell()
        guest.check("echo online_movable >/sys/devices/system/memory/auto_online_blocks; modprobe virtio_mem; "
                    "ls /sys/bus/virtio/drivers/virtio_mem/virtio*/driver")

    def test_memory_comes_is_used_and_goes(self):
        vm, vivtest.VM = vivtest.VM, vivtest.PROGRAM  # one that snapping_vm.py runs has other sockets
        self.addCleanup(setattr, vivtest, "VM", vm)
        guest = vivtest.tiny(self, None, "--memory", "256M,max=512M", "--control", f"unix:{self.dir}/ctl", "--initrd",
                             drivers.with_drivers(["virtio_pci", "virtio_mem"], self.dir), append="viv.modules=virtio_pci", timeout=240)
        guest.expect("BOOTED")
        self.driver(guest)
        begun = self.total(guest)
        status = self.ctl("status")
        self.assertEqual((status["memory_bytes"], status["memory_plugged_bytes"], status["memory_max_bytes"]),
                         (256 * MIB, 256 * MIB, 512 * MIB))
        self.ctl("memory-set", 448 * MIB)
        self.plugged(448)
        self.until("it is online", lambda: self.total(guest) > begun + 170)
        guest.check("mkdir /m; mount -t tmpfs -o size=90% none /m; dd if=/dev/urandom of=/m/x bs=1M count=180 2>/dev/null; "
                    "md5sum /m/x >/sum", timeout=240)
        done = subprocess.run([TOOLS / "viv-ctl", self.dir / "ctl", "snapshot", self.dir / "s", "--then", "quit"], timeout=200)
        self.assertEqual((done.returncode, guest.wait(60)), (0, 0))
        guest = vivtest.Guest([vivtest.VM, "--restore", str(self.dir / "s"), "--serial", "stdio", "--control",
                               f"unix:{self.dir}/ctl"], timeout=240)
        self.addCleanup(guest.close)
        guest.shell()
        self.plugged(448)
        guest.check("md5sum -c /sum", timeout=240)
        used = self.resident()
        guest.check("rm /m/x")
        self.ctl("memory-set", 256 * MIB)
        self.plugged(256, 384)  # what holds something of the kernel's stays
        self.until("it is the host's again", lambda: self.resident() < used - 50 * MIB)
        self.ctl("memory-set", 512 * MIB)
        self.plugged(512)
        self.until("it is online", lambda: self.total(guest) > begun + 230)
        done = subprocess.run([TOOLS / "viv-ctl", self.dir / "ctl", "snapshot", self.dir / "t", "--parent", self.dir / "s"],
                              timeout=200)
        self.assertEqual(done.returncode, 0)
        self.assertEqual(subprocess.run([TOOLS / "viv-state", "check", self.dir / "t"], capture_output=True,
                                        timeout=200).returncode, 0)
        guest.send_line("reboot -f")
        guest.expect("BOOTED")
        self.assertEqual(self.ctl("status")["memory_plugged_bytes"], 256 * MIB)
        self.driver(guest)
        self.plugged(512)  # what is wanted outlives a reset
        self.until("it is online", lambda: self.total(guest) > begun + 230)


if __name__ == "__main__":
    vivtest.tap.main()

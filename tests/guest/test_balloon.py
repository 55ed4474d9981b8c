#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory that Linux frees goes back to the host: by reports of free pages, and by the balloon.

More of it if VIV_LONG is set."""
import json
import pathlib
import subprocess
import tempfile
import time
import unittest

import initrd
import vivtest

CTL = pathlib.Path(vivtest.PROGRAM).with_name("viv-ctl")
MIB = 1 << 20


def with_driver(folder):
    """The tiny guest with Debian's own module of the balloon."""
    disk = vivtest.GUEST / "debian12.raw"
    release = next(w for w in subprocess.run(["debugfs", "-R", "ls -p /lib/modules", disk], capture_output=True, text=True,
                                             check=True).stdout.split("/") if w.startswith("6."))
    module = pathlib.Path(folder) / "virtio_balloon.ko"
    subprocess.run(["debugfs", "-R", f"dump /lib/modules/{release}/kernel/drivers/virtio/virtio_balloon.ko {module}", disk],
                   capture_output=True, check=True)
    return initrd.with_tree({"virtio_balloon.ko": module}, pathlib.Path(folder) / "initrd")


class Balloon(unittest.TestCase):
    def setUp(self):
        vivtest.one_process(self)  # whose memory is looked at
        folder = tempfile.TemporaryDirectory(prefix="viv-balloon-")
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)

    def ctl(self, *words):
        done = subprocess.run([CTL, "--json", self.dir / "ctl", *map(str, words)], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else {}

    def status(self):
        return self.ctl("status")

    def resident(self):
        return self.ctl("stats", "--names", "none")["resident_bytes"]

    def until(self, what, condition, seconds=30):
        end = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), end, what)
            time.sleep(0.2)

    def start(self):
        guest = vivtest.tiny(self, None, "--balloon", "--control", f"unix:{self.dir}/ctl", "--memory", "512M", "--initrd",
                             with_driver(self.dir), append="viv.modules=virtio_pci")
        guest.expect("BOOTED")
        guest.shell()
        guest.check("insmod /virtio_balloon.ko")
        self.until("the driver works", lambda: self.status()["balloon"]["driver"])
        return guest

    def use_and_free(self, guest, mib):
        guest.check(f"mkdir -p /m; mount -t tmpfs -o size=90% none /m; dd if=/dev/urandom of=/m/x bs=1M count={mib} 2>/dev/null")
        used = self.resident()
        guest.check("umount /m")
        return used

    def test_freed_memory_goes_back_by_itself(self):
        guest = self.start()
        used = self.use_and_free(guest, 200)
        self.until("it is the host's again", lambda: self.resident() < used - 150 * MIB)
        self.assertGreater(self.status()["balloon"]["returned"], 150 * MIB)
        used = self.use_and_free(guest, 200)
        self.until("and again", lambda: self.resident() < used - 150 * MIB)

    @vivtest.LONG
    def test_the_balloon_takes_and_gives(self):
        guest = self.start()
        free = int(guest.check("grep MemFree: /proc/meminfo").split()[1]) << 10
        self.ctl("balloon-set", 300 * MIB)
        self.until("the guest has less", lambda: self.status()["balloon_bytes"] <= 300 * MIB)
        now = int(guest.check("grep MemFree: /proc/meminfo").split()[1]) << 10
        self.assertLess(now, free - 150 * MIB)
        self.until("statistics", lambda: "total" in self.status()["balloon"]["guest"])
        self.assertLess(self.status()["balloon"]["guest"]["free"], free)
        self.ctl("balloon-set", 1 << 40)
        self.until("the guest has all", lambda: self.status()["balloon_bytes"] == 512 * MIB)
        guest.check("head -c 250000000 /dev/zero | tail -c 1 >/dev/null")

    @vivtest.LONG
    def test_a_guest_in_need_takes_back(self):
        guest = self.start()
        self.ctl("balloon-set", 100 * MIB)
        self.until("the guest has little", lambda: self.status()["balloon_bytes"] <= 130 * MIB)
        guest.check("mkdir /m; mount -t tmpfs -o size=90% none /m; dd if=/dev/zero of=/m/x bs=1M count=200", timeout=120)
        self.assertGreater(self.status()["balloon_bytes"], 200 * MIB)

    def test_a_restored_guest_gives_back_and_finds_zeros_or_its_own(self):
        guest = self.start()
        guest.check("mkdir /m; mount -t tmpfs -o size=90% none /m; dd if=/dev/urandom of=/m/x bs=1M count=150; "
                    "dd if=/dev/urandom of=/m/y bs=1M count=20; md5sum /m/y >/sum")
        self.ctl("balloon-set", 450 * MIB)
        self.until("it is told", lambda: self.status()["balloon_bytes"] <= 450 * MIB)
        done = subprocess.run([CTL, self.dir / "ctl", "snapshot", self.dir / "s", "--then", "quit"], timeout=60)
        self.assertEqual(done.returncode, 0)
        guest.wait(60)
        again = vivtest.Guest([vivtest.VM, "--restore", str(self.dir / "s"), "--serial", "stdio", "--control",
                               f"unix:{self.dir}/ctl"])
        self.addCleanup(again.close)
        again.shell()
        self.assertLessEqual(self.status()["balloon_bytes"], 450 * MIB)
        again.check("md5sum /m/x; rm /m/x")  # pages of the snapshot's file
        self.until("they go back", lambda: self.status()["balloon"]["returned"] > 100 * MIB)
        again.check("md5sum -c /sum")
        self.ctl("balloon-set", 512 * MIB)
        self.until("all is there", lambda: self.status()["balloon_bytes"] == 512 * MIB)
        again.check("dd if=/dev/urandom of=/m/x bs=1M count=150; md5sum -c /sum")
        done = subprocess.run([CTL, self.dir / "ctl", "snapshot", self.dir / "t", "--parent", self.dir / "s"], timeout=60)
        self.assertEqual(done.returncode, 0)
        state = pathlib.Path(vivtest.PROGRAM).with_name("viv-state")
        self.assertEqual(subprocess.run([state, "check", self.dir / "t"], capture_output=True, timeout=60).returncode, 0)


if __name__ == "__main__":
    vivtest.tap.main()

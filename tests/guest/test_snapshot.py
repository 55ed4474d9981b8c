#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# run: on every processor backend
"""Machines that are saved and go on elsewhere: console, disk, network, clock; and what is refused."""
import json
import os
import socket
import subprocess
import tempfile
import time
import unittest

import vivtest

TOOLS = os.path.dirname(os.path.realpath(vivtest.PROGRAM))
BUSY = ("while :; do dd if=/dev/urandom of=/root/x bs=64k count=40 conv=fsync 2>/dev/null; "
        "md5sum /root/x >/root/sum; done")


def tool(name, *args, **kw):
    return subprocess.run([os.path.join(TOOLS, "viv-" + name), *args], capture_output=True, text=True, timeout=300, **kw)


class Saved(unittest.TestCase):
    def setUp(self):
        # A snapshot of a machine that snapping_vm.py runs would be taken of somebody else.
        self.old_vm, vivtest.VM = vivtest.VM, vivtest.PROGRAM
        self.addCleanup(setattr, vivtest, "VM", self.old_vm)
        folder = tempfile.TemporaryDirectory(prefix="viv-snapshot-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return os.path.join(self.folder, name)

    def control(self, name):
        return ["--control", "unix:" + self.path(name)]

    def ctl(self, name, *words):
        done = tool("ctl", self.path(name), *words)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def restored(self, name, *options, **kw):
        guest = vivtest.Guest([vivtest.VM, "--restore", self.path(name), *options], **kw)
        self.addCleanup(guest.close)
        return guest

    def refused(self, name, *options):
        done = subprocess.run([vivtest.VM, "--restore", self.path(name), *options], capture_output=True, text=True,
                              timeout=60, stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, 2, done.stderr)
        return done.stderr

    def tiny_in_a_loop(self, *options, ctl="a"):
        guest = vivtest.tiny(self, "n=0; while n=$((n + 1)); do echo n=$n $(date +%s); sleep 0.2; done",
                             *self.control(ctl), *options)
        guest.expect(r"n=3 ")
        return guest

    def count(self, guest):
        return int(guest.expect(r"n=(\d+) (\d+)\n").group(1))

    def off(self, guest):
        """By how much the guest's clock differs from ours: the least of some looks, which the console delays least."""
        looks = [int(guest.expect(r"n=\d+ (\d+)\n").group(1)) - time.time() for _ in range(6)]
        return min(looks, key=abs)

    def test_a_guest_goes_on_where_it_was_and_its_clock_is_right(self):
        guest = self.tiny_in_a_loop()
        before = self.off(guest)  # a host that is slow reads the clock late, and the console later
        self.ctl("a", "snapshot", self.path("s"), "--then", "quit")
        self.assertEqual(guest.wait(), 0)
        last = int(guest.console.rsplit("n=", 1)[1].split()[0])
        time.sleep(3)
        guest = self.restored("s", *self.control("b"))
        match = guest.expect(r"n=(\d+) (\d+)\n")
        self.assertIn(int(match.group(1)), (last, last + 1, last + 2))
        self.assertLess(abs(self.off(guest) - before), 3)

    def test_a_guest_that_goes_on_can_be_reverted_and_copied(self):
        guest = self.tiny_in_a_loop()
        self.ctl("a", "snapshot", self.path("s"))
        then = self.count(guest)
        guest.expect(rf"n={then + 5} ")
        self.ctl("a", "quit")
        one, two = self.restored("s", *self.control("b")), self.restored("s", *self.control("c"))
        self.assertLessEqual(self.count(one), then + 1)
        self.assertLessEqual(self.count(two), then + 1)

    def test_increments_restore_and_merge(self):
        guest = self.tiny_in_a_loop()
        self.ctl("a", "snapshot", self.path("s0"))
        guest.expect(r"n=8 ")
        self.ctl("a", "snapshot", self.path("s1"), "--parent", self.path("s0"), "--then", "quit")
        here = [os.stat(os.path.join(self.path(s), "memory")).st_blocks for s in ("s0", "s1")]
        self.assertLess(here[1] * 3, here[0])
        self.assertEqual(tool("state", "diff", self.path("s0"), self.path("s1")).returncode, 1)
        done = tool("state", "merge", self.path("s1"), self.path("whole"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(tool("state", "diff", self.path("s1"), self.path("whole")).returncode, 0)
        self.assertGreaterEqual(self.count(self.restored("s1", *self.control("b"))), 8)
        for name in os.listdir(self.path("s0")):
            os.unlink(os.path.join(self.path("s0"), name))
        self.assertIn("parent is needed", self.refused("s1"))
        self.assertGreaterEqual(self.count(self.restored("whole", *self.control("c"))), 8)

    def test_a_machine_that_is_not_to_go_on_does_not_for_an_instant(self):
        self.tiny_in_a_loop()
        self.ctl("a", "snapshot", self.path("s"), "--then", "pause")
        now = json.loads(tool("ctl", "--json", self.path("a"), "status").stdout)["clock"]
        self.assertIn(f"machine.now {now}\n", tool("state", "print", self.path("s"), "machine").stdout)

    def test_increments_go_on_from_machine_to_machine(self):
        guest, options = self.tiny_in_a_loop(), []
        for i in range(4):
            self.ctl("a", "snapshot", self.path(f"s{i}"), *options, "--then", "quit")
            self.assertEqual(guest.wait(), 0, guest.stderr)
            guest, options = self.restored(f"s{i}", *self.control("a")), ["--parent", self.path(f"s{i}")]
            self.count(guest)
        self.assertEqual(tool("state", "check", self.path("s3")).returncode, 0)

    def test_the_other_backend_goes_on(self):
        other = "ref" if vivtest.CPU == "soft" else "soft"
        guest = self.tiny_in_a_loop()
        self.ctl("a", "snapshot", self.path("s"), "--then", "quit")
        guest.wait()
        guest = self.restored("s", "--cpu", other, *self.control("b"))
        self.count(guest)
        self.count(guest)
        self.ctl("b", "snapshot", self.path("t"), "--then", "quit")
        self.count(self.restored("t", "--cpu", vivtest.CPU))

    def test_damage_and_other_machines_are_refused_before_anything_happens(self):
        self.tiny_in_a_loop()
        self.ctl("a", "snapshot", self.path("s"), "--then", "quit")
        log = self.path("serial")
        with open(log, "w", encoding="ascii") as f:
            f.write("kept")
        self.assertIn("memory", self.refused("s", "--memory", "512M", "--serial", "file:" + log))
        self.assertIn("virtio_console0", self.refused("s", "--console", "file:" + log, "--serial", "none"))
        self.assertIn("disk", self.refused("s", "--disk", vivtest.fresh_disk(self)))
        state = os.path.join(self.path("s"), "state")
        with open(state, "r+b") as f:
            f.seek(5000)
            byte = f.read(1)
            f.seek(5000)
            f.write(bytes([byte[0] ^ 4]))
        self.assertIn("damaged", self.refused("s", "--serial", "file:" + log))
        self.assertEqual(tool("state", "check", self.path("s")).returncode, 2)
        with open(log, encoding="ascii") as f:
            self.assertEqual(f.read(), "kept")

    def test_a_place_that_cannot_be_written_is_said_and_the_guest_goes_on(self):
        guest = self.tiny_in_a_loop()
        done = tool("ctl", self.path("a"), "snapshot", "/proc/nowhere", "--then", "quit")
        self.assertEqual(done.returncode, 1)
        self.assertIn("/proc/nowhere", done.stderr)
        self.count(guest)
        self.ctl("a", "snapshot", self.path("s"))
        self.assertNotEqual(tool("ctl", self.path("a"), "snapshot", self.path("s")).returncode, 0)
        self.count(guest)

    @vivtest.LONG_ON_REF
    def test_debian_with_a_busy_disk_and_its_network_goes_on(self):
        port, disk = vivtest.free_port(), vivtest.fresh_disk(self)
        guest = vivtest.debian(self, *self.control("a"), disk=disk, nic=f"user,forward=tcp:127.0.0.1:{port}:22")
        guest.login()
        guest.check(f"({BUSY}) >/dev/null 2>&1 & echo $! >/tmp/busy")
        time.sleep(2)
        self.ctl("a", "snapshot", self.path("s"), "--then", "quit")
        self.assertEqual(guest.wait(), 0)
        guest = self.restored("s", *self.control("b"))
        self.assertLess(abs(int(guest.check("date +%s")) - time.time()), 5)
        guest.check("kill $(cat /tmp/busy); wait; sync; echo 3 >/proc/sys/vm/drop_caches; "
                    "dd if=/dev/urandom of=/root/x bs=64k count=40 conv=fsync; md5sum /root/x >/root/sum; "
                    "echo 3 >/proc/sys/vm/drop_caches; md5sum -c /root/sum")
        self.assertNotIn("lockup", guest.check("dmesg"))
        # The new generation was announced. (Debian's cloud kernel has no driver that would then reseed.)
        self.assertRegex(guest.check("cat /sys/firmware/acpi/interrupts/gpe05"), r"^ +1 ")
        with socket.create_connection(("127.0.0.1", port), timeout=120) as s:
            s.settimeout(120)
            self.assertTrue(s.recv(20).startswith(b"SSH-2.0"))
        self.ctl("b", "quit")
        guest.wait()
        self.assertIn("was written after the snapshot", self.refused("s"))


if __name__ == "__main__":
    vivtest.tap.main()

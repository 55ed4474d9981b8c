#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk with several queues: what the guest makes of them, and what becomes of them when it is saved."""
import pathlib
import subprocess
import tempfile
import unittest

import vivtest

MODULES = "viv.modules=virtio_pci,virtio_blk"
# Linux takes no more queues than it may ever have processors.
MANY = f"possible_cpus=4 {MODULES}"


class Queues(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="viv-queues-")
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)
        self.disk = self.dir / "disk.raw"
        with open(self.disk, "wb") as f:
            f.truncate(8 << 20)

    def start(self, properties, *options, append=MANY):
        guest = vivtest.tiny(self, None, "--disk", f"{self.disk}{properties}", *options, append=append)
        guest.expect("BOOTED")
        guest.shell()
        return guest

    def queues(self, guest):
        """How many the driver has set up, by its blk-mq contexts and by its interrupts."""
        contexts = guest.check("ls /sys/block/vda/mq | wc -l")
        interrupts = guest.check("grep -c 'virtio.*-req' /proc/interrupts")
        return int(contexts), int(interrupts)

    def write_and_read(self, guest, name):
        guest.check(f"head -c 3000000 /dev/urandom >/{name}; dd if=/{name} of=/dev/vda bs=64k conv=notrunc,fsync")
        guest.check("echo 3 >/proc/sys/vm/drop_caches")
        guest.check(f"head -c 3000000 /dev/vda | cmp - /{name}")

    def test_a_guest_takes_the_queues_that_it_is_given(self):
        guest = self.start(",queues=4")
        self.assertEqual(self.queues(guest), (4, 4))
        self.write_and_read(guest, "data")
        guest.send_line("exit")
        self.assertEqual(guest.wait(), 0)

    def test_one_processor_has_two_and_needs_no_scheduler(self):
        guest = self.start("", append=MODULES)
        self.assertEqual(self.queues(guest), (2, 2))
        self.assertIn("[none]", guest.check("cat /sys/block/vda/queue/scheduler"))
        self.assertEqual(guest.check("cat /sys/devices/system/cpu/present"), "0\n")
        self.write_and_read(guest, "data")

    def test_one_queue_is_one_queue(self):
        guest = self.start(",queues=1")
        self.assertEqual(self.queues(guest), (1, 1))
        self.write_and_read(guest, "data")

    def test_queues_go_on_in_a_restored_machine(self):
        socket = self.dir / "ctl"
        guest = self.start(",queues=3", "--control", f"unix:{socket}")
        self.write_and_read(guest, "before")
        subprocess.run([pathlib.Path(vivtest.PROGRAM).with_name("viv-ctl"), socket, "snapshot", self.dir / "state",
                        "--then", "quit"], check=True, timeout=120)
        self.assertEqual(guest.wait(60), 0)
        again = vivtest.Guest([vivtest.VM, "--restore", str(self.dir / "state"), "--serial", "stdio"])
        self.addCleanup(again.close)
        again.shell()
        self.assertEqual(self.queues(again), (3, 3))
        self.write_and_read(again, "after")


if __name__ == "__main__":
    vivtest.tap.main()

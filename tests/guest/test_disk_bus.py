#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks on every bus, by Linux's drivers: what is found, written, read back, discarded, and survives a snapshot."""
import pathlib
import subprocess
import tempfile
import unittest

import drivers
import vivtest

CTL = pathlib.Path(vivtest.PROGRAM).with_name("viv-ctl")
SIZE = 32 << 20


class Bus(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="viv-bus-")
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)

    def image(self, name):
        path = self.dir / name
        with open(path, "wb") as f:
            f.truncate(SIZE)
        return path

    def start(self, modules, *options, append=""):
        more = ["--initrd", drivers.with_drivers(modules, self.dir)] if modules else []
        guest = vivtest.tiny(self, None, *options, *more, append=f"{append} viv.modules=" + ",".join(modules))
        guest.expect("BOOTED")
        guest.shell()
        return guest

    def write_and_read(self, guest, disk, name):
        guest.check(f"head -c 3000000 /dev/urandom >/{name}; dd if=/{name} of=/dev/{disk} bs=64k conv=notrunc,fsync")
        guest.check("echo 3 >/proc/sys/vm/drop_caches")
        guest.check(f"head -c 3000000 /dev/{disk} | cmp - /{name}")

    def discard(self, guest, disk, path, size=SIZE):
        """A filled disk has no holes; after a discard of all of it the file is one."""
        guest.check(f"dd if=/dev/zero bs=64k count={size >> 16} | tr '\\0' x | "
                    f"dd of=/dev/{disk} bs=64k conv=notrunc,fsync")
        self.assertGreaterEqual(path.stat().st_blocks * 512, size)
        guest.check(f"blkdiscard /dev/{disk}")
        self.assertLess(path.stat().st_blocks * 512, SIZE // 8)

    def restored(self, guest, socket):
        subprocess.run([CTL, socket, "snapshot", self.dir / "state", "--then", "quit"], check=True, timeout=120)
        self.assertEqual(guest.wait(60), 0)
        again = vivtest.Guest([vivtest.VM, "--restore", str(self.dir / "state"), "--serial", "stdio"])
        self.addCleanup(again.close)
        again.shell()
        return again

    def test_scsi_with_several_units(self):
        one, two, cd = self.image("one"), self.image("two"), self.image("cd")
        cd.write_bytes(b"medium" * 100000)
        socket = self.dir / "ctl"
        guest = self.start(["virtio_pci", "virtio_scsi", "sd_mod", "sr_mod"], "--disk", f"{one},bus=scsi,unit=2:3",
                           "--disk", f"{two},bus=scsi,unit=2", "--cdrom", f"{cd},bus=scsi", "--control",
                           f"unix:{socket}")
        # By target and unit: the second is before the first.
        guest.check("for i in 1 2 3 4 5 6 7 8 9; do test -e /dev/sdb -a -e /dev/sr0 && break; sleep 1; done")
        places = guest.check("cd /sys/class/scsi_device; echo *").split()
        self.assertEqual([p.split(":", 1)[1] for p in places], ["0:0:0", "0:2:0", "0:2:3"])
        disks = {p: guest.check(f"ls /sys/class/scsi_device/{p}/device/block").strip() for p in places}
        first, second, drive = disks[places[2]], disks[places[1]], disks[places[0]]
        self.assertEqual(drive, "sr0")
        self.assertIn("mediummediu", guest.check("head -c 11 /dev/sr0"))
        self.write_and_read(guest, first, "data")
        self.assertEqual(guest.check(f"head -c 3000000 /dev/{second} | tr -d '\\0' | wc -c").strip(), "0")
        self.discard(guest, second, two)
        # The cache switched off by the guest, and on again.
        cache = f"/sys/class/scsi_disk/{places[2]}/cache_type"
        guest.check(f"echo 'write through' >{cache}")
        self.assertIn("write through", guest.check(f"cat {cache}"))
        guest.check(f"echo 'write back' >{cache}")
        subprocess.run([CTL, socket, "disk-resize", "0", str(2 * SIZE)], check=True, timeout=60)
        guest.check(f"for i in 1 2 3 4 5 6 7 8 9; do [ $(cat /sys/block/{first}/size) = {2 * SIZE // 512} ] && break; "
                    f"sleep 1; done; [ $(cat /sys/block/{first}/size) = {2 * SIZE // 512} ]")
        guest = self.restored(guest, socket)
        guest.check(f"head -c 3000000 /dev/{first} | cmp - /data")
        self.write_and_read(guest, first, "after")
        self.assertIn("mediummediu", guest.check("echo 3 >/proc/sys/vm/drop_caches; head -c 11 /dev/sr0"))

    def test_nvme_with_several_queues(self):
        one, two = self.image("one"), self.image("two")
        socket = self.dir / "ctl"
        guest = self.start([], "--disk", f"{one},bus=nvme,serial=ONE,queues=3", "--disk", f"{two},bus=nvme,readonly",
                           "--control", f"unix:{socket}", append="possible_cpus=4")
        disk = guest.check("basename $(dirname $(grep -l ONE /sys/block/nvme*/device/serial | cut -d/ -f1-4)/x)").strip()
        other = {"nvme0n1": "nvme1n1", "nvme1n1": "nvme0n1"}[disk]
        self.assertEqual(guest.check(f"ls /sys/block/{disk}/mq | wc -l").strip(), "3")
        self.assertEqual(guest.check(f"cat /sys/block/{other}/ro").strip(), "1")
        guest.check(f"! dd if=/etc/profile of=/dev/{other} conv=notrunc,fsync")
        self.write_and_read(guest, disk, "data")
        subprocess.run([CTL, socket, "disk-resize", "0", str(2 * SIZE)], check=True, timeout=60)
        guest.check(f"for i in 1 2 3 4 5 6 7 8 9; do [ $(cat /sys/block/{disk}/size) = {2 * SIZE // 512} ] && break; "
                    f"sleep 1; done; [ $(cat /sys/block/{disk}/size) = {2 * SIZE // 512} ]")
        guest = self.restored(guest, socket)
        guest.check(f"head -c 3000000 /dev/{disk} | cmp - /data")
        self.write_and_read(guest, disk, "after")
        self.discard(guest, disk, one, 2 * SIZE)
        # A driver that lets go and comes back resets the controller.
        device = guest.check(f"basename $(readlink -f /sys/block/{disk}/device/device)").strip()
        guest.check(f"echo {device} >/sys/bus/pci/drivers/nvme/unbind; echo {device} >/sys/bus/pci/drivers/nvme/bind")
        guest.check(f"for i in 1 2 3 4 5 6 7 8 9; do [ -e /dev/{disk} ] && break; sleep 1; done")
        self.write_and_read(guest, disk, "again")

    def test_ide_with_a_disk_and_a_drive(self):
        one, cd = self.image("one"), self.image("cd")
        cd.write_bytes(b"medium" * 100000)
        socket = self.dir / "ctl"
        guest = self.start(["ata_piix", "sd_mod", "sr_mod"], "--disk", f"{one},bus=ide,serial=ONE", "--cdrom",
                           f"{cd},bus=ide", "--control", f"unix:{socket}")
        guest.check("for i in 1 2 3 4 5 6 7 8 9; do test -e /dev/sda -a -e /dev/sr0 && break; sleep 1; done")
        self.write_and_read(guest, "sda", "data")
        self.assertIn("mediummediu", guest.check("head -c 11 /dev/sr0"))
        guest.check("dd if=/dev/sr0 bs=2048 skip=100 count=100 | md5sum >/sum")
        guest = self.restored(guest, socket)
        guest.check("head -c 3000000 /dev/sda | cmp - /data")
        self.write_and_read(guest, "sda", "after")
        self.discard(guest, "sda", one)
        guest.check("echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/sr0 bs=2048 skip=100 count=100 | md5sum | cmp - /sum")
        self.assertNotIn("exception", guest.check("dmesg"))


if __name__ == "__main__":
    vivtest.tap.main()

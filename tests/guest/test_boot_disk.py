#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian 12 from a disk with partitions, by the firmware and GRUB, as installed systems start."""
import pathlib
import tempfile
import unittest

import media
import vivtest


class FromDisk(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        media.need("sfdisk", "grub-mkimage", "mformat", media.GRUB / "i386-pc/boot.img", media.GRUB / "x86_64-efi")
        folder = tempfile.TemporaryDirectory(dir=vivtest.GUEST, prefix="test-")
        cls.addClassCleanup(folder.cleanup)
        cls.disk = media.partitioned(pathlib.Path(folder.name), vivtest.GUEST / "debian12.raw", media.DEBIAN)

    def boot(self, firmware):
        media.need(media.FIRMWARE[firmware])
        guest = vivtest.Guest([vivtest.VM, "--name", "pc", "--cpu", vivtest.CPU, "--memory", "1G", "--serial", "stdio",
                               "--firmware", firmware, "--disk", str(self.disk)])
        self.addCleanup(guest.close)
        guest.login()
        return guest

    def test_by_bios(self):
        guest = self.boot("bios")
        self.assertRegex(guest.check("findmnt -no SOURCE /"), "^/dev/vda3")
        guest.check("test ! -e /sys/firmware/efi")
        self.assertEqual(guest.power_off(), 0)

    def test_by_uefi(self):
        guest = self.boot("uefi")
        guest.check("test -e /sys/firmware/efi/runtime")
        self.assertEqual(guest.power_off(), 0)


if __name__ == "__main__":
    vivtest.tap.main()

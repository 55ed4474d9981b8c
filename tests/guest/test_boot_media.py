#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Optical media by both firmwares: GRUB's rescue medium, at which commands are typed, and memtest86+; what is spoilt."""
import pathlib
import re
import tempfile
import unittest

import media
import screen
import vivtest

MEMTEST = pathlib.Path("/usr/lib/memtest86+")


class Media(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="viv-")
        cls.addClassCleanup(folder.cleanup)
        cls.dir = pathlib.Path(folder.name)
        (cls.dir / "hello").write_text("what stands on the medium\n")
        cls.iso = media.rescue_iso(cls.dir, "", {"hello": cls.dir / "hello", "linux": vivtest.GUEST / "vmlinuz",
                                                 "initrd": vivtest.GUEST / "tiny.cpio.gz"})

    def at_the_prompt(self, firmware, platform):
        media.need(media.FIRMWARE[firmware])
        guest, look = screen.start(self, self.dir, "--firmware", firmware, "--cdrom", str(self.iso))
        guest.expect("grub> ")
        look.type("cat /hello")
        guest.expect(r"\nwhat stands on the medium[^>]*grub> ")
        self.answers(guest, "echo $grub_platform; lspci", rf"\n{platform}\s[^>]*00:00\.0 8086:29c0[^>]*1234:1111")
        return guest, look

    def answers(self, guest, command, pattern=""):
        guest.send(command + "\r")
        guest.expect(pattern + r"[^>]*grub> ")

    def boots_linux(self, guest):
        self.answers(guest, "linux /linux console=ttyS0 viv.run=true")
        self.answers(guest, "initrd /initrd")
        guest.send("boot\r")
        guest.expect("BOOTED")
        self.assertEqual(guest.wait(), 0)

    def test_grub_from_a_medium_by_bios(self):
        guest, look = self.at_the_prompt("bios", "pc")
        look.expect(r"what stands on the medium")
        self.boots_linux(guest)

    def test_grub_from_a_medium_by_uefi(self):
        self.boots_linux(self.at_the_prompt("uefi", "efi")[0])

    def test_a_memory_test_begins_without_error(self):
        media.need(MEMTEST)
        _, look = screen.start(self, self.dir, "--firmware", "bios", "--cdrom", str(MEMTEST / "memtest86+x64.iso"),
                               memory="32M")
        look.expect(r"<Enter> to start")
        look.keys("enter")
        text = look.expect(r"(?s).*Test #[3-9].*").group()
        self.assertRegex(text, r"Status: Testing")
        self.assertRegex(text, r"Errors: 0 *$|Errors: 0 *\n")
        self.assertRegex(text, r"Memory  : +3\dMB")
        self.assertTrue(re.search(r"1 Cores 1 Threads", text), text)


if __name__ == "__main__":
    vivtest.tap.main()

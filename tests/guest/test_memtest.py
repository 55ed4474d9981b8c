#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# run: long
"""memtest86+ goes through all of its tests once and finds no error: of 64 and 32 bits, by BIOS and UEFI."""
import pathlib
import re
import tempfile
import unittest

import media
import screen

MEMTEST = pathlib.Path("/usr/lib/memtest86+")
LIMIT = 1800


class Memtest(unittest.TestCase):
    def setUp(self):
        media.need(MEMTEST)
        folder = tempfile.TemporaryDirectory(prefix="viv-")
        self.addCleanup(folder.cleanup)
        self.dir = folder.name

    def passes(self, *options, memory="32M"):
        _, look = screen.start(self, self.dir, *options, memory=memory)
        look.expect(r"<Enter> to start")
        look.keys("enter")
        # None is done yet, so this is how a zero looks.
        look.expect(r"Pass: +\S +Errors: +\S")
        picture = look.picture()
        for number, line in enumerate(screen.read_text(picture)):
            if "Pass:" in line:
                screen.learn(picture, number, re.search(r"Pass: +", line).end(), "0")
        look.expect(r"Pass: +0 +Errors: 0$")
        text = look.expect(r"(?s).*Pass: +[1-9].*", timeout=LIMIT).group()
        self.assertRegex(text, r"Errors: 0(?!\d)")

    def test_of_64_bits_by_bios(self):
        self.passes("--firmware", "bios", "--cdrom", str(MEMTEST / "memtest86+x64.iso"))

    def test_of_64_bits_by_uefi(self):
        self.passes("--firmware", "uefi", "--cdrom", str(MEMTEST / "memtest86+x64.iso"), memory="96M")

    def test_of_32_bits_by_bios_on_two_processors(self):
        self.passes("--firmware", "bios", "--cdrom", str(MEMTEST / "memtest86+ia32.iso"), "--cpus", "2")


if __name__ == "__main__":
    screen.vivtest.tap.main()

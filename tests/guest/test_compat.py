#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# run: on every processor backend
"""A 32-bit program in the 64-bit busybox guest."""
import os
import pathlib
import subprocess
import tempfile
import unittest

import vivtest
from initrd import with_program

SOURCE = pathlib.Path(__file__).with_name("flat32.c")
# CRC-32's check value; 3 + 6 + ... + 60000; the 50000 numbers in order, mixed (natively computed).
OUTPUT = """crc cbf43926
unsorted 00000000
mix 8e130c49
tls 23c3bb30
below 0000ea60
above 00004e20
calls 00004e20
EXIT 5
"""


class Compat(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)

    def test_a_32_bit_program_computes_what_it_does_natively(self):
        program = self.dir / "flat32"
        subprocess.run([os.environ.get("CC", "gcc"), "-m32", "-O2", "-static", "-nostdlib", "-ffreestanding",
                        "-fno-pic", "-no-pie", "-fno-stack-protector", "-o", program, SOURCE], check=True)
        guest = vivtest.tiny(self, "/flat32", "--stats", "--initrd", with_program(program, self.dir / "initrd"))
        guest.expect(r"BOOTED\n")
        guest.expect(OUTPUT)
        self.assertEqual(guest.wait(), 0)
        if "cpu backend: soft" in guest.stderr:
            self.assertRegex(guest.stderr, r"[1-9]\d* +jit_blocks32")


if __name__ == "__main__":
    vivtest.tap.main()

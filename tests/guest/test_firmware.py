#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that begin in firmware: SeaBIOS, OVMF and its variables, what is refused."""
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

import vivtest

OVMF = pathlib.Path("/usr/share/OVMF")
BIOS = pathlib.Path("/usr/share/seabios/bios-256k.bin")
SHELL = r"Shell> "


def start(test, *options, memory="256M"):
    guest = vivtest.Guest([vivtest.VM, "--name", "pc", "--cpu", vivtest.CPU, "--memory", memory,
                           "--serial", "stdio", *options], timeout=300)
    test.addCleanup(guest.close)
    return guest


def folder(test):
    where = tempfile.TemporaryDirectory(prefix="viv-")
    test.addCleanup(where.cleanup)
    return pathlib.Path(where.name)


def refuse(test, *options):
    p = subprocess.run([vivtest.PROGRAM, "--serial", "none", *options], capture_output=True, text=True, timeout=60)
    test.assertEqual(p.returncode, 2, p.stderr)
    return p.stderr


@unittest.skipUnless(BIOS.exists(), "seabios is not installed")
class Bios(unittest.TestCase):
    def test_seabios_finds_memory_processors_and_tables(self):
        log = folder(self) / "log"
        guest = start(self, "--firmware", "bios", "--firmware-log", str(log))
        guest.expect("No bootable device")
        text = log.read_text()
        self.assertIn("QEMU fw_cfg DMA interface supported", text)
        self.assertIn("len 0x0000000010000000 [RAM]", text)
        self.assertIn("ACPI: parse DSDT", text)


@unittest.skipUnless((OVMF / "OVMF_CODE_4M.fd").exists(), "ovmf is not installed")
class Uefi(unittest.TestCase):
    def shell(self, *options):
        guest = start(self, "--firmware", "uefi", *options)
        guest.expect("seconds to skip")
        guest.send("\x1b")
        guest.expect(SHELL)
        return guest

    def test_variables_outlive_the_machine_however_it_ends(self):
        path = folder(self) / "vars"
        guest = self.shell("--uefi-vars", str(path))
        guest.send("set color blue\r")
        guest.expect(SHELL)
        guest.process.kill()
        guest.process.wait()
        self.assertEqual(path.stat().st_size, (OVMF / "OVMF_VARS_4M.fd").stat().st_size)
        guest = self.shell("--uefi-vars", str(path))
        guest.send("set color\r")
        guest.expect("blue")
        # One machine at a time.
        self.assertIn("in use by another machine", refuse(self, "--firmware", "uefi", "--uefi-vars", str(path)))
        guest.expect(SHELL)
        guest.send("reset -s\r")
        self.assertEqual(guest.wait(), 0)

    def test_wrong_files_are_named(self):
        where = folder(self)
        (where / "short").write_bytes(b"x" * 1000)
        self.assertIn("multiple of 4096", refuse(self, "--firmware", str(where / "short")))
        self.assertIn("not that with the variables", refuse(self, "--firmware", str(OVMF / "OVMF_VARS_4M.fd")))
        self.assertIn("no variables of UEFI", refuse(self, "--firmware", "uefi", "--uefi-vars", str(BIOS)))
        self.assertIn("not of the same build",
                      refuse(self, "--firmware", "uefi", "--uefi-vars", str(OVMF / "OVMF_VARS.fd")))
        self.assertIn("cannot be opened", refuse(self, "--firmware", "/nowhere"))


if __name__ == "__main__":
    vivtest.tap.main()

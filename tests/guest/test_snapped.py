#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A few of the guest tests with machines that are saved and restored all the time (tests/support/snapping_vm.py).

VIV_SNAP=random does so with all of them; here are those that are quick and have much in their machines, each with one seed.
"""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import vivtest

HERE = pathlib.Path(__file__).parent
SECONDS = "0.7"  # how long a machine lives on average


class Snapped(unittest.TestCase):
    def passes(self, file, *cases, seed=1, saved=3):
        """The cases pass, and their machines had more than one life."""
        with tempfile.TemporaryDirectory(prefix="viv-snapped-") as folder:
            log = pathlib.Path(folder) / "log"
            env = dict(os.environ, VIV_SNAP="random", VIV_SNAP_SEED=str(seed), VIV_SNAP_SECONDS=SECONDS, VIV_SNAP_LOG=str(log))
            done = subprocess.run([sys.executable, "-m", "unittest", *(f"{file}.{c}" for c in cases)], cwd=HERE, env=env, stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, timeout=600, check=False)
            lives = log.read_text() if log.exists() else ""
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr + lives)
        self.assertGreaterEqual(lives.count(": saved\n"), saved, lives)

    def test_devices_that_come_and_go(self):
        self.passes("test_hotplug", "Disks.test_a_disk_comes_is_used_and_goes", "Networks.test_an_interface_comes_is_used_and_goes")

    def test_keys_and_a_screen_by_firmware(self):
        self.passes("test_boot_media", "Media.test_grub_from_a_medium_by_bios")

    def test_disks_of_several_kinds(self):
        self.passes("test_disk_bus", "Bus.test_scsi_with_several_units", "Bus.test_ide_with_a_disk_and_a_drive")


if __name__ == "__main__":
    vivtest.tap.main()

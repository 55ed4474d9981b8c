# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests that install a system into an empty disk and then start it: the disk, the machine, the look at the result."""
import os
import pathlib
import tempfile
import time
import unittest

import media
import vivtest

HOUR = 3600


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(dir=vivtest.GUEST, prefix="test-")
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)
        self.disk = self.dir / "new.raw"
        with open(self.disk, "wb") as f:
            f.truncate(4 << 30)

    def start(self, firmware, *options):
        media.need(media.FIRMWARE[firmware])
        if firmware == "uefi":
            options += ("--uefi-vars", str(self.dir / "vars"))
        log = os.environ.get("VIV_GUEST_LOG")  # a folder to keep the console in
        guest = vivtest.Guest([vivtest.VM, "--name", "pc", "--cpu", vivtest.CPU, "--memory", "1G", "--firmware",
                               firmware, "--serial", "stdio", *options], timeout=HOUR,
                              log=log and f"{log}/{firmware}-{time.time():.0f}")
        self.addCleanup(guest.close)
        return guest

    def starts(self, firmware, bus):
        """The system on the new disk, on a bus that need not be that of its installation."""
        guest = self.start(firmware, "--disk", f"{self.disk},bus={bus}", "--nic", "user")
        guest.login()
        self.assertRegex(guest.check("findmnt -no SOURCE,FSTYPE /"), r"^/dev/(vda|sda)\d +ext4")
        self.assertEqual(guest.check("hostname").strip(), "installed")
        self.assertEqual(guest.check("dpkg --audit"), "")
        guest.run("systemctl is-system-running --wait")
        self.assertEqual(guest.check("systemctl --failed --plain --no-legend"), "")
        guest.send_line("systemctl poweroff")  # a small system has nobody who watches the button
        self.assertEqual(guest.wait(), 0)

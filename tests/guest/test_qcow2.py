#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian whose disk is a qcow2 overlay on the raw image: it is killed in the middle of writing, and goes on."""
import pathlib
import subprocess
import tempfile
import unittest

import vivtest

IMG = pathlib.Path(vivtest.PROGRAM).resolve().with_name("viv-img")


def img(*args):
    return subprocess.run([IMG, *map(str, args)], capture_output=True, text=True, timeout=300, check=False)


class Overlay(unittest.TestCase):
    def test_debian_on_an_overlay_is_killed_and_finds_what_it_had_synced(self):
        folder = tempfile.TemporaryDirectory(prefix="viv-qcow2-")
        self.addCleanup(folder.cleanup)
        disk = pathlib.Path(folder.name) / "top.qcow2"
        base = (vivtest.GUEST / "debian12.raw").resolve()
        before = base.stat().st_mtime_ns
        self.assertEqual(img("create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", disk).returncode, 0)
        guest = vivtest.debian(self, disk=str(disk))
        guest.login()
        guest.check("dd if=/dev/urandom of=/root/x bs=64k count=200 status=none; cp /root/x /root/y; sync")
        guest.check("echo 3 >/proc/sys/vm/drop_caches; cmp /root/x /root/y; rm /root/y; fstrim -v /")
        guest.check("sha256sum /root/x >/root/sum; sync")
        guest.check("(while :; do cp /root/x /root/z; sync; rm /root/z; done) >/dev/null 2>&1 & sleep 2")
        guest.close()  # kill -9
        found = img("check", disk)
        self.assertIn(found.returncode, (0, 3), found.stdout + found.stderr)  # 3: leaked clusters
        guest = vivtest.debian(self, disk=f"{disk},format=qcow2")
        guest.login()
        guest.check("sha256sum -c /root/sum")
        guest.send_line("poweroff")
        self.assertEqual(guest.wait(300), 0)
        found = img("check", disk)
        self.assertIn(found.returncode, (0, 3), found.stdout + found.stderr)
        self.assertEqual(base.stat().st_mtime_ns, before)


if __name__ == "__main__":
    vivtest.tap.main()

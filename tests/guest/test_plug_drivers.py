#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# run: long
"""SATA disks and e1000e interfaces that come and go, by the drivers of Debian's usual kernel."""
import json
import pathlib
import re
import subprocess
import tempfile
import time
import unittest

import vivtest
from initrd import with_tree
from packages import unpacked

CTL = pathlib.Path(vivtest.PROGRAM).with_name("viv-ctl")
# In the order in which they need each other.
ATA = ("scsi_common", "crc64", "crc64-rocksoft", "crct10dif_common", "crc-t10dif", "t10-pi", "scsi_mod", "libata", "libahci",
       "ahci", "sd_mod")


def kernel_package():
    text = subprocess.run(["apt-cache", "depends", "linux-image-amd64"], capture_output=True, text=True).stdout
    return re.search(r"Depends: (linux-image-\S+)", text).group(1)


class Drivers(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="viv-plug-")
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)

    def ctl(self, *words):
        done = subprocess.run([CTL, "--json", self.dir / "ctl", *map(str, words)], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def image(self, name):
        with open(self.dir / name, "wb") as f:
            f.truncate(8 << 20)
        return self.dir / name

    def until(self, what, condition, seconds=60):
        end = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), end, what)
            time.sleep(0.2)

    def within(self, guest, condition):
        guest.check(f"n=0; until {condition} || [ $n = 300 ]; do sleep 0.1; n=$((n + 1)); done; {condition} || "
                    "{ dmesg | tail; false; }", timeout=120)

    def start(self, modules, *options):
        files = unpacked(kernel_package())
        tree = {f"{m}.ko": next(files.rglob(f"{m}.ko")) for m in modules}
        guest = vivtest.tiny(self, None, "--kernel", str(next(files.glob("boot/vmlinuz-*"))), "--initrd",
                             with_tree(tree, self.dir / "initrd"), "--memory", "512M", "--control", f"unix:{self.dir}/ctl",
                             *options, timeout=240)
        guest.expect("BOOTED")
        guest.shell()
        for m in modules:
            guest.run(f"insmod /{m}.ko")  # what the kernel has built in is no module
        return guest

    def test_a_sata_disk_comes_and_is_pulled_out(self):
        guest = self.start(ATA, "--disk", f"{self.image('first')},bus=sata")
        self.within(guest, "[ -e /dev/sda ]")
        self.assertEqual(self.ctl("disk-add", f"{self.image('second')},bus=sata,serial=PLUGGED")["disk"], 1)
        self.within(guest, "[ -e /dev/sdb ]")
        guest.check("head -c 3000000 /dev/urandom >/data; dd if=/data of=/dev/sdb bs=64k conv=notrunc,fsync")
        guest.check("echo 3 >/proc/sys/vm/drop_caches; head -c 3000000 /dev/sdb | cmp - /data", timeout=60)
        self.ctl("disk-remove", 1, "--force")
        self.within(guest, "[ ! -e /dev/sdb ]")
        self.assertEqual(len(self.ctl("status")["disks"]), 1)
        self.assertEqual(self.ctl("disk-add", f"{self.dir / 'second'},bus=sata")["disk"], 1)
        self.within(guest, "[ -e /dev/sdb ]")
        guest.check("head -c 3000000 /dev/sdb | cmp - /data", timeout=60)
        guest.check("dd if=/dev/sda of=/dev/null bs=64k", timeout=60)  # the other one did not notice

    def test_an_e1000e_interface_comes_and_goes(self):
        guest = self.start(["e1000e"])
        for _ in range(2):
            self.assertEqual(self.ctl("nic-add", "user,model=e1000e")["nic"], 0)
            self.within(guest, "[ -e /sys/class/net/eth0 ]")
            code, out = guest.run("ip link set eth0 up; sleep 3; udhcpc -i eth0 -n -q -t 10 -s /bin/true", timeout=120)
            self.assertIn("lease of 10.0.2.15 obtained", out)
            self.ctl("nic-remove", 0)
            self.within(guest, "[ ! -e /sys/class/net/eth0 ]")
            self.until("it is gone", lambda: not self.ctl("status")["nics"])
        self.ctl("nic-add", "user,model=e1000e")
        self.within(guest, "[ -e /sys/class/net/eth0 ]")
        self.ctl("nic-remove", 0, "--force")
        self.within(guest, "[ ! -e /sys/class/net/eth0 ]")
        guest.check("true")


if __name__ == "__main__":
    vivtest.tap.main()

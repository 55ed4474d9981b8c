#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks and network interfaces that come and go while Linux runs, and what a snapshot makes of them.

More of it if VIV_LONG is set."""
import json
import os
import pathlib
import subprocess
import tempfile
import time
import unittest

import drivers
import vivtest

MODULES = "viv.modules=virtio_pci,virtio_blk,virtio_net"
LONG = unittest.skipUnless(os.environ.get("VIV_LONG"), "long: set VIV_LONG")
CTL = pathlib.Path(vivtest.PROGRAM).with_name("viv-ctl")


class Plugged(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="viv-plug-")
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)

    def image(self, name, size=8 << 20):
        path = self.dir / name
        with open(path, "wb") as f:
            f.truncate(size)
        return path

    def run_ctl(self, socket, *words):
        return subprocess.run([CTL, "--json", self.dir / socket, *map(str, words)], capture_output=True, text=True, timeout=60)

    def ctl(self, *words, socket="ctl"):
        done = self.run_ctl(socket, *words)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def refused(self, *words):
        done = self.run_ctl("ctl", *words)
        self.assertNotEqual(done.returncode, 0)
        return done.stderr

    def start(self, *options, append=MODULES):
        guest = vivtest.tiny(self, None, "--control", f"unix:{self.dir}/ctl", *options, append=append)
        guest.expect("BOOTED")
        guest.shell()
        return guest

    def disks(self, socket="ctl"):
        return self.ctl("status", socket=socket)["disks"]

    def nics(self):
        return self.ctl("status")["nics"]

    def until(self, what, condition, seconds=30):
        end = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), end, what)
            time.sleep(0.1)

    def appears(self, guest, path):
        guest.check(f"n=0; until [ -e {path} ] || [ $n = 100 ]; do sleep 0.1; n=$((n + 1)); done; [ -e {path} ]")

    def vanishes(self, guest, path):
        guest.check(f"n=0; while [ -e {path} ] && [ $n != 100 ]; do sleep 0.1; n=$((n + 1)); done; [ ! -e {path} ]")


class Disks(Plugged):
    def test_a_disk_comes_is_used_and_goes(self):
        guest = self.start("--disk", str(self.image("first")))
        second = self.image("second")
        self.assertEqual(self.ctl("disk-add", second, "--id", "data")["disk"], 1)
        self.appears(guest, "/dev/vdb")
        self.assertEqual(self.disks()[1]["id"], "data")
        guest.check("head -c 3000000 /dev/urandom >/data; dd if=/data of=/dev/vdb bs=64k conv=notrunc")
        guest.check("sync; echo 3 >/proc/sys/vm/drop_caches; head -c 3000000 /dev/vdb | cmp - /data")
        self.assertIn("disk1", guest.check("cat /sys/block/vdb/serial"))
        self.assertIn("twice", self.refused("disk-add", second))
        self.ctl("disk-remove", 1)
        self.vanishes(guest, "/dev/vdb")
        self.until("the image is free", lambda: len(self.disks()) == 1)
        self.assertEqual(guest.check("md5sum </data").split()[0],
                         subprocess.run(f"head -c 3000000 {second} | md5sum", shell=True, check=True,
                                        capture_output=True, text=True).stdout.split()[0])
        self.assertEqual(self.ctl("disk-add", f"{second},serial=again,readonly")["disk"], 1)
        self.appears(guest, "/dev/vdb")
        self.assertEqual(guest.check("cat /sys/block/vdb/serial; echo; cat /sys/block/vdb/ro").split(), ["again", "1"])
        guest.check("head -c 3000000 /dev/vdb | cmp - /data")
        guest.send_line("exit")
        self.assertEqual(guest.wait(), 0)

    def test_a_disk_goes_under_load_and_what_was_synced_is_there(self):
        guest = self.start()
        self.ctl("disk-add", self.image("load"))
        self.appears(guest, "/dev/vda")
        # In a shell of its own, for the interactive one ends with its first job. What dd writes once the device has
        # gone is a file of that name.
        guest.check("((n=1; while echo $n | dd of=/dev/vda bs=512 conv=notrunc,fsync && [ -b /dev/vda ]; do "
                    "echo $n >/last; n=$((n + 1)); done) >/dev/null 2>&1 &)")
        self.until("it writes", lambda: int(guest.check("cat /last 2>/dev/null || echo 0") or 0) > 20)
        self.ctl("disk-remove", 0)
        self.until("it is gone", lambda: not self.disks())
        last = int(guest.check("sleep 1; cat /last"))
        with open(self.dir / "load", "rb") as f:
            self.assertGreaterEqual(int(f.read(512).split(b"\n")[0]), last)

    def test_a_disk_is_pulled_out_and_the_guest_lives_on(self):
        guest = self.start()
        self.ctl("disk-add", self.image("pulled"))
        self.appears(guest, "/dev/vda")
        self.ctl("disk-remove", 0, "--force")
        self.assertEqual(self.disks(), [])
        self.vanishes(guest, "/dev/vda")
        self.ctl("disk-add", self.image("next"))
        self.appears(guest, "/dev/vda")

    def test_scsi_units_come_and_go_and_a_snapshot_has_them_where_they_were(self):
        guest = self.start("--disk", f"{self.image('first')},bus=scsi", "--initrd",
                           drivers.with_drivers(["virtio_pci", "virtio_scsi", "sd_mod"], self.dir),
                           append="viv.modules=virtio_pci,virtio_scsi,sd_mod")
        self.appears(guest, "/dev/sda")
        for i, unit in ((1, ""), (2, ",unit=5:3"), (3, "")):
            self.assertEqual(self.ctl("disk-add", f"{self.image(f'more{i}')},bus=scsi,serial=S{i}{unit}")["disk"], i)
        self.assertIn("5:3", self.refused("disk-add", f"{self.image('twice')},bus=scsi,unit=5:3"))
        where = "/sys/class/scsi_device/0:0:"
        for place in ("1:0", "5:3", "2:0"):
            self.appears(guest, f"{where}{place}/device/block")
        guest.check("head -c 3000000 /dev/urandom >/data; "
                    f"dd if=/data of=/dev/$(ls {where}2:0/device/block) bs=64k conv=notrunc,fsync")
        self.assertIn("force", self.refused("disk-remove", 1))
        self.ctl("disk-remove", 1, "--force")
        self.vanishes(guest, f"{where}1:0")
        self.assertEqual(len(self.disks()), 3)
        done = subprocess.run([CTL, self.dir / "ctl", "snapshot", self.dir / "s", "--then", "quit"], timeout=120)
        self.assertEqual((done.returncode, guest.wait(60)), (0, 0))
        guest = vivtest.Guest([vivtest.VM, "--restore", str(self.dir / "s"), "--serial", "stdio", "--control",
                               f"unix:{self.dir}/ctl"])
        self.addCleanup(guest.close)
        guest.shell()
        self.assertEqual(len(self.disks()), 3)
        guest.check("echo 3 >/proc/sys/vm/drop_caches; "
                    f"head -c 3000000 /dev/$(ls {where}2:0/device/block) | cmp - /data")
        guest.check(f"dd if=/dev/$(ls {where}5:3/device/block) bs=64k count=1 | wc -c")
        self.assertEqual(self.ctl("disk-add", f"{self.image('last')},bus=scsi")["disk"], 3)
        self.appears(guest, f"{where}1:0/device/block")  # the first free place

    def test_nvme_comes_and_goes(self):
        guest = self.start()
        self.assertEqual(self.ctl("disk-add", f"{self.image('nvme')},bus=nvme,serial=PLUGGED")["disk"], 0)
        self.appears(guest, "/dev/nvme0n1")
        guest.check("head -c 3000000 /dev/urandom >/data; dd if=/data of=/dev/nvme0n1 bs=64k conv=notrunc,fsync")
        guest.check("echo 3 >/proc/sys/vm/drop_caches; head -c 3000000 /dev/nvme0n1 | cmp - /data")
        self.ctl("disk-remove", 0)
        self.vanishes(guest, "/dev/nvme0n1")
        self.until("the image is free", lambda: not self.disks())
        self.assertEqual(self.ctl("disk-add", f"{self.dir / 'nvme'},bus=nvme")["disk"], 0)
        self.appears(guest, "/dev/nvme0n1")
        guest.check("head -c 3000000 /dev/nvme0n1 | cmp - /data")

    def test_what_cannot_be_is_refused(self):
        guest = self.start("--disk", f"{self.image('ide')},bus=ide")
        self.assertIn("bus=virtio", self.refused("disk-remove", 0))
        self.assertIn("bus=virtio", self.refused("disk-add", f"{self.image('other')},bus=ide"))
        self.assertIn("no SATA adapter", self.refused("disk-add", f"{self.image('other')},bus=sata"))
        self.assertIn("no SCSI adapter", self.refused("disk-add", f"{self.image('other')},bus=scsi"))
        self.assertIn("does not exist", self.refused("disk-add", self.dir / "missing"))
        self.assertIn("no property", self.refused("disk-add", f"{self.dir / 'other'},wrong=1"))
        self.assertIn("no disk 3", self.refused("disk-remove", 3))
        self.assertIn("no interface 0", self.refused("nic-remove", 0))
        self.assertEqual(len(self.disks()), 1)
        guest.check("true")

    @LONG
    def test_more_disks_than_slots(self):
        guest = self.start()
        for i in range(16):
            self.assertEqual(self.ctl("disk-add", self.image(f"d{i}", 1 << 20))["disk"], i)
        self.assertIn("at most 16", self.refused("disk-add", self.image("one more")))
        self.appears(guest, "/dev/vdp")
        for i in range(16):
            self.ctl("disk-remove", i)
        self.until("all are gone", lambda: not self.disks())
        self.vanishes(guest, "/dev/vda")

    @LONG
    def test_a_reset_finishes_what_the_guest_did_not(self):
        guest = self.start("--disk", str(self.image("a")), append=f"acpi=off pci=conf1 {MODULES}")
        self.ctl("disk-remove", 0)
        self.assertTrue(self.disks()[0]["removing"])
        self.ctl("reset")
        self.until("it is gone", lambda: not self.disks())
        guest.expect("BOOTED")


class Networks(Plugged):
    def test_an_interface_comes_is_used_and_goes(self):
        guest = self.start()
        self.assertEqual(self.ctl("nic-add", "user,mac=52:54:00:00:00:01", "--id", "lan")["nic"], 0)
        self.appears(guest, "/sys/class/net/eth0")
        guest.check("ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; ping -c 3 10.0.2.2")
        self.assertIn("52:54:00:00:00:01", guest.check("cat /sys/class/net/eth0/address"))
        self.assertIn("MAC address", self.refused("nic-add", "user,mac=52:54:00:00:00:01"))
        self.ctl("nic-remove", 0)
        self.vanishes(guest, "/sys/class/net/eth0")
        self.until("it is gone", lambda: not self.nics())


class Saved(Plugged):
    def test_a_machine_with_holes_and_additions_is_restored(self):
        guest = self.start("--disk", str(self.image("first")), "--nic", "user", "--console", "none")
        self.ctl("disk-add", self.image("second"))
        self.ctl("disk-add", f"{self.image('third')},queues=2", "--id", "third")
        self.appears(guest, "/dev/vdc")
        guest.check("echo third | dd of=/dev/vdc conv=notrunc,fsync; ip link set eth0 up; "
                    "ip addr add 10.0.2.15/24 dev eth0; ping -c 1 10.0.2.2")
        self.ctl("disk-remove", 1)
        self.ctl("disk-remove", 0)
        self.until("they are gone", lambda: len(self.disks()) == 1)
        where = guest.check("ls -d /sys/bus/pci/devices/*/virtio*/*/vd*")
        self.assertEqual(self.run_ctl("ctl", "snapshot", self.dir / "state", "--then", "quit").returncode, 0)
        self.assertEqual(guest.wait(60), 0)
        again = vivtest.Guest([vivtest.VM, "--restore", str(self.dir / "state"), "--serial", "stdio", "--control",
                               f"unix:{self.dir}/ctl"])
        self.addCleanup(again.close)
        again.shell()
        self.assertEqual(again.check("ls -d /sys/bus/pci/devices/*/virtio*/*/vd*"), where)
        self.assertEqual([(d["index"], d["id"]) for d in self.disks()], [(0, "third")])
        again.check("echo 3 >/proc/sys/vm/drop_caches; head -c 5 /dev/vdc | grep third; ping -c 3 10.0.2.2")
        again.check("cat /sys/block/vdc/serial | grep disk2")
        self.ctl("disk-add", self.dir / "first")
        self.appears(again, "/dev/vda")
        self.ctl("disk-remove", 0)
        self.vanishes(again, "/dev/vdc")

    @LONG
    def test_a_request_goes_on_in_a_restored_machine(self):
        guest = self.start("--disk", str(self.image("first")))
        self.ctl("pause")
        self.ctl("disk-remove", 0)
        self.ctl("disk-add", self.image("second"))
        self.assertEqual(self.run_ctl("ctl", "snapshot", self.dir / "state", "--then", "quit").returncode, 0)
        self.assertEqual(guest.wait(60), 0)
        again = vivtest.Guest([vivtest.VM, "--restore", str(self.dir / "state"), "--serial", "stdio", "--control",
                               f"unix:{self.dir}/ctl"])
        self.addCleanup(again.close)
        again.shell()
        self.vanishes(again, "/dev/vda")
        self.appears(again, "/dev/vdb")
        self.until("the first is gone", lambda: len(self.disks()) == 1)


if __name__ == "__main__":
    vivtest.tap.main()

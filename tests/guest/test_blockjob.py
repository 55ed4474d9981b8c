#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Jobs on the disk of a guest that writes all the time: what it reads in the end is what its images hold."""
import hashlib
import json
import pathlib
import subprocess
import tempfile
import time
import unittest

import vivtest

CTL = str(pathlib.Path(vivtest.PROGRAM).with_name("viv-ctl"))
SIZE = 32 << 20
WRITER = ("i=0; while [ ! -e /stop ]; do "
          "dd if=/dev/urandom of=/dev/vda bs=64k count=3 seek=$((i * 37 % 500)) conv=notrunc 2>/dev/null; "
          "i=$((i + 1)); [ $((i % 20)) -eq 0 ] && sync; done; sync; touch /stopped")


def run(*words):
    return subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=300, check=True).stdout


class Jobs(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="viv-jobs-")
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)
        self.socket = self.dir / "ctl"

    def file(self, name):
        return self.dir / name

    def ctl(self, *words, code=0, options=()):
        done = subprocess.run([CTL, "--json", *options, self.socket, *map(str, words)], capture_output=True, text=True,
                              timeout=300, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return json.loads(done.stdout.splitlines()[-1]) if code == 0 else done.stderr

    def disk(self):
        return self.ctl("status")["disks"][0]

    def start(self):
        run("qemu-img", "create", "-q", "-f", "raw", self.file("base.raw"), SIZE)
        run("qemu-io", "-f", "raw", "-c", "write -P 7 1M 9M", self.file("base.raw"))
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", self.file("base.raw"), "-F", "raw", self.file("top.qcow2"))
        guest = vivtest.tiny(self, None, "--disk", str(self.file("top.qcow2")), "--control", f"unix:{self.socket}",
                             append="viv.modules=virtio_pci,virtio_blk")
        guest.expect("BOOTED")
        return guest

    def write_always(self, guest):
        guest.send_line(f"rm -f /stop /stopped; ({WRITER}) & echo STARTED $?")
        guest.expect("STARTED 0")

    def sum_of_the_guest(self, guest):
        guest.send_line("touch /stop; while [ ! -e /stopped ]; do sleep 1; done; echo 3 >/proc/sys/vm/drop_caches; "
                        "echo SUM=$(md5sum </dev/vda | cut -c 1-32)=")
        return guest.expect(r"SUM=([0-9a-f]{32})=").group(1)

    def end(self, guest):
        guest.send_line("exit")
        self.assertEqual(guest.wait(120), 0)

    def sum_of(self, path, fmt):
        run("qemu-img", "convert", "-f", fmt, "-O", "raw", path, self.file("flat"))
        return hashlib.md5(self.file("flat").read_bytes()).hexdigest()

    def check(self, *names):
        for name in names:
            run("qemu-img", "check", self.file(name))

    def number_of(self, path, fmt):
        run("qemu-img", "convert", "-U", "-f", fmt, "-O", "raw", path, self.file("flat"))
        return int(self.file("flat").read_bytes()[:512].split(b"\0")[0])

    def test_copies_of_two_disks_show_one_instant(self):
        """The guest counts on both disks, on the second one behind the first: copies of different instants differ."""
        for name in ("a.raw", "b.raw"):
            run("qemu-img", "create", "-q", "-f", "raw", self.file(name), SIZE)
        guest = vivtest.tiny(self, None, "--disk", f"{self.file('a.raw')}", "--disk", f"{self.file('b.raw')}",
                             "--control", f"unix:{self.socket}", append="viv.modules=virtio_pci,virtio_blk")
        guest.expect("BOOTED")
        guest.send_line("i=1; while true; do for d in vda vdb; do printf %-512d $i | tr ' ' '\\0' | "
                        "dd of=/dev/$d bs=512 count=1 conv=notrunc,fsync 2>/dev/null; done; "
                        "[ $i = 3 ] && echo COUNTS; i=$((i + 1)); done &")
        guest.expect(r"COUNTS\n")
        for n in range(4):
            done = self.ctl("disks-backup", "0,1", self.file(f"copy{n}.%d"))
            self.assertEqual([d["path"] for d in done["result"]["disks"]],
                             [str(self.file("a.raw")), str(self.file("b.raw"))])
            first, second = (self.number_of(self.file(f"copy{n}.{d}"), "qcow2") for d in (0, 1))
            self.assertIn(first - second, (0, 1))
            self.check(f"copy{n}.0", f"copy{n}.1")
        self.assertIn("must have %d in it", self.ctl("disks-snapshot", "0,1", self.file("layer"), code=2))
        done = self.ctl("disks-snapshot", "0,1", self.file("layer.%d"))
        self.assertEqual([d["path"] for d in done["result"]["disks"]],
                         [str(self.file("layer.0")), str(self.file("layer.1"))])
        first, second = (self.number_of(self.file(f"{d}.raw"), "raw") for d in "ab")
        self.assertIn(first - second, (0, 1))
        self.assertGreaterEqual(second, 2)
        self.ctl("disks-backup", "0,1", self.file("copy1.%d"), code=1)
        self.assertIn("is there already", self.ctl("jobs")["jobs"][-1]["error"])

    def test_layers_come_and_go_under_a_guest_that_writes(self):
        guest = self.start()
        self.write_always(guest)
        for name in ("s1.qcow2", "s2.qcow2", "s3.qcow2"):
            done = self.ctl("disk-snapshot", 0, self.file(name))
            self.assertEqual(done["result"]["path"], str(self.file(name)))
            time.sleep(0.5)
        self.ctl("disk-commit", 0, "--top", self.file("s1.qcow2"))
        self.ctl("disk-stream", 0, "--base", self.file("top.qcow2"))
        done = self.ctl("disk-commit", 0, "--complete")
        self.assertEqual(done["result"]["path"], str(self.file("top.qcow2")))
        self.ctl("disk-stream", 0)
        total = self.sum_of_the_guest(guest)
        self.end(guest)
        self.check("top.qcow2", "s1.qcow2", "s2.qcow2", "s3.qcow2")
        self.assertEqual(self.sum_of(self.file("top.qcow2"), "qcow2"), total)
        self.assertNotIn("backing file", run("qemu-img", "info", self.file("top.qcow2")))

    def test_a_mirror_follows_and_takes_the_place_of_the_disk(self):
        guest = self.start()
        self.write_always(guest)
        number = self.ctl("disk-mirror", 0, self.file("copy.qcow2"), "--speed", 4 << 20, options=["--no-wait"])["job"]
        self.assertIn("disk 0 has a job (disk-mirror)", self.ctl("snapshot", self.file("state"), code=3))
        self.assertEqual(self.disk()["job"], "disk-mirror")
        self.ctl("job-speed", number, 0)
        while self.ctl("jobs")["jobs"][-1]["state"] != "ready":
            time.sleep(0.1)
        self.ctl("job-complete", number)
        while self.disk()["job"]:
            time.sleep(0.1)
        self.assertEqual(self.disk()["path"], str(self.file("copy.qcow2")))
        time.sleep(1)
        self.ctl("disk-mirror", 0, self.file("copy.raw"), "--format", "raw", "--complete")
        self.assertEqual(self.disk()["format"], "raw")
        total = self.sum_of_the_guest(guest)
        self.end(guest)
        self.check("copy.qcow2", "top.qcow2")
        self.assertEqual(hashlib.md5(self.file("copy.raw").read_bytes()).hexdigest(), total)

    def test_a_machine_is_restored_on_the_images_that_its_disk_had_last(self):
        guest = self.start()
        self.write_always(guest)
        self.ctl("disk-snapshot", 0, self.file("new.qcow2"))
        time.sleep(1)
        self.ctl("snapshot", self.file("state"), "--then", "quit")
        self.assertEqual(guest.wait(60), 0)
        self.check("top.qcow2", "new.qcow2")
        again = vivtest.Guest([vivtest.VM, "--restore", str(self.file("state")), "--control", f"unix:{self.socket}",
                               "--serial", "stdio"])
        self.addCleanup(again.close)
        total = self.sum_of_the_guest(again)
        self.assertEqual(self.disk()["path"], str(self.file("new.qcow2")))
        self.end(again)
        self.check("top.qcow2", "new.qcow2")
        self.assertEqual(self.sum_of(self.file("new.qcow2"), "qcow2"), total)

    def test_backups_of_a_disk_that_is_written_show_its_past(self):
        guest = self.start()
        sums = []
        for n in range(3):
            guest.send_line(f"dd if=/dev/urandom of=/dev/vda bs=64k seek={n * 100 + 7} count=90 conv=notrunc,fsync "
                            f"2>/dev/null; echo SUM=$(md5sum </dev/vda | cut -c 1-32)=")
            sums.append(guest.expect(r"SUM=([0-9a-f]{32})=").group(1))
            words = ["--parent", self.file(f"b{n - 1}")] if n else ["--begin"]
            job = self.ctl("disk-backup", 0, self.file(f"b{n}"), "--bitmap", "day", *words, "--speed", 20 << 20,
                           options=["--no-wait"])["job"]
            self.write_always(guest)
            self.ctl("job-speed", job, 8 << 20)
            while self.disk()["job"]:
                time.sleep(0.1)
            self.assertEqual(self.ctl("jobs")["jobs"][-1]["state"], "done")
            self.sum_of_the_guest(guest)
        self.assertEqual([b["name"] for b in self.ctl("bitmaps", 0)["bitmaps"]], ["day"])
        self.ctl("bitmap-add", 0, "other")
        self.ctl("bitmap-remove", 0, "other")
        self.end(guest)
        self.check("top.qcow2", "b0", "b1", "b2")
        self.assertEqual([self.sum_of(self.file(f"b{n}"), "qcow2") for n in range(3)], sums)
        self.assertIn("name: day", run("qemu-img", "info", self.file("top.qcow2")))

    def test_a_machine_whose_disk_has_a_bitmap_is_restored_as_often_as_one_likes(self):
        """An image is written to when a bitmap comes into use and when it is closed: not between a snapshot and the end."""
        guest = self.start()
        self.ctl("disk-backup", 0, self.file("b0"), "--bitmap", "day", "--begin")
        guest.send_line("dd if=/dev/urandom of=/dev/vda bs=64k seek=7 count=9 conv=notrunc,fsync 2>/dev/null; echo WROTE=1=")
        guest.expect("WROTE=1=")
        self.ctl("snapshot", self.file("state"), "--then", "quit")
        self.assertEqual(guest.wait(60), 0)
        self.assertEqual(run("qemu-img", "info", self.file("top.qcow2")).count("in-use"), 0)

        def restored():
            again = vivtest.Guest([vivtest.PROGRAM, "--restore", str(self.file("state")), "--control", f"unix:{self.socket}",
                                   "--serial", "stdio"])
            self.addCleanup(again.close)
            vivtest.wait_for_listener(self, again.process, self.socket)
            return again
        again = restored()
        self.assertFalse(self.ctl("bitmaps", 0)["bitmaps"][0]["inconsistent"])
        again.close()  # killed: nothing was written
        again = restored()
        again.send_line("dd if=/dev/urandom of=/dev/vda bs=64k seek=99 count=9 conv=notrunc,fsync 2>/dev/null; touch /stopped")
        total = self.sum_of_the_guest(again)
        self.ctl("disk-backup", 0, self.file("b1"), "--bitmap", "day", "--parent", self.file("b0"))
        self.end(again)
        self.check("top.qcow2", "b0", "b1")
        self.assertEqual(self.sum_of(self.file("b1"), "qcow2"), total)

    def test_a_disk_grows_and_the_guest_sees_it(self):
        guest = self.start()
        self.ctl("disk-resize", 0, SIZE * 2)
        guest.send_line("sleep 1; echo SIZE=$(cat /sys/block/vda/size)=")
        self.assertEqual(int(guest.expect(r"SIZE=(\d+)=").group(1)), SIZE * 2 // 512)
        guest.send_line("dd if=/dev/urandom of=/dev/vda bs=1M seek=60 count=4 conv=notrunc,fsync; touch /stopped")
        total = self.sum_of_the_guest(guest)
        self.end(guest)
        self.check("top.qcow2")
        self.assertEqual(self.sum_of(self.file("top.qcow2"), "qcow2"), total)

    def test_a_machine_killed_in_a_job_starts_again_with_what_was_synced(self):
        for words in (("disk-stream", 0), ("disk-commit", 0, "--complete"), ("disk-mirror", 0, self.file("m"))):
            for f in self.dir.glob("*"):
                f.unlink()
            guest = self.start()
            guest.send_line("dd if=/dev/urandom of=/tmp-x bs=64k count=40 2>/dev/null; dd if=/tmp-x of=/dev/vda bs=64k "
                            "seek=300 conv=notrunc,fsync 2>/dev/null; echo X=$(md5sum </tmp-x | cut -c 1-32)=")
            total = guest.expect(r"X=([0-9a-f]{32})=").group(1)
            guest.send_line("while :; do dd if=/dev/urandom of=/dev/vda bs=64k count=250 conv=notrunc; done 2>/dev/null &")
            self.ctl(*words, "--speed", 10 << 20, options=["--no-wait"])
            time.sleep(1.5)
            guest.close()  # kill -9
            check = subprocess.run(["qemu-img", "check", self.file("top.qcow2")], capture_output=True, check=False)
            self.assertIn(check.returncode, (0, 3), check.stdout + check.stderr)
            run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", self.file("top.qcow2"), self.file("flat"))
            data = self.file("flat").read_bytes()[300 << 16:340 << 16]
            self.assertEqual(hashlib.md5(data).hexdigest(), total, words)


if __name__ == "__main__":
    vivtest.tap.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# run: on every processor backend
"""Increments that read only what is known to have been written: against a model of what a guest writes, and against a comparison of
all pages (--dirty-log ...,prove), with processors, disks and networks writing."""
import os
import pathlib
import random
import re
import struct
import subprocess
import tempfile
import unittest

import mini
import vivtest

TOOLS = pathlib.Path(vivtest.PROGRAM).resolve().parent
PATIENCE = 1200
FIRST, PAGES = 0x300000 >> 12, 14000  # what the little kernel may write
RING = 4096
# Reads two words as letters of four bits each, the lowest first: a page and a number; adds 1 to a word of so many pages from there on; says 'k'. No stack, no paging.
WORD = (b"\xbf\x08\x00\x00\x00" + mini.WAIT_RX + b"\x66\xba\xf8\x03\xec" +  # edi = 8; again: al = RBR
        b"\xc1\xeb\x04\x83\xe0\x0f\xc1\xe0\x1c\x09\xc3" +  # ebx = ebx >> 4 | al << 28
        b"\x4f\x75")  # dec edi; jnz again
WORD += struct.pack("b", -(len(WORD) + 1 - 5))
WRITER = mini.FIFOS + mini.say("r") + mini.forever(  # what came before would be lost
    WORD, b"\x89\xdd\xc1\xe5\x0c",  # ebp = page << 12
    WORD, b"\x89\xd9",  # ecx = number
    b"\xff\x45\x08\x81\xc5\x00\x10\x00\x00\x49\x75\xf4",  # again: inc 8(ebp); ebp += 4096; dec ecx; jnz again
    mini.say("k"))


def tool(name, *words):
    return subprocess.run([TOOLS / f"viv-{name}", *map(str, words)], capture_output=True, text=True, timeout=PATIENCE, check=False)


def ways():
    return ("on", "ring") if vivtest.CPU == "kvm" else ("auto",)


class Dirty(unittest.TestCase):
    def setUp(self):
        # A snapshot of a machine that snapping_vm.py runs would be taken of somebody else.
        self.old_vm, vivtest.VM = vivtest.VM, vivtest.PROGRAM
        self.addCleanup(setattr, vivtest, "VM", self.old_vm)
        folder = tempfile.TemporaryDirectory(prefix="viv-dirty-")
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)

    def save(self, control, place, *words):
        done = tool("ctl", self.dir / control, "snapshot", self.dir / place, *words)
        self.assertEqual(done.returncode, 0, done.stderr)

    def looked(self, guest):
        found = re.search(r"(?m)^ *(\d+)  (?:\w+ \()?pages that increments looked at", guest.stderr)
        return int(found[1]) if found else 0

    def writer(self, way, *options):
        (self.dir / "kernel").write_bytes(mini.elf(WRITER))
        guest = vivtest.Guest([vivtest.VM, "--name", "writer", "--cpu", vivtest.CPU, "--memory", "64M", "--kernel", str(self.dir / "kernel"),
                               "--nic", "none", "--serial", "stdio", "--vga", "none", "--stats", "--dirty-log", way + ",prove",
                               "--control", f"unix:{self.dir}/w", *options], timeout=PATIENCE)
        self.addCleanup(guest.close)
        guest.expect("r")
        return guest

    def write(self, guest, page, number):
        guest.send("".join(chr(0x40 | value >> shift & 15) for value in (page, number) for shift in range(0, 32, 4)))
        guest.expect("k")

    def test_the_log_is_what_a_model_says(self):
        for way in ways():
            with self.subTest(way=way):
                self.against_a_model(way)

    def against_a_model(self, way):
        dice = random.Random(7)
        guest = self.writer(way)
        self.write(guest, FIRST, 1)
        self.save("w", f"{way}0")
        self.save("w", f"{way}1", "--parent", self.dir / f"{way}0")  # from here on auto knows
        written = again = 0
        for n in range(2, 7):
            model = set()
            for _ in range(dice.randrange(1, 12)):
                number = dice.choice((1, 1, 2, 17, 300))
                page = FIRST + dice.randrange(PAGES - number)
                self.write(guest, page, number)
                model.update(range(page, page + number))
            if n == 4:  # more than a ring holds
                self.write(guest, FIRST, 2 * RING + 100)
                model.update(range(FIRST, FIRST + 2 * RING + 100))
            if n == 5:  # nothing is lost when one fails
                done = tool("ctl", self.dir / "w", "snapshot", self.dir / f"{way}0", "--parent", self.dir / f"{way}{n - 1}")
                self.assertNotEqual(done.returncode, 0)
                again = len(model)
            self.save("w", f"{way}{n}", "--parent", self.dir / f"{way}{n - 1}")
            written += len(model)
            diff = tool("state", "diff", self.dir / f"{way}{n - 1}", self.dir / f"{way}{n}").stdout
            self.assertRegex(diff, rf"(?m)\b{len(model)} (?:of \d+ )?pages", f"round {n}")
        tool("ctl", self.dir / "w", "quit")
        guest.wait()
        looked = self.looked(guest)
        self.assertGreaterEqual(looked, written)
        self.assertLess(looked, written + again + 100)  # KVM may tell of the page of the code as well

    def test_a_comparison_finds_nothing_that_was_not_noted(self):
        for way in ways():
            with self.subTest(way=way):
                self.compared(way)

    def compared(self, way):
        disk = self.dir / f"disk{way}"
        with open(disk, "wb") as f:
            for n in range(512):
                f.write(bytes([n & 255]) * 65536)
        guest = vivtest.tiny(self, None, "--cpus", "2", "--disk", str(disk), "--dirty-log", way + ",prove", "--vga", "std", "--stats", "--control",
                             f"unix:{self.dir}/l{way}", append="viv.modules=virtio_pci,virtio_blk,virtio_net", nic="user", timeout=PATIENCE)
        guest.expect("BOOTED")
        guest.shell()
        guest.check("sum=$(sha256sum </dev/vda)", timeout=PATIENCE)
        guest.send_line("(n=0; while [ ! -e /tmp/stop ]; do n=$((n + 1)); echo 3 >/proc/sys/vm/drop_caches; "
                        "[ \"$(sha256sum </dev/vda)\" = \"$sum\" ] || echo wrong; done; echo read $n) & "
                        "(while [ ! -e /tmp/stop ]; do dd if=/dev/urandom of=/tmp/x bs=64k count=$((RANDOM % 60)) 2>/dev/null; cp /tmp/x /tmp/y; "
                        "cmp /tmp/x /tmp/y || echo wrong; done) & echo begun")
        guest.expect("begun")
        self.save(f"l{way}", f"l{way}0")
        for n in range(1, 7):
            self.save(f"l{way}", f"l{way}{n}", "--parent", self.dir / f"l{way}{n - 1}")
        guest.check("[ $(cat /proc/uptime | wc -l) = 1 ]", timeout=PATIENCE)
        self.save(f"l{way}", f"l{way}7", "--parent", self.dir / f"l{way}6", "--then", "quit")
        guest.wait()
        self.assertNotRegex(guest.console, r"(?m)^wrong")
        again = vivtest.Guest([vivtest.VM, "--restore", str(self.dir / f"l{way}7"), "--cpu", vivtest.CPU, "--dirty-log", way + ",prove",
                               "--no-jail", "--control", f"unix:{self.dir}/m{way}"], timeout=PATIENCE)  # another user would not get at l6
        self.addCleanup(again.close)
        again.send_line("echo ba''ck")
        again.expect(r"back\r?\n")
        self.save(f"m{way}", f"n{way}", "--parent", self.dir / f"l{way}7")  # of which nothing is known: compared
        again.send_line("touch /tmp/stop; wait; poweroff -f")
        again.wait()
        self.assertNotRegex(again.console, r"(?m)^wrong")
        self.assertGreater(self.looked(guest), 0)


if __name__ == "__main__":
    vivtest.tap.main()

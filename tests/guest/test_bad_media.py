#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Media and firmware that are not what they say, and files that change under a machine: a sentence or an error of
the device, and nobody hangs."""
import os
import pathlib
import random
import struct
import subprocess
import tempfile
import time
import unittest

import mini
import vivtest

MIB = 1 << 20
SECTOR = 2048
OVMF = pathlib.Path("/usr/share/OVMF")
BIOS = pathlib.Path("/usr/share/seabios/bios-256k.bin")


def medium(sectors, says=None, catalogue=None, image=None):
    """An optical medium with descriptors alone: as many sectors as there are, and as it says it has. With the sector
    of an El Torito catalogue, and that of the image that the catalogue names."""
    data = bytearray(sectors * SECTOR)
    said = says or sectors
    data[16 * SECTOR:16 * SECTOR + 6] = b"\1CD001"
    struct.pack_into("<I", data, 16 * SECTOR + 80, said)
    struct.pack_into("<H", data, 16 * SECTOR + 128, SECTOR)
    at = 17
    if catalogue is not None:
        data[at * SECTOR:at * SECTOR + 7] = b"\0CD001\1"
        data[at * SECTOR + 7:at * SECTOR + 30] = b"EL TORITO SPECIFICATION"
        struct.pack_into("<I", data, at * SECTOR + 71, catalogue)
        at += 1
    data[at * SECTOR:at * SECTOR + 6] = b"\xffCD001"
    if catalogue is not None and catalogue < sectors:
        entry = bytearray(64)
        entry[0], entry[30], entry[31] = 1, 0x55, 0xaa
        struct.pack_into("<H", entry, 28, (-sum(struct.unpack("<16H", entry[:32]))) & 0xffff)
        entry[32] = 0x88  # bootable, no emulation
        struct.pack_into("<HI", entry, 38, 4, image)
        data[catalogue * SECTOR:catalogue * SECTOR + 64] = entry
    return bytes(data)


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="viv-")
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)

    def file(self, name, data):
        (self.dir / name).write_bytes(data)
        return str(self.dir / name)

    def run_vm(self, *options):
        return subprocess.run([vivtest.PROGRAM, "--memory", "32M", "--serial", "none", *options], capture_output=True,
                              text=True, timeout=120, stdin=subprocess.DEVNULL, check=False)

    def refused(self, wanted, *options):
        done = self.run_vm(*options)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertIn(wanted, done.stderr)

    def ends_well(self, *options):
        done = self.run_vm("--kernel", self.file("kernel", mini.elf(mini.POWER_OFF)), *options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stderr


class Optical(Case):
    def test_what_is_no_medium_is_refused(self):
        kernel = ("--kernel", self.file("kernel", mini.elf(mini.POWER_OFF)))
        self.refused("is empty", *kernel, "--cdrom", self.file("empty", b""))
        self.refused("shorter than a sector", *kernel, "--cdrom", self.file("bit", b"x" * 1000))
        self.refused("does not exist", *kernel, "--cdrom", str(self.dir / "nothing"))
        self.refused("a directory", *kernel, "--cdrom", str(self.dir))
        os.mkfifo(self.dir / "fifo")
        self.refused(str(self.dir / "fifo"), *kernel, "--cdrom", str(self.dir / "fifo"))

    def test_a_medium_that_was_cut_off_is_told(self):
        self.assertIn("it is truncated, fetch it again", self.ends_well("--cdrom", self.file("cut", medium(40, 5000))))
        self.assertEqual(self.ends_well("--cdrom", self.file("whole", medium(40))), "")
        self.assertEqual(self.ends_well("--cdrom", self.file("odd", medium(40) + b"x" * 700)), "")

    @unittest.skipUnless(BIOS.exists(), "seabios is not installed")
    def test_a_catalogue_that_points_outside_boots_nothing_and_harms_nothing(self):
        for name, iso in (("far", medium(40, catalogue=0xfffffff0)), ("behind", medium(40, catalogue=40)),
                          ("image", medium(40, catalogue=20, image=0x7fffffff)),
                          ("last", medium(40, catalogue=20, image=40))):
            guest = vivtest.Guest([vivtest.VM, "--memory", "64M", "--firmware", "bios", "--serial", "stdio", "--cpu",
                                   vivtest.CPU, "--cdrom", self.file(name, iso)])
            self.addCleanup(guest.close)
            guest.expect("Boot failed: Could not read from CDROM")
            guest.expect("No bootable device")
            guest.close()


class Firmware(Case):
    def test_what_is_no_rom_is_refused(self):
        code = os.urandom(8192)
        for name, data, wanted in (("empty", b"", "has 0 bytes"), ("odd", code[:4097], "multiple of 4096"),
                                   ("big", code * 2049, "at most 16 MiB"), ("zeros", bytes(65536), "no code at its end"),
                                   ("ones", b"\xff" * 65536, "no code at its end")):
            self.refused(wanted, "--firmware", self.file(name, data))
        self.refused("is a directory", "--firmware", str(self.dir))
        os.mkfifo(self.dir / "fifo")
        self.refused("not a regular file", "--firmware", str(self.dir / "fifo"))

    def test_code_that_makes_no_sense_is_a_crash_of_the_guest(self):
        # At the reset vector: lidt cs:[0xffe8], which has no entries; ud2.
        rom = bytearray(os.urandom(65536))
        rom[-24:] = bytes(8) + b"\x2e\x0f\x01\x1e\xe8\xff\x0f\x0b" + bytes(range(8))
        done = self.run_vm("--firmware", self.file("rom", bytes(rom)), "--no-reboot")
        self.assertEqual(done.returncode, 3, done.stderr)

    @unittest.skipUnless((OVMF / "OVMF_VARS_4M.fd").exists(), "ovmf is not installed")
    def test_damaged_variables_are_refused_or_the_guests_business(self):
        good = (OVMF / "OVMF_VARS_4M.fd").read_bytes()
        uefi = ("--firmware", "uefi", "--uefi-vars")
        for name, data in (("empty", b""), ("half", good[:len(good) // 2]), ("longer", good + bytes(4096)),
                           ("zeros", bytes(len(good))), ("noise", random.Random(1).randbytes(len(good))),
                           ("head", b"x" * 64 + good[64:])):
            self.refused(str(self.dir / name), *uefi, self.file(name, data))
            self.assertEqual((self.dir / name).read_bytes(), data)  # it may be something else, of worth
        # Behind a head that is right the firmware judges for itself.
        spoilt = bytearray(good)
        spoilt[0x60:0x4000] = random.Random(2).randbytes(0x4000 - 0x60)
        control = str(self.dir / "control")
        process = subprocess.Popen([vivtest.PROGRAM, "--memory", "128M", "--serial", "none", *uefi,
                                    self.file("spoilt", bytes(spoilt)), "--control", f"unix:{control}"],
                                   stdin=subprocess.DEVNULL)
        self.addCleanup(process.kill)
        while subprocess.run([str(vivtest.ROOT / "build/viv-ctl"), control, "quit"], capture_output=True,
                             check=False).returncode:
            self.assertIsNone(process.poll())  # it does not listen yet
            time.sleep(0.05)
        self.assertEqual(process.wait(60), 0)


class Changing(Case):
    def test_an_image_that_shrinks_under_a_guest_gives_errors_or_zeros_and_takes_writes(self):
        image = self.file("disk", b"")
        with open(image, "wb") as f:
            f.write(b"x" * 8 * MIB)
        command = """
            echo READY; read word
            dd if=/dev/vda bs=64k skip=100 count=4 2>/dev/null | tr -d '\\0x' | wc -c
            dd if=/dev/zero bs=64k count=1 2>/dev/null | tr '\\0' y | dd of=/dev/vda bs=64k seek=100 conv=fsync 2>/dev/null
            echo write $?; sync; head -c 10 /dev/vda; echo; echo ALIVE
        """
        guest = vivtest.tiny(self, command, "--disk", image, append="viv.modules=virtio_pci,virtio_blk")
        guest.expect("READY\n")
        os.truncate(image, MIB)
        guest.send("go\n")
        text = guest.expect(r"(?s)(.*)ALIVE\n").group(1)
        guest.expect("EXIT 0\n")
        self.assertEqual(guest.wait(), 0)
        self.assertRegex(text, r"\b0\nwrite [01]\n")  # nothing that was never there
        self.assertIn("xxxxxxxxxx\n", text)
        if "write 0" in text:
            with open(image, "rb") as f:
                f.seek(100 * 65536)
                self.assertEqual(f.read(), b"y" * 65536)
        else:
            self.assertIn(image, guest.stderr)

    def test_a_medium_that_shrinks_under_a_machine_harms_nobody(self):
        iso = self.file("iso", medium(1000))
        guest = vivtest.tiny(self, "echo READY; read word; dmesg | tail -n 3; echo ALIVE", "--cdrom", iso)
        guest.expect("READY\n")
        os.truncate(iso, 3000)
        guest.send("go\n")
        guest.expect("ALIVE\n")
        guest.expect("EXIT 0\n")
        self.assertEqual(guest.wait(), 0)


if __name__ == "__main__":
    vivtest.tap.main()

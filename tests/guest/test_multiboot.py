#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# run: on every processor backend
"""Multiboot kernels: our own (multiboot.S), which tell what they were told, and, if VIV_LONG is set, those of
Debian: grub-invaders, GNU Mach, Xen with a Linux in its first domain."""
import gzip
import os
import pathlib
import subprocess
import tempfile
import time
import unittest

import vivtest
from packages import unpacked

SOURCE = pathlib.Path(__file__).with_name("multiboot.S")
CTL = pathlib.Path(vivtest.PROGRAM).resolve().parent / "viv-ctl"


class Multiboot(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="viv-mb-")
        cls.addClassCleanup(folder.cleanup)
        cls.dir = pathlib.Path(folder.name)

    def kernel(self, *flags):
        out = self.dir / ("k" + "".join(flags).replace("-D", ".").replace("=", ""))
        subprocess.run([os.environ.get("CC", "gcc"), "-m32", "-nostdlib", "-static", "-no-pie", *flags,
                        "-Wl,--build-id=none,-n,--no-warn-rwx-segments,-Ttext=0x100000,-e,start", "-o", out, SOURCE], check=True)
        return out

    def module(self, name, text):
        (self.dir / name).write_text(text)
        return str(self.dir / name)

    def boot(self, kernel, *options, append="one two"):
        return subprocess.run([vivtest.VM, "--cpu", vivtest.CPU, "--memory", "64M", "--debug-exit", "--kernel",
                               kernel, "--append", append, *options], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=60)

    def told(self, kernel, *flags):
        first, second = self.module("first", "contents of the first"), self.module("sec ond", "the second's")
        got = self.boot(kernel, "--initrd", f"{first} with arguments", "--initrd", second)
        self.assertEqual(got.returncode, 0x21, got)
        lines = got.stdout.splitlines()
        self.assertEqual(lines[0], f"{kernel} one two")
        self.assertIn("viv-vm", lines[1])
        self.assertEqual(lines[2:], [f"{first} with arguments", "contents of the first", second, "the second's"])

    def test_an_elf_file_of_the_first_version(self):
        self.told(self.kernel("-DVERSION=1"))

    def test_an_elf_file_of_the_second_version(self):
        self.told(self.kernel("-DVERSION=2"))

    def flat(self, kernel):
        out = kernel.with_suffix(".flat")
        subprocess.run(["objcopy", "-O", "binary", kernel, out], check=True)
        return out

    def test_files_that_only_the_headers_addresses_explain(self):
        for version in "12":
            self.told(self.flat(self.kernel(f"-DVERSION={version}", "-DADDRESSES")))

    def test_relocatable_ones_go_to_the_top(self):
        for flags in ["-DRELOCATABLE"], ["-DRELOCATABLE", "-DADDRESSES"]:
            self.told(self.kernel("-DVERSION=2", *flags))

    def test_compressed_ones_are_unpacked(self):
        kernel = self.kernel("-DVERSION=1")
        packed = self.dir / "kernel.gz"
        packed.write_bytes(gzip.compress(kernel.read_bytes()))
        self.told(packed)
        packed.write_bytes(packed.read_bytes()[:300])
        got = self.boot(packed)
        self.assertEqual(got.returncode, 2)
        self.assertIn("cannot be unpacked: its gzip stream ends early", got.stderr)

    def test_a_picture(self):
        for version in "12":
            control = str(self.dir / f"control{version}")
            guest = vivtest.Guest([vivtest.VM, "--cpu", vivtest.CPU, "--memory", "64M", "--kernel",
                                   self.kernel(f"-DVERSION={version}", "-DGRAPHICS"), "--vga", "std", "--control",
                                   f"unix:{control}"])
            self.addCleanup(guest.close)
            guest.expect(r"drawn\n")
            shot = self.dir / f"shot{version}.png"
            out = subprocess.run([CTL, control, "screenshot", "--file", shot], check=True, capture_output=True).stdout
            self.assertIn(b"width: 800\nheight: 600\n", out)
            self.assertLess(shot.stat().st_size, 20000)  # of one colour

    @vivtest.LONG
    def test_gnu_mach(self):
        guest = self.debian("gnumach-image-1.8-486", "gnumach-1.8-486.gz", "--append", "console=com0")
        guest.expect(r"GNU Mach")
        guest.expect(r"No bootstrap code loaded with the kernel")

    @vivtest.LONG
    def test_xen_with_linux_in_its_first_domain(self):
        guest = self.debian("xen-hypervisor-4.17-amd64", "xen-4.17-amd64.gz", "--append", "com1=115200,8n1 console=com1",
                            "--memory", "1G", "--initrd", f"{vivtest.GUEST}/vmlinuz console=hvc0 viv.run=dmesg", "--initrd",
                            f"{vivtest.GUEST}/tiny.cpio.gz")
        guest.expect(r"Xen version 4")
        guest.expect(r"Run /init as init process")

    @vivtest.LONG
    def test_invaders(self):
        control = str(self.dir / "inv")
        self.debian("grub-invaders", "invaders.exec", "--vga", "std", "--control", f"unix:{control}")
        shot = self.dir / "invaders.png"
        for _ in range(50):
            time.sleep(0.2)
            subprocess.run([CTL, control, "screenshot", "--file", shot], capture_output=True)
            if shot.exists() and shot.stat().st_size > 2300:
                return
        self.fail("no invaders came")

    def debian(self, package, name, *options):
        kernel = unpacked(package) / "boot" / name
        options = options if "--memory" in options else ("--memory", "128M", *options)
        guest = vivtest.Guest([vivtest.VM, "--cpu", vivtest.CPU, "--kernel", str(kernel), "--no-reboot", *options],
                              timeout=240)
        self.addCleanup(guest.close)
        return guest


if __name__ == "__main__":
    vivtest.tap.main()

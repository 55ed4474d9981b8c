#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# run: long
"""Other kernels of Debian's, booted directly to a user space of their own width."""
import pathlib
import tempfile
import unittest

import initrd
import media
import vivtest


class Kernels(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="viv-")
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)

    def boot(self, name, arch, command, *options):
        kernel = media.one(media.package(name, arch) / "boot", "vmlinuz-*")
        disk = vivtest.GUEST / "tiny.cpio.gz"
        if arch == "i386":  # the later file of a name counts
            disk = initrd.with_tree({"bin/busybox": media.package("busybox-static", "i386") / "bin/busybox"},
                                    self.dir / "initrd")
        guest = vivtest.Guest([vivtest.VM, "--name", "kernel", "--cpu", vivtest.CPU, "--memory", "512M", "--kernel",
                               str(kernel), "--initrd", str(disk), "--append",
                               "console=ttyS0 viv.run=" + command.replace(" ", "\\040"), "--serial", "stdio",
                               *options], timeout=900)
        self.addCleanup(guest.close)
        guest.expect("BOOTED")
        text = guest.expect(r"(?s)(.*)EXIT 0").group(1)
        self.assertEqual(guest.wait(), 0)
        return text

    def test_the_generic_kernel(self):
        self.assertRegex(self.boot("linux-image-amd64*", "amd64", "uname -a", "--cpus", "2"), r"-amd64 .* SMP .*x86_64")

    def test_the_real_time_kernel(self):
        text = self.boot("linux-image-rt-amd64*", "amd64", "uname -a; cat /sys/kernel/realtime; nproc", "--cpus", "2")
        self.assertRegex(text, r"-rt-amd64 .*PREEMPT_RT[^\n]*\n1\n2\n")

    def test_a_kernel_of_32_bits(self):
        self.assertRegex(self.boot("linux-image-686*", "i386", "uname -a"), r"-686 .*i686")

    def test_a_kernel_of_32_bits_with_pae_and_two_processors(self):
        text = self.boot("linux-image-686-pae*", "i386", "uname -a; nproc", "--cpus", "2")
        self.assertRegex(text, r"-686-pae .* SMP .*i686[^\n]*\n2\n")


if __name__ == "__main__":
    vivtest.tap.main()

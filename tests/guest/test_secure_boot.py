#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# run: long
"""Secure Boot: UEFI firmware with Microsoft's keys starts Debian's signed loaders and kernel, and nothing unsigned."""
import pathlib
import tempfile
import unittest

import media
import screen
import vivtest

KERNEL, INITRD = vivtest.GUEST / "vmlinuz", vivtest.GUEST / "tiny.cpio.gz"
KEYS = pathlib.Path("/usr/share/OVMF/OVMF_VARS_4M.ms.fd")


class SecureBoot(unittest.TestCase):
    def setUp(self):
        media.need(KEYS, "mformat")
        folder = tempfile.TemporaryDirectory(prefix="viv-")
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)

    def start(self, files, *options):
        media.esp(self.dir / "esp", 96 << 20, files)
        guest, _ = screen.start(self, self.dir, "--firmware", "uefi-secure", "--uefi-vars", str(self.dir / "vars"),
                                "--disk", str(self.dir / "esp"), "--no-reboot", *options, memory="512M")
        return guest

    def signed(self, kernel=KERNEL):
        """Shim by Microsoft's key, GRUB and the kernel by Debian's, which shim brings."""
        (self.dir / "grub.cfg").write_text(
            "search --no-floppy --file --set=root /linux\nserial --unit=0 --speed=115200\nterminal_output serial\n"
            "linux /linux console=ttyS0 viv.run=true\ninitrd /initrd\nboot\n")
        return {
            "EFI/BOOT/BOOTX64.EFI": media.package("shim-signed") / "usr/lib/shim/shimx64.efi.signed",
            "EFI/BOOT/grubx64.efi":
                media.package("grub-efi-amd64-signed") / "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
            "EFI/debian/grub.cfg": self.dir / "grub.cfg", "linux": kernel, "initrd": INITRD}

    def test_signed_loaders_and_kernel_boot_on_two_processors(self):
        guest = self.start(self.signed(), "--cpus", "2")
        # The kernel's own look at the variables SecureBoot and SetupMode, and what it does about it.
        guest.expect(r"Kernel is locked down from EFI Secure Boot", timeout=300)
        guest.expect(r"Secure boot enabled", timeout=60)
        guest.expect(r"Brought up 1 node, 2 CPUs", timeout=60)
        guest.expect("BOOTED")
        self.assertEqual(guest.wait(), 0)
        # Firmware has written boot entries, and the keys are whole.
        now, keys = (self.dir / "vars").read_bytes(), KEYS.read_bytes()
        self.assertNotEqual(now, keys)
        for word in (b"Microsoft Corporation UEFI CA 2011", b"Debian"):
            self.assertEqual(word in now, word in keys)

    def test_an_unsigned_loader_is_refused(self):
        media.grub_image("x86_64-efi", self.dir / "grub.efi", "/", "normal echo serial")
        guest = self.start({"EFI/BOOT/BOOTX64.EFI": self.dir / "grub.efi"})
        guest.expect(r"failed to (start|load) Boot\S+ [^\r\n]*(Access Denied|Security Violation)", timeout=300)

    def test_a_kernel_with_a_changed_byte_is_refused(self):
        bad = bytearray(KERNEL.read_bytes())
        bad[len(bad) // 2] ^= 1
        (self.dir / "bad").write_bytes(bad)
        guest = self.start(self.signed(self.dir / "bad"))
        guest.expect(r"bad shim signature", timeout=300)


if __name__ == "__main__":
    vivtest.tap.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# run: long
"""Other boot loaders, firmware and kernels of Debian's: syslinux, iPXE, systemd-boot, rEFInd, U-Boot, Xen, Mach, a game."""
import functools
import http.server
import pathlib
import shutil
import tempfile
import threading
import unittest

import media
import screen
import vivtest

KERNEL, INITRD = vivtest.GUEST / "vmlinuz", vivtest.GUEST / "tiny.cpio.gz"
LINE = "console=ttyS0 viv.run=true"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Loaders(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="viv-")
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)

    def start(self, *options, memory="512M"):
        guest, look = screen.start(self, self.dir, *[str(o) for o in options], memory=memory)
        return guest, look

    def boots(self, guest):
        guest.expect("BOOTED")
        self.assertEqual(guest.wait(), 0)

    def test_isolinux_from_a_medium(self):
        media.need("xorriso")
        tree = self.dir / "iso"
        tree.mkdir()
        shutil.copy(media.package("isolinux") / "usr/lib/ISOLINUX/isolinux.bin", tree)
        shutil.copy(media.package("syslinux-common") / "usr/lib/syslinux/modules/bios/ldlinux.c32", tree)
        shutil.copy(KERNEL, tree / "linux")
        shutil.copy(INITRD, tree / "initrd")
        (tree / "isolinux.cfg").write_text(f"SERIAL 0 115200\nPROMPT 1\nLABEL tiny\nLINUX linux\nINITRD initrd\nAPPEND {LINE}\n")
        media.run("xorriso", "-as", "mkisofs", "-quiet", "-o", self.dir / "disc.iso", "-b", "isolinux.bin", "-c", "boot.cat",
                  "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", tree)
        guest, _ = self.start("--firmware", "bios", "--cdrom", self.dir / "disc.iso")
        guest.expect(r"boot: ")
        guest.send("tiny\r")
        self.boots(guest)

    def test_ipxe_from_a_medium_boots_a_kernel_over_http(self):
        web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=vivtest.GUEST))
        self.addCleanup(web.server_close)
        self.addCleanup(web.shutdown)
        threading.Thread(target=web.serve_forever, daemon=True).start()
        url = f"http://10.0.2.2:{web.server_address[1]}"
        guest, look = self.start("--firmware", "bios", "--cdrom", media.package("ipxe") / "usr/lib/ipxe/ipxe.iso", "--nic", "user")
        look.expect(r"Press Ctrl-B|Ctrl-B for")
        look.keys("ctrl-b")
        look.expect(r"^iPXE>")
        look.type("dhcp")
        look.expect(r"(?s)Configuring.* ok.*\niPXE>")
        look.type(f"kernel {url}/vmlinuz {LINE}")
        look.expect(r"(?s)vmlinuz\.\.\. ok")
        look.type(f"initrd {url}/tiny.cpio.gz")
        look.expect(r"(?s)tiny\.cpio\.gz\.\.\. ok")
        look.type("boot")
        self.boots(guest)

    def test_systemd_boot_by_uefi(self):
        loader = media.package("systemd-boot-efi") / "usr/lib/systemd/boot/efi/systemd-bootx64.efi"
        (self.dir / "loader.conf").write_text("timeout 0\ndefault tiny.conf\n")
        (self.dir / "tiny.conf").write_text(f"title tiny\nlinux /linux\ninitrd /initrd\noptions {LINE}\n")
        media.esp(self.dir / "esp", 64 << 20, {
            "EFI/BOOT/BOOTX64.EFI": loader, "loader/loader.conf": self.dir / "loader.conf",
            "loader/entries/tiny.conf": self.dir / "tiny.conf", "linux": KERNEL, "initrd": INITRD})
        guest, _ = self.start("--firmware", "uefi", "--disk", self.dir / "esp")
        self.boots(guest)

    def syslinux(self, loader):
        """A file system for syslinux with a menu of one entry."""
        (self.dir / "syslinux.cfg").write_text(
            f"SERIAL 0 115200\nDEFAULT tiny\nPROMPT 0\nLABEL tiny\nLINUX /linux\nINITRD /initrd\nAPPEND {LINE}\n")
        media.esp(self.dir / "disk", 64 << 20, loader | {
            "syslinux.cfg": self.dir / "syslinux.cfg", "linux": KERNEL, "initrd": INITRD})
        return self.dir / "disk"

    def test_syslinux_on_a_disk_by_bios(self):
        """Its boot sector is put before the first FAT, as its installer does; its file is read by name."""
        tool = media.package("syslinux") / "usr/bin/syslinux"
        modules = media.package("syslinux-common") / "usr/lib/syslinux/modules/bios"
        disk = self.syslinux({"ldlinux.c32": modules / "ldlinux.c32"})
        media.run(tool, "--install", disk)
        guest, _ = self.start("--firmware", "bios", "--disk", disk)
        self.boots(guest)

    def test_syslinux_by_uefi(self):
        efi = media.package("syslinux-efi") / "usr/lib/SYSLINUX.EFI/efi64/syslinux.efi"
        modules = media.package("syslinux-common") / "usr/lib/syslinux/modules/efi64"
        disk = self.syslinux({"EFI/BOOT/BOOTX64.EFI": efi, "EFI/BOOT/ldlinux.e64": modules / "ldlinux.e64"})
        guest, _ = self.start("--firmware", "uefi", "--disk", disk)
        self.boots(guest)

    def test_refind_by_uefi(self):
        folder = media.package("refind") / "usr/share/refind/refind"
        (self.dir / "refind.conf").write_text(
            "timeout 1\ntextonly\nscanfor manual\nmenuentry tiny {\n    loader /linux\n    initrd /initrd\n"
            f'    options "{LINE}"\n}}\n')
        media.esp(self.dir / "esp", 64 << 20, {
            "EFI/BOOT/BOOTX64.EFI": folder / "refind_x64.efi", "EFI/BOOT/refind.conf": self.dir / "refind.conf",
            "linux": KERNEL, "initrd": INITRD})
        guest, _ = self.start("--firmware", "uefi", "--disk", self.dir / "esp")
        self.boots(guest)

    def test_u_boot_as_firmware(self):
        guest, _ = self.start("--firmware", media.package("u-boot-qemu") / "usr/lib/u-boot/qemu-x86_64/u-boot.rom")
        guest.expect(r"U-Boot 2023\.01")
        guest.expect(r"Hit any key")
        guest.send("\r")
        guest.expect(r"=> ")
        guest.send("pci\r")
        guest.expect(r"00\.00\.00 +0x8086 +0x29c0")

    def test_xen_with_linux_as_its_first_domain(self):
        xen = media.one(media.package("xen-hypervisor-4.17-amd64") / "boot", "xen-*-amd64.gz")
        linux = media.one(media.package("linux-image-amd64*") / "boot", "vmlinuz-*")
        guest, _ = self.start("--kernel", xen, "--append", "console=com1 com1=115200,8n1 dom0_mem=512M", "--cpus", "2",
                              "--initrd", f"{linux} console=hvc0 viv.run=cat\\040/sys/hypervisor/type;nproc",
                              "--initrd", INITRD, memory="1G")
        guest.expect(r"Xen version 4\.17")
        guest.expect(r"BOOTED[^\n]*\nxen\n2\nEXIT 0")
        guest.expect(r"Entering ACPI S5 state")
        self.assertEqual(guest.wait(), 0)

    def test_gnu_mach_looks_for_its_modules(self):
        mach = media.one(media.package("gnumach-image-1.8-486") / "boot", "gnumach-*.gz")
        guest, _ = self.start("--kernel", mach, "--append", "console=com0")
        guest.expect(r"GNU Mach 1\.8")
        guest.expect(r"No bootstrap code loaded")

    def test_a_game_draws_into_the_memory_of_the_screen(self):
        game = media.one(media.package("grub-invaders") / "boot", "invaders.exec")
        _, look = self.start("--kernel", game)
        look.keys("enter")
        look.expect(r"-.- +-.- +-.- +-.-")  # the star is of a font of our own


if __name__ == "__main__":
    vivtest.tap.main()

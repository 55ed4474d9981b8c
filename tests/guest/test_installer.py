#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# run: long
"""Debian's installer as it is in its package: what a person sees of it, and Debian 13 installed by it unattended into
an empty disk, with packages from a mirror on the host; the result starts by its own boot loader."""
import initrd
import installed
import installer_mirror
import media
import vivtest

PACKAGE = "debian-installer-12-netboot-amd64"
IMAGES = "usr/lib/debian-installer/images/{}/amd64/text/debian-installer/amd64"
# What the person at the installer would have answered.
ANSWERS = """\
d-i debian-installer/locale string en_US.UTF-8
d-i keyboard-configuration/xkb-keymap select us
d-i netcfg/choose_interface select auto
d-i netcfg/get_hostname string installed
d-i netcfg/get_domain string example
d-i mirror/country string manual
d-i mirror/protocol string http
d-i mirror/http/hostname string 10.0.2.2:{port}
d-i mirror/http/directory string /debian
d-i mirror/http/proxy string
d-i mirror/udeb/suite string {udebs}
d-i apt-setup/services-select multiselect
d-i passwd/make-user boolean false
d-i passwd/root-password password vivarium
d-i passwd/root-password-again password vivarium
d-i clock-setup/utc boolean true
d-i clock-setup/ntp boolean false
d-i time/zone string UTC
d-i partman-auto/method string regular
d-i partman-auto/choose_recipe select atomic
d-i partman-partitioning/confirm_write_new_label boolean true
d-i partman/choose_partition select finish
d-i partman/confirm boolean true
d-i partman/confirm_nooverwrite boolean true
d-i base-installer/install-recommends boolean false
d-i base-installer/kernel/image string linux-image-amd64
d-i pkgsel/upgrade select none
tasksel tasksel/first multiselect
popularity-contest popularity-contest/participate boolean false
d-i grub-installer/only_debian boolean true
d-i grub-installer/bootdev string default
d-i finish-install/reboot_in_progress note
d-i debian-installer/exit/poweroff boolean true
"""
MENU = """set timeout=0
menuentry Install {
    linux /linux auto=true priority=critical DEBIAN_FRONTEND=text console=ttyS0 --- console=ttyS0
    initrd /initrd.gz
}
"""
ASKS = """set timeout=0
menuentry Install {
    linux /linux priority=low DEBIAN_FRONTEND=text console=ttyS0 --- console=ttyS0
    initrd /initrd.gz
}
"""


class Dialogs(installed.Case):
    """What a person at the serial console sees of the installer as it is in the package, from a medium made of it."""

    def answer(self, firmware, *options):
        guest = self.start(firmware, "--disk", f"{self.disk},cache=unsafe", "--boot", "order=dc", "--nic", "user", *options)
        guest.expect(r"Debian installer main menu")
        guest.expect(r"(\d+): Choose language")
        guest.expect(r"Prompt: '\?' for help")
        guest.send_line("1")
        guest.expect(r"Choose the language to be used for the installation process")
        guest.expect(r"(\d+): English")
        guest.expect(r"Prompt: '\?' for help")
        guest.send_line("\n")

    def test_by_grub_and_bios(self):
        self.from_iso("bios")

    def test_by_grub_and_uefi(self):
        self.from_iso("uefi")

    def from_iso(self, firmware):
        files = media.package(PACKAGE) / IMAGES.format(12)
        iso = media.rescue_iso(self.dir, ASKS, {"linux": files / "linux", "initrd.gz": files / "initrd.gz"})
        self.answer(firmware, "--cdrom", str(iso))


class Installer(installed.Case):
    RELEASE, VERSION = "trixie", 13

    def setUp(self):
        super().setUp()
        package = media.package(f"debian-installer-{self.VERSION}-netboot-amd64", release=self.RELEASE)
        self.files = package / IMAGES.format(self.VERSION)

    def medium(self, answering):
        """An ISO of the package's kernel and initrd, and what answers the installer's questions."""
        (self.dir / "preseed.cfg").write_text(ANSWERS.format(port=answering.port, udebs=installer_mirror.SUITE))
        more = {"preseed.cfg": self.dir / "preseed.cfg", "usr/share/keyrings/archive.gpg": answering.keyring}
        initrd.with_tree(more, self.dir / "initrd.gz", self.files / "initrd.gz")
        return media.rescue_iso(self.dir, MENU, {"linux": self.files / "linux", "initrd.gz": self.dir / "initrd.gz"})

    def install(self, firmware):
        answering = installer_mirror.InstallerMirror(self.RELEASE, self.files / "initrd.gz")
        self.addCleanup(answering.close)
        guest = self.start(firmware, "--disk", f"{self.disk},cache=unsafe", "--cdrom", str(self.medium(answering)),
                           "--boot", "order=dc", "--nic", "user")
        # Questions of lower priority are not asked, and each of the others has its answer: one more is a failure.
        found = guest.expect(r"reboot: Power down", r"Prompt: '\?' for help", timeout=1.5 * installed.HOUR)
        if found.re.pattern != r"reboot: Power down":
            if lacking := [p for p in answering.failed if p.endswith(".deb") or p.endswith(".udeb")]:
                self.skipTest(f"it began, but the host's mirror lacks parts of {self.RELEASE}: {lacking[0]}")
            self.fail(f"the installer asks: {guest.console[-2000:]}")
        self.assertEqual(guest.wait(), 0)

    def test_by_bios(self):
        self.install("bios")
        self.starts("bios", "virtio")
        self.starts("bios", "sata")

    def test_by_uefi(self):
        self.install("uefi")
        self.starts("uefi", "virtio")


if __name__ == "__main__":
    vivtest.tap.main()

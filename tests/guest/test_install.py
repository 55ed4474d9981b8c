#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# run: long
"""Debian is installed into an empty disk from inside of a guest, with packages from a mirror on the host, and the
result starts by its own boot loader: Debian 12 by debootstrap, as one does by hand, Debian 13 by Debian's installer."""
import os
import pathlib
import subprocess
import tempfile
import time
import unittest

import initrd
import installer_mirror
import media
import mirror
import vivtest

PACKAGE = "debian-installer-12-netboot-amd64"
IMAGES = "usr/lib/debian-installer/images/{}/amd64/text/debian-installer/amd64"
HOUR = 3600
BY_HAND = """\
set -e
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
mirror=http://10.0.2.2:{port}/debian
echo "deb $mirror bookworm main" >/etc/apt/sources.list
rm -f /etc/apt/sources.list.d/*
apt-get -q update
apt-get -q install -y --no-install-recommends debootstrap fdisk dosfstools
sfdisk -q /dev/vdb <<END
label: {label}
{partitions}
END
udevadm settle
mkfs.ext4 -q /dev/vdb2
mount /dev/vdb2 /mnt
[ {firmware} = bios ] || {{ mkfs.vfat /dev/vdb1; mkdir -p /mnt/boot/efi; mount /dev/vdb1 /mnt/boot/efi; }}
{fill}
echo "UUID=$(blkid -s UUID -o value /dev/vdb2) / ext4 errors=remount-ro 0 1" >/mnt/etc/fstab
echo installed >/mnt/etc/hostname
echo "127.0.1.1 installed" >>/mnt/etc/hosts
mkdir -p /mnt/etc/default/grub.d
printf 'GRUB_TIMEOUT=1\\nGRUB_CMDLINE_LINUX="console=ttyS0"\\n' >/mnt/etc/default/grub.d/serial.cfg
for f in dev proc sys; do mount --rbind /$f /mnt/$f; done
chroot /mnt apt-get -q install -y --no-install-recommends {packages}
echo root:vivarium | chroot /mnt chpasswd
chroot /mnt grub-install {where}
chroot /mnt update-grub
mount --make-rslave /mnt/dev; mount --make-rslave /mnt/proc; mount --make-rslave /mnt/sys
umount -R /mnt
"""
# A new system with the generic kernel, and a copy of the running one.
KINDS = {
    "bios": {"label": "dos", "partitions": "size=100M, type=83\ntype=83, bootable", "where": "/dev/vdb",
             "fill": "debootstrap --variant=minbase --include=systemd-sysv,udev,dbus,login,kmod,procps,initramfs-tools,"
                     "zstd bookworm /mnt $mirror",
             "packages": "linux-image-amd64 grub-pc"},
    "uefi": {"label": "gpt", "partitions": "size=100M, type=U\ntype=L", "where": "",
             "fill": "cp -ax /. /mnt", "packages": "grub-efi-amd64 efibootmgr"},
}
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


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(dir=vivtest.GUEST, prefix="test-")
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)
        self.disk = self.dir / "new.raw"
        with open(self.disk, "wb") as f:
            f.truncate(4 << 30)

    def start(self, firmware, *options):
        media.need(media.FIRMWARE[firmware])
        if firmware == "uefi":
            options += ("--uefi-vars", str(self.dir / "vars"))
        log = os.environ.get("VIV_GUEST_LOG")  # a folder to keep the console in
        guest = vivtest.Guest([vivtest.VM, "--name", "pc", "--cpu", vivtest.CPU, "--memory", "1G", "--firmware",
                               firmware, "--serial", "stdio", *options], timeout=HOUR,
                              log=log and f"{log}/{firmware}-{time.time():.0f}")
        self.addCleanup(guest.close)
        return guest

    def starts(self, firmware, bus):
        """The system on the new disk, on a bus that need not be that of its installation."""
        guest = self.start(firmware, "--disk", f"{self.disk},bus={bus}", "--nic", "user")
        guest.login()
        self.assertRegex(guest.check("findmnt -no SOURCE,FSTYPE /"), r"^/dev/(vda|sda)\d +ext4")
        self.assertEqual(guest.check("hostname").strip(), "installed")
        self.assertEqual(guest.check("dpkg --audit"), "")
        guest.run("systemctl is-system-running --wait")
        self.assertEqual(guest.check("systemctl --failed --plain --no-legend"), "")
        self.assertEqual(guest.power_off(), 0)


class ByHand(Case):
    def setUp(self):
        super().setUp()
        self.mirror = mirror.Mirror()
        self.addCleanup(self.mirror.close)

    def install(self, firmware):
        old = media.partitioned(self.dir, vivtest.GUEST / "debian12.raw", media.DEBIAN)
        guest = self.start(firmware, "--disk", str(old), "--disk", f"{self.disk},cache=unsafe", "--nic", "user")
        guest.login()
        guest.check("n=60; until ip -4 -br addr show scope global | grep -q '10\\.'; do sleep 1; "
                    "[ $((n -= 1)) -gt 0 ] || exit 1; done")
        guest.check("cat >/root/install <<'X'\n" +
                    BY_HAND.format(port=self.mirror.port, firmware=firmware, **KINDS[firmware]) + "X")
        try:
            text = guest.check("sh /root/install </dev/null 2>&1")
        except vivtest.GuestError as e:
            raise vivtest.GuestError(f"{e}\nthe mirror has not: {self.mirror.failed[-5:]}") from None
        self.assertRegex(text, r"Installation finished\. No error reported\.")
        self.assertGreater(self.mirror.served, 5)
        self.assertEqual(guest.power_off(), 0)
        subprocess.run(["rm", str(old)], check=True)

    def test_by_bios(self):
        self.install("bios")
        self.starts("bios", "virtio")
        self.starts("bios", "sata")

    def test_by_uefi_whose_variables_name_the_boot_loader(self):
        self.install("uefi")
        self.starts("uefi", "virtio")


ASKS = """set timeout=0
menuentry Install {
    linux /linux priority=low DEBIAN_FRONTEND=text console=ttyS0 --- console=ttyS0
    initrd /initrd.gz
}
"""


class Dialogs(Case):
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


class Installer(Case):
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
        found = guest.expect(r"reboot: Power down", r"Prompt: '\?' for help")
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

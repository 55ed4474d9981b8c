#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# run: long
"""Debian is installed by debootstrap, as one does by hand, from inside of a guest into an empty disk, with packages
from a mirror on the host, and the result starts by its own boot loader."""
import subprocess

import installed
import media
import mirror
import vivtest

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


class ByHand(installed.Case):
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


if __name__ == "__main__":
    vivtest.tap.main()

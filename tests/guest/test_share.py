#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A shared folder in the busybox guest, by Linux' own driver: files of both sides, owners, borders, a snapshot."""
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

import initrd
import vivtest

MODULES = ("fs/fuse/fuse.ko", "fs/fuse/virtiofs.ko")
MOUNT = """
for m in fuse virtiofs; do insmod /m/$m.ko || exit 9; done
mkdir -p /s; mount -t virtiofs work /s || exit 9
"""


def take_module(name, to):
    """A module of the demo guest's kernel, out of its image."""
    release = re.search(rb"\d+\.\d+\.\d+-\d+-cloud-amd64", subprocess.run(
        ["debugfs", "-R", "ls -p /lib/modules", vivtest.GUEST / "debian12.raw"], stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, check=True).stdout).group().decode()
    subprocess.run(["debugfs", "-R", f"dump /lib/modules/{release}/kernel/{name} {to}",
                    vivtest.GUEST / "debian12.raw"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    assert os.path.getsize(to) > 1000, name


class Share(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.dir = pathlib.Path(folder.name)
        files = {}
        for name in MODULES:
            file = cls.dir / name.split("/")[-1]
            take_module(name, file)
            files["m/" + file.name] = file
        cls.initrd = initrd.with_tree(files, cls.dir / "initrd")

    def setUp(self):
        self.shared = pathlib.Path(tempfile.mkdtemp(dir=self.dir))

    def start(self, command, *options, share=None):
        return vivtest.tiny(self, MOUNT + command, "--initrd", self.initrd, "--share",
                            share or f"work={self.shared}", *options, append="viv.modules=virtio_pci")

    def run_guest(self, command, *options, share=None):
        guest = self.start(command, *options, share=share)
        text = guest.expect(r"(?s)BOOTED\n(.*)EXIT (\d+)\n")
        self.assertEqual(guest.wait(), 0)
        self.assertEqual(text.group(2), "0", text.group(1))
        return text.group(1)

    def test_a_tree_of_both_sides_is_the_same_on_both(self):
        host = self.shared / "host"
        (host / "deep/er").mkdir(parents=True)
        for i in range(200):
            (host / f"deep/file{i}").write_bytes(os.urandom(i * 97))
        (host / "big").write_bytes(os.urandom(3 << 20))
        (host / "deep/er/link").symlink_to("../file7")
        wanted = subprocess.run("find . -type f | sort | xargs md5sum", shell=True, cwd=host,
                                stdout=subprocess.PIPE, check=True).stdout.decode()
        text = self.run_guest("""
            cd /s/host; echo SUMS; find . -type f | sort | xargs md5sum; echo END
            cp -a . /s/guest && cd /s/guest && rm deep/file1 && mv deep/file2 moved && echo more >>deep/file0
            mkdir -p a/b; ln moved a/b/hard; ln -s nowhere a/dangling; mkfifo a/fifo
            umount /s && mount -t virtiofs work /s && cat /s/guest/a/b/hard | md5sum
            stat -c %h /s/guest/moved; df /s | tail -n1 | wc -w; sync
        """)
        self.assertEqual(re.search(r"(?s)SUMS\n(.*)END\n", text).group(1), wanted)
        guest = self.shared / "guest"
        self.assertEqual((guest / "deep/file0").read_text(), "more\n")
        self.assertFalse((guest / "deep/file1").exists())
        self.assertEqual((guest / "moved").read_bytes(), (host / "deep/file2").read_bytes())
        self.assertEqual((guest / "a/b/hard").stat().st_nlink, 2)
        self.assertEqual(os.readlink(guest / "deep/er/link"), "../file7")
        self.assertEqual((guest / "big").read_bytes(), (host / "big").read_bytes())
        for i in range(3, 200):
            self.assertEqual((guest / f"deep/file{i}").read_bytes(), (host / f"deep/file{i}").read_bytes())
        self.assertRegex(text, r"\n2\n6\n")

    def test_owners_hold_in_the_guest_and_borders_hold_for_it(self):
        (self.dir / "secret").write_text("secret")
        (self.shared / "up").symlink_to("..")
        (self.shared / "out").symlink_to(self.dir / "secret")
        (self.shared / "plain").write_text("plain")
        text = self.run_guest("""
            cd /s; stat -c %u:%g:%a plain
            echo x >f; chown 1000:1001 f; chmod 4711 f; stat -c %u:%g:%a f
            echo y >>f; stat -c %a f # root may
            cat out 2>&1; cat up/secret 2>&1; cat ../secret 2>&1; ls -a /s/.. | grep -c secret
            mknod null c 1 3 2>&1; cat no 2>&1
            chmod 600 plain; stat -c %a plain; touch -d @1234567890 plain; stat -c %Y plain
            mkdir sticky; chmod 1777 sticky; stat -c %a sticky; true
        """)
        self.assertIn("0:0:644\n1000:1001:4711\n4711\n", text)
        self.assertEqual(text.count("No such file"), 4, text)
        self.assertIn("not permitted", text)
        self.assertNotIn("secret\n", text.replace("/secret", ""))
        self.assertIn("600\n1234567890\n1777\n", text)
        f = (self.shared / "f").stat()
        self.assertEqual((f.st_uid, f.st_mode & 0o7777), (os.geteuid(), 0o711))
        self.assertEqual((self.shared / "plain").stat().st_mtime, 1234567890)

    def test_a_read_only_share_can_only_be_read(self):
        (self.shared / "f").write_text("text")
        text = self.run_guest("cd /s; cat f; echo x >f; rm f; touch g; mkdir d; ls; true", share=f"work={self.shared},ro")
        self.assertEqual(os.listdir(self.shared), ["f"])
        self.assertEqual((self.shared / "f").read_text(), "text")
        self.assertEqual(text.count("Read-only file system"), 4, text)

    def test_a_restored_guest_goes_on_with_what_it_had_open(self):
        control, folder = self.dir / "ctl", self.dir / "snapshot"
        (self.shared / "gone").write_text("gone")
        command = """
            exec 3>>/s/log 4</s/gone; mkdir /s/d; cd /s/d; echo before >&3; echo READY; read word
            echo $word >&3; pwd; cat <&4 2>&1; echo here >new; ls /s; echo DONE; true
        """
        guest = self.start(command, "--control", f"unix:{control}")
        guest.expect("READY\n")
        tool = str(vivtest.ROOT / "build/viv-ctl")
        subprocess.run([tool, control, "snapshot", folder, "--then", "quit"], check=True, stdout=subprocess.DEVNULL)
        self.assertEqual(guest.wait(), 0)
        (self.shared / "gone").unlink()
        guest = vivtest.Guest([vivtest.VM, "--restore", str(folder), "--serial", "stdio", "--cpu", vivtest.CPU])
        self.addCleanup(guest.close)
        guest.send("after\n")
        text = guest.expect(r"(?s)(.*)DONE\n").group(1)
        guest.expect("EXIT 0\n")
        self.assertEqual(guest.wait(), 0)
        self.assertEqual((self.shared / "log").read_text(), "before\nafter\n")
        self.assertEqual((self.shared / "d/new").read_text(), "here\n")
        self.assertIn("tale", text)


if __name__ == "__main__":
    vivtest.tap.main()

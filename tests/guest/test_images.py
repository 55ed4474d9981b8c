#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Images and what guests are told: seed disks of machines, looked at by mtools and by a Debian guest; import and
export of disks, with qemu-img as a second opinion."""
import hashlib
import json
import os
import subprocess
import unittest

import manager
import mini
import test_manager
import vivtest

LIMIT = manager.LIMIT
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDe \"quoted\": 'it' # mine"


class Seed(test_manager.Case):
    def seed(self, name, file):
        path = self.m.home / "machines" / self.api.vm(name)["id"] / "seed.img"
        return subprocess.run(["mtype", "-i", path, f"::{file}"], check=True, capture_output=True, text=True).stdout

    def test_flags_become_a_disk_that_tells_the_guest_who_it_is(self):
        self.begin("tiny")
        key = self.m.home / "key.pub"
        key.write_text(KEY + "\n")
        data = self.m.home / "data"
        data.write_text("#cloud-config\npackages: [tree]\n")
        words = ["--image", "tiny", "--memory", "16M", "--network", "none"]
        self.m.viv("create", "web", *words, "--ssh-key", str(key), "--user", "ann", "--hostname", "www.example.org",
                   "--start")
        config = self.seed("web", "user-data")
        self.assertTrue(config.startswith("#cloud-config\n"))
        config = json.loads(config.split("\n", 1)[1])
        self.assertEqual((config["users"][0]["name"], config["users"][0]["ssh_authorized_keys"]), ("ann", [KEY]))
        meta = json.loads(self.seed("web", "meta-data"))
        self.assertEqual(meta, {"instance-id": self.api.vm("web")["id"], "local-hostname": "www.example.org"})
        pid = self.api.vm("web")["status"]["pid"]
        with open(f"/proc/{pid}/cmdline", encoding="ascii") as f:
            self.assertIn("seed.img,format=raw,readonly", f.read().split("\0"))
        network = self.m.home / "network"
        network.write_text("version: 2\nethernets: {eth0: {addresses: [10.0.2.77/24]}}\n")
        self.m.viv("create", "two", *words, "--user-data", str(data), "--network-config", str(network), "--start")
        self.assertEqual((self.seed("two", "user-data"), self.seed("two", "network-config")),
                         (data.read_text(), network.read_text()))
        self.assertNotEqual(json.loads(self.seed("two", "meta-data"))["instance-id"], meta["instance-id"])
        self.m.viv("create", "plain", *words, "--start")
        self.assertFalse((self.m.home / "machines" / self.api.vm("plain")["id"] / "seed.img").exists())

    def test_what_cannot_be_is_refused_with_the_remedy(self):
        self.begin("tiny")
        key = self.m.home / "key"
        key.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nsecret\n")
        words = ["create", "web", "--image", "tiny", "--ssh-key"]
        self.assertIn(".pub", self.m.viv(*words, str(key), code=2))
        self.assertIn("cannot be read", self.m.viv(*words, "/nonexistent", code=2))
        self.assertIn("cannot be read", self.m.viv(*words, str(self.m.home), code=2))
        key.write_bytes(b"x" * 20000)
        self.assertIn("longer than", self.m.viv(*words, str(key), code=2))
        key.write_bytes(b"ssh-rsa \0")
        self.assertIn("not text", self.m.viv(*words, str(key), code=2))
        spec = {"image": "tiny"}
        vms = "/v1/vms"
        self.fails("invalid", "spec.user", "POST", vms, {"name": "web", "spec": {**spec, "user": "a b"}})
        self.fails("invalid", "spec.hostname", "POST", vms, {"name": "web", "spec": {**spec, "hostname": "-"}})
        self.fails("invalid", "spec.ssh_key", "POST", vms, {"name": "web", "spec": {**spec, "ssh_key": "nonsense"}})
        self.fails("invalid", "spec.user_data", "POST", vms, {"name": "web", "spec": {**spec, "user_data": "\x1b["}})
        self.fails("invalid", "spec.user_data", "POST", vms,
                   {"name": "web", "spec": {**spec, "user": "ann", "user_data": "Content-Type: multipart/mixed\n"}})

    def test_debian_mounts_the_disk(self):
        self.begin()
        self.m.wait_for_image("debian", vivtest.GUEST)
        self.m.create("web", image="debian", memory=512 << 20, append="init=/bin/sh", hostname="web", user="ann",
                      power="on")
        self.api.settled("web")
        console = self.console("web")
        self.until(console, b"# ")
        console.sendall(b"modprobe vfat; mount -o ro LABEL=CIDATA /mnt && ls -1 /mnt && cat /mnt/meta-data; echo E''ND\n")
        said = self.until(console, b"END").decode()
        for word in ("user-data", "meta-data", self.api.vm("web")["id"]):
            self.assertIn(word, said)


class Transfer(test_manager.Case):
    def disk(self, name="disk", size=8 << 20):
        """A raw disk with data, holes, and something at its end."""
        path = self.m.home / name
        with open(path, "wb") as f:
            f.write(os.urandom(200000))
            f.seek(3 << 20)
            f.write(b"middle" * 1000)
            f.seek(size - 512)
            f.write(os.urandom(512))
        return path

    def left(self):
        """What there is in the library, and unfinished files of exports."""
        return ([str(p) for p in (self.m.home / "images").iterdir()] + [str(p) for p in self.m.home.glob("*.part")])

    def sum(self, path):
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def test_a_disk_comes_back_as_it_went_in(self):
        self.begin()
        disk = self.disk()
        self.m.viv("image", "import", "mine", "disk", cwd=self.m.home)
        image = self.api.get("/v1/images/mine")
        self.assertEqual((image["status"]["sha256"], image["status"]["size"]), (self.sum(disk), 8 << 20))
        self.assertLess(image["status"]["used"], 1 << 20)  # holes stay holes
        self.assertIn(self.sum(disk), self.m.viv("image", "info", "mine"))
        self.m.viv("image", "export", "mine", "out", cwd=self.m.home)
        self.assertEqual(self.sum(self.m.home / "out"), self.sum(disk))
        for fmt in ("qcow2", "vmdk", "vhd", "vhdx", "vdi"):
            out = self.m.home / f"out.{fmt}"
            self.m.viv("image", "export", "mine", str(out), "--format", fmt)
            qemu = "vpc" if fmt == "vhd" else fmt
            subprocess.run(["qemu-img", "compare", "-q", "-f", "raw", "-F", qemu, disk, out], check=True)
            self.m.viv("image", "import", f"from-{fmt}", str(out))
            again = self.api.get(f"/v1/images/from-{fmt}")["status"]
            self.assertEqual((again["sha256"], again["title"]), (self.sum(disk), f"imported from out.{fmt} ({fmt})"))
        self.assertEqual([p for p in self.left() if p.endswith(".part")], [])

    def test_an_ova_is_imported(self):
        self.begin()
        disk = self.disk()
        vmdk = self.m.home / "x.vmdk"
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", disk, vmdk],
                       check=True)
        (self.m.home / "x.ovf").write_text("<Envelope/>")
        subprocess.run(["tar", "--format=ustar", "-cf", "it's \"x\".ova", "x.ovf", "x.vmdk"], check=True, cwd=self.m.home)
        self.m.viv("image", "import", "mine", "it's \"x\".ova", cwd=self.m.home)
        self.assertEqual(self.api.get("/v1/images/mine")["status"]["sha256"], self.sum(disk))

    def refused(self, file, word, *flags):
        said = self.m.viv("image", "import", "bad", str(file), *flags, code=1)
        self.assertIn(word, said)
        self.assertEqual(self.api.get("/v1/images/bad")["status"]["state"], "failed")
        self.m.wait_for(lambda: not self.left(), "nothing left")

    def test_hostile_files_are_refused_and_leave_nothing(self):
        self.begin()
        home = self.m.home
        secret = self.disk("secret")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", home / "top.qcow2"], check=True)
        self.refused(home / "top.qcow2", "differs from another image")
        subprocess.run(["qemu-img", "create", "-q", "-f", "vmdk", home / "base.vmdk", "8M"], check=True)
        subprocess.run(["qemu-img", "create", "-q", "-f", "vmdk", "-b", home / "base.vmdk", "-F", "vmdk", home / "top.vmdk"],
                       check=True)
        self.refused(home / "top.vmdk", "refers to other files")
        text = home / "text.vmdk"
        text.write_text('# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
                        f'RW 16384 FLAT "{secret}" 0\n' + "\n" * 512)
        self.refused(text, "refers to other files")
        hollow = bytearray((home / "base.vmdk").read_bytes())
        hollow[12:20] = bytes(8)
        (home / "hollow.vmdk").write_bytes(hollow)
        self.refused(home / "hollow.vmdk", "refers to other files")
        (home / "odd").write_bytes(b"hello")
        self.refused(home / "odd", "no disk image")
        self.refused(home / "odd", "qcow2", "--format", "qcow2")
        self.refused(home / "odd", "qemu-img", "--format", "vdi")
        (home / "none").write_bytes(b"")
        self.refused(home / "none", "empty")
        (home / "cut.qcow2").write_bytes(b"QFI\xfb" + os.urandom(2000))
        self.refused(home / "cut.qcow2", "cut.qcow2")
        (home / "big.ova").write_bytes(b"x.vmdk".ljust(124, b"\0") + b"77777777777\0" + bytes(121) + b"ustar" + bytes(250))
        self.refused(home / "big.ova", "no tar archive")
        os.mkfifo(home / "pipe")
        self.refused(home / "pipe", "is no file")
        self.refused(home / "absent", "cannot be read")
        self.refused("/dev/zero", "is no file")

    def test_a_full_disk_and_a_missing_tool_are_told_and_leave_nothing(self):
        self.begin()
        disk = self.disk()
        self.m.viv("image", "import", "mine", str(disk))
        if os.geteuid() == 0 and os.path.ismount("/proc"):
            small = self.m.home / "small"
            small.mkdir()
            if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "x", small], check=False,
                              capture_output=True).returncode == 0:
                self.addCleanup(subprocess.run, ["umount", small], check=True)
                for fmt in ("raw", "qcow2", "vdi"):
                    said = self.m.viv("image", "export", "mine", str(small / "out"), "--format", fmt, code=1)
                    self.assertIn("No space left", said)
                    self.assertEqual(os.listdir(small), [])
        self.assertIn("already", self.m.viv("image", "export", "mine", str(disk), code=3))
        self.assertIn("cannot be", self.m.viv("image", "export", "mine", "/nonexistent/x", "--format", "qcow2", code=1))
        self.m.stop()
        self.m.env["PATH"] = "/nonexistent"
        self.m.start()
        self.assertIn("qemu-utils", self.m.viv("image", "export", "mine", str(self.m.home / "x"), "--format", "vdi", code=1))
        self.assertEqual([p for p in self.left() if p.endswith(".part")], [])

    def test_an_import_is_cancelled_and_one_that_was_cut_off_is_done_again(self):
        self.begin()
        large = self.m.home / "large"
        with open(large, "wb") as f:
            f.truncate(64 << 30)  # its checksum alone takes minutes
        image = self.api.post("/v1/images", {"name": "large", "spec": {"file": str(large)}})
        target = f"/v1/jobs/{image['status']['job']}"
        self.m.wait_for(lambda: self.api.get(target)["status"].get("stage") == "computing its checksum", "the stage")
        self.m.kill()
        self.m.start()
        self.assertEqual(self.api.get(target)["status"]["state"], "running")
        self.api.post(target + "/cancel")
        self.assertEqual(self.api.get(f"{target}/wait?timeout={LIMIT}")["status"]["state"], "cancelled")
        self.m.wait_for(lambda: not self.left(), "nothing left")

    def test_a_machine_of_an_imported_disk_boots_with_the_kernel_given(self):
        self.begin()
        disk = self.disk()
        (self.m.home / "vmlinuz").write_bytes(mini.elf(mini.STOP))
        self.m.viv("image", "import", "bare", str(disk))
        self.m.viv("create", "firm", "--image", "bare")  # without one the firmware looks at the disk
        self.m.viv("image", "import", "whole", str(disk), "--kernel", "vmlinuz", "--append", "root=/dev/vda one",
                   cwd=self.m.home)
        self.m.viv("create", "web", "--image", "whole", "--memory", "16M", "--append", "two", "--start")
        with open(f"/proc/{self.api.vm('web')['status']['pid']}/cmdline", encoding="ascii") as f:
            words = f.read().split("\0")
        self.assertIn("root=/dev/vda one two", words)
        self.assertNotIn("--initrd", words)
        self.fails("invalid", "spec.initrd", "POST", "/v1/images", {"name": "x", "spec": {"file": "/x", "initrd": "/y"}})
        self.fails("invalid", "spec.file", "POST", "/v1/images", {"name": "x", "spec": {"file": "/x", "source": "/y"}})
        self.fails("invalid", "spec.file", "POST", "/v1/images", {"name": "x", "spec": {"file": "x"}})


if __name__ == "__main__":
    vivtest.tap.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Images and what guests are told: seed disks of machines, by the API and by commands, looked at by mtools and by
a Debian guest."""
import json
import subprocess
import unittest

import manager
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
        self.assertTrue(json.loads(self.seed("web", "network-config"))["ethernets"]["all"]["dhcp4"])
        pid = self.api.vm("web")["status"]["pid"]
        with open(f"/proc/{pid}/cmdline", encoding="ascii") as f:
            self.assertIn("seed.img,format=raw,readonly", f.read().split("\0"))
        self.m.viv("create", "two", *words, "--user-data", str(data), "--start")
        self.assertEqual(self.seed("two", "user-data"), data.read_text())
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
        for word in ("user-data", "meta-data", "network-config", self.api.vm("web")["id"]):
            self.assertIn(word, said)


if __name__ == "__main__":
    vivtest.tap.main()

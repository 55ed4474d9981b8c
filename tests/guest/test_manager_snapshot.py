#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots by way of the manager: disks and memory come back, what others need stays, and a manager that
is killed in the middle goes on."""
import fcntl
import json
import os
import random
import re
import sqlite3
import struct
import subprocess
import time
import unittest

import manager
import vivtest
from test_manager_agent import WITH_AGENT, image_with_agent

LIMIT = manager.LIMIT
F_OFD_SETLK = 37  # which this Python's fcntl does not name
MODULES = "viv.modules=virtio_pci,virtio_blk,vmw_vsock_virtio_transport viv.run=viv-agent"


def image_with_disk(m):
    """A Debian that is the tiny guest with the agent, and a disk of 16 MiB."""
    image_with_agent(m)  # its parts lie in the newest folder
    source = max(m.home.glob("tmp*"), key=lambda p: p.stat().st_ctime_ns)
    (source / "tiny.cpio.gz").rename(source / "initrd.img")
    with open(source / "debian12.raw", "wb") as disk:
        disk.truncate(16 << 20)
    m.wait_for_image("debian", source)


class Machines(unittest.TestCase):
    """A manager with a machine `web` that has a disk, and what is done with machines and their disks."""

    def setUp(self):
        self.m = manager.Manager(self)
        self.api = self.m.api
        self.m.start()

    def files(self):
        folder = self.m.home / "machines" / self.id
        return sorted(p.name for p in folder.iterdir() if p.name.startswith(("disk.", "memory.")))

    def make(self, modules="", **spec):
        image_with_disk(self.m)
        append = MODULES.replace("virtio_blk", "virtio_blk" + modules)
        vm = self.m.create("web", **{"image": "debian", "memory": 128 << 20, "append": append, **spec})
        self.id = vm["id"]
        self.assertIn(self.api.settled("web")["status"]["state"], ("stopped", "running"))

    def ready(self, name="web"):
        self.m.viv("wait", name, "--for", "ready", "--timeout", str(LIMIT))

    def run_in(self, *words, name="web"):
        return self.m.viv("exec", name, "--", *words)

    def write(self, text, name="web"):
        self.run_in("sh", "-c", f"echo {text} | dd of=/dev/vda bs=512 conv=sync,notrunc 2>/dev/null; sync", name=name)

    def read(self, name="web"):
        return self.run_in("sh", "-c", "echo 3 >/proc/sys/vm/drop_caches; head -n 1 /dev/vda", name=name).strip("\0\n")

    def tidied(self, name="web"):
        self.m.wait_for(lambda: "work" not in self.api.vm(name)["status"], "the end of the work")

    def disks_become(self, count):
        """Files are joined when there is time: a while after the snapshot has gone, and not all at once."""
        self.m.wait_for(lambda: len([f for f in self.files() if f.startswith("disk.")]) == count, f"{count} files of the disk")
        self.tidied()

    def put(self, text, name="web"):
        """Into the disk of a machine that is stopped."""
        self.tidied(name)
        data = self.m.home / "data"
        data.write_bytes(text.encode().ljust(512, b"\0"))
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", f"write -q -s {data} 0 512", str(self.file_of(name))], check=True)

    def get(self, name="web"):
        self.tidied(name)
        out = self.m.home / "out.raw"

        def read():  # not while files that no snapshot needs any more are joined
            done = subprocess.run([vivtest.ROOT / "build/viv-img", "convert", "-O", "raw", str(self.file_of(name)),
                                   str(out)], capture_output=True, text=True)
            if done.returncode and not re.search("in use|does not exist", done.stderr):  # or it has just been joined
                raise AssertionError(done.stderr)
            return done.returncode == 0

        self.m.wait_for(read, "a look at the disk")
        text = out.read_bytes()[:512].strip(b"\0").decode()
        out.unlink()
        return text

    def file_of(self, name):
        """The newest file of a machine's disk."""
        with sqlite3.connect(f"file:{self.m.home}/store.db?mode=ro", uri=True) as db:
            row_id, wanted = db.execute("SELECT id, wanted FROM resource WHERE kind='vm' AND name=?", (name,)).fetchone()
        return self.m.home / "machines" / row_id / json.loads(wanted).get("disk", "disk.qcow2")


class Snapshots(Machines):
    def test_the_disk_of_a_stopped_machine_comes_back(self):
        self.make()
        self.put("one")
        self.m.viv("snapshot", "create", "web", "a")
        self.put("two")
        self.m.viv("snapshot", "create", "web", "b")
        self.put("three")
        self.assertEqual(self.m.viv("snapshot", "list", "--quiet"), "web.a\nweb.b\n")
        for name, text in (("a", "one"), ("b", "two"), ("a", "one")):
            self.m.viv("snapshot", "revert", "web", name)
            self.assertEqual(self.get(), text)
        self.put("four")
        b = self.api.get("/v1/snapshots/web.b")
        self.assertEqual(b["status"]["parent"], self.api.get("/v1/snapshots/web.a")["id"])
        # Whatever is forgotten, the machine and the other snapshot keep what they have.
        self.m.viv("snapshot", "rm", "web", "a")
        self.tidied()
        self.assertEqual(self.get(), "four")
        self.m.viv("snapshot", "revert", "web", "b")
        self.assertEqual(self.get(), "two")
        self.m.viv("snapshot", "rm", "web", "b")
        self.tidied()
        self.assertEqual(self.get(), "two")
        self.assertEqual(len(self.files()), 1)  # what no snapshot needs is joined
        self.m.viv("snapshot", "rm", "web", "b", code=4)
        self.m.viv("snapshot", "create", "web", "a")
        self.m.viv("rm", "web")
        self.assertEqual(self.api.get("/v1/snapshots")["items"], [])

    def test_a_running_machine_goes_on_where_it_was(self):
        self.make(power="on")
        self.ready()
        self.write("before")
        self.run_in("sh", "-c", "echo word >/tmp/memory")
        self.m.viv("snapshot", "create", "web", "a")
        self.assertTrue(self.api.get("/v1/snapshots/web.a")["status"]["live"])
        self.write("after")
        self.run_in("rm", "/tmp/memory")
        self.assertEqual(self.read(), "after")
        self.m.viv("snapshot", "revert", "web", "a")
        self.ready()
        self.assertEqual((self.read(), self.run_in("cat", "/tmp/memory")), ("before", "word\n"))
        # Without its memory, and then from its kernel again.
        self.write("later")
        self.m.viv("snapshot", "create", "web", "b", "--memory=false")
        self.assertNotIn("live", self.api.get("/v1/snapshots/web.b")["status"])
        self.write("last")
        self.m.viv("snapshot", "revert", "web", "b")
        self.assertEqual(self.api.settled("web")["status"]["state"], "stopped")
        self.m.viv("start", "web")
        self.ready()
        self.assertEqual(self.read(), "later")
        self.m.viv("snapshot", "rm", "web", "a")
        self.m.viv("snapshot", "rm", "web", "b")
        self.tidied()
        self.assertEqual(self.read(), "later")

    def test_nothing_is_lost_when_the_manager_is_killed(self):
        self.make()
        self.put("start")
        dice = random.Random(int(os.environ.get("VIV_STORM_SEED", "1")))
        texts, now = {}, "start"
        for i in range(12):
            if i % 3 < 2:
                target, body = "/v1/snapshots", {"name": f"web.s{i}", "spec": {"vm": "web"}}
                texts[f"web.s{i}"] = now
            else:
                name = dice.choice(sorted(texts))
                target, body, now = f"/v1/snapshots/{name}/revert", {}, texts[name]
            self.api.post(target, body)
            time.sleep(dice.random() * 0.02)
            self.m.kill()
            self.m.start()
            self.tidied()
            self.assertEqual(self.get(), now)
            if i % 3 < 2:
                now = f"text {i}"
                self.put(now)
        for name, text in texts.items():
            self.api.get(f"/v1/snapshots/{name}/wait?timeout={LIMIT}")
            self.api.post(f"/v1/snapshots/{name}/revert")
            self.api.get(f"/v1/snapshots/{name}/wait?timeout={LIMIT}")
            self.assertEqual(self.get(), text, name)

    def test_a_running_machine_survives_a_manager_that_is_killed(self):
        self.make(power="on")
        self.ready()
        self.write("start")
        pid = self.api.vm("web")["status"]["pid"]
        dice = random.Random(int(os.environ.get("VIV_STORM_SEED", "1")))
        for i in range(6):
            self.api.post("/v1/snapshots", {"name": f"web.s{i}", "spec": {"vm": "web", "memory": i % 2 == 0}})
            time.sleep(dice.random() * 0.4)
            self.m.kill()
            self.m.start()
            snapshot = self.api.get(f"/v1/snapshots/web.s{i}/wait?timeout={LIMIT}")
            self.assertEqual(snapshot["status"]["state"], "ready", snapshot)
            self.assertEqual(self.api.settled("web")["status"]["state"], "running")
            self.write(f"text{i}")
        vm = self.api.vm("web")["status"]
        self.assertEqual(vm["pid"], pid)
        self.m.viv("snapshot", "revert", "web", "s4")
        self.ready()
        self.assertEqual(self.read(), "text3")

    def test_files_are_joined_when_snapshots_go(self):
        self.make()
        for i in range(6):
            self.put(f"text {i}")
            self.m.viv("snapshot", "create", "web", f"s{i}")
        self.put("last")
        self.assertEqual(len(self.files()), 7)
        for i in (0, 3, 4):
            self.m.viv("snapshot", "rm", "web", f"s{i}")
        self.tidied()
        self.assertEqual(len(self.files()), 4)
        self.assertEqual(self.get(), "last")
        for i in (5, 1, 2):
            self.m.viv("snapshot", "revert", "web", f"s{i}")
            self.assertEqual(self.get(), f"text {i}")
            self.m.viv("snapshot", "rm", "web", f"s{i}")
            self.tidied()
            self.assertEqual(self.get(), f"text {i}")
        self.assertEqual(len(self.files()), 1)

    def test_what_could_not_be_joined_is_tried_again(self):
        self.make()
        for i in range(2):
            self.put(f"text {i}")
            self.m.viv("snapshot", "create", "web", f"s{i}")
        folder = self.m.home / "machines" / self.api.vm("web")["id"]
        with open(folder / "disk.qcow2", "rb+") as held:
            # All of it for oneself, by a lock of the open file: as long as it lasts nobody writes to the image.
            fcntl.fcntl(held, F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
            self.m.viv("snapshot", "rm", "web", "s0")
            self.m.wait_for(lambda: any(e["what"] == "merge-failed" for e in self.api.get("/v1/events")["items"]), "the failure")
            self.assertEqual(len(self.files()), 3)
        self.disks_become(2)
        self.assertEqual(self.get(), "text 1")

    def test_files_of_a_running_machine_are_joined(self):
        self.make(power="on")
        self.ready()
        for i in range(5):
            self.write(f"text{i}")
            self.m.viv("snapshot", "create", "web", f"s{i}", *(["--memory=false"] if i % 2 else []))
        self.write("last")
        for i in (0, 2, 3):
            self.m.viv("snapshot", "rm", "web", f"s{i}")
        self.disks_become(3)
        self.assertEqual(self.read(), "last")
        self.m.viv("snapshot", "revert", "web", "s4")
        self.ready()
        self.assertEqual(self.read(), "text4")
        for i in (1, 4):
            self.m.viv("snapshot", "rm", "web", f"s{i}")
        self.disks_become(1)
        self.write("end")
        self.assertEqual(self.read(), "end")
        self.m.viv("kill", "web")
        self.tidied()
        self.assertEqual(self.get().strip(), "end")

    def test_joining_survives_a_manager_that_is_killed(self):
        self.make()
        dice = random.Random(int(os.environ.get("VIV_STORM_SEED", "1")))
        texts = {}
        for i in range(12):
            texts[f"s{i}"] = f"text {i}"
            self.put(texts[f"s{i}"])
            self.m.viv("snapshot", "create", "web", f"s{i}")
        self.put("last")
        while texts:
            name = dice.choice(sorted(texts))
            del texts[name]
            self.api.delete(f"/v1/snapshots/web.{name}")
            time.sleep(dice.random() * 0.06)
            self.m.kill()
            self.m.start()
            if dice.random() < 0.5:
                self.tidied()
        self.tidied()
        self.assertEqual((self.get(), len(self.files())), ("last", 1))

    def test_what_cannot_be_is_refused(self):
        image_with_agent(self.m)
        self.m.create("web", **{**WITH_AGENT, "power": "off"})
        self.api.settled("web")
        self.assertIn("no disk", self.m.viv("snapshot", "create", "web", "a", code=3))
        self.assertIn("there is no machine", self.m.viv("snapshot", "create", "nope", "a", code=4))
        self.m.viv("snapshot", "revert", "web", "a", code=4)


if __name__ == "__main__":
    vivtest.tap.main()

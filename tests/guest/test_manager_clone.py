#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Copies of machines by way of the manager: linked, full and live clones with identities of their own, what
they share goes with the last of them, and suspended machines go on where they were."""
import os
import pathlib
import random
import time
import unittest

import manager
import mini
import vivtest
from test_manager_snapshot import Machines

LIMIT = manager.LIMIT


class Clones(Machines):
    def used(self):
        """Bytes on the disk of everything in the manager's folder, each file counted once."""
        seen = {}
        for folder, _, names in os.walk(self.m.home):
            for name in names:
                st = os.lstat(pathlib.Path(folder) / name)
                seen[st.st_ino] = st.st_blocks * 512
        return sum(seen.values())

    def leaves_nothing(self):
        """A machine goes after the answer, as its folder does."""
        def same():
            return {p.name for p in (self.m.home / "machines").iterdir()} == {vm["id"] for vm in self.api.get("/v1/vms")["items"]}
        self.m.wait_for(same, "the end of folders")

    def test_a_linked_clone_is_there_at_once_and_takes_no_room(self):
        self.m.image_with_disk(2 << 30)
        self.m.create("web", image="debian")
        self.api.settled("web")
        self.put("source", "web")
        before, begin = self.used(), time.monotonic()
        self.m.viv("clone", "web", "copy")
        took = time.monotonic() - begin
        self.assertLess(self.used() - before, 1 << 20)
        print(f"# a linked clone of 2 GiB: {took * 1000:.0f} ms, {(self.used() - before) >> 10} KiB")
        copy = self.api.vm("copy")
        self.assertEqual((copy["status"]["state"], copy["status"]["cloned_from"]), ("stopped", self.api.vm("web")["id"]))
        self.assertEqual((self.get("copy"), self.get("web")), ("source", "source"))
        self.put("one", "web")
        self.put("two", "copy")
        self.assertEqual((self.get("copy"), self.get("web")), ("two", "one"))

    def test_what_clones_share_goes_with_the_last_of_them(self):
        self.make()
        self.put("source", "web")
        self.m.viv("clone", "web", "a")
        self.m.viv("clone", "a", "b")
        self.put("own", "a")
        self.m.viv("clone", "a", "c", "--full")
        shared = self.file_of("web")
        self.m.viv("rm", "web")
        self.assertEqual((self.get("a"), self.get("b"), self.get("c")), ("own", "source", "own"))
        self.assertEqual(self.api.vm("c")["status"].get("job", "")[:4], "job-")
        folder = self.m.home / "machines" / self.api.vm("c")["id"]
        self.assertEqual(sum(p.name.startswith("disk.") for p in folder.iterdir()), 1, sorted(folder.iterdir()))
        self.m.viv("rm", "a")
        self.assertEqual((self.get("b"), self.get("c")), ("source", "own"))
        self.assertFalse(shared.exists())
        self.m.viv("rm", "c")
        self.tidied("b")
        # What nobody shares any more is joined.
        self.assertEqual([p.name for p in self.file_of("b").parent.glob("disk.*")], [self.file_of("b").name])
        self.assertEqual(self.get("b"), "source")
        self.m.viv("rm", "b")
        self.leaves_nothing()

    def test_snapshots_and_clones_go_together(self):
        self.make()
        self.put("one", "web")
        self.m.viv("snapshot", "create", "web", "s")
        self.put("two", "web")
        self.m.viv("clone", "web", "copy")
        self.put("three", "web")
        self.m.viv("snapshot", "revert", "web", "s")
        self.m.viv("snapshot", "rm", "web", "s")
        self.tidied()
        self.m.viv("snapshot", "create", "copy", "t")
        self.put("four", "copy")
        self.m.viv("snapshot", "revert", "copy", "t")
        self.assertEqual((self.get("web"), self.get("copy")), ("one", "two"))

    def test_a_running_machine_is_cloned_and_its_clone_has_a_name_of_its_own(self):
        self.make(power="on")
        self.ready()
        self.write("source")
        pid = self.api.vm("web")["status"]["pid"]
        self.m.viv("clone", "web", "copy", "--start")
        self.ready("copy")
        self.write("later")
        self.assertEqual((self.read("copy"), self.read()), ("source", "later"))
        self.assertEqual(self.run_in("hostname"), "tiny\n")
        self.assertEqual(self.run_in("hostname", name="copy"), "copy\n")
        self.assertEqual(self.api.vm("web")["status"]["pid"], pid)
        self.assertIn("renewed", [e["what"] for e in self.api.get("/v1/events?name=copy")["items"]])

    def test_a_live_clone_goes_on_from_the_memory_of_a_machine(self):
        self.make(power="on", network="user", modules=",virtio_net")
        self.ready()
        self.write("source")
        self.run_in("sh", "-c", "echo word >/tmp/memory; ip link set eth0 up")
        self.m.viv("clone", "web", "copy", "--live")
        self.ready("copy")
        self.run_in("rm", "/tmp/memory")
        self.write("later")
        self.assertEqual((self.read("copy"), self.run_in("cat", "/tmp/memory", name="copy")), ("source", "word\n"))
        self.assertEqual(self.run_in("hostname", name="copy"), "copy\n")
        mac = self.run_in("cat", "/sys/class/net/eth0/address"), self.run_in("cat", "/sys/class/net/eth0/address", name="copy")
        self.assertNotEqual(*mac)
        # What it went on from is of no use once it has ended.
        self.m.viv("rm", "web", "--force")
        self.assertEqual(self.read("copy"), "source")
        self.m.viv("kill", "copy")
        self.tidied("copy")
        folder = self.m.home / "machines" / self.api.vm("copy")["id"]
        self.assertEqual([p.name for p in folder.iterdir() if p.name.startswith("memory")], [])
        self.m.viv("start", "copy")
        self.ready("copy")
        self.assertEqual(self.read("copy"), "source")

    def test_what_cannot_be_cloned_is_refused(self):
        self.make()
        self.assertIn("only a machine that runs", self.m.viv("clone", "web", "copy", "--live", code=3))
        self.assertIn("cannot be both", self.m.viv("clone", "web", "copy", "--live", "--full", code=2))
        self.m.viv("clone", "nope", "copy", code=4)
        self.m.viv("clone", "web", "web", code=3)
        self.assertEqual(len(self.api.get("/v1/vms")["items"]), 1)
        self.assertEqual(self.api.settled("web")["status"]["state"], "stopped")

    def test_a_full_clone_can_be_cancelled(self):
        self.m.image_with_disk(64 << 20)
        source = next((self.m.home / "images").glob("*/disk.raw"))
        with open(source, "r+b") as disk:
            disk.write(os.urandom(64 << 20))
        self.m.create("web", image="debian")
        self.api.settled("web")
        clone = self.api.post("/v1/vms/web/clone", {"name": "copy", "mode": "full"})
        try:
            self.api.post(f"/v1/jobs/{clone['status']['job']}/cancel")
        except manager.Failure as e:  # it was faster
            self.assertEqual(e.code, "conflict")
        state = self.api.settled("copy")["status"]["state"]
        job = self.api.get(f"/v1/jobs/{clone['status']['job']}/wait?timeout={LIMIT}")["status"]["state"]
        self.assertIn((state, job), (("failed", "cancelled"), ("stopped", "done")))
        self.m.viv("rm", "copy")
        self.leaves_nothing()

    def test_clones_survive_a_manager_that_is_killed(self):
        self.make()
        dice = random.Random(int(os.environ.get("VIV_STORM_SEED", "1")))
        texts = {"web": "start"}
        self.put("start", "web")
        for i in range(int(os.environ.get("VIV_STORM_KILLS", "24"))):
            name = dice.choice(sorted(texts))
            if len(texts) > 3 and dice.random() < 0.4:
                self.api.delete(f"/v1/vms/{name}")
                texts.pop(name)
            else:
                mode = dice.choice(("linked", "linked", "full"))
                self.api.post(f"/v1/vms/{name}/clone", {"name": f"c{i}", "mode": mode})
                texts[f"c{i}"] = texts[name]
            time.sleep(dice.random() * 0.02)
            self.m.kill()
            self.m.start()
            for vm in sorted(texts):
                self.tidied(vm)
                self.assertEqual(self.api.settled(vm)["status"]["state"], "stopped", vm)
                self.assertEqual(self.get(vm), texts[vm], vm)
            changed = dice.choice(sorted(texts))
            texts[changed] = f"text {i}"
            self.put(texts[changed], changed)
        self.m.wait_for(lambda: {vm["name"] for vm in self.api.get("/v1/vms")["items"]} == set(texts), "the end of others")
        self.leaves_nothing()
        for vm in texts:
            self.m.viv("rm", vm)
        self.leaves_nothing()

    def test_a_deletion_with_a_key_is_done_once(self):
        self.m.image(mini.STOP)
        for _ in range(2):
            self.m.create("web")
            self.api.settled("web")
            self.api.call("DELETE", "/v1/vms/web", headers={"Idempotency-Key": "once"})
            if _ == 0:
                self.m.wait_for(lambda: not self.api.get("/v1/vms")["items"], "its end")
        self.assertEqual(self.api.headers.get("Idempotent-Replayed"), "true")
        self.assertEqual(self.api.settled("web")["status"]["state"], "stopped")


class Expiring(Machines):
    def whats(self, name="web"):
        return [e["what"] for e in self.api.get(f"/v1/events?name={name}")["items"]]

    def test_a_machine_expires_step_by_step(self):
        self.m.image(mini.until_button() + mini.POWER_OFF)
        vm = self.m.create("web", power="on", expire="8s")
        self.m.create("other")
        self.m.wait_for(lambda: "expires" in self.api.vm("web")["status"], "its time in the status")
        self.m.wait_for(lambda: self.api.vm("web")["status"].get("archived"), "its end")
        self.assertEqual(self.api.settled("web")["status"]["state"], "stopped")
        self.assertTrue((self.m.home / "machines" / vm["id"]).exists())
        self.assertIn("expired", self.m.viv("start", "web", code=3))
        self.assertEqual(self.api.get("/v1/vms?archived=true")["items"][0]["name"], "web")
        self.m.wait_for(lambda: len(self.api.get("/v1/vms")["items"]) == 1, "its deletion")
        whats = [w for w in self.whats() if w in ("expiring", "archived", "stopped", "deleting", "deleted")]
        self.assertEqual(whats, ["expiring", "archived", "stopped", "deleting", "deleted"])
        self.assertFalse((self.m.home / "machines" / vm["id"]).exists())

    def test_it_is_extended_and_comes_back(self):
        self.m.image(mini.STOP)
        self.m.viv("create", "web", "--image", "tiny", "--expire", "4s", "--memory", "16M", "--network", "none")
        self.m.wait_for(lambda: self.api.vm("web")["status"].get("archived"), "its end")
        self.m.kill()
        self.m.start()
        self.m.viv("edit", "web", "--expire", "7d")
        self.assertNotIn("archived", self.api.vm("web")["status"])
        self.assertIn("extended", self.whats())
        self.m.viv("start", "web")
        self.m.viv("edit", "web", "--expire", "never", "--expire-unused", "4w")
        self.m.viv("edit", "web", "--expire", "soon", code=2)
        spec = self.api.vm("web")["spec"]
        self.assertEqual((spec["expire"], spec["expire_unused"]), ("never", "4w"))

    def test_what_is_not_used_expires_and_what_is_does_not(self):
        self.m.image(mini.STOP)
        for name in ("web", "idle"):
            self.m.create(name, expire_unused="6s")
        for _ in range(6):
            time.sleep(1.5)
            self.api.post("/v1/vms/web/start")
            self.api.post("/v1/vms/web/kill")
            self.api.settled("web")
        self.assertNotIn("archived", self.api.vm("web")["status"])
        self.assertIn("archived", self.whats("idle"))


class Suspended(Machines):
    def run_in_memory(self, text):
        self.run_in("sh", "-c", f"echo {text} >/tmp/memory")

    def folders(self):
        return [p.name for p in (self.m.home / "machines" / self.id).iterdir() if p.name.startswith("memory")]

    def test_a_suspended_machine_goes_on_where_it_was(self):
        self.make(power="on")
        self.ready()
        self.run_in_memory("word")
        self.write("disk")
        self.m.viv("suspend", "web")
        status = self.api.vm("web")["status"]
        self.assertEqual((status["state"], self.m.machine_pids()), ("suspended", []))
        self.m.kill()
        self.m.start()
        self.assertEqual(self.api.vm("web")["status"]["state"], "suspended")
        self.assertIn("suspended", self.m.viv("stop", "web", code=3))
        self.assertIn("suspended", self.m.viv("restart", "web", code=3))
        self.m.viv("suspend", "web")  # nothing to do
        self.m.viv("start", "web")
        self.ready()
        self.assertEqual((self.run_in("cat", "/tmp/memory"), self.read()), ("word\n", "disk"))
        # Once more, after which it is forgotten.
        self.m.viv("suspend", "web")
        self.tidied()
        self.assertEqual(len(self.folders()), 1)
        self.m.viv("kill", "web")
        self.tidied()
        self.assertEqual((self.api.vm("web")["status"]["state"], self.folders()), ("stopped", []))
        self.m.viv("start", "web")
        self.ready()
        self.run_in("test", "!", "-e", "/tmp/memory")

    def test_memory_is_kept_when_the_start_fails(self):
        self.make(power="on")
        self.ready()
        self.run_in_memory("word")
        self.m.viv("suspend", "web")
        [memory] = (self.m.home / "machines" / self.id).glob("memory.*")
        (memory / "state").rename(memory / "away")
        self.m.viv("start", "web")
        self.assertEqual(self.api.settled("web")["status"]["state"], "suspended")
        (memory / "away").rename(memory / "state")
        self.m.viv("start", "web")
        self.ready()
        self.assertEqual(self.run_in("cat", "/tmp/memory"), "word\n")

    def test_a_machine_is_suspended_by_a_manager_that_is_killed(self):
        self.make(power="on")
        self.ready()
        self.run_in_memory("word")
        dice = random.Random(int(os.environ.get("VIV_STORM_SEED", "1")))
        for _ in range(6):
            self.api.post("/v1/vms/web/suspend")
            time.sleep(dice.random() * 0.3)
            self.m.kill()
            self.m.start()
            self.assertEqual(self.api.settled("web")["status"]["state"], "suspended")
            self.m.viv("start", "web")
            self.ready()
            self.assertEqual(self.run_in("cat", "/tmp/memory"), "word\n")

    def test_only_machines_that_run_are_suspended(self):
        self.make()
        self.assertIn("only a machine that runs", self.m.viv("suspend", "web", code=3))


if __name__ == "__main__":
    vivtest.tap.main()

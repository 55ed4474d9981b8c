#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Volumes: disks that outlive machines, have one of them at most, and grow; and a manager that is killed in the
middle of it."""
import os
import random
import subprocess
import threading
import time
import unittest

import manager
import vivtest
from test_manager_agent import image_with_agent

LIMIT = manager.LIMIT
MIB = 1 << 20
MODULES = "viv.modules=virtio_pci,virtio_blk,vmw_vsock_virtio_transport viv.run=viv-agent"


class Volumes(unittest.TestCase):
    def setUp(self):
        self.m = manager.Manager(self)
        self.api = self.m.api
        self.m.start()

    def fails(self, code, field, method, target, body=None):
        with self.assertRaises(manager.Failure) as caught:
            self.api.call(method, target, body)
        self.assertEqual((caught.exception.code, caught.exception.body["field"]), (code, field), caught.exception.body)

    def make(self, name, size=8 * MIB, **spec):
        self.api.post("/v1/volumes", {"name": name, "spec": {"size": size, **spec}})
        v = self.api.get(f"/v1/volumes/{name}/wait?timeout={LIMIT}")
        self.assertEqual(v["status"]["state"], "ready", v)
        return v

    def volume(self, name):
        return self.api.get(f"/v1/volumes/{name}")

    def ready(self, name):
        return self.api.get(f"/v1/volumes/{name}/wait?timeout={LIMIT}")

    def files(self):
        return sorted(p.name for p in (self.m.home / "volumes").iterdir())

    def test_a_volume_has_one_machine_at_most_and_outlives_it(self):
        self.m.image()
        v = self.make("data")
        self.assertEqual(self.files(), [v["id"] + ".qcow2"])
        self.m.create("a", volumes=["data"])
        self.assertEqual(self.volume("data")["status"]["vm"], "a")
        self.m.create("b")
        self.fails("conflict", "spec.volumes", "POST", "/v1/volumes/data/attach", {"vm": "b"})
        self.fails("conflict", "spec.volumes", "PATCH", "/v1/vms/b", {"spec": {"volumes": ["data"]}})
        self.fails("conflict", "spec.volumes", "PATCH", "/v1/vms/b", {"spec": {"volumes": ["none"]}})
        self.fails("conflict", "status.vm", "DELETE", "/v1/volumes/data")
        self.fails("conflict", "spec.volumes", "POST", "/v1/vms", {"name": "c", "spec": {"image": "tiny", "volumes": ["data"]}})
        self.assertEqual(len(self.api.get("/v1/vms")["items"]), 2)
        self.fails("invalid", "spec.volumes", "PATCH", "/v1/vms/a", {"spec": {"volumes": ["data", "data"]}})
        self.api.settled("a")
        self.api.delete("/v1/vms/a")
        self.m.wait_for(lambda: "vm" not in self.volume("data")["status"], "the release")
        self.api.post("/v1/volumes/data/attach", {"vm": "b"})
        self.assertEqual(self.api.vm("b")["spec"]["volumes"], ["data"])
        self.api.settled("b")
        self.api.post("/v1/volumes/data/detach")
        self.assertEqual(self.api.vm("b")["spec"]["volumes"], [])
        self.api.delete("/v1/volumes/data")
        self.m.wait_for(lambda: not self.files(), "the end of the file")
        self.m.wait_for(lambda: not self.api.get("/v1/volumes")["items"], "the end of the row")

    def test_what_cannot_be_is_refused(self):
        self.fails("invalid", "name", "POST", "/v1/volumes", {"name": "a" * 21, "spec": {"size": MIB}})
        self.fails("invalid", "spec.size", "POST", "/v1/volumes", {"name": "a", "spec": {"size": MIB + 1}})
        self.fails("invalid", "spec.size", "POST", "/v1/volumes", {"name": "a", "spec": {}})
        self.make("a", 2 * MIB)
        self.fails("invalid", "spec.size", "PATCH", "/v1/volumes/a", {"spec": {"size": MIB}})
        self.fails("invalid", "spec.format", "PATCH", "/v1/volumes/a", {"spec": {"format": "raw"}})
        self.fails("not-found", "vm", "POST", "/v1/volumes/a/attach", {"vm": "none"})

    def test_guests_see_volumes_by_name_and_in_order(self):
        image_with_agent(self.m)
        self.make("one", 4 * MIB)
        self.make("two", 6 * MIB, format="raw")
        self.m.create("web", memory=128 << 20, power="on", append=MODULES, volumes=["two", "one"])
        self.m.viv("wait", "web", "--for", "ready", "--timeout", str(LIMIT))
        run = lambda *words: self.m.viv("exec", "web", "--", "sh", "-c", *words)  # noqa: E731
        self.assertEqual(run("cat /sys/block/vda/serial; echo; cat /sys/block/vdb/serial"), "two\none")
        self.assertEqual(run("cat /sys/block/vd?/size").split(), [str(6 * 2048), str(4 * 2048)])
        run("echo kept | dd of=/dev/vdb bs=512 conv=sync 2>/dev/null; sync")
        # It grows while it is used, and the guest is told.
        for name, disk in ("one", "vdb"), ("two", "vda"):
            self.m.viv("volume", "resize", name, "16M")
            self.assertEqual(self.ready(name)["status"]["now"], 16 * MIB)
            self.assertEqual(run(f"cat /sys/block/{disk}/size").strip(), str(16 * 2048))
        self.make("late")
        self.m.viv("volume", "attach", "late", "web")
        # It is plugged in at once; the machine's process may be told by another manager.
        disks = lambda: run("ls /sys/block | grep -c vd").strip()  # noqa: E731
        self.m.wait_for(lambda: disks() == "3", "the new disk")
        self.assertEqual(run("cat /sys/block/vdc/serial"), "late")
        self.assertNotIn("volume_errors", self.api.vm("web")["status"])
        self.m.kill()
        self.m.start()
        self.m.viv("wait", "web", "--for", "ready", "--timeout", str(LIMIT))
        self.m.viv("volume", "detach", "late")
        self.assertNotIn("vm", self.volume("late")["status"])
        self.assertEqual((disks(), self.api.vm("web")["spec"]["volumes"]), ("2", ["two", "one"]))
        self.m.viv("volume", "resize", "late", "32M")  # it is free
        self.m.viv("volume", "detach", "one", "--force")
        self.m.wait_for(lambda: disks() == "1", "the end of the other one")
        self.m.viv("kill", "web")
        self.m.viv("rm", "web")
        disk = self.m.home / "volumes" / (self.volume("one")["id"] + ".qcow2")
        out = subprocess.run(["qemu-img", "convert", "-O", "raw", disk, str(self.m.home / "raw")], check=True)
        self.assertEqual(out.returncode, 0)
        self.assertEqual((self.m.home / "raw").read_bytes()[:4], b"kept")

    def test_a_machine_is_suspended_whose_volumes_have_come_and_gone(self):
        image_with_agent(self.m)
        for name, size in ("one", 4 * MIB), ("two", 4 * MIB), ("three", 4 * MIB), ("late", 8 * MIB):
            self.make(name, size)
        self.m.create("web", memory=128 << 20, power="on", append=MODULES, volumes=["one", "two"])
        self.m.viv("wait", "web", "--for", "ready", "--timeout", str(LIMIT))
        run = lambda *words: self.m.viv("exec", "web", "--", "sh", "-c", *words)  # noqa: E731
        run("for d in vda vdb; do cat /sys/block/$d/serial | dd of=/dev/$d bs=512 conv=sync 2>/dev/null; done; sync")
        self.m.viv("volume", "detach", "one")
        self.m.wait_for(lambda: run("ls /sys/block | grep -c vd").strip() == "1", "the end of a disk")
        # It comes where the first one was: before the other one as the process counts, behind it in the row.
        self.m.viv("volume", "attach", "three", "web")
        self.m.wait_for(lambda: run("ls /sys/block | grep -c vd").strip() == "2", "the new disk")
        self.assertEqual(self.api.vm("web")["spec"]["volumes"], ["two", "three"])
        serials = "for d in /sys/block/vd*; do cat $d/serial; echo; done"
        before = run(serials)
        disk = run("grep -l two /sys/block/vd?/serial").split("/")[3]
        self.m.viv("suspend", "web")
        self.fails("conflict", "status.state", "POST", "/v1/volumes/two/detach")
        self.fails("conflict", "status.state", "PATCH", "/v1/volumes/two", {"spec": {"size": 8 * MIB}})
        self.m.viv("volume", "attach", "late", "web")  # the memory does not know it
        self.m.viv("start", "web")
        self.m.wait_for(lambda: run("ls /sys/block | grep -c vd").strip() == "3", "the one that came late")
        self.assertEqual([s for s in run(serials).split() if s != "late"], before.split())
        self.assertEqual(run(f"echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/{disk} bs=3 count=1 2>/dev/null"), "two")
        self.m.viv("volume", "detach", "two")

    def test_snapshots_leave_volumes_as_they_are(self):
        self.m.image_with_disk()
        self.make("data")
        self.m.create("web", image="debian", volumes=["data"], power="on")
        self.api.settled("web")
        self.fails("conflict", "spec.memory", "POST", "/v1/snapshots", {"name": "web.m", "spec": {"vm": "web", "memory": True}})
        self.m.viv("snapshot", "create", "web", "one")
        snapshot = self.api.get("/v1/snapshots/web.one")
        self.assertEqual((snapshot["status"]["state"], snapshot["spec"]["memory"]), ("ready", False))
        self.assertIn("volumes of the machine are no part", snapshot["status"]["note"])
        self.assertNotIn("live", snapshot["status"])
        file = self.m.home / "volumes" / (self.volume("data")["id"] + ".qcow2")
        self.m.viv("kill", "web")
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 0 64k", file], check=True, capture_output=True)
        self.m.viv("snapshot", "revert", "web", "one")
        self.assertEqual(self.api.vm("web")["spec"]["volumes"], ["data"])
        got = subprocess.run(["qemu-io", "-f", "qcow2", "-c", "read -P 7 0 64k", file], check=True, capture_output=True, text=True)
        self.assertNotIn("verification failed", got.stdout)
        self.m.viv("start", "web")
        self.m.viv("clone", "web", "copy", "--linked")
        self.assertEqual(self.api.vm("copy")["spec"]["volumes"], [])
        self.m.viv("snapshot", "rm", "web", "one")

    def test_volumes_are_grown_while_they_are_not_used(self):
        for form in "qcow2", "raw":
            v = self.make(form, format=form)
            self.m.viv("volume", "resize", form, "1G")
            self.assertEqual(self.ready(form)["status"]["now"], 1 << 30)
            info = subprocess.run(["qemu-img", "info", "-f", form, self.m.home / "volumes" / f"{v['id']}.{form}"],
                                  check=True, capture_output=True, text=True).stdout
            self.assertIn("virtual size: 1 GiB", info)
            self.assertLess(self.volume(form)["status"]["used"], MIB)

    def test_one_that_is_just_growing_is_in_nobodys_way(self):
        self.m.image()
        self.make("data")
        self.m.create("web", volumes=["data"])
        self.api.settled("web")
        for n in range(40):  # the manager itself holds the lock of the file for a moment each time
            self.api.call("PATCH", "/v1/volumes/data", {"spec": {"size": (16 + n) * MIB}})
            self.api.post("/v1/volumes/data/detach")
            self.assertNotIn("vm", self.volume("data")["status"])
            self.api.post("/v1/volumes/data/attach", {"vm": "web"})
        self.assertEqual(self.ready("data")["status"]["now"], 55 * MIB)
        self.api.post("/v1/vms/web/start")
        self.assertEqual(self.api.settled("web")["status"]["state"], "running")
        self.fails("conflict", "status.state", "DELETE", "/v1/vms/web")

    def test_files_of_what_is_wanted_make_volumes_before_their_machines(self):
        self.m.image()
        path = self.m.home / "x.yaml"
        path.write_text("kind: vm\nname: web\nspec: {image: tiny, memory: 16M, network: none, volumes: [a, b], power: on}\n"
                        "---\nkind: volume\nname: b\nspec: {size: 8M}\n---\nkind: volume\nname: a\nspec: {size: 8M, format: raw}\n")
        self.assertEqual(self.m.viv("apply", "-f", str(path)),
                         "volume/b created\nvolume/a created\nvm/web created\n")
        self.m.viv("diff", "-f", str(path))
        self.assertEqual(self.api.vm("web")["status"]["state"], "running")
        self.assertRegex(self.m.viv("volume", "list"), r"(?m)^a +8M +raw +ready +web$")
        path.write_text(path.read_text().replace("name: b\nspec: {size: 8M", "name: b\nspec: {size: 16M"))
        self.assertIn("volume/b changed: size", self.m.viv("apply", "-f", str(path)))
        self.assertEqual(self.volume("b")["status"]["now"], 16 * MIB)
        path.write_text(self.m.viv("volume", "list", "--yaml"))
        self.m.viv("diff", "-f", str(path))

    def test_a_file_that_is_gone_is_said(self):
        self.m.image()
        v = self.make("data")
        (self.m.home / "volumes" / f"{v['id']}.qcow2").unlink()
        self.m.create("web", volumes=["data"], power="on")
        vm = self.api.settled("web")
        self.assertEqual(vm["status"]["state"], "failed", vm)
        self.assertIn("qcow2", vm["status"]["last_words"])

    def test_no_kill_of_the_manager_leaks_anything(self):
        seed = int(os.environ.get("VIV_STORM_SEED", str(random.randrange(1 << 30))))
        print(f"# VIV_STORM_SEED={seed}", flush=True)
        rng = random.Random(seed)
        self.m.image()
        self.m.create("web")
        stop, broken = [], []

        def work():
            while not stop:
                name = rng.choice(["a", "b"])
                try:
                    verb = rng.choice(["make", "make", "grow", "attach", "detach", "rm"])
                    if verb == "make":
                        self.api.post("/v1/volumes", {"name": name, "spec": {"size": MIB}})
                    elif verb == "grow":
                        size = self.volume(name)["spec"]["size"] + MIB
                        self.api.call("PATCH", f"/v1/volumes/{name}", {"spec": {"size": size}})
                    elif verb == "rm":
                        self.api.delete(f"/v1/volumes/{name}")
                    else:
                        self.api.post(f"/v1/volumes/{name}/{verb}", {"vm": "web"} if verb == "attach" else None)
                except manager.Failure as e:
                    if e.code not in ("exists", "conflict", "not-found"):
                        broken.append(e)
                except OSError:
                    time.sleep(0.003)
                except Exception as e:  # noqa: BLE001 an answer that broke off
                    if "IncompleteRead" not in repr(e) and "RemoteDisconnected" not in repr(e):
                        broken.append(e)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        for _ in range(60):
            time.sleep(rng.choice([0.01, 0.03, 0.1]) * rng.random())
            self.m.kill()
            self.m.start()
        stop.append(True)
        thread.join()
        self.assertEqual(broken, [])
        deleting = lambda: [v for v in self.api.get("/v1/volumes")["items"] if v["status"]["state"] == "deleting"]  # noqa: E731
        self.m.wait_for(lambda: not deleting(), "the end of deletions")
        volumes = {v["name"]: self.ready(v["name"]) for v in self.api.get("/v1/volumes")["items"]}
        self.m.wait_for(lambda: self.files() == sorted(v["id"] + ".qcow2" for v in volumes.values()), "one file each")
        mine = sorted(n for n, v in volumes.items() if v["status"].get("vm") == "web")
        self.assertEqual(sorted(self.api.vm("web")["spec"]["volumes"]), mine)
        for v in volumes.values():
            self.assertEqual(v["status"]["now"], v["spec"]["size"], v)
            subprocess.run(["qemu-img", "check", "-q", self.m.home / "volumes" / (v["id"] + ".qcow2")], check=True)


if __name__ == "__main__":
    vivtest.tap.main()

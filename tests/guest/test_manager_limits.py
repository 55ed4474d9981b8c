#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What machines may take of their host at most: requests and bytes of their disks, processor time. The last is held by a
control group, which is tried where the host gives the manager one with that controller (docs/jail.md)."""
import pathlib
import unittest

import manager
import vivtest
from test_manager_cgroup import group_of


class Limits(unittest.TestCase):
    def setUp(self):
        self.m = manager.Manager(self)
        self.api = self.m.api
        self.m.start()
        self.m.image_with_disk()

    def disks(self, name):
        words = pathlib.Path(f"/proc/{self.api.vm(name)['status']['pid']}/cmdline").read_text().split("\0")
        return [words[i + 1] for i, w in enumerate(words) if w == "--disk"]

    def test_disks_have_the_limits_of_their_machine_and_of_their_volume(self):
        self.api.post("/v1/volumes", {"name": "data", "spec": {"size": 1 << 20, "iops": 50, "bps": 1 << 20}})
        self.m.create("web", image="debian", disk_iops=100, disk_bps=2 << 20, volumes=["data"], power="on")
        self.assertEqual(self.api.settled("web")["status"]["state"], "running")
        own, volume = self.disks("web")
        self.assertRegex(own, r"^disk\.qcow2,.*,iops=100,bps=2097152$")
        self.assertRegex(volume, r",serial=data,iops=50,bps=1048576$")
        self.m.viv("edit", "web", "--disk-iops", "7")
        self.assertIn("disk_iops", self.api.vm("web")["status"]["pending"])
        volume = self.api.call("PATCH", "/v1/volumes/data", {"spec": {"iops": 0}})
        self.assertEqual((volume["spec"]["iops"], volume["status"]["state"]), (0, "ready"))
        self.api.post("/v1/vms/web/kill")
        self.api.settled("web")
        self.api.post("/v1/vms/web/start")
        self.assertEqual(self.api.settled("web")["status"]["state"], "running")
        own, volume = self.disks("web")
        self.assertRegex(own, ",iops=7,bps=2097152$")
        self.assertRegex(volume, ",serial=data,bps=1048576$")

    def test_a_limited_volume_is_plugged_in_with_its_limits(self):
        self.m.viv("volume", "create", "data", "--size", "1M", "--iops", "9")
        self.m.create("web", image="debian", power="on")
        self.api.settled("web")
        self.m.viv("volume", "attach", "data", "web")
        self.m.wait_for(lambda: "volume_errors" not in self.api.vm("web")["status"] and
                        self.api.get("/v1/volumes/data")["status"].get("vm") == "web", "the volume")

    def test_processor_time_is_limited_at_once_or_it_is_said_that_it_is_not(self):
        self.m.create("web", image="debian", cpu_limit=50, power="on")
        self.api.settled("web")
        group = group_of(self.api.vm("web")["status"]["pid"])
        file = group / "cpu.max" if group else None
        if not file or not file.exists():
            self.m.wait_for(lambda: "cpu_limit" in self.api.vm("web")["status"].get("pending", {}), "the sentence")
            self.assertIn("control group", self.api.vm("web")["status"]["pending"]["cpu_limit"])
            self.m.viv("edit", "web", "--cpu-limit", "0")
            self.m.wait_for(lambda: "pending" not in self.api.vm("web")["status"], "no sentence any more")
            return
        self.assertEqual(file.read_text(), "50000 100000\n")
        self.m.viv("edit", "web", "--cpu-limit", "120")
        self.m.wait_for(lambda: file.read_text() == "120000 100000\n", "the new limit")
        self.m.kill()
        self.m.start()
        self.m.viv("edit", "web", "--cpu-limit", "0")
        self.m.wait_for(lambda: file.read_text() == "max 100000\n", "no limit any more")
        self.m.wait_for(lambda: "pending" not in self.api.vm("web")["status"], "that it has it")


if __name__ == "__main__":
    vivtest.tap.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Each machine's process is in a control group of its own, where the host allows one, and none is left behind (docs/jail.md)."""
import os
import pathlib
import signal
import unittest

import manager
import vivtest


def group_of(pid):
    """The folder of the group with the name of a machine's; None: it is in none."""
    for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "/viv-machine-" not in path:
            continue
        for mount in pathlib.Path("/proc/mounts").read_text().splitlines():
            _, place, kind, options, *_ = mount.split()
            if kind == "cgroup2" if not controllers else kind == "cgroup" and controllers in options.split(","):
                return pathlib.Path(place + path)
    return None


class Groups(unittest.TestCase):
    def setUp(self):
        self.m = manager.Manager(self)
        self.m.start()
        self.m.image()

    def begin(self, name):
        self.m.create(name, power="on", restart="never")
        self.m.api.settled(name)
        pid = self.m.api.vm(name)["status"]["pid"]
        group = group_of(pid)
        if not group:
            self.skipTest("this host gives the manager no control groups")
        return pid, group

    def test_a_machine_has_one_with_a_limit_and_all_that_it_started_is_in_it(self):
        pid, group = self.begin("one")
        if (group / "pids.max").exists():  # not where it was delegated without that controller
            self.assertEqual((group / "pids.max").read_text(), "1024\n")
        self.assertIn(str(pid), (group / "cgroup.procs").read_text().split())
        self.m.api.delete("/v1/vms/one?force=true")
        self.m.wait_for(lambda: not group.exists(), "the end of the group")

    def test_a_group_of_version_2_has_shares_a_bound_of_memory_and_is_counted(self):
        pid, group = self.begin("two")
        if not (group / "cgroup.controllers").exists():
            self.skipTest("the groups are of version 1")
        controllers = (group / "cgroup.controllers").read_text().split()
        spec = self.m.api.vm("two")["spec"]
        if "cpu" in controllers:
            self.assertEqual((group / "cpu.weight").read_text(), f"{100 * spec['cpus']}\n")
        if "memory" in controllers:
            high = int((group / "memory.high").read_text())
            self.assertGreater(high, 2 * spec["memory"])
            self.assertLess(high, 2 * spec["memory"] + (1 << 30) * (1 + spec["cpus"]))
        self.m.wait_for(lambda: "group_cpu_ms" in self.m.api.get("/v1/usage/two"), "what the group counts")
        use = self.m.api.get("/v1/usage/two")
        counted = next(int(line.split()[1]) for line in (group / "cpu.stat").read_text().splitlines()
                       if line.startswith("usage_usec "))
        self.assertLessEqual(use["group_cpu_ms"], counted // 1000)
        self.assertEqual("group_memory" in use, "memory" in controllers)
        self.assertIn('viv_vm_group_cpu_seconds_total{vm="two"', self.m.api.raw("GET", "/metrics")[2].decode())

    def test_killed_machines_leave_none_behind_also_without_a_manager(self):
        groups = [self.begin(f"m{i}") for i in range(3)]
        self.assertEqual(len({g for _, g in groups}), 3)
        os.kill(groups[0][0], signal.SIGKILL)
        self.m.wait_for(lambda: not groups[0][1].exists(), "the end of the group")
        self.m.kill()
        os.kill(groups[1][0], signal.SIGKILL)
        self.assertTrue(groups[2][1].exists())
        self.m.start()
        self.m.wait_for(lambda: not groups[1][1].exists(), "the end of the group")
        self.assertTrue(groups[2][1].exists(), "that of a machine that runs stays")


if __name__ == "__main__":
    vivtest.tap.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices of the host as a part of machines: who may have which, drivers that lose them and get them back (docs/vfio.md).

The tree of the host's devices is made up (hostbus.py), so viv-vm, which looks at the real one, gets none at its start:
the program that the manager starts leaves the option out. tests/lab/test_vfio.py has real ones.
"""
import os
import pathlib
import re
import signal
import subprocess
import sys
import unittest

import hostbus
import manager
import vivtest
from hostbus import DRIVE, LONE, NIC, OTHER, PORT

MDEV = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"
PROGRAM = """#!/bin/sh
printf '%s\\n' "$@" >words
n=$#
while [ $n -gt 0 ]; do
    a=$1; shift; n=$((n - 1))
    if [ "$a" = --device ]; then shift; n=$((n - 1)); else set -- "$@" "$a"; fi
done
exec {} "$@"
"""


class Devices(unittest.TestCase):
    def setUp(self):
        self.m = manager.Manager(self)
        self.api = self.m.api
        self.bus = hostbus.Bus(self, self.m.home / "sys")
        program = self.m.home / "viv-vm"
        program.write_text(PROGRAM.format(vivtest.PROGRAM))
        program.chmod(0o755)
        self.m.env.update(VIV_SYSFS=str(self.bus.root), VIV_VM=str(program))
        self.m.start()
        self.m.image_with_disk()

    def create(self, name, *devices, **spec):
        self.m.create(name, image="debian", devices=list(devices), **spec)
        return self.api.settled(name)

    def patch(self, name, **spec):
        return self.api.call("PATCH", f"/v1/vms/{name}", {"spec": spec})

    def refused(self, status, words, call, *args, **kw):
        with self.assertRaises(manager.Failure) as got:
            call(*args, **kw)
        self.assertEqual(got.exception.status, status, got.exception.body)
        self.assertRegex(got.exception.body["reason"], words)

    def words(self, name):
        folder = self.m.home / "machines" / self.api.vm(name)["id"]
        return (folder / "words").read_text().split("\n")

    def is_back(self, name, device, driver):
        self.m.wait_for(lambda: "lent" not in self.api.vm(name)["status"], "the way back")
        self.assertEqual(self.bus.driver(device), driver)

    def test_what_cannot_be_given_is_refused(self):
        for device, words in ((PORT, "bridge"), (LONE, "no IOMMU group"), ("0000:09:00.0", "no PCI device"),
                              (MDEV, "no mediated device")):
            self.refused(400, words, self.m.create, "web", devices=[device])
        self.refused(400, "named twice", self.m.create, "web", devices=[NIC, "vfio=03:00.0"])
        self.refused(400, "cannot be the value", self.m.create, "web", devices=["eth0"])
        self.refused(400, "cannot be the value", self.m.create, "web", devices=["../../../etc"])

    def test_a_device_and_its_group_belong_to_one_machine(self):
        self.create("one", NIC, DRIVE)
        self.create("two")
        self.refused(409, "machine 'one' has the device", self.m.create, "web", devices=[NIC])
        self.refused(409, "machine 'one' has the device", self.patch, "two", devices=["03:00.0"])
        self.refused(409, f"{OTHER} shares the IOMMU group 4 with {DRIVE}, which the machine 'one'", self.patch, "two",
                     devices=[OTHER])
        self.patch("one", devices=[DRIVE, OTHER])
        self.assertEqual(self.patch("two", devices=[NIC])["spec"]["devices"], [NIC])

    def test_drivers_lose_a_device_at_the_start_and_have_it_back_at_the_end(self):
        self.create("web", NIC, OTHER)
        self.assertEqual(self.bus.seen, [])
        self.api.post("/v1/vms/web/start")
        vm = self.api.settled("web")
        self.assertEqual(vm["status"]["state"], "running", vm)
        self.assertEqual(vm["status"]["lent"], {NIC: "e1000e", OTHER: "nvme"})
        self.assertEqual((self.bus.driver(NIC), self.bus.driver(OTHER), self.bus.driver(DRIVE)),
                         ("vfio-pci", "vfio-pci", "nvme"))
        words = self.words("web")
        self.assertEqual([words[i + 1] for i, w in enumerate(words) if w == "--device"], [f"vfio={NIC}", f"vfio={OTHER}"])
        self.api.post("/v1/vms/web/kill")
        self.is_back("web", NIC, "e1000e")
        self.assertEqual(self.bus.driver(OTHER), "nvme")
        whats = [e["what"] for e in self.api.get("/v1/events?name=web")["items"]]
        self.assertEqual(whats.count("device-back"), 2)

    def test_one_that_was_with_vfio_already_stays_there(self):
        self.bus.bind(NIC, "vfio-pci")
        self.create("web", NIC, power="on")
        self.assertNotIn("lent", self.api.vm("web")["status"])
        self.api.post("/v1/vms/web/kill")
        self.api.settled("web")
        self.assertEqual(self.bus.driver(NIC), "vfio-pci")
        self.assertEqual(self.bus.seen, [])

    def test_a_driver_that_keeps_it_is_told_and_nothing_is_lent(self):
        self.bus.stubborn.add(NIC)
        self.create("web", NIC)
        self.api.post("/v1/vms/web/start")
        vm = self.api.settled("web")
        self.assertEqual(vm["status"]["state"], "failed")
        self.assertRegex(vm["status"]["reason"], f"{NIC}: its driver e1000e does not let go")
        self.is_back("web", NIC, "e1000e")

    def test_it_comes_back_whenever_the_manager_ends(self):
        self.create("web", NIC)
        for moment in ("override", "unbind", "probe"):
            with self.subTest(moment):
                self.bus.stubborn.add(NIC)  # so that it is killed before the next
                self.api.post("/v1/vms/web/start")
                self.m.wait_for(lambda: self.bus.seen, "the first write")
                self.m.kill()
                self.bus.stubborn.clear()
                if moment != "override":
                    self.bus.bind(NIC, "")
                if moment == "probe":
                    self.bus.bind(NIC, "vfio-pci")
                self.m.start()
                self.m.wait_for(lambda: self.api.vm("web")["status"]["state"] == "running", "the start after all")
                self.assertEqual(self.api.vm("web")["status"]["lent"], {NIC: "e1000e"})
                self.m.kill()
                for pid in self.m.machine_pids():
                    os.kill(pid, signal.SIGKILL)
                self.m.start()
                self.m.wait_for(lambda: self.api.vm("web")["status"]["state"] == "failed", "the end")
                self.is_back("web", NIC, "e1000e")
                self.bus.seen.clear()

    def test_one_that_rests_gives_back_after_a_restart_of_the_manager(self):
        self.create("web", NIC, power="on")
        self.bus.stubborn.add(NIC)  # what is given back does not come back yet
        self.api.post("/v1/vms/web/kill")
        self.m.wait_for(lambda: self.api.vm("web")["status"]["state"] == "stopped", "the end")
        self.m.kill()
        self.bus.stubborn.clear()
        self.m.start()
        self.is_back("web", NIC, "e1000e")

    def test_deletion_gives_back(self):
        self.create("web", NIC, power="on")
        self.assertEqual(self.bus.driver(NIC), "vfio-pci")
        self.api.delete("/v1/vms/web?force=true")
        self.m.wait_for(lambda: not self.api.get("/v1/vms")["items"], "the deletion")
        self.assertEqual(self.bus.driver(NIC), "e1000e")

    def test_one_that_runs_gets_and_gives_back_at_once(self):
        self.create("web", power="on")
        self.assertEqual(self.m.viv("device", "list", "--json"), "[]\n")
        error = self.m.viv("device", "add", "web", "03:00.0", code=3)
        # The tree is made up: the machine's own process looks at the real one.
        self.assertIn("the host has no PCI device of this address", error)
        self.assertEqual(self.api.vm("web")["spec"]["devices"], [NIC])
        self.assertEqual(self.bus.driver(NIC), "vfio-pci")
        self.assertRegex(self.m.viv("device", "list"), rf"web +{NIC} +e1000e +failed +.*no PCI device")
        self.assertIn("has the device", self.m.viv("device", "add", "web", NIC, code=3))
        self.m.viv("device", "rm", "web", NIC)
        self.assertEqual(self.bus.driver(NIC), "e1000e")
        self.m.wait_for(lambda: "device_errors" not in self.api.vm("web")["status"], "no error any more")
        self.assertIn("has no device", self.m.viv("device", "rm", "web", NIC, code=3))

    def test_viv_creates_and_edits(self):
        self.m.viv("create", "web", "--image", "debian", "--device", "vfio=03:00.0", "--device", OTHER)
        self.assertEqual(self.api.vm("web")["spec"]["devices"], ["vfio=03:00.0", OTHER])
        self.assertRegex(self.m.viv("device", "list", "--vm", "web"), rf"{NIC} .*off")
        self.m.viv("edit", "web", "--devices", DRIVE)
        self.assertEqual(self.api.vm("web")["spec"]["devices"], [DRIVE])
        self.m.viv("edit", "web", "--devices", "")
        self.assertEqual(self.api.vm("web")["spec"]["devices"], [])

    def test_its_state_is_saved_by_nobody(self):
        self.create("web", NIC, power="on")
        self.refused(409, "cannot be suspended", self.api.post, "/v1/vms/web/suspend")
        self.refused(409, "devices of the host", self.api.post, "/v1/vms/web/clone", {"name": "copy", "mode": "live"})
        spec = {"vm": "web", "memory": True}
        self.refused(409, "devices of the host", self.api.post, "/v1/snapshots", {"name": "web.one", "spec": spec})
        self.api.post("/v1/snapshots", {"name": "web.one", "spec": {"vm": "web"}})
        shot = self.api.get(f"/v1/snapshots/web.one/wait?timeout={manager.LIMIT}")
        self.assertEqual((shot["status"]["state"], shot["status"].get("live", False)), ("ready", False))
        self.assertIn("devices of the host", shot["status"]["note"])
        self.api.post("/v1/vms/web/clone", {"name": "copy", "start": True})
        copy = self.api.settled("copy")
        self.assertEqual((copy["spec"]["devices"], copy["status"]["state"]), ([], "running"))

    def test_its_process_may_lock_the_memory(self):
        self.create("web", NIC, power="on")
        text = pathlib.Path(f"/proc/{self.api.vm('web')['status']['pid']}/limits").read_text()
        hard = re.search(r"Max locked memory +\S+ +(\S+)", text)[1]
        may = subprocess.run([sys.executable, "-c", "import resource as r; r.setrlimit(r.RLIMIT_MEMLOCK, (1 << 32, 1 << 32))"],
                             capture_output=True, check=False)
        if may.returncode:
            self.skipTest("this process may not raise the limit")
        self.assertTrue(hard == "unlimited" or int(hard) > (16 << 20) + (1 << 30), text)


if __name__ == "__main__":
    vivtest.tap.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Which processors execute a machine of the manager: told, and refused where there are none. tests/lab/test_kvm_manager.py has
those of a host with KVM."""
import subprocess
import unittest

import manager
import vivtest

WITHOUT = ["unshare", "-m", "sh", "-c"]
HIDE = "mount --bind /dev/null /dev/kvm"


class Processors(unittest.TestCase):
    def setUp(self):
        self.m = manager.Manager(self)
        self.api = self.m.api

    def test_what_executes_the_guest_is_told_while_it_does(self):
        self.m.start()
        self.m.image()
        self.m.create("web", cpu="soft", power="on")
        self.m.wait_for(lambda: self.api.vm("web")["status"].get("cpu_used") == "soft", "the status")
        self.m.create("other", power="on")
        self.m.wait_for(lambda: self.api.vm("other")["status"].get("cpu_why", "").startswith("auto"), "the reason")
        self.api.post("/v1/vms/web/kill")
        self.assertNotIn("cpu_used", self.api.settled("web")["status"])

    def test_kvm_on_a_host_without_it_is_refused_with_the_reason(self):
        if subprocess.run([*WITHOUT, HIDE], capture_output=True, check=False).returncode:
            self.skipTest("this process cannot hide /dev/kvm")
        program = self.m.home / "viv-vm"
        program.write_text(f"#!/bin/sh\nexec unshare -m sh -c '{HIDE} && exec \"$@\"' - {vivtest.PROGRAM} \"$@\"\n")
        program.chmod(0o755)
        self.m.env["VIV_VM"] = str(program)
        self.m.start()
        self.m.image()
        self.m.create("web", cpu="kvm")
        self.api.settled("web")
        self.assertRegex(self.m.viv("start", "web", code=1), "processor backend 'kvm': .*use auto or soft")
        status = self.api.vm("web")["status"]
        self.assertEqual(status["state"], "failed")
        self.assertRegex(status["last_words"], "processor backend 'kvm'")


if __name__ == "__main__":
    vivtest.tap.main()

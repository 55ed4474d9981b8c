#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines of a manager that is root, on a host with KVM: chosen by itself, in the jail, suspended, resumed and cloned live.
For the lab; skipped on hosts whose KVM is none."""
import base64
import pathlib
import re
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/guest"), str(ROOT / "tests/lab")]
import manager  # noqa: E402
import vivtest  # noqa: E402
from test_kvm import COUNT, needs_kvm  # noqa: E402

JAIL_USERS = 0x70000000
TRIES = 10  # a busy host may seem to hang


class KvmOfTheManager(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        needs_kvm()

    def setUp(self):
        self.m = manager.Manager(self)
        self.api = self.m.api
        self.m.start()
        self.m.linux()

    def chosen(self, name):
        self.m.wait_for(lambda: "cpu_used" in self.api.vm(name)["status"], "the choice")
        return self.api.vm(name)["status"]

    def begin(self):
        """By 'viv run', which says nothing of processors."""
        script = base64.b64encode(COUNT.encode()).decode()
        for _ in range(TRIES):
            self.m.viv("run", "tiny", "--name", "web", "--detach", "--memory", "96M", "--network", "none", "--append",
                       f"viv.run64={script}")
            status = self.chosen("web")
            if "hangs" not in status["cpu_why"]:
                break
            self.m.viv("rm", "web", "--force")
        self.assertEqual(status["cpu_used"], "kvm", status)
        self.assertRegex(status["cpu_why"], r"auto: the host's KVM runs \d+ million instructions a second")
        self.assertEqual(self.api.vm("web")["spec"]["cpu"], "auto")
        return status

    def counts(self, name, beyond=0):
        """The last number that the guest has said, once it is behind that one; none is left out, none comes twice."""
        last = []

        def look():
            last[:] = [int(n) for n in re.findall(r"n=(\d+)\n", self.m.viv("logs", name))]
            return last and last[-1] > beyond
        self.m.wait_for(look, f"that '{name}' counts")
        self.assertEqual(last, list(range(last[0], last[-1] + 1)))
        self.assertNotIn("wrong", self.m.viv("logs", name))
        return last[-1]

    def test_auto_takes_it_in_the_jail_and_a_machine_that_was_suspended_goes_on(self):
        pid = self.begin()["pid"]
        uid = int(re.search(r"Uid:\t(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])
        self.assertGreaterEqual(uid, JAIL_USERS)
        last = self.counts("web")
        self.m.viv("suspend", "web")
        self.assertNotIn("cpu_used", self.api.vm("web")["status"])
        self.m.viv("start", "web")
        self.assertEqual(self.chosen("web")["cpu_used"], "kvm")
        self.counts("web", last + 3)

    def test_a_live_clone_runs_on_it_as_well(self):
        self.begin()
        last = self.counts("web")
        self.m.viv("clone", "web", "copy", "--live")
        self.assertEqual(self.chosen("copy")["cpu_used"], "kvm")
        self.counts("copy", last)
        self.counts("web", last + 3)


if __name__ == "__main__":
    vivtest.tap.main()

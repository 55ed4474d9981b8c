#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# run: on every processor backend
"""Machines of several processors: what threads rely on (smp.c), processors that go and come, and that
the whole goes on from a snapshot and after a reset."""
import json
import os
import pathlib
import subprocess
import tempfile
import unittest

import vivtest
from initrd import with_program

SOURCE = pathlib.Path(__file__).with_name("smp.c")
TOOLS = pathlib.Path(vivtest.PROGRAM).resolve().parent


class Smp(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="viv-smp-")
        cls.addClassCleanup(folder.cleanup)
        cls.dir = pathlib.Path(folder.name)
        subprocess.run([os.environ.get("CC", "gcc"), "-O2", "-static", "-pthread", "-mavx", "-o", cls.dir / "smp",
                        SOURCE], check=True)
        cls.initrd = with_program(cls.dir / "smp", cls.dir / "initrd")

    def guest(self, cpus, command=None, *options, **kw):
        return vivtest.tiny(self, command, "--cpus", str(cpus), "--initrd", self.initrd, *options, timeout=240, **kw)

    def test_threads_get_what_processors_promise(self):
        guest = self.guest(2, "/smp 2 0.2")
        guest.expect(r"SMP PASSED\nEXIT 0\n")
        self.assertEqual(guest.console.count("\nok "), 16, guest.console)
        self.assertEqual(guest.wait(), 0)

    def test_so_do_more_threads_than_the_host_has_processors(self):
        guest = self.guest(5, "/smp 5 0.2 locked; /smp 5 0.2 functions; /smp 5 0.2 protections", "--stats")
        for _ in range(3):
            guest.expect(r"SMP (\w+)\n")
        self.assertNotIn("not ok", guest.console)
        self.assertEqual(guest.wait(), 0)
        if vivtest.CPU == "kvm":
            return
        for what in ("ref_group_requests", "ref_group_exclusive"):  # the paths that are meant were taken
            self.assertRegex(guest.stderr, rf"[1-9]\d* +{what}")

    @vivtest.LONG_ON_REF
    def test_as_many_are_online_as_were_asked_for(self):
        guest = self.guest(32, "nproc; cat /proc/cpuinfo | grep -c ^processor; dmesg | grep -ciE 'stall|lockup'")
        guest.expect(r"BOOTED\n")
        guest.expect(r"\n?32\n32\n0\n")
        self.assertEqual(guest.wait(), 0)

    def test_a_processor_goes_and_comes_again(self):
        sys = "/sys/devices/system/cpu/cpu1/online"
        guest = self.guest(2, f"for i in 1 2 3; do echo 0 >{sys}; nproc; echo 1 >{sys}; nproc; done; /smp 2 0.1 locked")
        guest.expect(r"1\n2\n1\n2\n1\n2\n")
        guest.expect(r"SMP PASSED\n")
        self.assertEqual(guest.wait(), 0)

    def ctl(self, *words):
        done = subprocess.run([TOOLS / "viv-ctl", "--json", self.dir / "plug", *map(str, words)], capture_output=True, text=True,
                              timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def present(self, guest, wanted):
        guest.check(f"n=0; until [ $(cat /sys/devices/system/cpu/present) = {wanted} ] || [ $n = 300 ]; "
                    "do sleep 0.1; n=$((n + 1)); done; "
                    f"[ $(cat /sys/devices/system/cpu/present) = {wanted} ] || {{ dmesg | tail; false; }}", timeout=120)

    def online(self, guest, count):
        guest.check("for f in /sys/devices/system/cpu/cpu*/online; do [ $(cat $f) = 1 ] || echo 1 >$f; done; "
                    f"[ $(nproc) = {count} ]", timeout=120)

    @vivtest.LONG_ON_REF
    def test_processors_are_plugged_and_taken_away(self):
        vm, vivtest.VM = vivtest.VM, vivtest.PROGRAM  # one that snapping_vm.py runs has other sockets
        self.addCleanup(setattr, vivtest, "VM", vm)
        guest = self.guest("1,max=4", None, "--control", f"unix:{self.dir}/plug")
        guest.expect("BOOTED")
        guest.shell()
        self.assertEqual(guest.run("nproc; cat /sys/devices/system/cpu/possible"), (0, "1\n0-3\n"))
        self.assertEqual(self.ctl("cpus-set", 3)["cpus"], 3)
        self.present(guest, "0-2")
        self.online(guest, 3)
        guest.check("/smp 3 0.1 locked >/log || { cat /log; false; }", timeout=120)
        done = subprocess.run([TOOLS / "viv-ctl", self.dir / "plug", "snapshot", self.dir / "plugged", "--then", "quit"],
                              timeout=200)
        self.assertEqual((done.returncode, guest.wait()), (0, 0))
        guest = vivtest.Guest([vivtest.VM, "--restore", str(self.dir / "plugged"), "--serial", "stdio", "--control",
                               f"unix:{self.dir}/plug"], timeout=240)
        self.addCleanup(guest.close)
        guest.shell()
        status = self.ctl("status")
        self.assertEqual((status["cpus"], status["cpus_max"]), (3, 4))
        guest.check("[ $(nproc) = 3 ] && /smp 3 0.1 locked >/log || { cat /log; false; }", timeout=120)
        self.ctl("cpus-set", 2)
        self.present(guest, "0-1")
        self.assertEqual(self.ctl("status")["cpus"], 2)
        self.ctl("cpus-set", 4)  # the one that went comes again
        self.present(guest, "0-3")
        self.online(guest, 4)
        guest.check("/smp 4 0.1 locked >/log || { cat /log; false; }", timeout=120)
        guest.check("echo 1 >/sys/devices/system/cpu/cpu3/firmware_node/eject")  # as a user of the guest does
        self.present(guest, "0-2")
        self.assertEqual(self.ctl("status")["cpus"], 3)
        guest.send_line("reboot -f")
        guest.expect(r"BOOTED\n")
        guest.shell()
        self.assertEqual(guest.run("nproc; cat /sys/devices/system/cpu/possible"), (0, "3\n0-3\n"))

    @vivtest.LONG_ON_REF
    def test_a_reset_brings_all_back(self):
        guest = self.guest(2, None)
        for _ in range(2):
            guest.expect(r"BOOTED\n")
            guest.shell()
            self.assertEqual(guest.run("nproc"), (0, "2\n"))
            guest.send_line("reboot -f")
        guest.expect(r"BOOTED\n")

    def test_they_go_on_from_a_snapshot(self):
        vm, vivtest.VM = vivtest.VM, vivtest.PROGRAM  # one that snapping_vm.py runs is not ours
        self.addCleanup(setattr, vivtest, "VM", vm)
        control, saved = str(self.dir / "control"), str(self.dir / "saved")
        guest = self.guest(3, "while :; do /smp 3 0.1 locked; /smp 3 0.1 code; done", "--control", f"unix:{control}")
        guest.expect(r"SMP PASSED\n(?s:.*)SMP PASSED\n")
        done = subprocess.run([TOOLS / "viv-ctl", control, "snapshot", saved, "--then", "quit"], timeout=200)
        self.assertEqual(done.returncode, 0)
        self.assertEqual(guest.wait(), 0)
        again = vivtest.Guest([vivtest.VM, "--restore", saved], timeout=240)
        self.addCleanup(again.close)
        again.expect(r"SMP PASSED\n(?s:.*)SMP PASSED\n(?s:.*)SMP PASSED\n")
        self.assertNotIn("not ok", again.console)


if __name__ == "__main__":
    vivtest.tap.main()

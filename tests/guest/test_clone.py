#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Clones of a saved machine: a disk of its own for each, a new identity, a template, the working set."""
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import unittest

import vivtest

# Standard input and output to a socket and back, as socat does.
RELAY = """
import os, socket, sys, threading
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
threading.Thread(target=lambda: [s.sendall(d) for d in iter(lambda: os.read(0, 65536), b"")], daemon=True).start()
for d in iter(lambda: s.recv(65536), b""):
    os.write(1, d)
"""
TOOLS = os.path.dirname(os.path.realpath(vivtest.PROGRAM))


def tool(name, *args):
    return subprocess.run([os.path.join(TOOLS, "viv-" + name), *args], capture_output=True, text=True, timeout=300,
                          check=False)


class Clones(unittest.TestCase):
    """One Debian, saved once; each case restores it in its own way."""

    @classmethod
    def setUpClass(cls):
        # A snapshot of a machine that snapping_vm.py runs would be taken of somebody else.
        cls.addClassCleanup(setattr, vivtest, "VM", vivtest.VM)
        vivtest.VM = vivtest.PROGRAM
        folder = tempfile.TemporaryDirectory(prefix="viv-clone-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = folder.name
        cls.disk = vivtest.fresh_disk(cls)
        guest = vivtest.debian(cls, "--control", "unix:" + cls.path("a"), disk=cls.disk)
        guest.login()
        guest.run("systemctl is-system-running --wait")
        cls.wait_for_address(guest)
        guest.check("echo before >/root/mark; sync")
        cls.downs = int(guest.check("cat /sys/class/net/e*/carrier_down_count"))
        done = tool("ctl", cls.path("a"), "snapshot", cls.path("s"), "--then", "quit")
        assert done.returncode == 0, done.stderr
        guest.wait()

    @classmethod
    def path(cls, name):
        return os.path.join(cls.folder, name)

    @staticmethod
    def wait_for_address(guest):
        guest.check("n=120; until ip -4 -br addr show scope global | grep -q '10\\.0\\.2\\.'; "
                    "do sleep 1; [ $((n -= 1)) -gt 0 ] || exit 1; done")

    def overlay(self, name):
        path = self.path(name)
        done = tool("img", "create", "-f", "qcow2", "-b", self.disk, "-F", "raw", path)
        self.assertEqual(done.returncode, 0, done.stderr)
        return path

    def restored(self, *options):
        guest = vivtest.Guest([vivtest.VM, "--restore", self.path("s"), *options])
        self.addCleanup(guest.close)
        return guest

    def refused(self, *options):
        done = subprocess.run([vivtest.VM, "--restore", self.path("s"), *options], capture_output=True, text=True,
                              timeout=60, stdin=subprocess.DEVNULL, check=False)
        self.assertEqual(done.returncode, 2, done.stderr)
        return done.stderr

    def test_clones_at_the_same_time_write_each_to_its_own_overlay(self):
        before = os.stat(self.disk).st_mtime_ns
        clones = [self.restored("--disk", self.overlay(f"o{i}.qcow2"), "--nic", "user") for i in range(3)]
        for i, guest in enumerate(clones):
            guest.check(f"echo clone {i} >/root/mark; dd if=/dev/urandom of=/root/x bs=64k count=20 conv=fsync; sync; "
                        "echo 3 >/proc/sys/vm/drop_caches")
        for i, guest in enumerate(clones):
            self.assertEqual(guest.check("cat /root/mark"), f"clone {i}\n")
            guest.check("cmp -n 65536 /root/x /root/x")
            guest.close()
        self.assertEqual(os.stat(self.disk).st_mtime_ns, before)
        for i in range(3):  # killed; at worst clusters have leaked
            self.assertIn(tool("img", "check", self.path(f"o{i}.qcow2")).returncode, (0, 3))
        # What a clone has written does not fit the memory of the snapshot any more.
        said = self.refused("--disk", self.path("o0.qcow2"))
        self.assertIn("is not empty", said)
        self.assertIn("viv-img create", said)

    def test_an_overlay_on_a_disk_that_was_written_since_is_refused(self):
        self.overlay("p.qcow2")
        then = os.stat(self.disk)
        os.utime(self.disk)
        try:
            self.assertIn("was written after the snapshot", self.refused("--disk", self.path("p.qcow2")))
        finally:
            os.utime(self.disk, ns=(then.st_atime_ns, then.st_mtime_ns))

    def test_a_new_identity_has_another_mac_address_and_the_link_goes_down_and_up(self):
        clones = [self.restored("--disk", self.overlay(f"q{i}.qcow2"), "--nic", nic, "--renew-identity",
                                "--control", "unix:" + self.path(f"q{i}"))
                  for i, nic in enumerate(("user", "user", "user,mac=52:54:00:aa:bb:cc"))]
        macs = []
        for i, guest in enumerate(clones):
            interface = guest.check("basename $(ls -d /sys/class/net/e*)").strip()
            there = f"/sys/class/net/{interface}"
            guest.check(f"n=60; until [ $(cat {there}/carrier_down_count) -gt {self.downs} ] && "
                        f"[ $(cat {there}/carrier) = 1 ]; do sleep 1; [ $((n -= 1)) -gt 0 ] || exit 1; done")
            self.assertEqual(int(guest.check(f"cat {there}/carrier_down_count")), self.downs + 1)
            # networkd asked for its address again.
            guest.check("n=60; until journalctl -b -u systemd-networkd -o cat >/tmp/log; "
                        f"grep -q '{interface}: Lost carrier' /tmp/log && [ $(grep -c 'DHCPv4 address' /tmp/log) -ge 2 ]; "
                        "do sleep 1; [ $((n -= 1)) -gt 0 ] || exit 1; done")
            # The driver reads the address when it begins.
            device = guest.check(f"basename $(readlink -f {there}/device)").strip()
            guest.check(f"cd /sys/bus/virtio/drivers/virtio_net && echo {device} >unbind && echo {device} >bind")
            self.wait_for_address(guest)
            macs.append(guest.check("cat /sys/class/net/e*/address").strip())
            status = tool("ctl", "--json", self.path(f"q{i}"), "status").stdout
            self.assertIn(macs[-1], status)
            guest.close()
        self.assertEqual(macs[2], "52:54:00:aa:bb:cc")
        self.assertEqual(len({*macs, "52:54:00:12:34:56"}), 4, macs)

    # ---- a template ----

    def template(self, *options):
        path = self.path("t")
        if os.path.exists(path):  # of one that was killed
            os.unlink(path)
        process = subprocess.Popen([vivtest.VM, "--restore", self.path("s"), "--template", "--control", "unix:" + path,
                                    *options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        end = time.monotonic() + 60
        while not os.path.exists(path) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        return process

    def clone(self, name, *options):
        """The number of a new process; it ends with the test."""
        done = tool("ctl", "--json", self.path("t"), "clone", "--", "--control", "unix:" + self.path(name), *options)
        self.assertEqual(done.returncode, 0, done.stderr)
        pid = json.loads(done.stdout)["pid"]
        self.addCleanup(tool, "ctl", self.path(name), "quit")
        return pid

    def status(self, name):
        done = tool("ctl", "--json", self.path(name), "status")
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_a_template_forks_machines_that_live_on_without_it(self):
        template = self.template("--nic", "user")
        pids = [self.clone(f"t{i}", "--disk", self.overlay(f"t{i}.qcow2"), "--name", f"clone{i}",
                           "--serial", "unix:" + self.path(f"serial{i}")) for i in range(3)]
        self.assertEqual(len({*pids, template.pid}), 4)
        for i, pid in enumerate(pids):
            status = self.status(f"t{i}")
            self.assertEqual((status["state"], status["pid"], status["name"]), ("running", pid, f"clone{i}"))
        template.terminate()
        self.assertEqual(template.wait(60), 0)
        self.assertFalse(os.path.exists(self.path("t")))
        for i in range(3):
            relay = vivtest.Guest([sys.executable, "-c", RELAY, self.path(f"serial{i}")])
            self.addCleanup(relay.close)
            relay.check(f"echo {i} >/root/mark; sync; echo 3 >/proc/sys/vm/drop_caches")
            self.assertEqual(relay.check("cat /root/mark"), f"{i}\n")
        # A snapshot of a clone forks a child that is waited for.
        done = tool("ctl", self.path("t0"), "snapshot", self.path("s0"), "--then", "quit")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(tool("state", "check", self.path("s0")).returncode, 0)

    def test_clones_of_a_template_share_its_memory(self):
        self.template("--nic", "user")
        pids = [self.clone(f"m{i}", "--disk", self.overlay(f"m{i}.qcow2"), "--paused") for i in range(3)]
        for i, pid in enumerate(pids):
            self.assertEqual(self.status(f"m{i}")["state"], "paused")
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
                private = sum(int(line.split()[1]) for line in f if line.startswith("Private_"))
            self.assertLess(private, 4096)

    def test_what_a_template_cannot_do_is_refused_and_the_next_client_is_served(self):
        template = self.template("--nic", "user")
        rude = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for s in rude:
            self.addCleanup(s.close)
            s.connect(self.path("t"))
        rude[0].sendall(b"\0" * 70000)  # longer than a line may be
        rude[1].sendall(b'{"command": "clone", "arguments": {"options": [1]}}\n')
        rude[2].sendall(b'{"command":')  # and no more
        self.assertIn(b"'options' must hold strings", rude[1].makefile("rb").read())
        for words, text in ((("status",), "knows the command clone alone"),
                            (("clone", "--", "--nonsense"), "there is no option '--nonsense'"),
                            (("clone", "--", "--template", "--control", "unix:/x"), "a clone is a machine"),
                            (("clone", "--", "--restore", "/elsewhere"), "leave out --restore"),
                            (("clone", "--", "--paused"), "--paused leaves nobody"),
                            (("clone", "--", "--disk", "/nowhere.qcow2"), "/nowhere.qcow2"),
                            (("clone", "now"), "takes no further word")):
            done = tool("ctl", self.path("t"), *words)
            self.assertIn(done.returncode, (1, 2), (words, done.stderr))
            self.assertIn(text, done.stderr)
        self.clone("n", "--disk", self.overlay("n.qcow2"))
        done = tool("ctl", self.path("n"), "clone")
        self.assertEqual(done.returncode, 3)
        self.assertIn("no template", done.stderr)
        self.assertIsNone(template.poll())

    def test_the_working_set_is_recorded_and_loaded_early(self):
        guest = self.restored("--disk", self.overlay("w0.qcow2"), "--nic", "user", "--record-working-set", "2",
                              "--control", "unix:" + self.path("w0"))
        guest.check("sleep 3; cat /root/mark")
        guest.close()
        recorded = os.path.getsize(self.path("s/working-set"))
        self.assertGreater(recorded, 44 + 8 * 20)
        self.assertEqual(tool("state", "check", self.path("s")).returncode, 0)
        guest = self.restored("--disk", self.overlay("w1.qcow2"), "--nic", "user", "--prefetch", "--trace",
                              "machine_prefetched")
        self.assertEqual(guest.check("cat /root/mark"), "before\n")
        self.assertRegex(guest.stderr, r"machine_prefetched pieces=\d\d")
        guest.close()
        with open(self.path("s/working-set"), "r+b") as f:
            f.seek(50)
            byte = f.read(1)
            f.seek(50)
            f.write(bytes([byte[0] ^ 1]))
        guest = self.restored("--disk", self.overlay("w2.qcow2"), "--nic", "user", "--prefetch")
        self.assertEqual(guest.check("cat /root/mark"), "before\n")
        self.assertRegex(guest.stderr, r"working set is damaged")
        os.unlink(self.path("s/working-set"))


if __name__ == "__main__":
    vivtest.tap.main()

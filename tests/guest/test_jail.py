#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The jail of a running machine as the host sees it (docs/jail.md); tests/jail/ has it from inside."""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

import mini
import vivtest

CTL = str(pathlib.Path(vivtest.PROGRAM).with_name("viv-ctl"))


def files_of(pid):
    """The files that a process has open, as (device, inode), for the names that the kernel shows are other ones under a
    root that was changed; what it closes meanwhile is left out."""
    files = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(f"/proc/{pid}/fd/{name}")
            files.add((found.st_dev, found.st_ino))
    return files


def file_at(path):
    found = os.stat(path)
    return found.st_dev, found.st_ino


def runs(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Jail(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="viv-jail-")
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)
        self.control = self.dir / "ctl"
        (self.dir / "kernel").write_bytes(mini.elf(mini.STOP))

    def start(self, *words, **how):
        return self.launch(vivtest.VM, "--kernel", self.dir / "kernel", "--memory", "16M",
                           "--control", f"unix:{self.control}", *words, **how)

    def launch(self, *words, **how):
        """Its first status, which comes when it is in the jail."""
        self.vm = subprocess.Popen([*words, "--serial", "none"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                   text=True, **how)
        self.addCleanup(self.end)
        vivtest.wait_for_listener(self, self.vm, self.control)
        return self.ctl("status")

    def end(self):
        if self.vm.returncode is None:
            self.vm.kill()
            self.vm.communicate()

    def ctl(self, *words):
        done = subprocess.run([CTL, "--json", self.control, *map(str, words)], capture_output=True, text=True,
                              timeout=100, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return json.loads(done.stdout.splitlines()[-1])

    def test_a_machine_has_no_rights_and_an_empty_root(self):
        status = self.start()
        proc, jail = pathlib.Path(f"/proc/{status['pid']}"), status["jail"]
        text = (proc / "status").read_text()
        self.assertTrue(jail["in"] and jail["filter"] and jail["no_capabilities"], jail)
        for line in ("CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
            self.assertIn(line, text)
        self.assertNotEqual(text.split("Uid:")[1].split()[0], "0")
        if jail["empty_root"]:
            self.assertEqual(os.listdir(proc / "root"), [])
        for name in ("mount", "network", "ipc", "uts"):
            link = {"mount": "mnt", "network": "net"}.get(name, name)
            if jail[f"{name}_namespace"]:
                self.assertNotEqual(os.readlink(proc / "ns" / link), os.readlink(f"/proc/self/ns/{link}"))

    def test_what_a_client_names_is_opened_and_nothing_else_is_left_open(self):
        with open(self.dir / "disk", "wb") as f:
            f.truncate(1 << 20)
        leak = os.open("/etc/passwd", os.O_RDONLY)
        self.addCleanup(os.close, leak)
        status = self.start(pass_fds=[leak])
        if status["jail"]["in"]:
            opened = files_of(status["pid"])
            self.assertIn(file_at(self.dir / "kernel"), opened, "the listing sees what is open")
            self.assertNotIn(file_at("/etc/passwd"), opened)
        self.assertEqual(self.ctl("disk-add", self.dir / "disk")["disk"], 0)
        self.ctl("snapshot", self.dir / "state")
        self.assertTrue((self.dir / "state/memory").exists())
        self.assertEqual(len(self.ctl("status")["disks"]), 1)

    def test_a_changed_root_changes_nothing(self):
        """The names that the kernel tells of what is open are those of another root there."""
        root = self.dir / "root"
        for name in ("usr", "proc", "dev"):
            (root / name).mkdir(parents=True)
        for name in ("lib", "lib64"):
            (root / name).symlink_to(f"usr/{name}")
        shutil.copy(vivtest.PROGRAM, root / "viv-vm")
        shutil.copy(self.dir / "kernel", root)
        for name, backing in (("base", []), ("top", ["-b", "base", "-F", "qcow2"])):
            subprocess.run([vivtest.ROOT / "build/viv-img", "create", "-q", "-f", "qcow2", *backing, root / name, "1M"],
                           check=True)
        inner = ["unshare", "--mount", "--propagation", "private", "sh", "-ec",
                 'for i in usr proc dev; do mount --rbind /$i "$0/$i"; done; exec chroot "$0" "$@"', str(root), "/viv-vm"]
        if subprocess.run([*inner, "--version"], capture_output=True, check=False).returncode:
            self.skipTest("needs the right to mount")
        self.control = root / "ctl"
        inner += ["--control", "unix:/ctl"]
        self.launch(*inner, "--kernel", "/kernel", "--memory", "16M", "--disk", "/top,format=qcow2")
        self.ctl("snapshot", "/state")
        self.end()
        self.launch(*inner, "--restore", "/state")
        self.ctl("disk-commit", 0, "--complete")  # the file below is opened once more, for writing
        self.assertEqual([d["path"] for d in self.ctl("status")["disks"]], ["/base"])

    def test_who_came_and_went_takes_nobodys_place(self):
        """The machine has room for 64 clients, and sees them by way of the jail's helper only."""
        pid = self.start()["pid"]

        def rude():
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(str(self.control))
                s.sendall(b'{"command": "stats"}\n' * 3)
        os.kill(pid, signal.SIGSTOP)
        for _ in range(40):
            rude()
        with socket.socket(socket.AF_UNIX) as polite:
            polite.connect(str(self.control))
            polite.settimeout(100)
            for _ in range(70):
                rude()
            os.kill(pid, signal.SIGCONT)
            for _ in range(3):
                self.ctl("status")
            polite.sendall(b'{"id": 7, "command": "status"}\n')
            lines = polite.makefile()
            while (line := lines.readline()) and json.loads(line).get("id") != 7:
                self.assertNotIn("error", json.loads(line), line)
            self.assertTrue(line)

    def test_it_ends_with_its_starter_if_that_asked_for_it(self):
        words = [vivtest.VM, "--kernel", self.dir / "kernel", "--memory", "16M", "--serial", "none",
                 "--control", f"unix:{self.control}"]
        starter = subprocess.Popen(["sh", "-c", 'setpriv --pdeathsig KILL "$@" & wait', "sh", *words],
                                   stdin=subprocess.DEVNULL)
        vivtest.wait_for_listener(self, starter, self.control)
        pid = self.ctl("status")["pid"]
        self.assertTrue(runs(pid))
        starter.kill()
        starter.wait()
        until = time.monotonic() + 100
        while runs(pid):
            self.assertLess(time.monotonic(), until)
            time.sleep(0.01)

    def test_without_it_there_is_a_warning(self):
        self.assertFalse(self.start("--no-jail")["jail"]["in"])
        self.ctl("quit")
        self.assertIn("no jail around this machine", self.vm.communicate(timeout=100)[1])
        self.assertEqual(self.vm.returncode, 0)

    def test_only_root_becomes_another_user(self):
        done = subprocess.run([vivtest.VM, "--kernel", str(self.dir / "kernel"), "--jail-user", "no-such-user"],
                              capture_output=True, text=True, timeout=100, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("--jail-user", done.stderr)


if __name__ == "__main__":
    vivtest.tap.main()

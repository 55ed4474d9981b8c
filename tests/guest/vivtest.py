# SPDX-License-Identifier: GPL-2.0-or-later
"""What the guest tests share: the program under test, the demo guest, throw-away disks.

VIV_VM names another program to test, VIV_GUEST another folder with a guest, VIV_TEST_CPU a processor backend.
VIV_SNAP=random saves, ends and restores every machine at random moments (tests/support/snapping_vm.py).
"""
import base64
import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import unittest.mock

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests/support")]
import tap  # noqa: E402,F401
from guest_driver import Guest, GuestError  # noqa: E402,F401

CPU = os.environ.get("VIV_TEST_CPU", "auto")
LONG = unittest.skipUnless(os.environ.get("VIV_LONG"), "long: set VIV_LONG")
LONG_ON_REF = unittest.skipIf(CPU == "ref" and not os.environ.get("VIV_LONG"), "long on the interpreter: set VIV_LONG")
VM = os.environ.get("VIV_VM", str(ROOT / "build/viv-vm"))
PROGRAM = VM
if os.environ.get("VIV_SNAP") == "random":
    os.environ["VIV_SNAP_VM"] = VM
    VM = str(ROOT / "tests/support/snapping_vm.py")
GUEST = pathlib.Path(os.environ.get("VIV_GUEST", ROOT / "build/guest"))


def fresh_disk(test):
    """A copy of the demo disk that lives as long as the test (a case or a class)."""
    folder = tempfile.TemporaryDirectory(dir=GUEST, prefix="test-")
    add = test.addClassCleanup if isinstance(test, type) else test.addCleanup
    add(folder.cleanup)
    path = os.path.join(folder.name, "disk.raw")
    subprocess.run(["cp", "--reflink=auto", "--sparse=always", GUEST / "debian12.raw", path], check=True)
    return path


def program_for_everybody(test, folder):
    """Until the test's end the program is a copy in that folder, which other users can reach: the tree need not be."""
    folder.chmod(0o755)
    copy = folder / "viv-vm"
    shutil.copy(PROGRAM, copy)
    patch = unittest.mock.patch.dict(globals(), VM=str(copy))
    patch.start()
    test.addCleanup(patch.stop)


def one_process(test):
    """Until the test's end machines are not saved and restored at random: it looks at one process, or at what belongs to one."""
    patch = unittest.mock.patch.dict(globals(), VM=PROGRAM)
    patch.start()
    test.addCleanup(patch.stop)


def wait_for_listener(test, process, path):
    """The name is there a moment before anybody listens."""
    while True:
        code = process.poll()
        test.assertIsNone(code, code is not None and process.stderr and process.stderr.read())
        with socket.socket(socket.AF_UNIX) as s, contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            s.connect(str(path))
            return
        time.sleep(0.01)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def debian(test, *options, disk=None, nic="user", append="", **kw):
    """Starts the demo guest; the machine ends with the test."""
    guest = Guest([VM, "--name", "test", "--cpu", CPU, "--memory", "1G", "--kernel", str(GUEST / "vmlinuz"),
                   "--initrd", str(GUEST / "initrd.img"),
                   "--append", f"root=LABEL=root rw console=ttyS0 {append}".strip(),
                   "--disk", disk or fresh_disk(test), "--nic", nic, "--serial", "stdio", *options], **kw)
    (test.addClassCleanup if isinstance(test, type) else test.addCleanup)(guest.close)
    return guest


def tiny(test, command=None, *options, append="", nic="none", **kw):
    """Starts the busybox guest; with a command it runs that, prints EXIT n and powers off."""
    words = ["console=ttyS0 quiet", append]
    if command is not None:
        words.append("viv.run64=" + base64.b64encode(command.encode()).decode())
    guest = Guest([VM, "--name", "tiny", "--cpu", CPU, "--memory", "256M", "--kernel", str(GUEST / "vmlinuz"),
                   "--initrd", str(GUEST / "tiny.cpio.gz"), "--append", " ".join(w for w in words if w),
                   "--nic", nic, "--serial", "stdio", *options], **kw)
    (test.addClassCleanup if isinstance(test, type) else test.addCleanup)(guest.close)
    return guest

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The screen of a Linux guest: its console on the VGA, seen as a PNG and by VNC, typed at, saved and restored."""
import pathlib
import socket
import struct
import subprocess
import tempfile
import time
import unittest

import vivtest
from png import read_png

LIMIT = 120  # seconds; a host that does ten things at once is slow
CTL = str(pathlib.Path(vivtest.PROGRAM).with_name("viv-ctl"))


class Viewer:
    """A VNC client that knows raw pixels, in the format of the server."""

    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(LIMIT)
        self.s.connect(path)
        assert self.take(12) == b"RFB 003.008\n"
        self.s.sendall(b"RFB 003.008\n")
        assert self.take(2) == b"\1\1"
        self.s.sendall(b"\1")
        assert self.take(4) == bytes(4)
        self.s.sendall(b"\1")
        self.width, self.height = struct.unpack(">HH", self.take(4))
        self.take(16)
        self.name = self.take(struct.unpack(">I", self.take(4))[0]).decode()
        self.s.sendall(struct.pack(">BxHi", 2, 1, 0))

    def take(self, n):
        data = b""
        while len(data) < n:
            part = self.s.recv(n - len(data))
            assert part, "the server has hung up"
            data += part
        return data

    def key(self, sym):
        self.s.sendall(struct.pack(">BBxxIBBxxI", 4, 1, sym, 4, 0, sym))

    def picture(self):
        self.s.sendall(struct.pack(">BBHHHH", 3, 0, 0, 0, self.width, self.height))
        rows = [bytearray(3 * self.width) for _ in range(self.height)]
        kind, count = struct.unpack(">BxH", self.take(4))
        assert kind == 0
        for _ in range(count):
            x, y, w, h, encoding = struct.unpack(">HHHHi", self.take(12))
            assert encoding == 0
            for row in range(y, y + h):
                data = self.take(4 * w)
                rgb = bytearray(3 * w)
                rgb[0::3], rgb[1::3], rgb[2::3] = data[2::4], data[1::4], data[0::4]
                rows[row][3 * x:3 * (x + w)] = rgb
        return [bytes(r) for r in rows]


class Screen(unittest.TestCase):
    def setUp(self):
        vivtest.one_process(self)  # viewers are connected to it, and it is saved by the test
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)
        self.control, self.vnc = str(self.dir / "ctl"), str(self.dir / "vnc")

    def ctl(self, *words):
        done = subprocess.run([CTL, self.control, *words], capture_output=True, text=True, timeout=LIMIT, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)

    def picture(self):
        self.ctl("screenshot", "--file", str(self.dir / "png"))
        return read_png((self.dir / "png").read_bytes())

    def start(self, *options):
        return vivtest.tiny(self, "exec sh </dev/tty0 >/dev/tty0 2>&1", "--control", "unix:" + self.control,
                            "--display", "vnc=unix:" + self.vnc, *options, append="console=tty0 console=ttyS0 vt.global_cursor_default=0")

    def at_rest(self):
        """The picture, when it has stopped changing."""
        before, until = None, time.monotonic() + LIMIT
        while time.monotonic() < until:
            now = self.picture()
            if now == before:
                return now
            before = now
            time.sleep(0.5)
        self.fail("the picture does not come to rest")

    def test_the_console_is_on_the_screen_and_takes_keys_from_all_sides(self):
        guest = self.start()
        guest.expect(r"BOOTED")
        self.ctl("send-text", "echo Type-D >/dev/ttyS0", "--enter")
        guest.expect(r"Type-D")
        viewer = Viewer(self.vnc)
        self.assertEqual((viewer.width, viewer.height, viewer.name), (720, 400, "tiny"))
        for letter in "echo $((40+2)) VNC >/dev/ttyS0":
            viewer.key(ord(letter))
        viewer.key(0xff0d)
        guest.expect(r"42 VNC")
        width, height, rows = self.at_rest()
        self.assertEqual((width, height), (720, 400))
        lit = sum(any(row[3 * x:3 * x + 3]) for row in rows for x in range(width))
        self.assertGreater(lit, 2000)
        self.assertEqual(viewer.picture(), rows)

    def test_a_screen_is_saved_and_restored(self):
        guest = self.start()
        guest.expect(r"BOOTED")
        self.ctl("send-text", "clear; echo before", "--enter")
        before = self.at_rest()
        self.ctl("snapshot", str(self.dir / "snap"), "--then", "quit")
        guest.wait()
        again = vivtest.Guest([vivtest.PROGRAM, "--restore", str(self.dir / "snap"), "--serial", "stdio",
                               "--control", "unix:" + self.control])
        self.addCleanup(again.close)
        until = time.monotonic() + LIMIT
        while not pathlib.Path(self.control).exists() and time.monotonic() < until:
            time.sleep(0.05)
        self.assertEqual(self.picture(), before)
        self.assertEqual(Viewer(self.vnc).picture(), before[2])
        self.ctl("send-text", "echo after >/dev/ttyS0", "--enter")
        again.expect(r"after")

    def test_keys_that_wait_are_saved_with_the_machine(self):
        guest = self.start()
        guest.expect(r"BOOTED")
        line = "0123456789" * 30
        self.ctl("send-text", f"echo {line}-typed >/dev/ttyS0", "--enter")  # takes seconds
        self.ctl("snapshot", str(self.dir / "snap"), "--then", "quit")
        self.assertEqual(guest.wait(), 0)
        self.assertNotIn("typed", guest.console)
        again = vivtest.Guest([vivtest.PROGRAM, "--restore", str(self.dir / "snap"), "--serial", "stdio"])
        self.addCleanup(again.close)
        again.expect(line + "-typed")


if __name__ == "__main__":
    vivtest.tap.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's kernel with its e1000e driver: an address by DHCP, megabytes both ways, also by INTx, and after a
snapshot. Only if VIV_LONG is set: it downloads a kernel of 70 MB once."""
import functools
import hashlib
import http.server
import os
import pathlib
import re
import socket
import subprocess
import tempfile
import threading
import unittest

import vivtest
from initrd import with_tree
from packages import unpacked

CTL = pathlib.Path(vivtest.PROGRAM).resolve().parent / "viv-ctl"
SIZE = 8 << 20


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def kernel_package():
    text = subprocess.run(["apt-cache", "depends", "linux-image-amd64"], capture_output=True, text=True).stdout
    return re.search(r"Depends: (linux-image-\S+)", text).group(1)


@unittest.skipUnless(os.environ.get("VIV_LONG"), "long: set VIV_LONG")
class E1000e(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="viv-e1k-")
        cls.addClassCleanup(folder.cleanup)
        cls.dir = pathlib.Path(folder.name)
        files = unpacked(kernel_package())
        cls.kernel = next(files.glob("boot/vmlinuz-*"))
        cls.initrd = with_tree({"e1000e.ko": next(files.rglob("e1000e.ko"))}, cls.dir / "initrd")
        data = os.urandom(SIZE)
        (cls.dir / "data").write_bytes(data)
        cls.sum = hashlib.sha256(data).hexdigest()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder.name))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        cls.addClassCleanup(server.server_close)
        cls.addClassCleanup(server.shutdown)
        cls.port = server.server_port

    def sink(self, got):
        """A server that takes SIZE bytes from one client and adds their sum to `got`."""
        listener = socket.create_server(("127.0.0.1", 0))

        def take():
            with listener, listener.accept()[0] as s:
                left, h = SIZE, hashlib.sha256()
                while left and (piece := s.recv(65536)):
                    h.update(piece)
                    left -= len(piece)
                got.append(h.hexdigest())
        threading.Thread(target=take, daemon=True).start()
        return listener.getsockname()[1]

    def start(self, parameters, *options):
        up = (f"insmod /e1000e.ko {parameters}; ip link set eth0 up; sleep 3; udhcpc -i eth0 -n -q -s /bin/true;"
              "ip addr add 10.0.2.15/24 dev eth0; echo READY")
        guest = vivtest.tiny(self, None, "--kernel", str(self.kernel), "--initrd", self.initrd, "--memory", "512M",
                             *options, nic="user,model=e1000e", timeout=200)
        guest.expect(r"BOOTED\n")
        guest.shell()
        code, out = guest.run(up)
        self.assertIn("lease of 10.0.2.15 obtained", out)
        return guest

    def moves_megabytes(self, guest):
        got = []
        port = self.sink(got)
        code, out = guest.run(f"wget -q -O /data http://10.0.2.2:{self.port}/data; sha256sum /data;"
                              f"nc 10.0.2.2 {port} </data")
        self.assertIn(self.sum, out)
        self.assertEqual(got, [self.sum])

    def test_megabytes_go_both_ways(self):
        guest = self.start("")
        self.moves_megabytes(guest)
        self.assertIn("eth0-rx-0", guest.run("cat /proc/interrupts")[1])

    def test_by_one_wire_as_well(self):
        guest = self.start("IntMode=0")
        self.moves_megabytes(guest)
        self.assertIn("IO-APIC", [n for n in guest.run("cat /proc/interrupts")[1].splitlines() if "eth0" in n][0])

    def test_and_from_a_snapshot(self):
        control, saved = str(self.dir / "control"), str(self.dir / "saved")
        guest = self.start("", "--control", f"unix:{control}")
        guest.send_line("while ! [ -e /go ]; do ping -c 1 10.0.2.2 | grep -c 'bytes from'; sleep 1; done")
        guest.expect(r"\n1\r?\n")
        subprocess.run([CTL, control, "snapshot", saved, "--then", "quit"], check=True, timeout=100)
        again = vivtest.Guest([vivtest.VM, "--restore", saved], timeout=100)
        self.addCleanup(again.close)
        again.expect(r"1\r?\n(?s:.*)1\r?\n")


if __name__ == "__main__":
    vivtest.tap.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""VNC under TLS by Python's client: the certificate that was made is the one that is shown, and the picture comes."""
import os
import pathlib
import socket
import ssl
import struct
import subprocess
import tempfile
import time
import unittest

import mini
import vivtest


def take(s, n):
    got = b""
    while len(got) < n:
        got += (data := s.recv(n - len(got)))
        assert data, "the server has hung up"
    return got


def greet(s):
    """The handshake of RFB up to VeNCrypt with TLS, X.509 and a password (RFB protocol, rfbproto community edition)."""
    assert take(s, 12) == b"RFB 003.008\n"
    s.sendall(b"RFB 003.008\n")
    assert take(s, 2) == b"\x01\x13"
    s.sendall(b"\x13")
    assert take(s, 2) == b"\0\x02"
    s.sendall(b"\0\x02")
    assert take(s, 6) == b"\0\x01" + struct.pack(">I", 262)
    s.sendall(struct.pack(">I", 262))
    assert take(s, 1) == b"\x01"


def log_in(s, certificate, password):
    """The stream under TLS, and what the server says to the password: 0 is yes."""
    s = ssl.create_default_context(cafile=certificate).wrap_socket(s, server_hostname="localhost")
    s.sendall(struct.pack(">II", 2, len(password)) + b"me" + password)
    return s, struct.unpack(">I", take(s, 4))[0]


class VncTls(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="viv-")
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)
        (self.dir / "kernel").write_bytes(mini.elf(mini.STOP))
        (self.dir / "password").write_text("a password of more than eight bytes\n")
        self.port = vivtest.free_port()
        self.vm = subprocess.Popen(
            [vivtest.PROGRAM, "--memory", "32M", "--kernel", str(self.dir / "kernel"), "--serial", "none", "--display",
             f"vnc=127.0.0.1:{self.port},tls={self.dir}/tls,password-file={self.dir}/password"],
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.addCleanup(self.end)

    def end(self):
        self.vm.kill()
        self.vm.communicate()

    def connect(self):
        while True:
            try:
                s = socket.create_connection(("127.0.0.1", self.port), timeout=60)
                break
            except ConnectionRefusedError:
                self.assertIsNone(self.vm.poll())
                time.sleep(0.05)
        self.addCleanup(s.close)
        greet(s)
        return s

    def log_in(self, password):
        s, result = log_in(self.connect(), self.dir / "tls/cert.pem", password)
        self.addCleanup(s.close)
        return s, result

    def test_a_viewer_that_trusts_the_certificate_sees_the_screen(self):
        s, result = self.log_in(b"a password of more than eight bytes")
        self.assertEqual(result, 0)
        s.sendall(b"\x01")
        width, height = struct.unpack(">HH", take(s, 4))
        take(s, 16)
        take(s, struct.unpack(">I", take(s, 4))[0])
        s.sendall(struct.pack(">BBHHHH", 3, 0, 0, 0, width, height))
        self.assertEqual(take(s, 4)[:2], b"\0\0")
        self.assertEqual(struct.unpack(">HHHHi", take(s, 12))[4], 0)
        self.assertEqual(self.log_in(b"wrong")[1], 1)
        self.assertEqual(os.stat(self.dir / "tls/key.pem").st_mode & 0o777, 0o600)

    def test_one_that_does_not_trust_it_goes_away(self):
        with self.assertRaises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(self.connect(), server_hostname="localhost")
        self.assertEqual(self.log_in(b"a password of more than eight bytes")[1], 0)


if __name__ == "__main__":
    vivtest.tap.main()

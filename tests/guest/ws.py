# SPDX-License-Identifier: GPL-2.0-or-later
"""A tiny client of WebSockets (RFC 6455) that can also do what it must not."""
import base64
import hashlib
import os
import struct
import time

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Refused(Exception):
    def __init__(self, status, text):
        super().__init__(f"{status}: {text}")
        self.status, self.text = status, text


def exactly(sock, n):
    data = b""
    while len(data) < n:
        more = sock.recv(n - len(data))
        if not more:
            raise EOFError(data)
        data += more
    return data


class WebSocket:
    def __init__(self, sock, path, protocol="binary", **headers):
        self.sock = sock
        key = base64.b64encode(os.urandom(16)).decode()
        lines = {"Host": "x", "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                 "Sec-WebSocket-Key": key, "Sec-WebSocket-Protocol": protocol}
        lines.update({k.replace("_", "-"): v for k, v in headers.items()})
        head = "".join(f"{k}: {v}\r\n" for k, v in lines.items() if v is not None)
        sock.sendall(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += exactly(sock, 1)
        lines = answer.decode().split("\r\n")
        self.headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:] if line)}
        status = int(lines[0].split()[1])
        if status != 101:
            raise Refused(status, exactly(sock, int(self.headers.get("content-length", 0))).decode())
        wanted = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
        assert self.headers["sec-websocket-accept"] == wanted, self.headers

    def frame(self, opcode, data=b"", fin=True, mask=True, length=None, reserved=0):
        n = len(data) if length is None else length
        head = bytes([(fin << 7) | reserved | opcode])
        bit = mask << 7
        head += bytes([bit | n]) if n < 126 else \
            bytes([bit | 126]) + struct.pack(">H", n) if n < 1 << 16 else bytes([bit | 127]) + struct.pack(">Q", n)
        if not mask:
            return head + data
        key = os.urandom(4)
        return head + key + bytes(b ^ key[i & 3] for i, b in enumerate(data))

    def send(self, data, opcode=BINARY, **how):
        self.sock.sendall(self.frame(opcode, data, **how))

    def receive(self):
        """One frame: (opcode, data)."""
        first, second = exactly(self.sock, 2)
        assert first & 0x70 == 0 and first & 0x80, "the server sends whole frames without extensions"
        assert not second & 0x80, "a server does not mask"
        n = second & 127
        if n == 126:
            n = struct.unpack(">H", exactly(self.sock, 2))[0]
        elif n == 127:
            n = struct.unpack(">Q", exactly(self.sock, 8))[0]
        return first & 15, exactly(self.sock, n)

    def until(self, word):
        """Bytes of data frames up to those with the word."""
        text = b""
        while word not in text:
            opcode, data = self.receive()
            assert opcode in (BINARY, PING, PONG), (opcode, data, text)
            text += data if opcode == BINARY else b""
        return text

    def closed(self):
        """The code of the Close that comes, is answered, and after which nothing does."""
        while True:
            opcode, data = self.receive()
            if opcode == CLOSE:
                self.send(data[:2], CLOSE)
                begun = time.monotonic()
                assert self.sock.recv(1) == b""
                assert time.monotonic() - begun < 8, "an answered Close ends the connection"
                return struct.unpack(">H", data[:2])[0] if data else None

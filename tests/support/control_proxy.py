# SPDX-License-Identifier: GPL-2.0-or-later
"""A control socket that outlives the machine behind it: snapping_vm.py gives it to the tests' own clients.

Each client gets a connection of its own to the machine of the moment. Before a life of the machine ends, hold() keeps new
commands back and waits for the answers to the others; attach() then connects every client to the next machine, says again
which events it wants, and drops the greetings and answers that the client knows nothing of. Nothing else is changed: bytes
that are no message pass as they are.
"""
import contextlib
import json
import os
import socket
import threading
import time

LINE = 64 << 10  # the machine takes no longer one
ASKED = "snapping-vm"  # the id of what is said again


def quiet(action, *args):
    with contextlib.suppress(OSError):
        action(*args)


class Client:
    """Somebody's connection to the proxy, and the one to the machine."""

    def __init__(self, proxy, sock):
        self.proxy, self.sock = proxy, sock
        self.machine = None  # the connection of this life
        self.waiting = 0  # commands without an answer
        self.asked = []  # those of them that are "events", by their order among all: None for others
        self.events = None  # what it wants to be told, as it said it last with success
        self.greeted = self.closing = self.gone = False
        threading.Thread(target=self.from_client, daemon=True).start()

    def connect(self):
        """To the machine of now; called with the proxy's lock."""
        machine = socket.socket(socket.AF_UNIX)
        machine.connect(self.proxy.inner)
        self.machine = machine
        skip = self.greeted
        if self.events is not None:
            machine.sendall(json.dumps({"id": ASKED, "command": "events", "arguments": self.events}).encode() + b"\n")
        if self.closing:
            quiet(machine.shutdown, socket.SHUT_WR)
        told = threading.Event()
        threading.Thread(target=self.from_machine, args=(machine, skip, told), daemon=True).start()
        return told if self.events is not None else None

    def from_client(self):
        rest = b""
        while data := self.receive(self.sock):
            rest += data
            *lines, rest = rest.split(b"\n")
            for line in lines:
                self.send(line + b"\n", line.strip() != b"")
            if len(rest) > LINE:  # too long: the machine shall say so
                self.send(rest, True)
                rest = b""
        if rest:
            self.send(rest, True)
        with self.proxy.lock:
            self.closing = True
            if self.machine:
                quiet(self.machine.shutdown, socket.SHUT_WR)

    def send(self, data, answered):
        with self.proxy.lock:
            self.proxy.lock.wait_for(lambda: self.gone or (self.machine and not self.proxy.held))
            if self.gone:
                return
            if answered:
                self.waiting += 1
                self.asked.append(wanted(data))
            machine = self.machine
        quiet(machine.sendall, data)

    def from_machine(self, machine, skip, told):
        rest = b""
        while data := self.receive(machine):
            rest += data
            *lines, rest = rest.split(b"\n")
            out = []
            for line in lines:
                message = parsed(line)
                if "vivarium" in message and skip:
                    skip = False
                elif message.get("id") == ASKED:
                    told.set()
                elif not self.proxy.of_ours(message):
                    out.append(line + b"\n")
                    self.greeted |= "vivarium" in message
            if out:
                quiet(self.sock.sendall, b"".join(out))
            with self.proxy.lock:  # only now: what was answered has been passed on
                for line in out:
                    self.count(parsed(line))
                self.proxy.lock.notify_all()
        told.set()
        with self.proxy.lock:
            if self.machine is machine:
                self.machine = None
                if not self.proxy.held:
                    self.end()
            machine.close()
            self.proxy.lock.notify_all()

    def count(self, message):
        if ("result" in message or "error" in message) and self.waiting:
            self.waiting -= 1
            events = self.asked.pop(0)
            if events is not None and "result" in message:
                self.events = events

    def end(self):
        """The client has been told all; with the proxy's lock."""
        self.gone = True
        quiet(self.sock.shutdown, socket.SHUT_RDWR)
        self.proxy.clients.discard(self)

    @staticmethod
    def receive(sock):
        try:
            return sock.recv(1 << 16)
        except OSError:
            return b""


def parsed(line):
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def wanted(line):
    message = parsed(line)
    return message.get("arguments", {}) if message.get("command") == "events" else None


class Proxy:
    def __init__(self, outer, inner):
        self.outer, self.inner = outer, inner
        self.lock = threading.Condition()
        self.clients = set()
        self.held = False  # no commands pass
        self.listener = None

    def listen(self):
        """Once the first machine does."""
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.outer + ".new")
        os.chmod(self.outer + ".new", 0o600)
        self.listener.listen(64)
        os.rename(self.outer + ".new", self.outer)  # whoever sees it can connect
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock = self.listener.accept()[0]
            except OSError:
                return
            with self.lock:
                self.lock.wait_for(lambda: not self.held)
                client = Client(self, sock)
                self.clients.add(client)
                try:
                    client.connect()
                except OSError:
                    client.end()
                self.lock.notify_all()

    def of_ours(self, message):
        """Whether an event is of the end of a life that clients do not see."""
        data = message.get("data")
        if not self.held or not isinstance(data, dict):
            return False
        return {"state": True, "job": data.get("kind") == "snapshot", "end": data.get("how") == "quit"}.get(
            message.get("event"), False)

    def hold(self, seconds):
        """Keeps commands back from now on; False if some are not answered within that time, and then they pass again."""
        with self.lock:
            self.held = True
            if self.lock.wait_for(lambda: not any(c.waiting for c in self.clients), seconds):
                return True
        self.release()
        return False

    def attach(self):
        """Connects the clients to the machine that listens now; returns when it has heard which events they want."""
        until = time.monotonic() + 60
        with self.lock:
            # What the last machine said to the very end has been passed on when its connections are closed.
            self.lock.wait_for(lambda: not any(c.machine for c in self.clients), 60)
            told = []
            for client in list(self.clients):
                try:
                    told.append(client.connect())
                except OSError:
                    client.end()
        for event in told:
            if event:
                event.wait(max(0, until - time.monotonic()))

    def wants_events(self):
        with self.lock:
            return any(c.events is not None for c in self.clients)

    def release(self):
        with self.lock:
            self.held = False
            for client in list(self.clients):
                if not client.machine:
                    client.end()
            self.lock.notify_all()

    def close(self):
        """The machine has ended for good: clients get what it said last, and their end."""
        self.release()
        with self.lock:
            self.lock.wait_for(lambda: not self.clients, 10)
        if self.listener:
            quiet(self.listener.close)
            quiet(os.unlink, self.outer)

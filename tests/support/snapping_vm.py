#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs viv-vm so that it is saved, ended and restored at random moments, and nobody notices.

    VIV_SNAP_VM=build/viv-vm snapping_vm.py OPTION...

stands for build/viv-vm OPTION...: same console, signals, control socket and exit code. Each life of the machine lasts a
random time (VIV_SNAP_SECONDS, default 4, on average); then the whole state goes through a snapshot, every
second one an increment on the one before. VIV_SNAP_SEED repeats the times, VIV_SNAP_CPU=soft,ref gives
the machine another backend in each life. VIV_SNAP_VERBOSE=1 tells of each life, VIV_SNAP_LOG=FILE does so in a file.

Clients of the machine's control socket are joined to each life in turn (control_proxy.py). While a job runs or a command
waits for its answer the machine is not saved.
"""
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from control_proxy import Proxy

VM = os.environ["VIV_SNAP_VM"]
MEAN = float(os.environ.get("VIV_SNAP_SECONDS", "4"))
MAX_LIVES = 40  # a test that runs long enough has seen enough
PATIENCE = 5  # seconds for answers to clients before a snapshot is put off
BACKENDS = [b for b in os.environ.get("VIV_SNAP_CPU", "").split(",") if b]
# What belongs to the host's side and is said again to each restored machine.
AGAIN = {"--cpu", "--trace", "--serial", "--console", "--soft-debug"}
SWITCHES_AGAIN = {"--stats", "--check", "--count"}
NOT_OURS = {"--help", "--version", "--template"}  # no machine, or one that forks others


class Over(Exception):
    """The machine has ended, or is about to, by itself."""


def again(args):
    out, i = [], 0
    while i < len(args):
        name = args[i].partition("=")[0]
        if name in SWITCHES_AGAIN:
            out.append(args[i])
        elif name in AGAIN:
            out.append(args[i])
            if "=" not in args[i]:
                i += 1
                out.append(args[i])
        i += 1
    return out


def without_control(args):
    """The other options, and the path of the control socket; None if it is for the machine itself to say what is wrong with it."""
    out, path, i = [], "", 0
    while i < len(args):
        name, is_one, value = args[i].partition("=")
        if name == "--control":
            if not is_one:
                i += 1
                value = args[i] if i < len(args) else ""
            path = value.removeprefix("unix:")
            if path == value or not 0 < len(path) < 100 or os.path.lexists(path):
                return out, None
        else:
            out.append(args[i])
        i += 1
    return out, path


class Control:
    """The wrapper's own connection to the machine."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(300)
        self.socket.connect(path)
        self.file = self.socket.makefile("rw")
        self.number, self.events = 0, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def message(self):
        line = self.file.readline()
        if not line:
            raise Over
        return json.loads(line)

    def call(self, command, **arguments):
        self.number += 1
        self.file.write(json.dumps({"id": self.number, "command": command, "arguments": arguments}) + "\n")
        self.file.flush()
        while (message := self.message()).get("id") != self.number:
            self.events.append(message)
        if "error" in message:
            raise ValueError(message["error"]["text"])
        return message["result"]

    def ended(self, job):
        """Waits for the end of that job: the error if it failed."""
        while True:
            data = (self.events.pop(0) if self.events else self.message()).get("data", {})
            if data.get("id") == job and data.get("state") in ("done", "failed"):
                return data.get("error", "") if data["state"] == "failed" else None


class Machine:
    def __init__(self, args, rng):
        self.folder = tempfile.mkdtemp(prefix="viv-snap-")
        self.socket = os.path.join(self.folder, "ctl")
        self.args, path = without_control(args)
        self.proxy = Proxy(path, self.socket) if path else None
        self.rng, self.lives, self.child = rng, 0, None

    def start(self, *options):
        """Returns when it listens; False if it ended first."""
        # It is to go with the wrapper, which a test may kill.
        self.child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", VM, *options, "--control", "unix:" + self.socket])
        while self.child.poll() is None:
            try:
                with Control(self.socket) as c:
                    c.message()
                return True
            except (OSError, Over):
                time.sleep(0.005)
        return False

    def save(self, name):
        """Saves and ends it. None: not now; else whether it was paused."""
        if self.proxy and not self.proxy.hold(PATIENCE):
            return None
        with Control(self.socket) as c:
            if any(j["state"] in ("preparing", "running", "ready") for j in c.call("jobs")["jobs"]):
                if self.proxy:
                    self.proxy.release()
                return None
            paused = c.call("status")["state"] == "paused"
            c.call("events", only=["job", "end"])
            arguments = {"folder": name, "then": "quit"}
            if self.lives % 2:
                arguments["parent"] = os.path.join(self.folder, f"s{self.lives - 1}")
            if error := c.ended(c.call("snapshot", **arguments)["job"]):
                raise ValueError(error)
            return paused

    def restore(self, name, paused):
        """The next life; False if it ended at once."""
        options = ["--restore", name, *again(self.args)]
        if BACKENDS:
            options += ["--cpu", self.rng.choice(BACKENDS)]
        # Events count from the first instruction on, if somebody listens.
        hold = self.proxy and (paused or self.proxy.wants_events())
        if not self.start(*options, *(["--paused"] if hold or paused else [])):
            return False
        if self.proxy:
            self.proxy.attach()
        if hold and not paused:
            with Control(self.socket) as c:
                c.call("resume")
        if self.proxy:
            self.proxy.release()
        return True

    def wait(self, seconds=None):
        """The exit code; None if it lives longer."""
        try:
            code = self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        return code if code >= 0 else 128 - code

    def live(self, say):
        """All its lives; the exit code."""
        if self.start(*self.args) and self.proxy:
            self.proxy.listen()
        while self.lives < MAX_LIVES:
            life = self.rng.expovariate(1 / MEAN)
            code = self.wait(life)
            if code is not None:
                return code
            name = os.path.join(self.folder, f"s{self.lives}")
            try:
                paused = self.save(name)
            except (Over, OSError, ValueError) as e:  # the guest has just ended, or there is something that cannot be saved
                say(f"life {self.lives} after {life:.2f} s: not saved: {e or 'it ended'}")
                if self.proxy:
                    self.proxy.release()
                break
            say(f"life {self.lives} after {life:.2f} s: {'put off' if paused is None else 'saved'}")
            if paused is None:
                continue
            if self.wait() != 0:
                say("ended badly after a snapshot")
                return 99
            if self.lives > 1:
                shutil.rmtree(os.path.join(self.folder, f"s{self.lives - 2}"), ignore_errors=True)
            self.lives += 1
            if not self.restore(name, paused):
                say(f"life {self.lives} ended as it began")
                break
        return self.wait()

    def close(self):
        if self.child is not None and self.child.poll() is None:
            self.child.kill()
            self.child.wait()
        if self.proxy:
            self.proxy.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def main(args):
    seed = int(os.environ.get("VIV_SNAP_SEED", random.randrange(1 << 30)))
    words = {a.partition("=")[0] for a in args}
    if words & NOT_OURS or without_control(args)[1] is None or "--paused" in words and "--control" not in words:
        os.execv(VM, [VM, *args])

    def say(text):
        text = f"snapping_vm: {os.getpid()} (VIV_SNAP_SEED={seed}): {text}\n"
        if os.environ.get("VIV_SNAP_VERBOSE") or "badly" in text:
            sys.stderr.write(text)
        if os.environ.get("VIV_SNAP_LOG"):
            with open(os.environ["VIV_SNAP_LOG"], "a", encoding="utf-8") as f:
                f.write(text)

    def forward(number, _):
        if machine.child is not None:
            machine.child.send_signal(number)

    machine = Machine(args, random.Random(seed))
    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, forward)
    try:
        return machine.live(say)
    finally:
        machine.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

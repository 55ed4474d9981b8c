#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs viv-vm so that it is saved, ended and restored at random moments, and nobody notices.

    VIV_SNAP_VM=build/viv-vm snapping_vm.py OPTION...

stands for build/viv-vm OPTION...: same console, signals and exit code. Each life of the machine lasts a
random time (VIV_SNAP_SECONDS, default 4, on average); then the whole state goes through a snapshot, every
second one an increment on the one before. VIV_SNAP_SEED repeats the times, VIV_SNAP_CPU=soft,ref gives
the machine another backend in each life.
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

VM = os.environ["VIV_SNAP_VM"]
MEAN = float(os.environ.get("VIV_SNAP_SECONDS", "4"))
MAX_LIVES = 40  # a test that runs long enough has seen enough
BACKENDS = [b for b in os.environ.get("VIV_SNAP_CPU", "").split(",") if b]
# What belongs to the host's side and is said again to each restored machine.
AGAIN = {"--cpu", "--trace", "--serial", "--console", "--soft-debug"}
SWITCHES_AGAIN = {"--stats", "--check", "--count"}


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


def ask(path, command, args):
    """One command over the control socket; then waits for the end of its job. True if all went well."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(300)
        s.connect(path)
        f = s.makefile("rw")

        def call(number, name, arguments):
            f.write(json.dumps({"id": number, "command": name, "arguments": arguments}) + "\n")
            f.flush()

        call(1, "events", {"only": ["job", "end"]})
        call(2, command, args)
        job = None
        for line in f:
            message = json.loads(line)
            if message.get("id") == 2:
                if "error" in message:
                    print(f"snapping_vm: {message['error']}", file=sys.stderr)
                    return False
                job = message["result"]["job"]
            data = message.get("data", {})
            if message.get("event") == "job" and data.get("id") == job and data.get("state") in ("done", "failed"):
                if data["state"] == "failed":
                    print(f"snapping_vm: {data.get('error')}", file=sys.stderr)
                return data["state"] == "done"
    return False


def main(args):
    seed = int(os.environ.get("VIV_SNAP_SEED", random.randrange(1 << 30)))
    rng = random.Random(seed)
    if "--help" in args or "--version" in args or "--control" in args:
        os.execv(VM, [VM, *args])
    folder = tempfile.mkdtemp(prefix="viv-snap-")
    control, lives, options, child = os.path.join(folder, "ctl"), 0, args, None

    def forward(number, _):
        if child is not None:
            child.send_signal(number)

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, forward)
    try:
        while True:
            child = subprocess.Popen([VM, *options, "--control", "unix:" + control])
            life = rng.expovariate(1 / MEAN) if lives < MAX_LIVES else None
            try:
                code = child.wait(life)
                return code if code >= 0 else 128 - code
            except subprocess.TimeoutExpired:
                pass
            name = os.path.join(folder, f"s{lives}")
            arguments = {"folder": name, "then": "quit"}
            if lives % 2:
                arguments["parent"] = os.path.join(folder, f"s{lives - 1}")
            try:
                saved = ask(control, "snapshot", arguments)
            except OSError:
                saved = False  # it has just ended, or not yet begun to listen
            if os.environ.get("VIV_SNAP_VERBOSE"):
                print(f"snapping_vm: life {lives} ended after {life:.2f} s, saved: {saved}", file=sys.stderr)
            if not saved:
                lives = MAX_LIVES
                code = child.wait()
                print(f"snapping_vm: not saved (VIV_SNAP_SEED={seed})", file=sys.stderr) if code else None
                return code if code >= 0 else 128 - code
            if child.wait() != 0:
                print(f"snapping_vm: ended badly after a snapshot (VIV_SNAP_SEED={seed})", file=sys.stderr)
                return 99
            if lives > 1:
                shutil.rmtree(os.path.join(folder, f"s{lives - 2}"), ignore_errors=True)
            lives += 1
            options = ["--restore", name, *again(args)]
            if BACKENDS:
                options += ["--cpu", rng.choice(BACKENDS)]
    finally:
        if child is not None and child.poll() is None:
            child.kill()
            child.wait()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

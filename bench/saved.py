# SPDX-License-Identifier: GPL-2.0-or-later
"""Restores of a saved Debian, in QEMU and in viv-vm, and clones of it.

What a restore costs is the CPU time of the new process from exec to the moment at which everything is
loaded and the guest could execute its next instruction: both are started so that they hold still there
(-S, --paused), and are asked over their sockets whether they have got so far.
"""
import json
import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import time

from machine import GUEST, VIV, GuestError, Qemu, cpu_seconds

RAM = 512  # MiB
TRIES = 5  # restores of one kind, one after the other; the median counts
CLONES = 50
WAIT = 60  # seconds for any one answer
QUIET = 5  # seconds that clones run before their memory is looked at


class Line:
    """A socket on which both sides say JSON, one message a line."""

    def __init__(self, path):
        end = time.monotonic() + WAIT
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(str(path))
                break
            except (FileNotFoundError, ConnectionRefusedError):
                self.socket.close()
                if time.monotonic() > end:
                    raise GuestError(f"nobody listens on {path}") from None
                time.sleep(0.002)
        self.socket.settimeout(WAIT)
        self.stream = self.socket.makefile("rw")

    def read(self):
        try:
            line = self.stream.readline()
        except OSError as e:
            raise GuestError(f"no answer on its socket: {e}") from None
        if not line:
            raise GuestError("it closed its socket")
        return json.loads(line)

    def write(self, message):
        self.stream.write(json.dumps(message) + "\n")
        self.stream.flush()

    def close(self):
        self.stream.close()
        self.socket.close()


class Process:
    """A machine of which only its socket is used. It is started without a copy of this process, whose
    cost would count as its own."""

    def __init__(self, argv, log):
        null, out = os.open("/dev/null", os.O_RDWR), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        self.argv = [str(a) for a in argv]
        self.pid = os.posix_spawnp(self.argv[0], self.argv, os.environ, file_actions=[
            (os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, out, 2)])
        os.close(null)
        os.close(out)

    def close(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = None


class Saved:
    """A Debian that was booted in `vm` and saved; made once, restored often."""

    def __init__(self, out, vm):
        self.out, self.vm, self.ready = out, vm, False
        self.folder = pathlib.Path(f"{vm.file('saved')}")

    def path(self, name):
        return self.folder / name

    def disk(self):
        subprocess.run(["rm", "-rf", self.folder], check=True)
        self.folder.mkdir()
        subprocess.run(["cp", "--reflink=auto", "--sparse=always", GUEST / "debian12.raw", self.path("disk.raw")], check=True)

    def boot(self, disk, *extra):
        self.vm.extra = [str(e) for e in extra]
        try:
            self.vm.start(RAM, GUEST / "initrd.img", "root=LABEL=root rw console=ttyS0", [(disk, False)])
        finally:
            self.vm.extra = []
        self.vm.guest.login()
        self.vm.guest.run("systemctl is-system-running --wait; sync")

    def seconds(self):
        """CPU seconds of a restore: of the cheapest way there is."""
        if not self.ready:
            raise GuestError("it was not saved")
        return min(statistics.median(way() for _ in range(TRIES)) for way in self.ways())

    def start(self, argv, path):
        """(process, socket, first message) of a machine that listens on path."""
        self.path(path).unlink(missing_ok=True)
        process = Process(argv, self.path("log"))
        try:
            line = Line(self.path(path))
            return process, line, line.read()
        except GuestError as e:
            process.close()
            said = self.path("log").read_text(errors="replace").strip()
            raise GuestError(f"{e}: {said[-300:]}") from None


class SavedViv(Saved):
    def save(self):
        self.disk()
        self.boot(self.path("disk.raw"), "--control", f"unix:{self.path('control')}")
        done = subprocess.run([f"{VIV[:-2]}ctl", self.path("control"), "snapshot", self.path("state"), "--then", "quit"],
                              capture_output=True, text=True, check=False)
        if done.returncode:
            raise GuestError(f"it was not saved: {done.stderr.strip()}")
        self.vm.guest.wait()
        self.vm.close()
        self.ready = True

    def ways(self):
        return [self.restore]

    def argv(self, control, *options):
        return [VIV, "--restore", self.path("state"), "--serial", "none", "--control", f"unix:{self.path(control)}",
                *self.vm.options, *options]

    def restore(self):
        process, line, _ = self.start(self.argv("control", "--paused"), "control")
        try:
            self.ask(line, "status")
            return cpu_seconds(process.pid)
        finally:
            line.close()
            process.close()

    @staticmethod
    def ask(line, command):
        line.write({"command": command})
        answer = line.read()
        if "result" not in answer:
            raise GuestError(f"{command}: {answer}")
        return answer["result"]

    # ---- clones ----

    def overlays(self):
        for i in range(CLONES):
            path = self.path(f"clone{i}.qcow2")
            path.unlink(missing_ok=True)
            subprocess.run([f"{VIV[:-2]}img", "create", "-q", "-f", "qcow2", "-b", self.path("disk.raw"), "-F", "raw", path],
                           check=True, stdout=subprocess.DEVNULL)

    def fork(self, number, answers):
        """Asks the template for a clone; the answer is to come on the last of `answers`."""
        answers.append(Line(self.path("template")))
        options = ["--disk", self.path(f"clone{number}.qcow2"), "--paused", "--control",
                   f"unix:{self.path(f'control{number}')}"]
        answers[-1].write({"command": "clone", "arguments": {"options": [str(o) for o in options]}})

    def clones(self):
        """Of clones that a template forks and that hold still before their first instruction: (how many
        a second, CPU seconds of each, MiB of private memory of each); and the latter again when they have
        run for some time."""
        if not self.ready:
            raise GuestError("it was not saved")
        self.overlays()
        template, line, _ = self.start([*self.argv("template", "--nic", "user"), "--template"], "template")
        answers, lines, pids = [line], [], []
        try:
            begin = time.monotonic()
            for i in range(CLONES):
                self.fork(i, answers)
            for line in answers[1:]:
                line.read()
                answer = line.read()
                if "result" not in answer:
                    raise GuestError(f"clone: {answer}")
                pids.append(answer["result"]["pid"])
            wall = time.monotonic() - begin
            forking = cpu_seconds(template.pid) / (CLONES + 1)
            cpu = forking + statistics.mean(cpu_seconds(p) for p in pids)
            memory = statistics.mean(private_memory(p) for p in pids)
            for i in range(CLONES):
                lines.append(Line(self.path(f"control{i}")))
                lines[-1].read()
                if self.ask(lines[-1], "resume")["state"] != "running":
                    raise GuestError("a clone does not run")
            time.sleep(QUIET)
            return CLONES / wall, cpu, memory, statistics.mean(private_memory(p) for p in pids)
        finally:
            template.close()
            for line in [*answers, *lines]:
                line.close()
            for pid in pids:  # nobody's children any more: they end when they are told to
                os.kill(pid, signal.SIGKILL)


class SavedQemu(Saved):
    def save(self):
        self.disk()
        disk = self.path("disk.qcow2")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", "disk.raw", "-F", "raw", disk], check=True)
        self.boot(disk, "-qmp", f"unix:{self.path('qmp')},server=on,wait=off")
        line = Line(self.path("qmp"))
        line.read()
        self.ask(line, "qmp_capabilities")
        self.ask(line, "stop")
        self.ask(line, "human-monitor-command", {"command-line": "savevm bench"})
        self.ask(line, "migrate", {"uri": f"exec:cat >{self.path('state')}"})
        self.wait_for(line, "completed")
        self.ask(line, "quit")
        line.close()
        self.vm.guest.wait()
        self.vm.close()
        self.ready = True

    @staticmethod
    def ask(line, command, arguments=None):
        line.write({"execute": command, **({"arguments": arguments} if arguments else {})})
        while True:
            answer = line.read()
            if "return" in answer:
                if isinstance(answer["return"], str) and answer["return"].strip():
                    raise GuestError(f"{command}: {answer['return'].strip()}")
                return answer["return"]
            if "error" in answer:
                raise GuestError(f"{command}: {answer['error'].get('desc')}")

    def wait_for(self, line, status):
        end = time.monotonic() + WAIT
        while True:
            now = self.ask(line, "query-migrate").get("status")
            if now == status:
                return
            if now == "failed" or time.monotonic() > end:
                raise GuestError(f"the migration is {now}")
            time.sleep(0.05)

    def ways(self):
        return [self.incoming, self.loadvm]

    def argv(self, *options):
        argv = self.vm.argv(RAM, GUEST / "vmlinuz", GUEST / "initrd.img", "root=LABEL=root rw console=ttyS0",
                            [(self.path("disk.qcow2"), False)])
        argv[argv.index("-serial") + 1] = "null"
        return [*argv, "-S", "-qmp", f"unix:{self.path('qmp')},server=on,wait=off", *options]

    def incoming(self):
        process, line, _ = self.start(self.argv("-incoming", f"exec:cat {self.path('state')}"), "qmp")
        try:
            self.ask(line, "qmp_capabilities")
            self.wait_for(line, "completed")
            return cpu_seconds(process.pid)
        finally:
            line.close()
            process.close()

    def loadvm(self):
        """The state is loaded before anybody is answered."""
        process, line, _ = self.start(self.argv("-loadvm", "bench"), "qmp")
        try:
            self.ask(line, "qmp_capabilities")
            return cpu_seconds(process.pid)
        finally:
            line.close()
            process.close()


def private_memory(pid):
    """MiB that a process shares with nobody."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        found = dict(re.findall(r"^(Private_\w+): +(\d+) kB", f.read(), re.M))
    return (int(found["Private_Clean"]) + int(found["Private_Dirty"])) / 1024


def saved(out, vm):
    return SavedQemu(out, vm) if isinstance(vm, Qemu) else SavedViv(out, vm)

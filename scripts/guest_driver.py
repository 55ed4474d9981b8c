#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Drives a virtual machine over its serial console: for scripts/run.sh, the guest tests and the benchmarks.

    with Guest(["build/viv-vm", "--serial", "stdio", ...]) as guest:
        guest.login("root", "vivarium")
        status, text = guest.run("uname -a")
        assert guest.power_off() == 0

The program gets its console on its standard input and output; what it writes to standard error is
kept in guest.stderr. Nothing but that one process is ever signalled. Every wait has a time limit;
the default is long because a software CPU on a busy host is slow.

As a program (used by run.sh): guest_driver.py demo COMMAND -- PROGRAM ARGS... boots, logs in, runs
the command, presses the power button and exits with 0 when all of that went well.
"""
import codecs
import os
import re
import signal
import subprocess
import sys
import threading
import time

TIMEOUT = 600.0


class GuestError(Exception):
    """Something else happened than was waited for; the text ends with the console's last lines."""


class Guest:
    def __init__(self, argv, timeout=TIMEOUT, tee=None, log=None, **popen):
        """Starts argv. tee: a text stream that shows the console as it comes; log: a path to keep it in."""
        self.argv = argv
        self.timeout = timeout
        self.console = ""  # all that was received, with \n line ends
        self.stderr = ""
        self._seen = 0  # how far expect() has read
        self._tee = tee
        self._log = open(log, "w", encoding="utf-8", errors="replace") if log else None
        self._cond = threading.Condition()
        self._open = 2
        self._number = 0
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, bufsize=0, **popen)
        self._threads = [
            threading.Thread(target=self._read, args=(self.process.stdout, "console"), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stderr, "stderr"), daemon=True)]
        for thread in self._threads:
            thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _read(self, stream, name):
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while True:
            try:
                data = stream.read(65536)
            except (OSError, ValueError):  # closed under us by close()
                data = b""
            text = decoder.decode(data or b"", final=not data).replace("\r", "")
            with self._cond:
                setattr(self, name, getattr(self, name) + text)
                if name == "console":
                    for out in (self._tee, self._log):
                        if out and text:
                            out.write(text)
                            out.flush()
                if not data:
                    self._open -= 1
                self._cond.notify_all()
            if not data:
                return

    def _fail(self, what):
        tail = self.console[-3000:]
        errors = f"\n--- standard error ---\n{self.stderr[-2000:]}" if self.stderr else ""
        raise GuestError(f"{what}\n--- end of the console ---\n{tail}{errors}")

    def expect(self, *patterns, timeout=None):
        """Waits for the first of some regular expressions in what came since the last match.

        Returns the match; match.re.pattern tells which. A process that ends first is an error.
        """
        compiled = [re.compile(p) for p in patterns]
        limit = self.timeout if timeout is None else timeout
        end = time.monotonic() + limit
        with self._cond:
            while True:
                found = [m for m in (c.search(self.console, self._seen) for c in compiled) if m]
                if found:
                    match = min(found, key=lambda m: m.start())
                    self._seen = match.end()
                    return match
                if self._open == 0:
                    self._fail(f"{self.argv[0]} ended with {self.process.wait()} while waiting for {patterns}")
                left = end - time.monotonic()
                if left <= 0:
                    self._fail(f"nothing matched {patterns} within {limit:.0f} s")
                self._cond.wait(min(left, 1.0))

    def send(self, text):
        data = text.encode()
        try:
            while data:
                data = data[self.process.stdin.write(data):]
        except BrokenPipeError:
            self._fail(f"{self.argv[0]} took no more input")

    def send_line(self, line=""):
        self.send(line + "\n")

    def login(self, user="root", password="vivarium", timeout=None):
        """From the start to a shell whose prompt and echo are off."""
        self.expect(r"login: ", timeout=timeout)
        self.send_line(user)
        self.expect(r"Password: ", timeout=timeout)
        self.send_line(password)
        # Incorrect passwords, or the greeting of the shell.
        match = self.expect(r"Login incorrect", r"[#$] ", timeout=timeout)
        if match.re.pattern == "Login incorrect":
            self._fail(f"the guest refused the password of {user}")
        self.shell(timeout=timeout)
        if user == "root":
            # What the kernel and systemd say meanwhile does not stand in the middle of an output; panics still do.
            self.run("dmesg -n 1", timeout=timeout)

    def shell(self, timeout=None):
        """Makes the shell that reads the console silent; a plain sh, because bash edits lines itself."""
        self.send_line("exec env PS1= PS2= TERM=dumb sh")
        self.send_line("stty -echo; echo silent''-shell")
        self.expect(r"silent-shell", timeout=timeout)

    def run(self, command, timeout=None):
        """Runs one command in the silent shell; returns (exit status, output)."""
        self._number += 1
        n = self._number
        # The quotes keep the marks from being found in an echo of this very line.
        self.send_line(f"echo begin''-{n}-; {command}\necho end''-{n}-$?-")
        self.expect(rf"begin-{n}-\n", timeout=timeout)
        begin = self._seen
        match = self.expect(rf"end-{n}-(\d+)-\n", timeout=timeout)
        return int(match.group(1)), self.console[begin:match.start()]

    def check(self, command, timeout=None):
        """Like run(), and an exit status other than 0 is an error."""
        status, text = self.run(command, timeout)
        if status != 0:
            self._fail(f"in the guest, '{command}' ended with {status}: {text}")
        return text

    def power_button(self):
        """Presses the ACPI power button (viv-vm takes SIGTERM as that)."""
        self.process.send_signal(signal.SIGTERM)

    def power_off(self, timeout=None):
        """From a silent shell of a systemd guest: presses the power button, returns the exit code.

        A login can appear before logind watches the button, and a press that nobody watches for is
        lost, as on a real machine (a second SIGTERM would end the machine at once), so this waits.
        """
        self.run("systemctl is-system-running --wait; n=60; while [ $((n -= 1)) -gt 0 ] && "
                 "! journalctl -b -u systemd-logind | grep -q 'Watching system buttons'; do sleep 1; done",
                 timeout)
        self.power_button()
        return self.wait(timeout)

    def wait(self, timeout=None):
        """Waits for the program's end; returns its exit code."""
        limit = self.timeout if timeout is None else timeout
        try:
            code = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self._fail(f"{self.argv[0]} still runs after {limit:.0f} s")
        for thread in self._threads:
            thread.join(10)
        return code

    def cpu_seconds(self):
        """User plus system time that the running process has used so far."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii", errors="replace") as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self):
        """Ends the program if it still runs. Never raises."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for thread in self._threads:
            thread.join(2)  # longer only if a grandchild holds the pipe
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            try:
                stream.close()
            except OSError:
                pass
        if self._log:
            self._log.close()
            self._log = None


def demo(command, argv):
    begin = time.monotonic()

    def say(text):
        print(f"\nrun: {time.monotonic() - begin:.0f} s: {text}", flush=True)

    # A signal to end must not leave the machine behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with Guest(argv, tee=sys.stdout) as guest:
        try:
            guest.login()
            say(f"logged in; running in the guest: {command}")
            guest._tee = None
            status, text = guest.run(command)
            print(text, end="", flush=True)
            if status != 0:
                say(f"the command ended with {status}")
                return 1
            say("pressing the power button")
            guest._tee = sys.stdout
            code = guest.power_off()
        except GuestError as e:
            # The console was shown already.
            print(f"\nrun: {str(e).splitlines()[0]}", file=sys.stderr)
            print(guest.stderr, end="", file=sys.stderr)
            return 1
        print(guest.stderr, end="", file=sys.stderr)
        say(f"{os.path.basename(argv[0])} ended with exit code {code}")
        return code


if __name__ == "__main__":
    if len(sys.argv) < 5 or sys.argv[1] != "demo" or sys.argv[3] != "--":
        sys.exit(__doc__)
    sys.exit(demo(sys.argv[2], sys.argv[4:]))

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The tools that the other tests rely on: the event generator, the include check, the console driver,
and the runner itself, which must not take a silent or broken program for a good one."""
import importlib.util
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests/support")]
sys.dont_write_bytecode = True
import tap  # noqa: E402
from guest_driver import Guest, GuestError  # noqa: E402


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


class Tools(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)

    def generate(self, text):
        source = write(self.dir / "trace.def", text)
        done = subprocess.run([sys.executable, ROOT / "scripts/gen-events.py", "trace", self.dir / "o.h",
                               self.dir / "o.inc", source], capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    def test_events_become_an_enum_and_a_table_in_the_same_order(self):
        code, _ = self.generate('// why\nTRACE(b_write, "x=%d // no comment")\n/* two\nlines */ TRACE(a_read, "y")\n')
        self.assertEqual(code, 0)
        header = (self.dir / "o.h").read_text()
        self.assertLess(header.index("TRACE_b_write,"), header.index("TRACE_a_read,"))
        self.assertLess(header.index("TRACE_a_read,"), header.index("TRACE_COUNT"))
        self.assertIn('#define TRACE_FMT_b_write "x=%d // no comment"', header)
        rows = (self.dir / "o.inc").read_text().splitlines()[1:]
        self.assertEqual(rows, ['{"b_write", "x=%d // no comment"},', '{"a_read", "y"},'])

    def test_an_event_declared_twice_is_refused_with_both_places(self):
        code, text = self.generate('TRACE(a, "x")\n\nTRACE(a, "y")\n')
        self.assertNotEqual(code, 0)
        self.assertIn("trace.def:3:", text)
        self.assertIn("trace.def:1", text)

    def test_a_line_that_is_no_event_is_refused_with_its_place(self):
        for bad in ('STAT(a, "x")', "TRACE(a)", 'TRACE(A, "x")', "TRACE(a, x)", 'TRACE(a, "x" % 1)'):
            code, text = self.generate("// first\n" + bad + "\n")
            self.assertNotEqual(code, 0, bad)
            self.assertIn("trace.def:2:", text, bad)

    def includes(self, files):
        for name, text in files.items():
            write(self.dir / name, "/* SPDX-License-Identifier: GPL-2.0-or-later */\n" + text)
        done = subprocess.run([sys.executable, ROOT / "scripts/check-includes.py", self.dir],
                              capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    def test_includes_that_go_down_are_fine(self):
        code, text = self.includes({"src/base/a.h": "", "src/devices/d.h": "", "src/cpu/c.h": "",
                                    "src/devices/d.c": '#include "devices/d.h"\n#include "base/a.h"\n',
                                    "src/machine/m.c": '#include "devices/d.h"\n#include "cpu/c.h"\n'})
        self.assertEqual(code, 0, text)

    def test_a_device_that_sees_a_cpu_is_found(self):
        code, text = self.includes({"src/cpu/c.h": "", "src/devices/d.c": '\n#include "cpu/c.h"\n'})
        self.assertEqual(code, 1)
        self.assertIn("src/devices/d.c:3: devices/ may not include", text)

    def test_a_source_that_does_not_begin_with_its_own_header_is_found(self):
        code, text = self.includes({"src/base/a.h": "", "src/base/a.c": '#include <stdio.h>\n#include "base/a.h"\n'})
        self.assertEqual(code, 1)
        self.assertIn('must be "base/a.h"', text)

    def test_a_missing_licence_line_and_a_missing_header_are_found(self):
        write(self.dir / "src/base/b.c", "int b;\n")
        code, text = self.includes({"src/base/a.c": '#include "base/none.h"\n'})
        self.assertEqual(code, 1)
        self.assertIn("src/base/b.c:1: no line", text)
        self.assertIn('"base/none.h" is not found', text)

    def test_every_package_has_a_group_and_a_reason(self):
        groups = "build web browser guest test check bench deb guests long lab".split()
        names = []
        for line in (ROOT / "scripts/packages.txt").read_text().splitlines():
            if line and not line.startswith("#"):
                group, name, reason = line.split(None, 2)
                self.assertIn(group, groups)
                self.assertTrue(reason)
                names.append((group, name))
        self.assertEqual(len(names), len(set(names)))
        self.assertGreater(len(names), 10)


# A login that hands over to a real shell. Like a terminal it hands out one line at a time: it reads
# byte by byte, and so does bash on a pipe.
FAKE_GUEST = r"""
import os

def line():
    text = b""
    while not text.endswith(b"\n"):
        text += os.read(0, 1)
    return text

print("boot\r\nhost login: ", end="", flush=True)
assert line() == b"root\n"
print("Password: ", end="", flush=True)
if line() != b"vivarium\n":
    print("\r\nLogin incorrect", end="", flush=True)
    line()
print("\r\nroot@host:~# ", end="", flush=True)
os.execvp("bash", ["bash", "--norc"])
"""


class Driver(unittest.TestCase):
    def start(self):
        guest = Guest([sys.executable, "-c", FAKE_GUEST], timeout=20)
        self.addCleanup(guest.close)
        return guest

    def test_it_logs_in_runs_commands_and_sees_the_end(self):
        with self.start() as guest:
            guest.login()
            self.assertEqual(guest.run("echo one; echo two"), (0, "one\ntwo\n"))
            self.assertEqual(guest.run("false")[0], 1)
            self.assertEqual(guest.check("echo three"), "three\n")
            with self.assertRaisesRegex(GuestError, "ended with 7: four"):
                guest.check("echo four; (exit 7)")
            guest.send_line("exit 3")
            self.assertEqual(guest.wait(), 3)

    def test_a_wrong_password_is_an_error(self):
        with self.start() as guest, self.assertRaisesRegex(GuestError, "refused the password"):
            guest.login(password="wrong")

    def test_silence_and_an_early_end_are_errors(self):
        with self.start() as guest:
            with self.assertRaisesRegex(GuestError, "nothing matched"):
                guest.expect("never printed", timeout=0.5)
        with Guest(["sh", "-c", "echo last words; echo reason >&2; exit 4"]) as guest:
            with self.assertRaisesRegex(GuestError, "(?s)ended with 4.*last words.*reason"):
                guest.expect("login: ", timeout=20)


class Runner(unittest.TestCase):
    """tests/run as a module, judging programs of a line each."""

    def setUp(self):
        loader = importlib.machinery.SourceFileLoader("runner", str(ROOT / "tests/run"))
        self.runner = importlib.util.module_from_spec(importlib.util.spec_from_loader("runner", loader))
        loader.exec_module(self.runner)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = folder.name
        self.runner.LOGS = pathlib.Path(folder.name)

    def judge(self, script, limit=20):
        job = self.runner.Job("unit", "x", ["/bin/sh", "-c", script], limit)
        self.runner.judge_tap(job, *self.runner.execute(job, self.dir))
        return job.passed, job.failed

    def test_each_case_counts(self):
        self.assertEqual(self.judge("echo 1..2; echo ok 1 - a; echo ok 2 - b"), (2, []))
        self.assertEqual(self.judge("echo 1..2; echo ok 1 - a; printf noise; echo ok 2 - b"), (2, []))
        self.assertEqual(self.judge("echo 1..2; echo ok 1 - a; echo not ok 2 - b; exit 1"), (1, ["b"]))

    def test_a_closing_line_counts_as_one_test(self):
        self.assertEqual(self.judge("echo seed 1; echo 2000 passed, 0 failed"), (1, []))
        self.assertIn("1 failed", self.judge("echo 2000 passed, 1 failed; exit 1")[1][0])
        self.assertIn("exit code 1", self.judge("echo 2000 passed, 0 failed; exit 1")[1][0])
        self.assertIn("0 passed", self.judge("echo 0 passed, 0 failed")[1][0])
        self.assertEqual(self.judge("echo no such processor; exit 77"), (0, []))

    def test_no_test_is_a_failure(self):
        self.assertEqual(self.judge("true"), (0, ["ran no test at all"]))
        self.assertEqual(self.judge("echo 1..0"), (0, ["ran no test at all"]))

    def test_an_early_end_is_a_failure(self):
        self.assertEqual(self.judge("echo 1..2; echo ok 1 - a")[0], 1)
        self.assertIn("stopped after 1 of 2", self.judge("echo 1..2; echo ok 1 - a")[1][0])
        self.assertIn("exit code 9", self.judge("echo 1..1; echo ok 1 - a; exit 9")[1][0])

    def test_a_crash_is_a_failure(self):
        self.assertIn("SIGSEGV", self.judge("echo 1..1; echo ok 1 - a; kill -SEGV $$")[1][0])

    def test_lateness_is_a_failure_and_leaves_nothing_behind(self):
        mark = os.path.join(self.dir, "pid")
        _, failed = self.judge(f"sleep 100 & echo $! >{mark}; wait", limit=1)
        self.assertIn("still running after 1 s", failed[0])
        with open(mark, encoding="ascii") as f, self.assertRaises(ProcessLookupError):
            pid = int(f.read())
            for _ in range(50):
                os.kill(pid, 0)
                with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
                    if stat.read().rpartition(")")[2].split()[0] == "Z":
                        raise ProcessLookupError
                self.runner.time.sleep(0.1)


if __name__ == "__main__":
    tap.main()

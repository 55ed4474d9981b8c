#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""viv-ctl and the control socket: commands on running machines, events, failures, rude clients."""
import hashlib
import json
import pathlib
import random
import re
import select
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import mini
import vivtest

LIMIT = 60  # seconds; a host that does ten things at once is slow
CTL = str(pathlib.Path(vivtest.PROGRAM).with_name("viv-ctl"))
BUTTON = b"\x66\xba\x00\x06\x66\xed\xf6\xc4\x01\x74\xf5" + mini.POWER_OFF  # until the power button's status bit


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)
        self.socket = str(self.dir / "ctl")

    def start(self, code, *options):
        kernel = self.dir / "kernel"
        kernel.write_bytes(mini.elf(code))
        vm = subprocess.Popen([vivtest.VM, "--memory", "16M", "--kernel", kernel, "--control", "unix:" + self.socket,
                               *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)
        self.end_with_the_test(vm)
        self.wait_for(lambda: pathlib.Path(self.socket).exists(), "the control socket")
        return vm

    def end_with_the_test(self, process):
        def end():
            process.kill()
            process.communicate()
        self.addCleanup(end)

    def ctl(self, *words, code=0, options=(), path=None):
        done = subprocess.run([CTL, *options, path or self.socket, *words], capture_output=True, text=True,
                              timeout=LIMIT, check=False, stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        if code:
            self.assertRegex(done.stderr, r"^viv-ctl: .*\n$")
        else:
            self.assertEqual(done.stderr, "")
        return done.stdout or done.stderr

    def ask(self, *words):
        return json.loads(self.ctl(*words, options=["--json"]))

    def follow(self, *words):
        """viv-ctl events in the background; returns a function that waits for one that matches."""
        p = subprocess.Popen([CTL, "--json", self.socket, "events", *words], stdout=subprocess.PIPE, text=True)
        self.end_with_the_test(p)
        json.loads(p.stdout.readline())  # the answer: from now on nothing is missed

        def wait(name, **data):
            for line in p.stdout:
                event = json.loads(line)
                if event["event"] == name and event["data"] == event["data"] | data:
                    return event["data"]
            self.fail(f"the stream ended without {name}")
        wait.process = p
        return wait

    def wait_for(self, condition, what):
        end = time.monotonic() + LIMIT
        while not condition():
            self.assertLess(time.monotonic(), end, f"{what} did not happen")
            time.sleep(0.01)

    def raw(self):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(LIMIT)
        s.connect(self.socket)
        self.addCleanup(s.close)
        return s


class Commands(Case):
    def test_a_machine_is_paused_resumed_and_ended(self):
        vivtest.one_process(self)  # it says its number
        vm = self.start(mini.forever(mini.say("x")), "--serial", f"file:{self.dir}/out", "--name", "web")
        out = self.dir / "out"
        status = self.ask("status")
        self.assertEqual((status["name"], status["state"], status["memory"], status["pid"]),
                         ("web", "running", 16 << 20, vm.pid))
        self.wait_for(lambda: out.stat().st_size > 100, "output")
        self.assertEqual(self.ask("pause"), {"state": "paused", "reason": "asked"})
        time.sleep(0.05)  # what was said before may still be written out
        size, clock = out.stat().st_size, self.ask("status")["clock"]
        time.sleep(0.3)
        self.assertEqual((out.stat().st_size, self.ask("status")["clock"]), (size, clock))
        self.assertEqual(self.ask("resume"), {"state": "running"})
        self.wait_for(lambda: out.stat().st_size > size + 100, "more output")
        self.assertEqual(self.ctl("quit"), "")
        self.assertEqual(vm.wait(LIMIT), 0)
        self.assertFalse(pathlib.Path(self.socket).exists())

    def test_a_machine_may_begin_paused(self):
        vm = self.start(mini.POWER_OFF, "--paused")
        self.assertEqual(self.ask("status")["clock"], 0)
        self.assertRegex(self.ctl("status"), r"(?m)^state: paused$")
        self.ctl("resume")
        self.assertEqual(vm.wait(LIMIT), 0)

    def test_powerdown_presses_the_button_also_of_a_paused_machine(self):
        vm = self.start(BUTTON)
        self.ctl("powerdown")
        self.assertEqual(vm.wait(LIMIT), 0)
        vm = self.start(BUTTON, "--paused")
        self.assertIn("sees it when it is resumed", self.ctl("powerdown"))
        self.ctl("resume")
        self.assertEqual(vm.wait(LIMIT), 0)

    def test_reset_starts_the_guest_again(self):
        self.start(mini.say("go") + mini.STOP, "--serial", f"file:{self.dir}/out")
        for n in range(1, 4):
            self.wait_for(lambda: (self.dir / "out").read_bytes() == b"go" * n, f"start {n}")
            self.ctl("reset")
        self.wait_for(lambda: self.ask("status")["resets"] == 3, "three resets")

    def test_devices_are_listed_and_inspected_by_field(self):
        self.start(mini.STOP)
        for device in self.ask("devices")["devices"]:
            self.assertTrue(self.ask("inspect", device["name"])["state"] is not None, device)
        self.assertEqual(self.ask("inspect", "pit0", "--field", "channel.0.mode")["device"], "pit0")
        self.assertIn("no field 'nonsense'", self.ctl("inspect", "pit0", "--field=nonsense", code=2))

    def test_stats_count(self):
        self.start(mini.STOP)
        stats = self.ask("stats")
        self.assertGreater(stats["cpu_seconds"], 0)
        self.assertGreater(stats["resident_bytes"], 1 << 20)
        self.assertIn("control_messages", [c["name"] for c in stats["counters"]])
        self.assertRegex(self.ctl("stats"), r"(?m)^control_messages +\d+ +messages of")


class Events(Case):
    def test_a_triple_fault_is_told_as_a_crash_and_a_reset(self):
        self.start(mini.TRIPLE_FAULT, "--paused")
        wait = self.follow()
        self.ctl("resume")
        wait("state", state="running")
        wait("crash", kind="triple-fault")
        wait("reset", crashed=True)
        self.assertGreaterEqual(self.ask("status")["crashes"], 1)

    def test_a_panic_is_told_and_the_machine_goes_on(self):
        self.start(mini.PANIC, "--paused")
        wait = self.follow("--only", "crash,reset")
        self.ctl("resume")
        self.assertEqual(wait("crash")["kind"], "panic")
        self.assertEqual(self.ask("status")["state"], "running")

    def test_the_end_is_told_with_how_and_with_which_code(self):
        for code, options, how, number in [(mini.POWER_OFF, [], "powered-off", 0),
                                           (mini.RESET, ["--no-reboot"], "reset", 3),
                                           (mini.PANIC, ["--no-reboot"], "crashed", 3),
                                           (mini.DEBUG_EXIT(3), ["--debug-exit"], "debug-exit", 7)]:
            with self.subTest(how):
                vm = self.start(code, "--paused", *options)
                wait = self.follow("--only", "end,crash")
                self.ctl("resume")
                if how == "crashed":
                    wait("crash", kind="panic")
                self.assertEqual(wait("end"), {"how": how, "code": number})
                self.assertEqual(vm.wait(LIMIT), number)
                self.assertEqual(wait.process.wait(LIMIT), 0)

    def test_events_are_lines_for_people_too(self):
        self.start(mini.STOP)
        p = subprocess.Popen([CTL, self.socket, "events", "--only", "state"], stdout=subprocess.PIPE, text=True)
        self.end_with_the_test(p)
        self.wait_for(lambda: (self.ctl("pause"), self.ctl("resume"), self.ask("stats"))[2] and
                      self.has_line(p), "a line")

    def has_line(self, p):
        """It may have begun to listen only after what was done; then more is done."""
        return select.select([p.stdout], [], [], 0.2)[0] and re.fullmatch(r"\d\d:\d\d:\d\d state state=(paused reason=asked|running)\n", p.stdout.readline())


class Failures(Case):
    def test_each_kind_of_failure_has_its_exit_code(self):
        self.start(mini.STOP)
        self.assertIn("there is no socket", self.ctl("status", code=4, path=str(self.dir / "nobody")))
        self.assertIn("no command 'dance'", self.ctl("dance", code=2))
        self.assertIn("one too many", self.ctl("status", "now", code=2))
        self.assertIn("needs the argument 'device'", self.ctl("inspect", code=2))
        self.assertIn("no argument '--color'", self.ctl("inspect", "--color", "red", code=2))
        self.assertIn("whole number from 1", self.ctl("job-cancel", "x", code=2))
        self.assertIn("no device 'x'", self.ctl("inspect", "x", code=2))
        self.assertIn("no job 9", self.ctl("job-cancel", "9", code=1))
        self.assertIn("no option", self.ctl("status", code=2, options=["--frobnicate"]))
        self.assertIn("number of seconds", self.ctl("status", code=2, options=["--timeout", "soon"]))

    def serve(self, *pieces):
        """Something else that listens, says that, and hangs up."""
        path = str(self.dir / f"other{random.random()}")
        s = socket.socket(socket.AF_UNIX)
        s.bind(path)
        s.listen()
        s.settimeout(LIMIT)
        self.addCleanup(s.close)

        def run():
            c = s.accept()[0]
            for piece in pieces:
                c.sendall(piece)
                c.settimeout(2)
                try:
                    c.recv(1000)
                except OSError:
                    pass
            c.close()
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.addCleanup(thread.join)
        return path

    def test_what_is_no_machine_is_survived(self):
        hello = b'{"vivarium": "viv-vm", "protocol": 1}\n'
        for text, pieces in [("no JSON object", [b"220 smtp ready\n"]), ("control protocol", [b"{}\n"]),
                             ("closed the connection", [b'{"viv']), ("closed the connection", [hello]),
                             ("neither a result nor an error", [hello, b'{"id": 1}\n']),
                             ("no JSON object", [hello, b'{"id": 1, "result": {"x": 1}\n'])]:
            with self.subTest(text):
                self.assertIn(text, self.ctl("status", code=5, path=self.serve(*pieces)))
        self.assertIn("no answer in time", self.ctl("status", code=5, path=self.serve(hello, b'{"event": "x"}\n'),
                                                    options=["--timeout", "0.2"]))

    def test_what_would_command_a_terminal_is_not_shown(self):
        hello = b'{"vivarium": "viv-vm", "protocol": 1}\n'
        path = self.serve(hello, b'{"id": 1, "result": {"name": "\\u001b]0;x\\u0007"}}\n')
        self.assertEqual(self.ctl("status", path=path), "name: ?]0;x?\n")

    def test_a_full_disk_is_a_failure(self):
        self.start(mini.STOP)
        with open("/dev/full", "wb") as full:
            done = subprocess.run([CTL, self.socket, "status"], stdout=full, timeout=LIMIT, check=False)
        self.assertEqual(done.returncode, 1)

    def test_a_socket_in_use_and_paused_without_one_are_refused(self):
        self.start(mini.STOP)
        for text, *options in [("in use by another program", "--control", "unix:" + self.socket),
                               ("use unix:PATH", "--control", "tcp:1234"),
                               ("characters", "--control", "unix:" + "x" * 200),
                               ("nobody who could resume", "--paused")]:
            done = subprocess.run([vivtest.VM, "--memory", "16M", "--kernel", self.dir / "kernel", *options],
                                  capture_output=True, text=True, timeout=LIMIT, check=False,
                                  stdin=subprocess.DEVNULL)
            self.assertEqual(done.returncode, 2)
            self.assertIn(text, done.stderr)


class Texts(Case):
    def printed(self, *words):
        return subprocess.run([CTL, *words], capture_output=True, text=True, timeout=LIMIT, check=True).stdout

    def commands(self):
        return re.findall(r"(?m)^  ([a-z-]+)(?: .*)?\n      ", self.printed("--help").split("Options:")[0])

    def test_help_has_every_command_with_an_example(self):
        text = self.printed("--help")
        self.assertGreater(len(self.commands()), 10)
        for name in self.commands():
            self.assertIn(f"  viv-ctl web.ctl {name}", text)
            for line in (self.printed(name, "--help"), self.printed("x.sock", name, "--help")):
                self.assertIn(f"usage: viv-ctl SOCKET {name}", line)

    def test_the_manual_page_has_every_command_and_code(self):
        page = self.printed("--help-man")
        self.assertTrue(page.startswith(".TH VIV\\-CTL 1 "))
        for name in self.commands():
            self.assertRegex(page, r'\.TP\n\.B "' + re.escape(name.replace("-", "\\-")))
        for code in range(6):
            self.assertIn(f'.B "{code}"', page)

    def test_the_documentation_holds_the_tables(self):
        self.assertIn(self.printed("--help-markdown"), (vivtest.ROOT / "docs/control.md").read_text())

    def complete(self, *words):
        script = (self.printed("--completion", "bash") +
                  'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _viv_ctl; echo "${COMPREPLY[@]}"')
        return subprocess.run(["bash", "-c", script, "bash", "viv-ctl", *words], capture_output=True, text=True,
                              check=True, cwd=self.dir).stdout.split()

    def test_bash_completes_sockets_commands_and_arguments(self):
        (self.dir / "web.ctl").touch()
        self.assertEqual(self.complete("w"), ["web.ctl"])
        self.assertEqual(self.complete("--js"), ["--json"])
        self.assertEqual(sorted(self.complete("web.ctl", "re")), ["reload", "reset", "resume"])
        self.assertEqual(self.complete("--timeout", "5", "web.ctl", "pow"), ["powerdown"])
        self.assertEqual(self.complete("web.ctl", "inspect", "--f"), ["--field"])


class Rude(Case):
    def rude(self, stop, seed, counts):
        r = random.Random(seed)
        lines = [b'{"command": "stats"}\n', b'{"command": "events"}\n', b"\xff\x00garbage\n", b"{" * 3000,
                 b'{"command": "inspect", "arguments": {"device": "cpu0"}}\n', b'{"command": "sta']
        while not stop.is_set():
            s = socket.socket(socket.AF_UNIX)
            try:
                s.connect(self.socket)
                s.settimeout(0.05)
                for _ in range(r.randrange(1, 300)):
                    s.sendall(r.choice(lines))
                    if r.random() < 0.1:
                        s.recv(r.randrange(1, 5000))
            except OSError:
                pass
            counts[seed] += 1
            s.close()

    def test_a_guest_computes_on_and_ends_well_among_rude_clients(self):
        vivtest.one_process(self)  # which knows its clients
        guest = vivtest.tiny(self, "dd if=/dev/zero bs=1M count=24 2>/dev/null | sha256sum; "
                             "for i in 1 2 3 4 5 6 7 8; do usleep 100000; done; echo awake; exit 5",
                             "--control", "unix:" + self.socket)
        self.wait_for(lambda: pathlib.Path(self.socket).exists(), "the control socket")
        stop, counts = threading.Event(), [0] * 4
        threads = [threading.Thread(target=self.rude, args=(stop, i, counts)) for i in range(4)]
        for t in threads:
            t.start()
        try:
            for _ in range(20):
                self.assertEqual(self.ask("pause")["state"], "paused")
                self.assertEqual(self.ask("status")["name"], "tiny")
                self.assertEqual(self.ask("resume")["state"], "running")
            guest.expect(hashlib.sha256(bytes(24 << 20)).hexdigest())
            guest.expect(r"awake\nEXIT 5\n", timeout=LIMIT)
        finally:
            stop.set()
            for t in threads:
                t.join()
        self.assertEqual(guest.wait(), 0)
        self.assertGreater(sum(counts), 8)

    def test_pauses_in_the_middle_of_disk_writes_lose_nothing_and_no_time_passes(self):
        vivtest.one_process(self)  # between saving and restoring time passes
        disk = self.dir / "disk.raw"
        with open(disk, "wb") as f:
            f.truncate(64 << 20)
        guest = vivtest.tiny(self, "yes vivarium | dd of=/dev/vda bs=64k count=512 iflag=fullblock conv=fsync "
                             "2>/dev/null; echo 3 > /proc/sys/vm/drop_caches; "
                             "yes vivarium | head -c 33554432 | cmp -n 33554432 - /dev/vda && echo SAME",
                             "--control", "unix:" + self.socket, "--disk", str(disk),
                             append="viv.modules=virtio_pci,virtio_blk")
        self.wait_for(lambda: pathlib.Path(self.socket).exists(), "the control socket")
        begin, paused = time.monotonic(), 0
        for _ in range(15):
            self.ctl("pause")
            at = time.monotonic()
            time.sleep(0.1)
            paused += time.monotonic() - at
            self.ctl("resume")
            time.sleep(0.05)
        clock = self.ask("status")["clock"] / 1e9
        self.assertLess(clock, time.monotonic() - begin - paused + 1)
        guest.expect(r"SAME\n", timeout=LIMIT)
        self.assertEqual(guest.wait(), 0)

    def test_the_guest_sees_no_time_pass_while_it_is_paused(self):
        vivtest.one_process(self)  # between saving and restoring time passes
        guest = vivtest.tiny(self, None, "--control", "unix:" + self.socket)
        guest.expect(r"BOOTED\n")
        guest.shell()

        def times():
            before = self.ask("status")["clock"] / 1e9
            up = float(guest.run("cat /proc/uptime")[1].split()[0])
            return before, up, self.ask("status")["clock"] / 1e9
        _, first, begin = times()
        wall = time.monotonic()
        self.ctl("pause")
        time.sleep(2)
        self.ctl("resume")
        end, second, _ = times()
        elapsed = time.monotonic() - wall
        self.assertLess(end - begin, elapsed - 1.9)
        self.assertLess(second - first, elapsed - 1.9)
        guest.send_line("exit")
        self.assertEqual(guest.wait(), 0)


if __name__ == "__main__":
    vivtest.tap.main()

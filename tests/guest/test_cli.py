#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""viv-vm as a command, from outside: options, files, endings, serial lines, the terminal. The guests are
kernels of a few bytes (mini.py), so a case takes a fraction of a second."""
import fcntl
import os
import pathlib
import pty
import re
import resource
import select
import signal
import socket
import subprocess
import tempfile
import termios
import time
import unittest

import mini
import vivtest

LIMIT = 60  # seconds; a host that does ten things at once is slow


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)

    def file(self, name, content=b""):
        path = self.dir / name
        path.write_bytes(content)
        return str(path)

    def argv(self, *options, kernel=None):
        options = [str(o) for o in options]
        if kernel is not None:
            options = ["--kernel", self.file("kernel", kernel)] + options
        return [vivtest.VM, "--memory", "16M", *options]

    def run_vm(self, *options, kernel=None, **kw):
        kw.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(self.argv(*options, kernel=kernel), capture_output=True, timeout=LIMIT,
                              check=False, **kw)

    def start_vm(self, *options, kernel=None, **kw):
        kw = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **kw}
        process = subprocess.Popen(self.argv(*options, kernel=kernel), **kw)

        def end():
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()
        self.addCleanup(end)
        return process

    def read(self, vm, wanted):
        """Takes so many bytes of the output."""
        got = b""
        while len(got) < len(wanted):
            got += (data := os.read(vm.stdout.fileno(), len(wanted) - len(got)))
            if not data:
                break
        self.assertEqual(got, wanted)

    def write(self, vm, data):
        vm.stdin.write(data)
        vm.stdin.flush()

    def expect(self, code, *options, out=None, err=None, **kw):
        done = self.run_vm(*options, **kw)
        text = done.stderr.decode()
        self.assertEqual(done.returncode, code, text)
        if out is not None:
            self.assertEqual(done.stdout, out)
        if err is None:
            self.assertEqual(text, "")
        else:
            self.assertRegex(text, err)
        return done

    def refused(self, pattern, *options, **kw):
        """Ends at once with code 2, one line on standard error and nothing on standard output."""
        done = self.expect(2, *options, out=b"", err=pattern, **kw)
        self.assertEqual(done.stderr.count(b"\n"), 1, done.stderr)
        self.assertRegex(done.stderr, rb"^viv-vm(/\S+)?: error: ")

    def wait_for(self, condition, what):
        end = time.monotonic() + LIMIT
        while not condition():
            self.assertLess(time.monotonic(), end, f"{what} did not happen")
            time.sleep(0.01)


class Options(Case):
    def test_help_explains_every_option_with_an_example(self):
        text = self.expect(0, "--help").stdout.decode()
        wanted = ("name cpus memory cpu kernel initrd append disk nic serial no-reboot trace stats debug-exit "
                  "check check-all dump count perf-map soft-debug "
                  "version help").split()
        for name in wanted:
            self.assertRegex(text, rf"(?m)^  --{name}( \S.*)?$\n      .+\n      example: .*--{name}\b")
        self.assertIn("Exit codes:", text)

    def test_the_manual_page_holds_every_option_that_help_has(self):
        text = self.expect(0, "--help").stdout.decode()
        page = self.expect(0, "--help-man").stdout.decode()
        self.assertTrue(page.startswith(".TH "))
        names = re.findall(r"(?m)^  --([a-z-]+)", text)
        self.assertGreater(len(names), 15)
        for name in names:
            self.assertIn('.B "\\-\\-' + name.replace("-", "\\-") + '"', page)

    def test_version_is_one_line(self):
        self.assertRegex(self.expect(0, "--version").stdout, rb"^viv-vm \d+\.\d+\.\d+\n$")

    def test_help_into_a_full_disk_is_a_failure(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([vivtest.VM, "--help"], stdout=full, stderr=subprocess.PIPE, timeout=LIMIT,
                                  check=False)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, rb"cannot be written to standard output: No space left.*make room")

    def test_trace_help_lists_the_events(self):
        self.assertRegex(self.expect(0, "--trace", "help").stdout, rb"(?m)^machine_power event=")

    def test_every_bad_option_is_refused_with_a_sentence(self):
        kernel = mini.elf(mini.POWER_OFF)
        for pattern, *options in [
                ("there is no option '--frobnicate'", "--frobnicate"),
                ("there is no option '--kern'", "--kern", "x"),
                ("'kernel' is no option", "kernel"),
                ("'-k' is no option", "-k"),
                ("'--' is no option", "--"),
                ("'' is no option", ""),
                ("--memory needs a value", "--memory"),
                ("--initrd needs a value", "--initrd", "--append", "x"),
                ("--stats takes no value", "--stats=1"),
                ("--memory: 'much' is no size", "--memory", "much"),
                ("'' is no size", "--memory="),
                ("'-1M' is no size", "--memory", "-1M"),
                ("'1.5G' is no size", "--memory", "1.5G"),
                ("'99999999999999999999G' is no size", "--memory", "99999999999999999999G"),
                ("'18446744073709551615G' is no size", "--memory", "18446744073709551615G"),
                ("from 16M to 128G, not 15M", "--memory", "15M"),
                ("from 16M to 128G, not 512", "--memory", "512"),
                ("from 16M to 128G, not 129G", "--memory", "129G"),
                ("not a number from 1", "--cpus", "33"),
                ("other processors would see", "--cpus", "2", "--cpu", "soft", "--check"),
                ("not a number from 1", "--cpus", "0"),
                ("not a number from 1", "--cpus", "many"),
                ("backend 'i486' is not known", "--cpu", "i486"),
                ("--cpu-model: .*80486", "--cpu-model", "80486"),
                ("'turbo' is not known", "--cpu-model", "host,+turbo"),
                ("'avx2' needs 'avx'", "--cpu-model", "x86-64-v1,+avx2"),
                ("1 to 63 characters", "--name", ""),
                ("1 to 63 characters", "--name", "n" * 64),
                ("no place for the serial port", "--serial", "tty"),
                ("no place for the serial port", "--serial", "file:"),
                ("no place for the console", "--console", "unix:"),
                ("both want stdio", "--console", "stdio"),
                ("both want unix:x", "--serial", "unix:x", "--console", "unix:x"),
                ("no event matches 'nothing_like_it'", "--trace", "nothing_like_it"),
                ("at most 16 --trace", *["--trace", "uart_*"] * 17),
                ("'bridge' is no kind of network", "--nic", "bridge"),
                ("'x=y' is no property", "--nic", "user,x=y"),
                ("'' is no property", "--nic", "user,"),
                ("'52:54' is no MAC", "--nic", "user,mac=52:54"),
                ("is no MAC", "--nic", "user,mac=+2:54:00:12:34:56"),
                ("is no MAC", "--nic", "user,mac=52-54-00-12-34-56"),
                ("multicast", "--nic", "user,mac=53:54:00:12:34:56"),
                ("nobody's", "--nic", "user,mac=00:00:00:00:00:00"),
                ("neither tcp nor udp", "--nic", "user,forward=sctp:127.0.0.1:1:2"),
                ("no address", "--nic", "user,forward=tcp:"),
                ("not numeric", "--nic", "user,forward=tcp:localhost:1:2"),
                ("lacks a port", "--nic", "user,forward=tcp:127.0.0.1:2222"),
                ("is no port; ports are 1 to 65535", "--nic", "user,forward=tcp:127.0.0.1:0:22"),
                ("is no port; ports are 1 to 65535", "--nic", "user,forward=tcp:127.0.0.1:70000:22"),
                ("at most 8 network", *["--nic", "user"] * 9),
                ("path of an image file first", "--disk", ""),
                ("path of an image file first", "--disk", ",readonly"),
                ("'cache=sometimes' is no property", "--disk", "x,cache=sometimes"),
                ("'vmdk' is not supported", "--disk", "x,format=vmdk"),
                ("at most 16 disks", *["--disk", "x"] * 17)]:
            with self.subTest(options=options):
                self.refused(pattern, *options, kernel=kernel)

    def test_without_a_kernel_there_is_nothing_to_boot(self):
        self.refused("nothing to boot")

    def test_a_name_stands_in_messages(self):
        self.expect(3, "--name", "web", "--no-reboot", kernel=mini.elf(mini.RESET), err="^viv-vm/web: notice: ")

    def test_control_characters_of_a_file_name_do_not_reach_the_terminal(self):
        done = self.run_vm("--kernel", "\x1b[31mred\n")
        self.assertEqual(done.returncode, 2)
        self.assertNotIn(b"\x1b", done.stderr)
        self.assertEqual(done.stderr.count(b"\n"), 1)


class Kernels(Case):
    def test_a_kernel_that_is_no_file_is_refused(self):
        self.refused("the kernel '/nowhere/k' cannot be opened: No such file", "--kernel", "/nowhere/k")
        self.refused("is a directory", "--kernel", self.dir)
        self.refused("is not a regular file", "--kernel", "/dev/zero")
        self.refused("is empty", kernel=b"")
        os.mkfifo(self.dir / "pipe")
        self.refused("is not a regular file", "--kernel", self.dir / "pipe")

    def test_a_file_that_is_no_kernel_is_refused(self):
        self.refused("neither a Linux bzImage nor a multiboot kernel nor an ELF", kernel=b"#!/bin/sh\n")
        self.refused("neither a Linux bzImage nor a multiboot kernel nor an ELF", kernel=bytes(5000))
        self.refused("no PVH entry note", kernel=mini.elf(mini.STOP, note=False))

    def test_a_damaged_kernel_is_refused_with_the_reason(self):
        elf, image = mini.elf(mini.STOP * 100), mini.bzimage(mini.STOP * 1000)
        self.refused("outside the file", kernel=elf[:100])
        self.refused("outside the file", kernel=elf[:-10])
        self.refused("ends inside its setup", kernel=image[:1200])
        self.refused("shorter than its header says", kernel=image[:-32])
        self.refused("older than 2.06", kernel=mini.bzimage(version=0x204))
        self.refused("zImage", kernel=mini.bzimage(loadflags=0))
        self.refused("entry lies outside", kernel=mini.elf(mini.STOP, entry=0x300000))
        self.refused("below 1 MiB", kernel=mini.elf(mini.STOP, entry=0x7000, paddr=0x7000))
        self.refused("outside of 1 MiB to 4 GiB", kernel=mini.bzimage(pref=0x8000, relocatable=0))
        self.refused("outside of 1 MiB to 4 GiB", kernel=mini.bzimage(pref=1 << 40, relocatable=0))

    def test_a_kernel_larger_than_the_memory_is_refused(self):
        self.refused("more --memory", kernel=mini.elf(mini.STOP, memsz=1 << 30))
        self.refused("more --memory", kernel=mini.elf(mini.STOP, paddr=1 << 33, entry=0))
        self.refused("more --memory", kernel=mini.bzimage(init_size=0x7fffffff))

    def test_the_initial_ram_disk_is_checked(self):
        kernel = mini.elf(mini.POWER_OFF)
        self.refused("the initial RAM disk 'gone' cannot be opened", "--initrd", "gone", kernel=kernel)
        self.refused("is empty", "--initrd", self.file("empty"), kernel=kernel)
        with open(self.dir / "big", "wb") as big:
            big.truncate(1 << 34)
        self.refused("does not fit beside the kernel.*--memory", "--initrd", self.dir / "big", kernel=kernel)
        self.expect(0, "--initrd", self.file("small", b"x" * 5000), kernel=kernel, err=None)

    def test_a_command_line_that_is_too_long_is_refused(self):
        self.refused("256 characters, the kernel takes 255", "--append", "a" * 256, kernel=mini.bzimage(mini.STOP))
        self.refused("70000 characters", "--append", "a" * 70000, kernel=mini.elf(mini.STOP))
        self.expect(0, "--append", "a" * 255, kernel=mini.bzimage(mini.POWER_OFF))

    def test_all_entries_boot(self):
        for kernel in (mini.elf(mini.POWER_OFF), mini.elf(mini.POWER_OFF, wide=False), mini.bzimage(mini.POWER_OFF),
                       mini.bzimage(mini.POWER_OFF, entry64=True)):
            self.expect(0, kernel=kernel)

    def test_small_and_large_memories_work(self):
        for memory in ("16M", "17000K", "2816M", "2818M", "4G", "5G"):
            self.expect(0, "--memory", memory, kernel=mini.elf(mini.POWER_OFF))

    def test_memory_that_the_host_refuses_is_our_failure(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        done = self.run_vm("--memory", "16G", kernel=mini.elf(mini.POWER_OFF), preexec_fn=limit)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(b"give the machine less memory", done.stderr)


class Endings(Case):
    def test_power_off_is_0(self):
        self.expect(0, kernel=mini.elf(mini.POWER_OFF), out=b"")
        self.expect(0, "--no-reboot", kernel=mini.elf(mini.POWER_OFF))

    def test_a_reset_under_no_reboot_is_3(self):
        for how in (mini.RESET, mini.outb(0x64, 0xfe) + mini.STOP, mini.outb(0x92, 1) + mini.STOP):
            self.expect(3, "--no-reboot", kernel=mini.elf(how), err="asked for a reset")

    def test_a_crash_under_no_reboot_is_3(self):
        self.expect(3, "--no-reboot", kernel=mini.elf(mini.TRIPLE_FAULT), err="crashed .triple fault.")
        self.expect(3, "--no-reboot", kernel=mini.elf(mini.PANIC), err="panicked")

    def test_without_no_reboot_the_machine_comes_up_again(self):
        for how in (mini.RESET, mini.outb(0x64, 0xfe) + mini.STOP, mini.outb(0x92, 1) + mini.STOP):
            kernel = mini.elf(mini.say("up\n"), mini.nth_start(4, mini.POWER_OFF, how))
            self.expect(0, kernel=kernel, out=b"up\n" * 4)

    def test_a_triple_fault_resets_and_is_told_once(self):
        kernel = mini.elf(mini.say("up\n"), mini.nth_start(4, mini.POWER_OFF, mini.TRIPLE_FAULT))
        done = self.expect(0, kernel=kernel, out=b"up\n" * 4, err="crashed .triple fault. and was reset")
        self.assertEqual(done.stderr.count(b"\n"), 1)

    def test_a_reset_needs_the_kernels_file_no_more(self):
        kernel = mini.elf(mini.say("up\n"), mini.until_key("."), mini.nth_start(2, mini.POWER_OFF))
        vm = self.start_vm(kernel=kernel, stdin=subprocess.PIPE)
        self.read(vm, b"up\n")
        os.unlink(self.dir / "kernel")
        self.write(vm, b".")
        self.read(vm, b".up\n")
        self.write(vm, b".")
        self.assertEqual(vm.wait(LIMIT), 0)

    def test_a_kernel_that_shrinks_under_us_fails_the_reset_with_a_sentence(self):
        kernel = mini.elf(mini.say("up\n"), mini.until_key("."), mini.RESET)
        vm = self.start_vm(kernel=kernel, stdin=subprocess.PIPE)
        self.read(vm, b"up\n")
        os.truncate(self.dir / "kernel", 10)
        self.write(vm, b".")
        self.assertEqual(vm.wait(LIMIT), 1)
        self.assertRegex(vm.stderr.read(), b"become shorter")

    def test_the_debug_exit_port_chooses_the_code(self):
        for value in (0, 1, 5, 0x7f, 0x80, 0x12345678):
            self.expect((value << 1 | 1) & 0xff, "--debug-exit", kernel=mini.elf(mini.DEBUG_EXIT(value)))
        self.expect(0, kernel=mini.elf(mini.outl(0xf4, 5), mini.POWER_OFF))  # without the option: nothing there

    def test_the_first_ending_counts(self):
        self.expect(7, "--debug-exit", "--no-reboot",
                    kernel=mini.elf(mini.outl(0xf4, 3), mini.outb(0xcf9, 6), mini.POWER_OFF))

    def test_sigterm_presses_the_power_button(self):
        for number in (signal.SIGTERM, signal.SIGHUP):
            vm = self.start_vm(kernel=mini.elf(mini.say("up\n"), mini.until_button(), mini.POWER_OFF))
            self.read(vm, b"up\n")
            vm.send_signal(number)
            self.assertEqual(vm.wait(LIMIT), 0)
            self.assertIn(b"power button", vm.stderr.read())

    def test_a_second_sigterm_ends_a_guest_that_does_not_care(self):
        for body in (mini.STOP, mini.forever(), mini.forever(mini.outb(0x80, 1)), mini.forever(mini.say("x"))):
            vm = self.start_vm(kernel=mini.elf(mini.say("up\n"), body), stdout=subprocess.PIPE)
            self.read(vm, b"up\n")
            vm.terminate()
            os.read(vm.stderr.fileno(), 1)
            vm.terminate()
            self.assertEqual(vm.wait(LIMIT), 1)

    def test_signals_ignored_from_the_start_stay_ignored(self):
        def ignore():
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for a job in the background
        vm = self.start_vm(kernel=mini.elf(mini.say("up\n"), mini.until_button(), mini.POWER_OFF), preexec_fn=ignore)
        self.read(vm, b"up\n")
        vm.send_signal(signal.SIGHUP)
        vm.send_signal(signal.SIGINT)
        with self.assertRaises(subprocess.TimeoutExpired):
            vm.wait(0.3)
        vm.terminate()
        self.assertEqual(vm.wait(LIMIT), 0)

    def test_sigint_ends_it_with_1(self):
        vm = self.start_vm(kernel=mini.elf(mini.say("up\n"), mini.STOP))
        self.read(vm, b"up\n")
        vm.send_signal(signal.SIGINT)
        self.assertEqual(vm.wait(LIMIT), 1)
        self.assertIn(b"not shut down", vm.stderr.read())

    def test_ending_while_the_guest_resets_in_a_storm_is_clean(self):
        kernel = mini.elf(mini.say("."), mini.outb(0xcf9, 2), mini.outb(0xcf9, 6), mini.STOP)
        for delay in range(6):
            vm = self.start_vm(kernel=kernel)
            self.read(vm, b".")
            time.sleep(delay * 0.003)
            vm.send_signal(signal.SIGINT)
            vm.communicate(timeout=LIMIT)
            self.assertEqual(vm.returncode, 1)

    def test_signals_during_the_start_end_cleanly(self):
        for delay in range(0, 40, 4):
            vm = self.start_vm("--nic", "user", "--stats", kernel=mini.elf(mini.STOP))
            time.sleep(delay / 1000)
            vm.send_signal(signal.SIGINT)
            vm.communicate(timeout=LIMIT)
            self.assertIn(vm.returncode, (1, -signal.SIGINT))  # before main, the signal's own default

    def test_check_compares_translated_code_with_the_interpreter_and_is_content(self):
        for option in ("--check", "--check-all"):
            text = self.expect(0, "--cpu", "soft", option, "--stats", kernel=mini.elf(mini.LOOP64),
                               err="(?s).*").stderr.decode()
            checks = int(re.search(r"(\d+)  jit_checks", text).group(1))
            (self.assertGreater if option == "--check-all" else self.assertLess)(checks, 900)
            self.assertGreater(checks, 60)

    def test_dump_prints_guest_and_host_code(self):
        def dump(what):
            return self.expect(0, "--cpu", "soft", "--dump", what, kernel=mini.elf(mini.LOOP64),
                               err="(?s).*").stderr.decode()

        add = r"(?m)^  1000[0-9a-f]{2}:  83 c0 11 +add eax, 0x11$"
        host = r"(?m)^        [0-9a-f]{8,}:  "
        text = dump("guest,host:100000-100fff")
        self.assertRegex(text, add)
        self.assertRegex(text, host)
        self.assertNotRegex(dump("host:100000-100fff"), add)
        self.assertNotRegex(dump("guest:100000-100fff"), host)
        self.assertEqual(dump("guest,host:200000-200fff"), "")
        self.assertRegex(dump("guest:hot:1"), r"^\n1\. run 9\d\d times, \d+\.\d+% of translated instructions: block at")

    def test_count_tells_the_share_of_chained_runs(self):
        def runs(*options):
            text = self.expect(0, "--cpu", "soft", "--count", *options, kernel=mini.elf(mini.LOOP64),
                               err="(?s).*").stderr.decode()
            self.assertRegex(text, r"(\d+)  times the loop entered translated code")
            found = re.search(r"(\d+)  runs of translated blocks, (-?[\d.]+)% of them chained", text)
            return int(found.group(1)), float(found.group(2))

        count, chained = runs()
        self.assertTrue(900 < count < 1100)
        self.assertGreater(chained, 90)
        count, chained = runs("--no-chain")
        self.assertTrue(900 < count < 1100)
        self.assertLess(chained, 1)

    def test_accesses_are_told_apart_by_the_way_they_find_their_page(self):
        def stats(option):
            return self.expect(0, "--cpu", "soft", option, kernel=mini.elf(mini.ACCESS64), err="(?s).*").stderr.decode()

        self.assertRegex(stats("--count"), r"(?m)^ +9\d\d  accesses through the TLB, \d+\.\d+% hits$")
        self.assertIn("--count adds how often they hit", stats("--stats"))

    def test_perf_map_names_translated_code_by_its_guest_address(self):
        vm = self.start_vm("--cpu", "soft", "--perf-map", kernel=mini.elf(mini.LOOP64))
        vm.communicate(timeout=LIMIT)
        path = pathlib.Path(f"/tmp/perf-{vm.pid}.map")
        self.addCleanup(path.unlink)
        lines = path.read_text().splitlines()
        for line in lines:
            self.assertRegex(line, r"^[0-9a-f]+ [1-9a-f][0-9a-f]* (viv_[a-z_]+|guest_[0-9a-f]+\[(kernel|user),tier[12]\])$")
        self.assertEqual(lines[0].split()[2], "viv_enter")
        self.assertTrue(any("guest_1000" in line for line in lines))
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)

    def test_a_machine_runs_without_parts_of_the_translator(self):
        for part in ("no-chain", "no-coalesce", "no-sites", "no-tier2", "no-super", "no-far", "no-returns",
                     "no-liveness"):
            self.expect(0, "--cpu", "soft", f"--{part}", kernel=mini.elf(mini.LOOP64))

    def test_stats_name_the_backend_and_the_reason(self):
        self.expect(0, "--stats", kernel=mini.elf(mini.POWER_OFF), err=r"(?s)cpu backend: (soft|ref) \(.+\)\n.*instructions")
        self.expect(0, "--stats", "--cpu", "ref", kernel=mini.elf(mini.POWER_OFF), err=r"cpu backend: ref \(as asked")

    def test_trace_prints_what_was_asked_for_alone(self):
        done = self.expect(0, "--trace", "machine_*", kernel=mini.elf(mini.POWER_OFF), err="machine_power event=0")
        for line in done.stderr.splitlines():
            self.assertRegex(line, rb"^\d+\.\d{6} machine_")


class Disks(Case):
    kernel = mini.elf(mini.POWER_OFF)

    def disk(self, name, size=1 << 20):
        path = self.dir / name
        with open(path, "wb") as f:
            f.truncate(size)
        return str(path)

    def test_files_that_are_no_disks_are_refused(self):
        self.refused("disk image 'gone' does not exist", "--disk", "gone", kernel=self.kernel)
        self.refused("disk image .*directory", "--disk", self.dir, kernel=self.kernel)
        self.refused("disk image '/dev/null'", "--disk", "/dev/null", kernel=self.kernel)
        self.refused("disk image .*empty", "--disk", self.file("empty"), kernel=self.kernel)

    def test_a_size_that_is_no_multiple_of_512_is_fine(self):
        self.expect(0, "--disk", self.disk("odd", 1000), kernel=self.kernel)

    def test_a_comma_in_a_name_is_written_twice(self):
        self.expect(0, "--disk", self.disk("a,b").replace(",", ",,") + ",readonly", kernel=self.kernel)

    def test_a_disk_in_use_is_refused_unless_both_only_read(self):
        disk = self.disk("d")
        for first, second, code in [("", "", 2), ("", ",readonly", 2), (",readonly", "", 2),
                                    (",readonly", ",readonly", 0)]:
            vm = self.start_vm("--disk", disk + first, kernel=mini.elf(mini.say("up\n"), mini.STOP))
            self.read(vm, b"up\n")
            self.expect(code, "--disk", disk + second, kernel=self.kernel,
                        err=rf"in use by process {vm.pid} .viv-vm." if code else None)
            vm.kill()
            vm.wait()

    def test_the_same_image_twice_is_refused(self):
        disk = self.disk("d")
        os.link(disk, self.dir / "other")
        self.refused("given twice", "--disk", disk, "--disk", self.dir / "other", kernel=self.kernel)
        self.expect(0, "--disk", disk + ",readonly", "--disk", disk + ",readonly", kernel=self.kernel)

    def test_a_file_that_may_not_be_read_or_written_is_refused(self):
        nobody = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
        vivtest.program_for_everybody(self, self.dir)
        disk = self.disk("d")
        os.chmod(disk, 0)
        self.refused("disk image .*Permission denied", "--disk", disk, kernel=self.kernel, **nobody)
        os.chmod(disk, 0o444)
        self.refused("disk image .*(Permission denied|readonly)", "--disk", disk, kernel=self.kernel, **nobody)
        self.expect(0, "--disk", disk + ",readonly", kernel=self.kernel, **nobody)

    def test_the_most_disks_and_networks_start(self):
        options = [x for i in range(16) for x in ("--disk", self.disk(f"d{i}"))] + ["--nic", "user"] * 8
        self.expect(0, *options, "--console", "none", kernel=self.kernel)

    def test_too_few_descriptors_are_our_failure(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))
        options = [x for i in range(16) for x in ("--disk", self.disk(f"d{i}"))]
        done = self.run_vm(*options, kernel=self.kernel, preexec_fn=limit)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stderr, b"(?i)open files")


class Networks(Case):
    def test_a_port_that_is_taken_is_refused(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            self.refused(f"{port}.*in use", "--nic", f"user,forward=tcp:127.0.0.1:{port}:22",
                         kernel=mini.elf(mini.POWER_OFF))

    def test_an_address_that_is_not_ours_is_refused(self):
        self.refused("192.0.2.1", "--nic", "user,forward=tcp:192.0.2.1:2222:22", kernel=mini.elf(mini.POWER_OFF))

    def test_forwards_listen_and_are_closed_at_the_end(self):
        port = vivtest.free_port()
        kernel = mini.elf(mini.say("up\n"), mini.until_button(), mini.POWER_OFF)
        options = ("--nic", f"user,mac=52:54:00:00:00:01,forward=tcp:127.0.0.1:{port}:22")
        vm = self.start_vm(*options, "--nic", "user", "--nic", "none", kernel=kernel)
        self.read(vm, b"up\n")
        socket.create_connection(("127.0.0.1", port), LIMIT).close()
        vm.terminate()
        self.assertEqual(vm.wait(LIMIT), 0)
        self.expect(0, *options, kernel=mini.elf(mini.POWER_OFF))


TEXT = "".join(f"line {i:5}\n" for i in range(300)).encode()


class Serial(Case):
    def echo(self, *options, **kw):
        return self.start_vm(*options, kernel=mini.elf(mini.say("ready\n"), mini.until_key("."), mini.say("bye\n"),
                                                       mini.POWER_OFF), **kw)

    def lots(self, count=2000):
        """100 bytes a time."""
        return mini.elf(mini.times(count, mini.say("x" * 99 + "\n")), mini.POWER_OFF)

    def test_a_file_gets_all_output(self):
        log = self.file("log", b"what was there before")
        self.expect(0, "--serial", f"file:{log}", kernel=mini.elf(mini.say("hello\n"), mini.POWER_OFF), out=b"")
        self.assertEqual(pathlib.Path(log).read_bytes(), b"hello\n")

    def test_a_machine_that_cannot_be_built_leaves_the_file_alone(self):
        log = self.file("log", b"precious")
        self.refused("neither", "--serial", f"file:{log}", kernel=b"nonsense")
        self.assertEqual(pathlib.Path(log).read_bytes(), b"precious")

    def test_places_that_cannot_be_written_are_refused(self):
        kernel = mini.elf(mini.POWER_OFF)
        self.refused("/nowhere/log' cannot be written: No such file", "--serial", "file:/nowhere/log", kernel=kernel)
        self.refused("cannot be written: Is a directory", "--serial", f"file:{self.dir}", kernel=kernel)
        self.refused("must have 1 to 107", "--serial", "unix:" + "p" * 108, kernel=kernel)
        self.refused("cannot be made: No such file", "--serial", "unix:/nowhere/s", kernel=kernel)
        self.refused("cannot be made: Address already in use", "--serial", "unix:" + self.file("plain"), kernel=kernel)

    def test_a_full_disk_loses_output_with_one_warning_and_no_harm(self):
        done = self.expect(0, "--serial", "file:/dev/full", kernel=self.lots(), err="No space left.*machine runs on")
        self.assertEqual(done.stderr.count(b"\n"), 1)

    def test_none_drops_output(self):
        self.expect(0, "--serial", "none", kernel=self.lots(), out=b"")

    def test_a_console_device_can_go_elsewhere_than_the_serial_port(self):
        self.expect(0, "--console", f"file:{self.dir}/c", kernel=mini.elf(mini.say("hi\n"), mini.POWER_OFF),
                    out=b"hi\n")
        self.assertEqual(os.path.getsize(self.dir / "c"), 0)

    def test_a_reader_that_sleeps_gets_everything_in_the_end(self):
        vm = self.start_vm(kernel=self.lots())
        time.sleep(0.5)  # the pipe and our buffer are full by now
        out, err = vm.communicate(timeout=LIMIT)
        self.assertEqual((vm.returncode, out, err), (0, (b"x" * 99 + b"\n") * 2000, b""))

    def test_a_reader_that_sleeps_does_not_stop_the_machine_from_ending(self):
        vm = self.start_vm(kernel=self.lots(), stdin=subprocess.PIPE)
        time.sleep(0.5)
        self.write(vm, b"\x1dq")
        self.assertEqual(vm.wait(LIMIT), 0)

    def test_a_vanished_reader_does_not_stop_the_guest(self):
        vm = self.start_vm(kernel=self.lots())
        os.read(vm.stdout.fileno(), 10)
        vm.stdout.close()
        self.assertEqual(vm.wait(LIMIT), 0)
        self.assertRegex(vm.stderr.read(), rb"^viv-vm: warning: .*reader is gone.*\n$")

    def test_closed_standard_descriptors_are_no_trouble(self):
        disk = self.file("disk", bytes(1 << 20))
        done = subprocess.run(["sh", "-c", 'exec "$@" <&- >&-', "sh", *self.argv(
            "--disk", disk, kernel=self.lots(10))], stderr=subprocess.PIPE, timeout=LIMIT, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(pathlib.Path(disk).read_bytes(), bytes(1 << 20))

    def test_input_comes_from_a_pipe_a_file_and_nowhere(self):
        vm = self.echo(stdin=subprocess.PIPE)
        out, _ = vm.communicate(TEXT + b".", timeout=LIMIT)
        self.assertEqual(out, b"ready\n" + TEXT + b".bye\n")
        with open(self.file("input", TEXT + b"."), "rb") as source:
            vm = self.echo(stdin=source)
            out, _ = vm.communicate(timeout=LIMIT)
        self.assertEqual(out, b"ready\n" + TEXT + b".bye\n")
        self.expect(0, kernel=mini.elf(mini.say("hi\n"), mini.POWER_OFF), out=b"hi\n")  # /dev/null

    def test_more_input_than_fits_anywhere_arrives_whole(self):
        text = TEXT * 22  # more than our buffer holds
        vm = self.start_vm(kernel=mini.elf(mini.FIFOS, mini.say("ready\n"), mini.until_key("."), mini.POWER_OFF),
                           stdin=subprocess.PIPE)
        self.read(vm, b"ready\n")
        out, _ = vm.communicate(text + b".", timeout=LIMIT)
        self.assertEqual(out, text + b".")

    def test_the_end_of_input_does_not_end_the_output(self):
        vm = self.start_vm(kernel=self.lots(), stdin=subprocess.PIPE)
        vm.stdin.close()
        vm.stdin = None
        time.sleep(0.3)
        out, _ = vm.communicate(timeout=LIMIT)
        self.assertEqual((vm.returncode, len(out)), (0, 200000))

    def test_the_escape_key_twice_sends_one_and_with_q_leaves(self):
        vm = self.echo(stdin=subprocess.PIPE)
        self.write(vm, b"a\x1d\x1db")
        self.read(vm, b"ready\na\x1db")
        self.write(vm, b"c\x1d")
        self.read(vm, b"c")
        self.write(vm, b"q")
        self.assertEqual((vm.wait(LIMIT), vm.stdout.read(), vm.stderr.read()), (0, b"", b""))


class Sockets(Case):
    def setUp(self):
        super().setUp()
        self.path = str(self.dir / "serial")

    def connect(self):
        client = socket.socket(socket.AF_UNIX)
        self.addCleanup(client.close)
        client.settimeout(LIMIT)
        self.wait_for(lambda: os.path.exists(self.path), "the socket")
        end = time.monotonic() + LIMIT
        while True:
            try:
                client.connect(self.path)
                return client
            except ConnectionRefusedError:  # between bind and listen
                self.assertLess(time.monotonic(), end)

    def receive(self, client, wanted):
        got = b""
        while not got.endswith(wanted):
            data = client.recv(65536)
            self.assertTrue(data, f"closed after {got[-200:]!r}, waiting for {wanted!r}")
            got += data
        return got

    def start(self, *pieces):
        return self.start_vm("--serial", f"unix:{self.path}", kernel=mini.elf(*pieces))

    def test_clients_come_and_go_and_output_waits_for_them(self):
        vm = self.start(mini.say("early\n"), mini.until_key("."), mini.say("bye\n"), mini.POWER_OFF)
        time.sleep(0.1)
        client = self.connect()
        self.assertEqual(self.receive(client, b"\n"), b"early\n")
        client.sendall(b"one")
        self.receive(client, b"one")
        client.close()
        client = self.connect()
        client.sendall(b"two")
        self.receive(client, b"two")
        other = self.connect()
        self.assertRegex(other.recv(200), b"another client is connected")
        self.assertEqual(other.recv(200), b"")
        client.sendall(b".")
        self.assertEqual(self.receive(client, b"bye\n"), b".bye\n")
        self.assertEqual(client.recv(100), b"")
        self.assertEqual(vm.wait(LIMIT), 0)
        self.assertFalse(os.path.exists(self.path))

    def test_without_a_client_the_guest_runs_on_and_the_newest_output_is_kept(self):
        vm = self.start(mini.times(1500, mini.say("x" * 99 + "\n")), mini.say("last\n"), mini.until_key("."),
                        mini.POWER_OFF)
        time.sleep(0.5)
        client = self.connect()
        got = self.receive(client, b"last\n")
        self.assertGreater(len(got), 60000)
        self.assertRegex(got[-300:], rb"^x*\nx{99}\nx{99}\nlast\n$")
        client.sendall(b".")
        self.assertEqual(vm.wait(LIMIT), 0)

    def test_a_client_that_speaks_and_leaves_is_heard(self):
        vm = self.start(mini.times(200, mini.say("x" * 99 + "\n")), mini.until_key("."), mini.POWER_OFF)
        client = self.connect()
        client.sendall(b"hello.")
        client.close()
        self.assertEqual(vm.wait(LIMIT), 0)

    def test_a_client_that_only_closes_its_sending_side_still_hears(self):
        vm = self.start(mini.until_key("."), mini.say("bye\n"), mini.POWER_OFF)
        client = self.connect()
        client.sendall(b"a.")
        client.shutdown(socket.SHUT_WR)
        self.assertEqual(self.receive(client, b"bye\n"), b"a.bye\n")
        self.assertEqual(vm.wait(LIMIT), 0)

    def test_a_client_that_leaves_while_the_guest_does_not_listen_makes_room_for_the_next(self):
        vm = self.start(mini.say("deaf\n"), mini.forever(mini.WAIT_THR))
        client = self.connect()
        client.setblocking(False)
        try:
            for _ in range(400):
                client.send(b"x" * 1000)  # until nobody takes it any more
        except BlockingIOError:
            pass
        client.close()
        client = self.connect()
        self.assertNotIn(b"another", client.recv(100, socket.MSG_DONTWAIT) if select.select(
            [client], [], [], 0.2)[0] else b"")
        vm.kill()

    def test_a_client_that_leaves_with_the_guest_waiting_for_it_lets_the_guest_go_on(self):
        vm = self.start(mini.times(6000, mini.say("x" * 99 + "\n")), mini.POWER_OFF)
        client = self.connect()
        client.recv(1)
        time.sleep(0.3)  # everything between us is full
        client.close()
        self.assertEqual(vm.wait(LIMIT), 0)

    def test_a_socket_left_behind_is_replaced_and_a_live_one_is_not(self):
        vm = self.start(mini.say("up\n"), mini.STOP)
        self.receive(self.connect(), b"up\n")
        self.refused("in use by another program", "--serial", f"unix:{self.path}", kernel=mini.elf(mini.POWER_OFF))
        self.assertTrue(os.path.exists(self.path))
        vm.kill()
        vm.wait()
        self.assertTrue(os.path.exists(self.path))
        self.expect(0, "--serial", f"unix:{self.path}", kernel=mini.elf(mini.POWER_OFF))


class Terminal(Case):
    """On a pseudo-terminal, as a person has it."""

    master = slave = None

    def setUp(self):
        super().setUp()
        self.addCleanup(self.close_terminal)

    def close_terminal(self):
        for fd in (self.master, self.slave):
            if fd is not None:
                os.close(fd)
        self.master = self.slave = None

    def open_terminal(self):
        self.close_terminal()
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.assertTrue(self.before[3] & termios.ICANON)

    def start(self, *pieces, raw=None, stderr=False):
        self.open_terminal()
        slave = self.slave

        def own():
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        vm = self.start_vm(kernel=raw if raw is not None else mini.elf(mini.FIFOS, *pieces), stdin=slave,
                           stdout=slave, stderr=slave if stderr else subprocess.PIPE, preexec_fn=own)
        return vm

    def is_raw(self):
        return not termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO)

    def test_output_reaches_the_terminal_as_the_guest_sent_it(self):
        vm = self.start(mini.say("a\nb\r\n"), mini.until_button(), mini.POWER_OFF, stderr=True)
        self.assertEqual(self.read_until(b"b\r\n"), b"a\nb\r\n")  # nothing turns \n into \r\n
        vm.terminate()
        self.assertRegex(self.read_until(b"\n"), b"^viv-vm: notice: .*\r\n$")  # our own lines become no stairs
        self.assertEqual(vm.wait(LIMIT), 0)

    def read_until(self, wanted):
        got = b""
        end = time.monotonic() + LIMIT
        while wanted not in got:
            self.assertLess(time.monotonic(), end, got)
            if select.select([self.master], [], [], 0.1)[0]:
                got += os.read(self.master, 65536)
        return got

    def restored(self, vm, code):
        self.assertEqual(vm.wait(LIMIT), code, vm.stderr.read())
        self.assertEqual(termios.tcgetattr(self.slave), self.before)

    def test_keys_go_to_the_guest_one_by_one_and_power_off_restores(self):
        vm = self.start(mini.say("up\n"), mini.until_key("."), mini.POWER_OFF)
        self.read_until(b"up\n")
        self.assertTrue(self.is_raw())
        os.write(self.master, b"\x03\x1a\x11\x04a")  # Ctrl-C, Ctrl-Z, Ctrl-Q and Ctrl-D are keys like others
        self.read_until(b"\x03\x1a\x11\x04a")
        os.write(self.master, b".")
        self.restored(vm, 0)

    def test_the_escape_sequence_leaves(self):
        vm = self.start(mini.say("up\n"), mini.STOP)
        self.read_until(b"up\n")
        os.write(self.master, b"\x1d")
        os.write(self.master, b"q")
        self.restored(vm, 0)

    def test_the_escape_sequence_leaves_a_guest_that_hangs_after_many_keys(self):
        vm = self.start(mini.say("up\n"), mini.STOP)
        self.read_until(b"up\n")
        for _ in range(50):
            os.write(self.master, b"is anybody there? " * 10)
            time.sleep(0.002)
        os.write(self.master, b"\x1dq")
        self.restored(vm, 0)

    def test_signals_restore(self):
        for number, code in ((signal.SIGINT, 1), (signal.SIGABRT, -signal.SIGABRT), (signal.SIGQUIT, -signal.SIGQUIT),
                             (signal.SIGSEGV, -signal.SIGSEGV), (signal.SIGBUS, -signal.SIGBUS)):
            with self.subTest(signal=number):
                vm = self.start(mini.say("up\n"), mini.STOP)
                self.read_until(b"up\n")
                self.assertTrue(self.is_raw())
                vm.send_signal(number)
                self.restored(vm, code)

    def test_two_sigterms_restore(self):
        vm = self.start(mini.say("up\n"), mini.STOP)
        self.read_until(b"up\n")
        vm.terminate()
        os.read(vm.stderr.fileno(), 1)
        vm.terminate()
        self.restored(vm, 1)

    def test_reset_crash_and_bad_kernel_restore(self):
        vm = self.start(mini.say("up\n"), mini.nth_start(3, mini.POWER_OFF, mini.TRIPLE_FAULT))
        self.restored(vm, 0)
        vm = self.start(raw=b"no kernel")
        self.restored(vm, 2)
        vm = self.start(mini.POWER_OFF)
        self.restored(vm, 0)

    def test_a_stop_restores_and_going_on_makes_it_raw_again(self):
        vm = self.start(mini.say("up\n"), mini.until_key("."), mini.POWER_OFF)
        self.read_until(b"up\n")
        vm.send_signal(signal.SIGTSTP)
        self.assertTrue(os.WIFSTOPPED(os.waitpid(vm.pid, os.WUNTRACED)[1]))
        self.assertEqual(termios.tcgetattr(self.slave), self.before)
        vm.send_signal(signal.SIGCONT)
        self.wait_for(self.is_raw, "the raw mode")
        vm.send_signal(signal.SIGSTOP)
        self.assertTrue(os.WIFSTOPPED(os.waitpid(vm.pid, os.WUNTRACED)[1]))
        termios.tcsetattr(self.slave, termios.TCSANOW, self.before)  # as a shell does
        vm.send_signal(signal.SIGCONT)
        self.wait_for(self.is_raw, "the raw mode")
        os.write(self.master, b".")
        self.restored(vm, 0)

    def test_a_terminal_that_shows_nothing_stops_neither_keys_nor_the_end(self):
        vm = self.start(mini.forever(mini.say("x" * 79 + "\n")))
        time.sleep(0.5)  # nobody reads
        self.assertTrue(self.is_raw())
        os.write(self.master, b"\x1dq")
        self.assertEqual(vm.wait(LIMIT), 0)
        os.read(self.master, 65536)
        self.assertEqual(termios.tcgetattr(self.slave), self.before)

    def test_a_terminal_that_goes_away_presses_the_power_button(self):
        vm = self.start(mini.say("up\n"), mini.until_button(), mini.say("x" * 500), mini.POWER_OFF)
        self.read_until(b"up\n")
        os.close(self.slave)  # the program still has it
        self.slave = None
        os.close(self.master)  # the session's leader gets SIGHUP
        self.master = None
        self.assertEqual(vm.wait(LIMIT), 0)


if __name__ == "__main__":
    vivtest.tap.main()

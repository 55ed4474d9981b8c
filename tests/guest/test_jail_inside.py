#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What code in a running machine could do that its guest had taken over, and in a network that a machine had (docs/jail.md): a
tracer stops each thread of it and makes it ask the kernel, as a shell code would. What the filter stops raises SIGSYS; what goes to
the helper is refused."""
import ctypes
import errno
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import time
import unittest

import test_jail
import vivtest

GETREGS, SETREGS, CONT, SEIZE, INTERRUPT, DETACH, STEP, PEEK = 12, 13, 7, 0x4206, 0x4207, 17, 9, 1
REGISTERS = ("r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base "
             "ds es fs gs").split()
AT_FDCWD, CLONE_NEWUSER = 2**64 - 100, 0x10000000
REFUSED = (-errno.EACCES, -errno.EPERM)
NET = str(pathlib.Path(vivtest.VM).with_name("viv-net"))
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long

# What arguments point to, by name; "memory" is a page of zeroes, "other" the number of this process.
PLACES = {
    "path": b"/etc/passwd", "sibling": None, "mem": b"/proc/self/mem", "environ": b"/proc/thread-self/environ", "root": b"/",
    "far": f"/proc/{os.getpid()}/mem".encode(), "device": b"/dev/mem", "up": b"../../../../../../etc/shadow",
    "unix": struct.pack("H108s", 1, b"/run/systemd/private"), "abstract": struct.pack("H108s", 1, b"\0/tmp/dbus"),
    "long": struct.pack("H126s", 1, b"a" * 126), "poll": struct.pack("10I", 0, 0, 2, *[0] * 7),
}
# name, number, arguments.
STOPPED = [
    ("execve", 59, "path"), ("execveat", 322, AT_FDCWD, "path"), ("ptrace", 101, 16, "other"), ("mount", 165, "path", "path"),
    ("umount2", 166, "path", 2), ("unshare", 272, CLONE_NEWUSER), ("setns", 308, 0), ("pivot_root", 155, "path", "path"),
    ("chroot", 161, "path"), ("bpf", 321), ("userfaultfd", 323), ("keyctl", 250), ("add_key", 248, "path"),
    ("perf_event_open", 298, "memory"), ("process_vm_readv", 310, "other"), ("process_vm_writev", 311, "other"),
    ("personality", 135, 0x400000), ("modify_ldt", 154, 1, "memory", 16), ("init_module", 175, "memory"),
    ("finit_module", 313), ("kexec_load", 246), ("open_by_handle_at", 304, AT_FDCWD, "memory"), ("openat2", 437, AT_FDCWD, "path"),
    ("memfd_secret", 447), ("clone with a namespace", 56, CLONE_NEWUSER | signal.SIGCHLD), ("tkill", 200, "other", 9),
    ("tgkill", 234, "other", "other", 9), ("pidfd_open", 434, "other"), ("pidfd_send_signal", 424, 0, 9),
    ("mprotect to code", 10, "memory", 4096, 7), ("mmap of code", 9, 0, 4096, 7, 0x22, 2**64 - 1), ("setuid", 105, 0),
    ("capset", 126, "memory", "memory"), ("symlink", 88, "path", "path"), ("mknod", 133, "path"), ("chmod", 90, "path", 0o777),
    ("sched_setaffinity", 203, "other", 8, "memory"), ("prlimit64", 302, "other", 7, 0, "memory"), ("shmget", 29, 1, 4096, 0o600),
    ("TIOCSTI", 16, 2, 0x5412, "path"), ("io_uring_register of buffers", 427, 0, 0, "memory", 1), ("x32", 0x40000027),
    ("vfork", 58), ("fork", 57), ("waitid", 247, 3, 0, 0, 4), ("kcmp", 312, "other", "other"), ("process_madvise", 440, 0, "memory"),
    ("process_mrelease", 448), ("rt_sigqueueinfo", 129, "other", 9, "memory"), ("pidfd_getfd", 438), ("setsid", 112), ("setpgid", 109),
    ("mprotect to code alone", 10, "memory", 4096, 4), ("pkey_mprotect", 329, "memory", 4096, 7, 2**64 - 1),
    ("mmap of a descriptor as code", 9, 0, 4096, 5, 2, 0), ("remap_file_pages", 216, "memory", 4096), ("shmat", 30), ("msgget", 68, 1, 0o600),
    ("semget", 64, 1, 1, 0o600), ("mq_open", 240, "path", 2), ("vmsplice", 278, 0, "memory"), ("splice", 275), ("tee", 276),
    ("sendfile", 40), ("copy_file_range", 326), ("name_to_handle_at", 303, AT_FDCWD, "path", "memory", "memory"), ("truncate", 76, "path"),
    ("chown", 92, "path"), ("fchmod", 91, 0, 0o777), ("utimensat", 280, AT_FDCWD, "path"), ("setxattr", 188, "path", "path", "path", 1),
    ("inotify_init1", 294), ("fanotify_init", 300), ("fsopen", 430, "path"), ("open_tree", 428, AT_FDCWD, "path"),
    ("move_mount", 429, 0, "path", 0, "path"), ("acct", 163, "path"), ("swapon", 167, "path"), ("reboot", 169), ("sethostname", 170, "path", 1),
    ("iopl", 172, 3), ("ioperm", 173, 0, 1, 1), ("syslog", 103, 3, "memory", 10), ("clock_settime", 227, 0, "memory"),
    ("landlock_create_ruleset", 444), ("strict seccomp", 317), ("seccomp's notification", 16, 0, 0xC0182101),
    ("dumpable", 157, 4, 1), ("no more of no_new_privs", 157, 38), ("ARCH_SET_CPUID", 158, 0x1012, 1), ("F_SETOWN", 72, 0, 8, "other"),
    ("F_SETSIG", 72, 0, 10, 9), ("F_NOTIFY", 72, 0, 1026, 1), ("F_SETLEASE", 72, 0, 1024), ("FIOSETOWN", 16, 0, 0x8901, "memory"),
    ("TIOCSCTTY", 16, 0, 0x540E), ("TIOCSETD", 16, 0, 0x5423, "memory"), ("FS_IOC_SETFLAGS", 16, 0, 0x40086602, "memory"),
    ("KVM_CREATE_VM", 16, 0, 0xAE01), ("TUNSETIFF", 16, 0, 0x400454CA, "memory"), ("SIOCGIFCONF", 16, 0, 0x8912, "memory"),
    ("socketpair", 53, 1, 1, 0, "memory"), ("timer_create", 222, 0, "memory", "memory"), ("mlockall", 151, 1), ("mbind", 237, "memory", 4096),
    ("io_uring_register of a restriction", 427, 0, 11, "memory", 1), ("setrlimit", 160, 4, "memory"), ("ustat", 136), ("quotactl", 179),
]
# Refused, or stopped where a thread has no need of the call at all.
ASKED = [
    ("openat", 257, AT_FDCWD, "path", 0), ("openat to write", 257, AT_FDCWD, "path", 1), ("unlink", 87, "path"),
    ("rename", 82, "path", "path"), ("socket of IPv4", 41, 2, 1, 0), ("raw socket", 41, 2, 3, 1), ("netlink socket", 41, 16, 3, 0),
    ("kill", 62, "other", 9), ("kill of everybody", 62, 2**64 - 1, 9), ("mkdir", 83, "path"), ("link", 86, "path", "path"),
    ("kill of the starter by group", 62, 0, 9), ("a file of another machine", 257, AT_FDCWD, "sibling", 0), ("its own memory", 257, AT_FDCWD, "mem", 2),
    ("another's memory", 257, AT_FDCWD, "far", 2), ("the host's memory", 257, AT_FDCWD, "device", 2), ("the root", 257, AT_FDCWD, "root", 0o200000),
    ("upwards", 257, AT_FDCWD, "up", 0), ("beside a descriptor", 257, 0, "up", 0), ("stat", 4, "path", "memory"),
    ("access", 21, "path", 4), ("readlink", 89, "path", "memory", 4096), ("rmdir", 84, "path"), ("packet socket", 41, 17, 3, 768),
    ("vsock", 41, 40, 1, 0), ("alg socket", 41, 38, 5, 0), ("datagrams of unix", 41, 1, 2, 0),
]
# Of what may be asked for, with what it would be wrong.
WRONG = [("names of what is no folder", 217, 0, "memory", 4096, -errno.ENOTDIR), ("its surroundings", 257, AT_FDCWD, "environ", 0, -errno.ENOENT), ("a ring with a thread of the kernel", 425, 8, "poll", -errno.EINVAL)]
# With a socket of its own: call, name of the address, size, answer.
ADDRESSES = [("connect", 42, "unix", 110, -errno.EACCES), ("connect to an abstract one", 42, "abstract", 20, -errno.EACCES),
             ("connect to a long one", 42, "long", 128, -errno.EINVAL), ("bind", 49, "unix", 110, -errno.EACCES),
             ("bind to an abstract one", 49, "abstract", 20, -errno.EACCES)]
# clone3 has its flags in memory, so that none of it is allowed; the library tries it, and is to take clone.
NONE_SUCH = [("clone3", 435, "memory", 88)]


class Thread:
    """A thread of another process, stopped. Its registers are as they were when it goes on."""

    def __init__(self, tid):
        self.tid = tid
        self.call(SEIZE)
        self.call(INTERRUPT)
        self.wait()
        self.kept = self.registers()

    def call(self, request, address=0, data=0):
        value = libc.ptrace(request, self.tid, address, data)
        if value < 0 and ctypes.get_errno():
            raise OSError(ctypes.get_errno(), f"ptrace {request:#x}")
        return value

    def wait(self):
        status = os.waitpid(self.tid, 0x40000000)[1]  # __WALL
        assert os.WIFSTOPPED(status), f"the thread ended: {status:#x}"
        return os.WSTOPSIG(status)

    def registers(self):
        raw = ctypes.create_string_buffer(8 * len(REGISTERS))
        self.call(GETREGS, 0, ctypes.addressof(raw))
        return dict(zip(REGISTERS, struct.unpack(f"{len(REGISTERS)}Q", raw.raw)))

    def set(self, registers):
        raw = ctypes.create_string_buffer(struct.pack(f"{len(REGISTERS)}Q", *(registers[n] for n in REGISTERS)))
        self.call(SETREGS, 0, ctypes.addressof(raw))

    def ask(self, at, number, arguments):
        """The result, or the signal that came instead."""
        values = dict(zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), (*arguments, 0, 0, 0, 0, 0, 0)))
        self.set({**self.kept, **values, "rip": at, "rax": number, "orig_rax": 2**64 - 1})
        while True:
            self.call(STEP)
            what = self.wait()
            if what == signal.SIGSYS:
                return signal.SIGSYS
            now = self.registers()
            if now["rip"] != at:  # else it was a trap of the attempt before, or another signal
                return ctypes.c_long(now["rax"]).value

    def leave(self):
        self.set(self.kept)
        self.call(DETACH)


def mapped(pid, wanted):
    for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
        place, rights, _, _, _, *name = line.split(None, 5)
        if wanted(rights, name[0] if name else ""):
            start, end = (int(n, 16) for n in place.split("-"))
            yield start, end


def names_of_threads(pid):
    names = []
    for tid in os.listdir(f"/proc/{pid}/task"):
        try:
            names.append(pathlib.Path(f"/proc/{pid}/task/{tid}/comm").read_text().strip())
        except (FileNotFoundError, ProcessLookupError):
            pass
    return names


class Inside(unittest.TestCase):
    setUp, start, launch = test_jail.Jail.setUp, test_jail.Jail.start, test_jail.Jail.launch
    end, ctl = test_jail.Jail.end, test_jail.Jail.ctl

    def place_of_a_call(self, pid):
        """The address of an instruction SYSCALL in code that the machine has."""
        with open(f"/proc/{pid}/mem", "rb") as memory:
            for start, end in mapped(pid, lambda rights, name: "x" in rights and "libc" in name):
                memory.seek(start)
                at = memory.read(end - start).find(b"\x0f\x05")
                if at >= 0:
                    return start + at
        self.fail("there is no SYSCALL in the C library")

    def test_no_thread_of_a_machine_gets_anywhere(self):
        with open(self.dir / "disk", "wb") as f:
            f.truncate(1 << 30)
        os.pwrite(fd := os.open(self.dir / "disk", os.O_WRONLY), bytes(range(256)) * 65536, 0)
        os.close(fd)
        status = self.start("--disk", self.dir / "disk")
        if not status["jail"]["helper"]:
            self.skipTest("this host has no helper")
        client = socket.socket(socket.AF_UNIX)  # viv-ctl would wait for the end of the job
        self.addCleanup(client.close)
        client.connect(str(self.control))
        client.sendall(json.dumps({"command": "disk-mirror", "arguments": {  # its thread sleeps from piece to piece
            "disk": 0, "file": str(self.dir / "copy"), "speed": 4096}}).encode() + b"\n")
        seen = self.everybody_tries(status["pid"], lambda names: any(n.startswith("vcpu") for n in names) and "viv-job" in names)
        self.assertTrue(any(n.startswith("vcpu") for n in seen) and "viv-job" in seen, seen)
        self.assertEqual(self.ctl("status")["pid"], status["pid"], "it goes on")

    def test_nor_does_a_network(self):
        (self.dir / "lan.json").write_text(json.dumps({"name": "lan", "subnet": "10.77.0.0/24", "open": True}))
        net = subprocess.Popen([NET, "--config", self.dir / "lan.json", "--ports", f"unix:{self.dir}/lan", "--control",
                                f"unix:{self.control}"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.addCleanup(net.communicate)
        self.addCleanup(net.kill)
        vivtest.wait_for_listener(self, net, self.control)
        self.ctl("status")  # it is in its loop, behind the door
        if "Seccomp:\t2" not in pathlib.Path(f"/proc/{net.pid}/status").read_text():
            self.skipTest("this host has no filter")
        self.assertEqual(len(self.everybody_tries(net.pid, lambda names: True, internet=True)), 1)
        self.ctl("status")

    def everybody_tries(self, pid, begun, internet=False):
        """The names of the threads that did."""
        call = self.place_of_a_call(pid)
        # The stack's end, where nothing is any more that is read: a page of zeroes, and one of strings.
        memory = next(mapped(pid, lambda rights, name: name == "[stack]"))[1] - 8192
        places, strings = {"memory": memory, "other": os.getpid()}, b""
        for name, text in PLACES.items():
            places[name] = memory + 4096 + len(strings)
            strings += (text or str(self.dir / "kernel.other").encode()).ljust(128, b"\0")
        deadline = time.monotonic() + 100
        while not begun(names_of_threads(pid)):
            self.assertLess(time.monotonic(), deadline, names_of_threads(pid))
            time.sleep(0.01)  # each gives itself its name
        seen = set()
        with open(f"/proc/{pid}/mem", "r+b", buffering=0) as m:
            for tid in sorted(map(int, os.listdir(f"/proc/{pid}/task"))):
                name = pathlib.Path(f"/proc/{pid}/task/{tid}/comm").read_text().strip()
                try:
                    thread = Thread(tid)
                except PermissionError:
                    self.skipTest("this host lets nobody trace a process")
                try:
                    kept = os.pread(m.fileno(), 8192, memory)
                    os.pwrite(m.fileno(), bytes(4096) + strings, memory)
                    self.attempts(thread, name, call, places, internet)
                    # A call that works takes the trap with it that one that was stopped leaves behind.
                    self.assertEqual(thread.ask(call, 39, []), pid)
                    os.pwrite(m.fileno(), kept, memory)
                finally:
                    thread.leave()
                seen.add(name)
        return seen

    def attempts(self, thread, name, call, places, internet):
        made = 0
        for what, number, *arguments in STOPPED + ASKED + NONE_SUCH:
            if internet and what == "socket of IPv4":
                continue
            with self.subTest(thread=name, call=what):
                got = thread.ask(call, number, [places.get(a, a) for a in arguments])
                if (what, number, *arguments) in STOPPED:
                    self.assertEqual(got, signal.SIGSYS)
                elif what == "clone3":
                    self.assertIn(got, (signal.SIGSYS, -errno.ENOSYS))
                else:
                    self.assertIn(got, (signal.SIGSYS, *REFUSED))
                made += 1
        for what, number, *arguments, answer in WRONG:
            with self.subTest(thread=name, call=what):
                self.assertIn(thread.ask(call, number, [places.get(a, a) for a in arguments]), (signal.SIGSYS, answer, *REFUSED))
        self.assertGreater(made, 100)
        mine = thread.ask(call, 41, [1, 1 | 0o4000, 0])  # a stream that does not wait
        if mine in (signal.SIGSYS, *REFUSED):
            return
        for what, number, address, size, answer in ADDRESSES:
            with self.subTest(thread=name, call=what):
                self.assertIn(thread.ask(call, number, [mine, places[address], size]), (signal.SIGSYS, answer))
        self.assertEqual(thread.ask(call, 3, [mine]), 0)


if __name__ == "__main__":
    vivtest.tap.main()

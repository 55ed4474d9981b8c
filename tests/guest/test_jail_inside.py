#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What code in a running machine could do that its guest had taken over (docs/jail.md): a tracer stops each thread of it and makes
it ask the kernel, as a shell code would. What the filter stops raises SIGSYS; what goes to the helper is refused."""
import ctypes
import errno
import os
import pathlib
import signal
import struct
import time
import unittest

import test_jail
import vivtest

GETREGS, SETREGS, CONT, SEIZE, INTERRUPT, DETACH, STEP, PEEK = 12, 13, 7, 0x4206, 0x4207, 17, 9, 1
REGISTERS = ("r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base "
             "ds es fs gs").split()
PASSWD, AT_FDCWD, CLONE_NEWUSER = b"/etc/passwd\0", 2**64 - 100, 0x10000000
REFUSED = (-errno.EACCES, -errno.EPERM)
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long

# name, number, arguments: "path" and "memory" are addresses in the machine, "other" the number of this process.
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
]
# Refused, or stopped where a thread has no need of the call at all.
ASKED = [
    ("openat", 257, AT_FDCWD, "path", 0), ("openat to write", 257, AT_FDCWD, "path", 1), ("unlink", 87, "path"),
    ("rename", 82, "path", "path"), ("socket of IPv4", 41, 2, 1, 0), ("raw socket", 41, 2, 3, 1), ("netlink socket", 41, 16, 3, 0),
    ("kill", 62, "other", 9), ("kill of everybody", 62, 2**64 - 1, 9), ("mkdir", 83, "path"), ("link", 86, "path", "path"),
]
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
    setUp, start, end, ctl = test_jail.Jail.setUp, test_jail.Jail.start, test_jail.Jail.end, test_jail.Jail.ctl

    def place_of_a_call(self, pid):
        """The address of an instruction SYSCALL in code that the machine has."""
        with open(f"/proc/{pid}/mem", "rb") as memory:
            for start, end in mapped(pid, lambda rights, name: "x" in rights and "libc" in name):
                memory.seek(start)
                at = memory.read(end - start).find(b"\x0f\x05")
                if at >= 0:
                    return start + at
        self.fail("there is no SYSCALL in the C library")

    def test_no_thread_gets_anywhere(self):
        with open(self.dir / "disk", "wb") as f:
            f.truncate(1 << 20)
        status = self.start("--disk", self.dir / "disk")
        pid = status["pid"]
        if not status["jail"]["helper"]:
            self.skipTest("this host has no helper")
        call = self.place_of_a_call(pid)
        # The stack's end, where nothing is any more that is read.
        memory = next(mapped(pid, lambda rights, name: name == "[stack]"))[1] - 8192
        with open(f"/proc/{pid}/mem", "r+b", buffering=0) as m:
            m.seek(memory)
            kept = m.read(8192)
        words = {"path": memory + 4096, "memory": memory, "other": os.getpid()}
        while not any(name.startswith("vcpu") for name in names_of_threads(pid)):
            time.sleep(0.01)  # each gives itself its name
        seen = set()
        for tid in sorted(map(int, os.listdir(f"/proc/{pid}/task"))):
            name = pathlib.Path(f"/proc/{pid}/task/{tid}/comm").read_text().strip()
            try:
                thread = Thread(tid)
            except PermissionError:
                self.skipTest("this host lets nobody trace a process")
            try:
                with open(f"/proc/{pid}/mem", "r+b", buffering=0) as m:
                    m.seek(memory)
                    m.write(bytes(4096) + PASSWD)
                self.attempts(thread, name, call, words)
                with open(f"/proc/{pid}/mem", "r+b", buffering=0) as m:
                    m.seek(memory)
                    m.write(kept)
            finally:
                thread.leave()
            seen.add(name)
        self.assertTrue(any(n.startswith("vcpu") for n in seen), seen)
        self.assertEqual(self.ctl("status")["pid"], pid, "it goes on")

    def attempts(self, thread, name, call, words):
        for what, number, *arguments in STOPPED + ASKED + NONE_SUCH:
            with self.subTest(thread=name, call=what):
                got = thread.ask(call, number, [words.get(a, a) for a in arguments])
                if (what, number, *arguments) in STOPPED:
                    self.assertEqual(got, signal.SIGSYS)
                elif what == "clone3":
                    self.assertIn(got, (signal.SIGSYS, -errno.ENOSYS))
                else:
                    self.assertIn(got, (signal.SIGSYS, *REFUSED))


if __name__ == "__main__":
    vivtest.tap.main()

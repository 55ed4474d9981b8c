#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Which system calls are declared for the jail that nothing makes: runs a command with everything below it under
strace, and compares what the threads of each viv-vm and viv-net called behind the door with the declarations
beside the code (base/jail.h, docs/jail.md).

usage: jail-calls.py [--keep FOLDER] [--kind KIND] COMMAND...
       jail-calls.py --read FOLDER... [--kind KIND]

As root, for example: scripts/jail-calls.py --keep /tmp/calls tests/run --only guest test_control test_blockjob
Logs of several runs count together with --read. A call that is not in the list was made; one that is may still be
needed: by another version of the C library, by what goes wrong seldom. Such a one says so where it is declared.
"""
import argparse
import collections
import importlib.machinery
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
gen = importlib.machinery.SourceFileLoader("gen_jail", str(ROOT / "scripts/gen-jail.py")).load_module()
NAMED = [("vcpu", "vcpu"), ("viv-disk", "disk"), ("viv-job", "job"), ("viv-prefetch", "aux"), ("viv-flush", "aux"),
         ("viv-helper", "helper"), ("viv-share", "share")]
LINE = re.compile(r"(\d+\.\d+) (\w+)\((.*)")
NEW_ONE = re.compile(r"(clone|clone3|fork|vfork)\(.* = (\d+)$")
HEADER = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"


class Task:
    """A thread or process, as strace wrote it down: strace -ff has a file for each."""

    def __init__(self, path):
        self.path, self.number = path, int(path.suffix[1:])
        self.parent, self.is_thread, self.begun = None, False, 0.0
        self.program = self.kind = self.door = None
        self.children, self.calls = [], []
        with open(path, encoding="utf-8", errors="replace") as f:
            for line in f:
                self.take(line.rstrip("\n"))

    def take(self, line):
        m = LINE.match(line)
        if not m:
            return
        at, name, rest = float(m[1]), m[2], m[3]
        if name == "execve" and rest.endswith(" = 0"):
            self.program, self.calls = pathlib.Path(rest.split('"')[1]).name, []
        made = NEW_ONE.search(line)
        if made:
            self.children.append((int(made[2]), "CLONE_THREAD" in rest))
        if name == "prctl" and rest.startswith("PR_SET_NAME"):
            for begin, kind in NAMED:
                if rest.split('"')[1].startswith(begin):
                    self.kind = kind
        if name == "seccomp" and rest.startswith("SECCOMP_SET_MODE_FILTER") and " = -1" not in rest:
            self.door = self.door or at
        self.calls.append((at, name, rest))


def settle(task, tasks, program=None, kind=None, door=None):
    """Who it is: what its parents were, until it says otherwise itself."""
    task.program = task.program or program
    inherited = kind if task.kind is None else task.kind
    task.kind = inherited or {"viv-vm": "main", "viv-net": "net"}.get(task.program)
    # A thread has the door of its process, one that has none of its own that of what it came from.
    task.door = door if task.door is None else task.door if door is None else min(door, task.door)
    for number, _ in task.children:
        child = tasks.pop(number, None)
        if child:
            settle(child, tasks, task.program, None if task.kind == "main" else task.kind, task.door)


def read(folder):
    """Set of (kind, name, first words) of calls behind the door."""
    tasks = {t.number: t for t in map(Task, sorted(pathlib.Path(folder).glob("calls.*")))}
    everybody, children = list(tasks.values()), {c for t in tasks.values() for c, _ in t.children}
    for t in everybody:
        if t.number not in children:
            settle(t, tasks)
    used = collections.defaultdict(set)
    for t in everybody:
        if t.program in ("viv-vm", "viv-net", "viv-share") and t.door is not None:
            for at, name, rest in t.calls:
                if at > t.door:
                    used[t.kind, name].add(rest.rsplit(" = ", 1)[0][:200])
    return used


def is_used(used, kind, name, value):
    texts = used.get((kind, name), ())
    if not value or not texts:
        return bool(texts)
    if value == "empty":
        return any("AT_EMPTY_PATH" in t for t in texts)
    if value in ("thread", "fork"):
        return any(("CLONE_THREAD" in t) == (value == "thread") for t in texts)
    return value.islower() or any(re.search(rf"\b{value}\b", t) for t in texts)


def declarations():
    numbers = {m[1]: int(m[2]) for m in re.finditer(r"#define __NR_(\w+) (\d+)", pathlib.Path(HEADER).read_text())}
    where = collections.defaultdict(set)
    for path in sorted((ROOT / "src").rglob("*.c")):
        text, table = path.read_text(encoding="utf-8"), {}
        if "Calls (" in text:
            gen.declared(str(path), text, numbers, table)
        for call, kinds in table.items():
            for kind in kinds:
                where[call, kind].add(str(path.relative_to(ROOT / "src")))
    return where


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("--keep")
    p.add_argument("--kind")
    p.add_argument("--read", action="append", default=[])
    p.add_argument("command", nargs=argparse.REMAINDER)
    o = p.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folders = o.read
        if o.command:
            folders = [o.keep or temporary]
            pathlib.Path(folders[0]).mkdir(exist_ok=True)
            done = subprocess.run(["strace", "-ff", "-qq", "-ttt", "-e", "signal=none", "-o", f"{folders[0]}/calls", *o.command],
                                  check=False)
            print(f"{o.command[0]} ended with {done.returncode}", file=sys.stderr)
        used = collections.defaultdict(set)
        for folder in folders:
            for key, texts in read(folder).items():
                used[key] |= texts
    if not used:
        sys.exit("no viv-vm nor viv-net went into a jail there")
    unused, total = collections.defaultdict(list), collections.Counter()
    for ((name, value), kind), files in sorted(declarations().items()):
        total[kind] += 1
        if not is_used(used, kind, name, value):
            unused[kind].append(f"{name}{':' + value if value else ''} ({', '.join(sorted(files))})")
    for kind in [o.kind] if o.kind else gen.KINDS:
        print(f"{kind}: {total[kind]} declared, {len(unused[kind])} never made")
        for line in unused[kind]:
            print(f"  {line}")


main()

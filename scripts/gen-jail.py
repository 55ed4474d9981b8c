#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes the table of system calls that a process in the jail may make from the declarations beside the code.

usage: gen-jail.py OUT_TABLE OUT_NAMES UNISTD_HEADER SOURCE...

A declaration is part of a comment: "Calls (KIND, KIND): NAME NAME:VALUE ..."; it ends with the comment or with an
empty line of it. KIND is a thread's kind (base/jail.h, in lower case), `net` for viv-net, `helper` and `share` for the
processes beside them, or `all`. NAME is a system call;
NAME:VALUE allows it with that value of its deciding argument alone (ioctl: the request; fcntl: the command; prctl:
the option; madvise: the advice; futex: the operation; io_uring_register, too; setsockopt: LEVEL/OPTION), or with a condition of a word in lower case that jail/filter.c knows.
The table gets one line a declared call and value, the names one line a call of the kernel. A call that the
kernel's header does not have, a kind or a condition that nobody knows is an error that names file and line.
"""
import re
import sys

KINDS = ["main", "vcpu", "disk", "job", "aux", "net", "helper", "share"]
ARGUMENT = {"ioctl": 1, "fcntl": 1, "prctl": 0, "io_uring_register": 1, "arch_prctl": 0, "seccomp": 0, "madvise": 2,
            "futex": 1, "setsockopt": 1}
TWO = {"setsockopt"}  # the next argument decides as well
CONDITIONS = {"prlimit64": ["read"], "newfstatat": ["empty"], "statx": ["empty"], "clone": ["thread", "fork"],
              "kill": ["child"], "pidfd_send_signal": ["child"], "sched_getaffinity": ["self"],
              "sched_setaffinity": ["self"], "sched_setattr": ["self"]}
NEEDED = {"prlimit64", "clone", "kill", "pidfd_send_signal", "sched_getaffinity", "sched_setaffinity", "sched_setattr"}
DECLARATION = re.compile(r"Calls \(([a-z, ]+)\):((?:(?!\n[ \t]*\*?[ \t]*\n|\*/|Calls \().)*)", re.S)


def fail(path, text, at, why):
    sys.exit(f"{path}:{text.count(chr(10), 0, at) + 1}: {why}")


def comments(text):
    pattern = r'"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\'|//[^\n]*|/\*.*?\*/'
    for m in re.finditer(pattern, text, flags=re.S):
        if m.group(0).startswith("/"):
            yield m.start(), m.group(0)


def declared(path, text, numbers, table):
    for start, comment in comments(text):
        for m in DECLARATION.finditer(comment):
            at = start + m.start()
            kinds = KINDS if m.group(1) == "all" else [k.strip() for k in m.group(1).split(",")]
            for kind in kinds:
                if kind not in KINDS:
                    fail(path, text, at, f"'{kind}' is no kind of thread: {', '.join(KINDS)}")
            for word in m.group(2).replace("*", " ").split():
                name, _, value = word.partition(":")
                if name not in numbers:
                    fail(path, text, at, f"'{name}' is no system call of this kernel's header")
                if name in ARGUMENT:
                    form = "NAME/NAME" if name in TWO else "NAME"
                    if not re.fullmatch(form.replace("NAME", "[A-Z][A-Z0-9_]+"), value):
                        fail(path, text, at, f"'{name}' needs a value: {name}:{form}")
                elif value and value not in CONDITIONS.get(name, []):
                    fail(path, text, at, f"'{word}': nobody knows this condition")
                elif not value and name in NEEDED:
                    fail(path, text, at, f"'{name}' needs a condition: {', '.join(CONDITIONS[name])}")
                table.setdefault((name, value), set()).update(kinds)


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    out_table, out_names, header, paths = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
    with open(header, encoding="utf-8") as f:
        numbers = {m.group(1): int(m.group(2))
                   for m in re.finditer(r"#define __NR_(\w+) (\d+)", f.read())}
    table = {}
    for path in sorted(paths):
        with open(path, encoding="utf-8") as f:
            text = f.read()
        if "Calls (" in text:
            declared(path, text, numbers, table)
    note = "/* Made by gen-jail.py from the declarations beside the code; do not edit. */\n"
    with open(out_table, "w", encoding="utf-8") as f:
        f.write(note)
        for (name, value), kinds in sorted(table.items(), key=lambda t: (numbers[t[0][0]], t[0][1])):
            mask = " | ".join(f"KIND_{k.upper()}" for k in KINDS if k in kinds)
            what, argument, first, second = "ANY", 0, "0", "0"
            if name in ARGUMENT:
                what, argument = "TWO_VALUES" if name in TWO else "VALUE", ARGUMENT[name]
                first, _, second = value.partition("/")
            elif value:
                what = value.upper()
            f.write(f"{{{numbers[name]}, CALL_{what}, {argument}, (uint32_t){first}, (uint32_t){second or 0}, {mask}}}, /* {name} */\n")
    with open(out_names, "w", encoding="utf-8") as f:
        f.write(note)
        for name, number in sorted(numbers.items(), key=lambda t: t[1]):
            f.write(f'{{{number}, "{name}"}},\n')


if __name__ == "__main__":
    main()

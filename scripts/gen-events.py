#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes the enum and the table of all trace events or counters from the .def files beside the code.

usage: gen-events.py trace|stats OUT_HEADER OUT_TABLE DEF_FILE...

A line is TRACE(name, "format") or STAT(name, "help"); // and /* */ comments and empty lines are
allowed. The header gets enum values TRACE_name ... TRACE_COUNT (and TRACE_FMT_name, so that the
compiler can check the arguments), the table one initialiser { "name", "text" } a line, in the
same order. Anything else in a file, or a name given twice, is an error that names file and line.
"""
import re
import sys

KINDS = {"trace": ("TRACE", "FMT"), "stats": ("STAT", "HELP")}
LINE = re.compile(r'(\w+)\s*\(\s*([a-z][a-z0-9_]*)\s*,\s*((?:"(?:[^"\\]|\\.)*"\s*|PRI\w+\s*)+)\)\s*;?')


def fail(path, number, why):
    sys.exit(f"{path}:{number}: {why}")


def parse(path, macro):
    with open(path, encoding="utf-8") as f:
        text = f.read()
    # Comments become the newlines they held, so that line numbers stay true.
    text = re.sub(r'("(?:[^"\\\n]|\\.)*")|//[^\n]*|/\*.*?\*/',
                  lambda m: m.group(1) or "\n" * m.group(0).count("\n"), text, flags=re.S)
    pos = 0
    while True:
        rest = text[pos:]
        pos += len(rest) - len(rest.lstrip())
        if pos >= len(text):
            return
        number = text.count("\n", 0, pos) + 1
        m = LINE.match(text, pos)
        if not m or m.group(1) != macro:
            fail(path, number, f'expected {macro}(lower_case_name, "text"), '
                               f'found: {text[pos:].splitlines()[0]}')
        yield number, m.group(2), " ".join(m.group(3).split("\n")).strip()
        pos = m.end()


def main():
    if len(sys.argv) < 4 or sys.argv[1] not in KINDS:
        sys.exit(__doc__)
    kind, header, table, paths = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
    macro, text_name = KINDS[kind]
    events, seen = [], {}
    for path in sorted(paths):
        for number, name, text in parse(path, macro):
            if name in seen:
                fail(path, number, f"{macro}({name}) was already declared at {seen[name]}")
            seen[name] = f"{path}:{number}"
            events.append((name, text))
    note = f"/* Made by gen-events.py from all {kind}.def files; do not edit. */\n"
    with open(header, "w", encoding="utf-8") as f:
        guard = f"VIV_{kind.upper()}_EVENTS_H"
        f.write(f"{note}#ifndef {guard}\n#define {guard}\n#include <inttypes.h>\n\n")
        f.write(f"enum {kind}_event {{\n")
        f.writelines(f"    {macro}_{name},\n" for name, _ in events)
        f.write(f"    {macro}_COUNT\n}};\n\n")
        f.writelines(f"#define {macro}_{text_name}_{name} {text}\n" for name, text in events)
        f.write("\n#endif\n")
    with open(table, "w", encoding="utf-8") as f:
        f.write(note)
        f.writelines(f'{{"{name}", {text}}},\n' for name, text in events)


main()

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks what the folder map promises: includes go down only, a source includes its own header first,
every file names its licence, no file outgrows its subject. Prints one line a finding.

usage: check-includes.py [ROOT]      exit code 1 when a rule is broken; warnings alone do not count
"""
import pathlib
import re
import sys

# Folder of src/ -> the folders it may include besides itself. docs/ARCHITECTURE.md draws it.
LOW = ["base", "state", "proto"]
MIDDLE = LOW + ["bus", "block", "net", "display", "share", "vfio"]
ALLOWED = {
    "base": [],
    "state": ["base"],
    "proto": ["base", "state"],
    "jail": ["base"],
    "bus": LOW,
    "block": LOW + ["bus"],
    "net": LOW + ["bus"],
    "display": LOW + ["bus"],
    "share": LOW,
    "vfio": LOW,
    # A device never sees a CPU, a CPU never sees a device; the board alone sees both.
    "devices": MIDDLE,
    "cpu": LOW + ["bus"],
    "machine": MIDDLE + ["devices", "cpu"],
    "vm": MIDDLE + ["devices", "cpu", "machine", "jail"],
    "oci": LOW,
    "tools": MIDDLE + ["devices", "cpu", "machine", "oci"],
    "host": LOW + ["block", "vfio"],
    "switch": LOW + ["net", "jail"],
    "cli": LOW,
    "agent": LOW,
}
# Made by the build from the tables beside the code.
GENERATED = {"trace_events.h", "trace_table.inc", "stats_events.h", "stats_table.inc",
             "insn_ids.h", "insn_table.inc", "jail_calls.inc", "jail_names.inc"}
LICENCE = "SPDX-License-Identifier: GPL-2.0-or-later"
LICENSED = {".c", ".h", ".py", ".sh", ".def", ".tab", ".build", ".inc", ".S", ".s"}
LICENSED_NAMES = {"Makefile", "run", "meson_options.txt", ".clang-format", ".clang-tidy"}
TREES = ["src", "tests", "bench", "scripts", ".ci"]
MAX_LINES, MAX_HEADER = 1500, 150
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def check_includes(root, path, text, errors):
    relative = path.relative_to(root)
    in_src = relative.parts[0] == "src"
    includes = INCLUDE.findall(text)
    for name in includes:
        where = f"{relative}:{text[:text.index(name)].count(chr(10)) + 1}"
        if name in GENERATED:
            continue
        target = next((d for d in (["src"] if in_src else ["src", "tests"]) if (root / d / name).is_file()), None)
        if target is None:
            if in_src or not (path.parent / name).is_file():
                errors.append(f'{where}: "{name}" is not found from src/ (paths are relative to it)')
            continue
        if not in_src:
            continue
        own, other = relative.parts[1], pathlib.PurePath(name).parts[0]
        if own not in ALLOWED:
            errors.append(f"{where}: folder src/{own} is not in the table of check-includes.py")
        elif other != own and other not in ALLOWED[own]:
            errors.append(f'{where}: {own}/ may not include "{name}" (only {", ".join([own] + ALLOWED[own])})')
    own_header = path.with_suffix(".h")
    if in_src and path.suffix == ".c" and own_header.is_file():
        wanted = str(own_header.relative_to(root / "src"))
        if not includes or includes[0] != wanted or re.search(r"#\s*include\s+<", text[:text.find(wanted)]):
            errors.append(f'{relative}:1: the first include must be "{wanted}", its own header')


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent).resolve()
    errors, warnings = [], []
    files = [p for tree in TREES for p in sorted((root / tree).rglob("*")) if p.is_file()]
    files += [p for p in sorted(root.iterdir()) if p.is_file()]
    checked = 0
    for path in files:
        relative = path.relative_to(root)
        if "__pycache__" in relative.parts or not (path.suffix in LICENSED or path.name in LICENSED_NAMES):
            continue
        checked += 1
        text = path.read_text(encoding="utf-8", errors="replace")
        if LICENCE not in "\n".join(text.splitlines()[:3]):
            errors.append(f"{relative}:1: no line '{LICENCE}' in the first three")
        if path.suffix in (".c", ".h"):
            check_includes(root, path, text, errors)
            lines = text.count("\n")
            limit = MAX_HEADER if path.suffix == ".h" else MAX_LINES
            if lines > limit:
                warnings.append(f"{relative}: {lines} lines, a file of its kind should stay below {limit}")
    for line in warnings:
        print(f"warning: {line}")
    for line in errors:
        print(f"error: {line}")
    print(f"{checked} files, {len(errors)} errors, {len(warnings)} warnings")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())

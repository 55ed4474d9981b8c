#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Turns src/cpu/soft/opcodes.tab into the decoder's tables.

usage: gen-opcodes.py opcodes.tab insn_ids.h insn_table.inc

insn_ids.h     enums: instruction ids, CPUID features, operand codes
insn_table.inc rows, their layouts, and for each opcode a decision tree over prefix, mode and ModRM;
               two rows that match the same bytes are an error here, never a question at run time

The columns of the table are described at its top.
"""
import sys

SPACES = ["0", "0f", "0f38", "0f3a", "v0f", "v0f38", "v0f3a"]
CONDITIONS = ["o", "no", "b", "nb", "z", "nz", "be", "nbe",
              "s", "ns", "p", "np", "l", "nl", "le", "nle"]
CONDITION_FLAGS = ["o", "c", "z", "cz", "s", "p", "so", "soz"]
FLAG_BITS = {"c": 1, "p": 4, "a": 16, "z": 64, "s": 128, "d": 1024, "o": 2048}
ACCESS = {"-": 0, "r": 1, "w": 2, "rw": 3}
MAX_OPERANDS = 6

# What the decision tree may ask, in the order it asks: name and number of answers. PP asks for the
# mandatory prefix (0 none, 1 66, 2 f3, 3 f2), OSIZE and ASIZE for 16, 32 or 64 bits, W for VEX.W.
QUESTIONS = [("MODE64", 2), ("PP", 4), ("MOD3", 2), ("REG", 8), ("RM", 8),
             ("W", 2), ("L", 2), ("OSIZE", 3), ("ASIZE", 3), ("REXB", 2)]
PREFIXES = {"np": 0, "66": 1, "f3": 2, "f2": 3}
TREE = 1 << 31

# Row attributes that only the decoder needs: they go to the layout, the rest to struct insn_row.
LAYOUT_ATTRS = {"D64", "F64", "MODREG"}

# Operand methods (the manual's first letters): operand kind, where the number comes from.
METHODS = {
    "A": ("FARPTR", "NONE"), "B": ("GPR", "VVVV"), "C": ("CREG", "REG"), "D": ("DREG", "REG"),
    "E": ("GPR", "RM"), "F": ("FLAGS", "NONE"), "G": ("GPR", "REG"), "H": ("VEC", "VVVV"),
    "I": ("IMM", "NONE"), "sI": ("IMM", "NONE"), "J": ("REL", "NONE"), "L": ("VEC", "IS4"),
    "M": ("MEM", "RM"), "N": ("MMX", "RM"), "O": ("MEM", "NONE"), "P": ("MMX", "REG"),
    "Q": ("MMX", "RM"), "R": ("GPR", "RM"), "S": ("SREG", "REG"), "U": ("VEC", "RM"),
    "V": ("VEC", "REG"), "W": ("VEC", "RM"), "X": ("MEM", "NONE"), "Y": ("MEM", "NONE"),
    "Z": ("GPR", "OPCODE"),
}
# Sizes (the manual's second letters and a few of our own), see the top of the table.
SIZES = {"": "NONE", "b": "1", "w": "2", "d": "4", "q": "8", "t": "10", "dq": "16", "qq": "32",
         "v": "V", "z": "Z", "y": "Y", "m": "M", "p": "P", "a": "A", "s": "S", "x": "X",
         "xh": "X2", "xq": "X4", "xe": "X8", "env": "ENV", "sav": "SAV"}
FIXED = {}
for _n, _reg in enumerate(["AX", "CX", "DX", "BX", "SP", "BP", "SI", "DI"]):
    for _prefix, _size in (("", "2"), ("E", "4"), ("R", "8"), ("r", "V"), ("e", "Z"), ("y", "Y"),
                           ("a", "ASIZE")):
        FIXED[_prefix + _reg] = ("GPR", _n, _size)
for _n, _reg in enumerate(["AL", "CL", "DL", "BL", "AH", "CH", "DH", "BH"]):
    FIXED[_reg] = ("GPR", _n, "1")
for _n, _reg in enumerate(["ES", "CS", "SS", "DS", "FS", "GS"]):
    FIXED[_reg] = ("SREG", _n, "2")
FIXED["XMM0"] = ("VEC", 0, "16")
FIXED["ST"] = ("ST", 0, "10")
FIXED["ST1"] = ("ST", 1, "10")
FIXED["1"] = ("IMM", 1, "1")


class TableError(Exception):
    pass


class Code:
    """One operand code: how struct operand is filled."""

    def __init__(self, text):
        self.text = text
        self.name = text.replace("/", "_")
        self.fixed = 0
        reg_part, _, mem_part = text.partition("/")
        if reg_part in FIXED and not mem_part:
            self.kind, self.fixed, self.reg_size = FIXED[reg_part]
            self.mem_size, self.source, self.method = "NONE", "FIXED", ""
            return
        if reg_part == "STi":
            self.kind, self.source, self.method = "ST", "RM", "STi"
            self.reg_size, self.mem_size = "10", "NONE"
            return
        self.method = "sI" if reg_part.startswith("sI") else reg_part[:1]
        if self.method not in METHODS:
            raise TableError(f"operand code {text} is unknown")
        self.kind, self.source = METHODS[self.method]
        self.reg_size = self.size(reg_part[len(self.method):])
        self.mem_size = self.reg_size
        if mem_part:
            if mem_part[0] != "M" or self.method not in "RUNE":
                raise TableError(f"operand code {text}: only register/memory pairs have a slash")
            self.mem_size = self.size(mem_part[1:])
            self.method = {"R": "E", "U": "W", "N": "Q", "E": "E"}[self.method]

    def size(self, text):
        if text not in SIZES:
            raise TableError(f"operand code {self.text} has an unknown size")
        return SIZES[text]

    def takes_memory(self):
        return self.method in ("E", "M", "Q", "W")

    def takes_register(self):
        return self.method in ("E", "Q", "W", "R", "N", "U", "STi")

    def uses_modrm(self):
        return self.source in ("REG", "RM") and self.method != "O"

    def immediate(self):
        """Name of the layout's immediate kind, or None."""
        if self.text == "1":
            return "ONE"
        if self.method in ("I", "sI", "J", "A", "O", "L"):
            return {"L": "IB"}.get(self.method, (self.method + self.text[len(self.method):]).upper())
        return None


class Row:
    """One instruction form; matches holds the set of allowed answers to each question."""

    def __init__(self):
        self.matches = {name: set(range(count)) for name, count in QUESTIONS}

    def restrict(self, question, answers):
        left = self.matches[question] & set(answers)
        if not left:
            raise TableError(f"contradicting constraints on {question}")
        self.matches[question] = left


def number_range(text, base):
    first, _, last = text.partition("-")
    return range(int(first, base), int(last or first, base) + 1)


def flag_mask(letters):
    return sum(FLAG_BITS[c] for c in set(letters))


def parse_flags(row, text, condition):
    read = written = undefined = 0
    for item in [] if text == "-" else text.split(","):
        what, letters = item.split("=")
        if what == "r":
            read |= flag_mask(CONDITION_FLAGS[condition // 2] if letters == "cc" else letters)
        elif what == "w":
            written |= flag_mask(letters)
        elif what == "u":
            undefined |= flag_mask(letters)
        else:
            raise TableError(f"flags column {text}: use r=, w=, u=")
    if undefined & ~written:
        raise TableError("undefined flags must be among the written ones")
    row.flags = (read, written, undefined)


def parse_modrm(row, text):
    row.modrm = text != "-"
    for part in text.split("."):
        if part in ("-", "r"):
            continue
        if part in ("mem", "reg"):
            row.restrict("MOD3", [part == "reg"])
        elif part[0] == "/":
            row.restrict("REG", number_range(part[1:], 8))
        else:
            row.restrict("RM", number_range(part, 8))


def parse_when(row, text):
    for item in [] if text == "-" else text.split(","):
        negate = item[0] == "!"
        names = item.lstrip("!").split("/")
        if names[0] == "m64":
            row.restrict("MODE64", [not negate])
        elif names[0] == "rexb":
            row.restrict("REXB", [not negate])
        elif names[0][:2] in ("os", "as"):
            wanted = {{"16": 0, "32": 1, "64": 2}[name[2:]] for name in names}
            row.restrict("OSIZE" if names[0][0] == "o" else "ASIZE",
                         {0, 1, 2} - wanted if negate else wanted)
        else:
            raise TableError(f"unknown condition {item}")


def parse_operands(row, text):
    row.operands = []
    row.visible = 0
    for item in [] if text == "-" else text.split(","):
        hidden = item[0] == "<"
        code, _, access = item.strip("<>").partition(":")
        row.operands.append((Code(code), ACCESS[access or "r"]))
        if not hidden:
            row.visible += 1
            if row.visible != len(row.operands):
                raise TableError("hidden operands come last")
    if len(row.operands) > MAX_OPERANDS:
        raise TableError("too many operands")
    immediates = []
    for code, _ in row.operands:
        row.modrm = row.modrm or code.uses_modrm()
        if code.takes_memory() and not code.takes_register():
            row.restrict("MOD3", [0])
        elif code.takes_register() and not code.takes_memory() and "MODREG" not in row.attrs:
            row.restrict("MOD3", [1])
        if code.immediate():
            immediates.append(code.immediate())
    row.immediate = "_".join(immediates) or "NONE"


def parse_space(row, text):
    """vex spaces carry .L0 .L1 .W0 .W1 suffixes; without them L or W is ignored."""
    name, *suffixes = text.split(".")
    row.space = SPACES.index(name)
    row.vex = name[0] == "v"
    for suffix in suffixes:
        if suffix[0] not in "LW" or not row.vex:
            raise TableError(f"unknown suffix {suffix}")
        row.restrict(suffix[0], [int(suffix[1])])


def parse_row(columns, opcode, first):
    space, _, pp, modrm, when, mnemonic, operands, feature, flags, attrs = columns
    row = Row()
    row.attrs = set() if attrs == "-" else set(attrs.split(","))
    row.opcode = opcode
    row.feature = feature
    parse_space(row, space)
    if pp != "*":
        row.restrict("PP", [PREFIXES[p] for p in pp.split("/")])
    row.mandatory66 = pp == "66"
    parse_modrm(row, modrm)
    parse_when(row, when)
    name, _, ident = mnemonic.partition(":")
    condition = (opcode - first) & 15
    row.mnemonic = name.replace("{cc}", CONDITIONS[condition])
    row.ident = ident or name.upper()
    parse_operands(row, operands)
    parse_flags(row, flags, condition)
    if "NOMEM64" in row.attrs:
        row.restrict("MODE64", [0])
    if "ONLY64" in row.attrs:
        row.restrict("MODE64", [1])
    row.uses_vvvv = any(code.source == "VVVV" for code, _ in row.operands)
    return row


def read_table(path):
    rows = []
    with open(path, encoding="ascii") as table:
        for number, line in enumerate(table, 1):
            columns = line.split("#")[0].split()
            if not columns:
                continue
            try:
                if len(columns) != 10:
                    raise TableError(f"{len(columns)} columns instead of 10")
                opcodes = number_range(columns[1], 16)
                for opcode in opcodes:
                    row = parse_row(columns, opcode, opcodes[0])
                    row.line = number
                    rows.append(row)
            except (TableError, KeyError, ValueError) as error:
                sys.exit(f"{path}:{number}: {error}")
    return rows


class Trees:
    """Decision trees in one array of cells: a cell is 0 (undefined), a row number, or TREE | question
    << 16 | index of the cells with the answers."""

    def __init__(self, rows):
        self.rows = rows
        self.cells = []
        self.known = {}

    def build(self, candidates, level=0):
        if not candidates:
            return 0
        while level < len(QUESTIONS):
            name, count = QUESTIONS[level]
            if any(len(self.rows[i].matches[name]) < count for i in candidates):
                break
            level += 1
        else:
            if len(candidates) > 1:
                a, b = (self.rows[i] for i in candidates[:2])
                raise TableError(f"lines {a.line} ({a.mnemonic}) and {b.line} ({b.mnemonic}) match "
                                 "the same bytes: constrain one of them")
            return candidates[0]
        answers = tuple(self.build([i for i in candidates if a in self.rows[i].matches[name]], level + 1)
                        for a in range(count))
        if len(set(answers)) == 1:
            return answers[0]
        if answers not in self.known:
            self.known[answers] = len(self.cells)
            self.cells.extend(answers)
        return TREE | level << 16 | self.known[answers]


def write_ids(path, idents, features, codes):
    def enum(name, prefix, names):
        body = "".join(f"    {prefix}{n},\n" for n in names)
        return f"enum {name} {{\n{body}}};\n\n"

    with open(path, "w", encoding="ascii") as out:
        out.write("/* SPDX-License-Identifier: GPL-2.0-or-later */\n"
                  "/* Instruction ids, CPUID features and operand codes; generated from opcodes.tab. */\n"
                  "#ifndef CPU_SOFT_INSN_IDS_H\n#define CPU_SOFT_INSN_IDS_H\n\n")
        out.write(enum("insn_id", "INSN_", ["INVALID"] + idents + ["ID_COUNT"]))
        out.write(enum("insn_feature", "FEAT_", features + ["COUNT"]))
        out.write(enum("insn_opcode_operand", "OPC_", ["NONE"] + [c.name for c in codes] + ["COUNT"]))
        out.write("#endif\n")


def padded(items, filler):
    return ", ".join(items + [filler] * (MAX_OPERANDS - len(items)))


def write_rows(out, rows):
    out.write("const struct insn_row insn_rows[] = {\n    {.mnemonic = \"(bad)\"},\n")
    for row in rows[1:]:
        attrs = sorted(row.attrs - LAYOUT_ATTRS)
        attr_text = " | ".join("INSN_" + a for a in attrs) or "0"
        codes = padded(["OPC_" + c.name for c, _ in row.operands], "0")
        access = padded([str(a) for _, a in row.operands], "0")
        read, written, undefined = row.flags
        out.write(f"    {{INSN_{row.ident}, FEAT_{row.feature}, {len(row.operands)}, {{{codes}}}, "
                  f"{{{access}}}, {row.visible}, {attr_text}, {read}, {written}, {undefined}, "
                  f"\"{row.mnemonic}\"}},\n")
    out.write("};\nconst size_t insn_row_count = sizeof(insn_rows) / sizeof(insn_rows[0]);\n\n")


def layout_flags(row):
    names = sorted(row.attrs & LAYOUT_ATTRS)
    if row.mandatory66:
        names.append("IGNORE66")
    if "VSIB" in row.attrs:
        names.append("VSIB")
    if row.vex and not row.uses_vvvv:
        names.append("NOVVVV")
    return " | ".join("LAYOUT_" + n for n in names) or "0"


def write_tables(path, rows, trees, roots, features, codes):
    with open(path, "w", encoding="ascii") as out:
        out.write("/* Rows, layouts and decision trees of the decoder; generated from opcodes.tab. */\n")
        write_rows(out, rows)
        out.write("static const struct layout layouts[] = {\n    {0, 0},\n")
        for row in rows[1:]:
            out.write(f"    {{{layout_flags(row)}, IMM_{row.immediate}}},\n")
        out.write("};\n\n")
        for number, (name, _) in enumerate(QUESTIONS):
            out.write(f"enum {{ ASK_{name} = {number} }};\n")
        out.write("\nstatic const uint32_t tree_cells[] = {\n")
        out.write("".join(f"    {cell:#x},\n" for cell in trees.cells or [0]))
        out.write("};\n\nstatic const uint32_t tree_roots[SPACE_COUNT][256] = {\n")
        for space in roots:
            out.write("    {" + ", ".join(f"{cell:#x}" for cell in space) + "},\n")
        out.write("};\n\nstatic const uint32_t opcode_has_modrm[SPACE_COUNT][8] = {\n")
        for space in range(len(SPACES)):
            words = [0] * 8
            for row in rows[1:]:
                if row.space == space and row.modrm:
                    words[row.opcode >> 5] |= 1 << (row.opcode & 31)
            out.write("    {" + ", ".join(f"{w:#x}" for w in words) + "},\n")
        out.write("};\n\nstatic const struct operand_code operand_codes[] = {\n    {0, 0, 0, 0, 0, 0, 0},\n")
        for code in codes:
            may = ("1" if code.takes_memory() and code.source == "RM" else "0")
            method = f"'{code.method[0]}'" if code.method else "0"
            out.write(f"    [OPC_{code.name}] = {{{method}, OPK_{code.kind}, FROM_{code.source}, {code.fixed}, "
                      f"SIZE_{code.reg_size}, SIZE_{code.mem_size}, {may}}},\n")
        out.write("};\n\nstatic const char *const feature_names[] = {\n")
        out.write("".join(f"    \"{f}\",\n" for f in features) + "};\n")


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    rows = [None] + read_table(sys.argv[1])
    trees = Trees(rows)
    try:
        roots = [[trees.build([i for i, row in enumerate(rows)
                               if row and row.space == space and row.opcode == opcode])
                  for opcode in range(256)] for space in range(len(SPACES))]
    except TableError as error:
        sys.exit(f"{sys.argv[1]}: {error}")
    features = sorted({row.feature for row in rows[1:]} - {"BASE"})
    features.insert(0, "BASE")
    codes = {code.name: code for row in rows[1:] for code, _ in row.operands}
    codes = [codes[name] for name in sorted(codes)]
    write_ids(sys.argv[2], sorted({row.ident for row in rows[1:]}), features, codes)
    write_tables(sys.argv[3], rows, trees, roots, features, codes)


if __name__ == "__main__":
    main()

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Decoded instructions as text for dumps and traces, in the Intel syntax of the SDM. */
#include "cpu/soft/decode.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

struct text {
    char *buf;
    size_t size, len;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(t->len < t->size ? t->buf + t->len : NULL,
                      t->len < t->size ? t->size - t->len : 0, format, args);
    va_end(args);
    if (n > 0)
        t->len += (size_t)n;
}

static void put_gpr(struct text *t, unsigned reg, unsigned size, bool high_byte) {
    static const char names[8][4] = {"ax", "cx", "dx", "bx", "sp", "bp", "si", "di"};
    static const char bytes[8][4] = {"al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil"};
    if (reg >= 8)
        put(t, "r%u%s", reg, size == 8 ? "" : size == 4 ? "d" : size == 2 ? "w" : "b");
    else if (high_byte)
        put(t, "%ch", names[reg][0]);
    else if (size == 1)
        put(t, "%s", bytes[reg]);
    else
        put(t, "%s%s", size == 8 ? "r" : size == 4 ? "e" : "", names[reg]);
}

static void put_segment(struct text *t, unsigned seg) {
    static const char names[8][3] = {"es", "cs", "ss", "ds", "fs", "gs", "?6", "?7"};
    put(t, "%s", names[seg & 7]);
}

static void put_size(struct text *t, unsigned size) {
    static const struct {
        uint8_t size;
        char name[10];
    } names[] = {{1, "byte"},  {2, "word"},   {4, "dword"},    {6, "fword"},
                 {8, "qword"}, {10, "tbyte"}, {16, "xmmword"}, {32, "ymmword"}};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (names[i].size == size)
            put(t, "%s ptr ", names[i].name);
}

static void put_displacement(struct text *t, int64_t disp, bool alone) {
    if (alone)
        put(t, "%#" PRIx64, (uint64_t)disp);
    else if (disp < 0)
        put(t, "-%#" PRIx64, -(uint64_t)disp);
    else if (disp > 0)
        put(t, "+%#" PRIx64, (uint64_t)disp);
}

/* Bytes of a gather's index vector, 0 if the index is a general register. 92 and 90 have doubleword
 * indexes, 93 and 91 quadwords; data and index are as wide as VEX.L says unless the other elements
 * are larger. */
static unsigned vector_index_size(const struct insn *in) {
    if (!(in->row->attr & INSN_VSIB))
        return 0;
    struct operand data;
    insn_operand(in, 1, &data);
    return !(in->opcode & 1) && data.size == 8 ? 16 : in->vl;
}

static uint64_t truncated(uint64_t value, unsigned size) {
    return size >= 8 ? value : value & ((UINT64_C(1) << size * 8) - 1);
}

static void put_modrm_address(struct text *t, const struct insn *in, uint64_t ip) {
    unsigned vector = vector_index_size(in);
    if (in->rip_relative) {
        uint64_t target = truncated(ip + in->len + (uint64_t)in->disp, in->adsize);
        put(t, "%s%#" PRIx64, in->adsize == 8 ? "rip " : "eip ", target);
        return;
    }
    if (in->base != REG_NONE)
        put_gpr(t, in->base, in->adsize, false);
    if (in->index != REG_NONE) {
        if (in->base != REG_NONE)
            put(t, "+");
        if (vector)
            put(t, "%cmm%u", vector == 32 ? 'y' : 'x', in->index);
        else
            put_gpr(t, in->index, in->adsize, false);
        if (in->adsize != 2)
            put(t, "*%u", 1u << in->scale);
    }
    bool alone = in->base == REG_NONE && in->index == REG_NONE;
    int64_t disp = alone ? (int64_t)truncated((uint64_t)in->disp, in->adsize) : in->disp;
    put_displacement(t, disp, alone);
}

static void put_memory(struct text *t, const struct insn *in, unsigned i, const struct operand *op,
                       uint64_t ip) {
    char method = insn_operand_method(in, i);
    put_size(t, op->size);
    if (method == 'Y' && in->mode != 8)
        put(t, "es:");
    else if (method != 'Y' && (in->prefixes & PFX_SEG) && (in->mode != 8 || in->seg >= SEG_FS)) {
        put_segment(t, in->seg);
        put(t, ":");
    }
    put(t, "[");
    if (method == 'X' || method == 'Y')
        put_gpr(t, method == 'X' ? 6 : 7, in->adsize, false);
    else if (!in->modrm_at)
        put_displacement(t, in->disp, true);
    else
        put_modrm_address(t, in, ip);
    put(t, "]");
}

static void put_immediate(struct text *t, const struct insn *in, unsigned i,
                          const struct operand *op) {
    /* ENTER is the only row with two immediates; the second stands in imm2. */
    uint64_t value = i > 0 && op->size == 1 && in->imm_len == 3 ? in->imm2 : in->imm;
    unsigned size = in->row->attr & INSN_BRANCH || !in->opsize ? op->size : in->opsize;
    if (op->size == 1 && insn_operand_method(in, i) == 'I')
        size = 1;
    put(t, "%#" PRIx64, truncated(value, size));
}

static void put_operand(struct text *t, const struct insn *in, unsigned i, uint64_t ip) {
    struct operand op;
    insn_operand(in, i, &op);
    switch (op.kind) {
    case OPK_GPR:
        put_gpr(t, op.reg, op.size, op.high_byte);
        break;
    case OPK_MEM:
        put_memory(t, in, i, &op, ip);
        break;
    case OPK_IMM:
        put_immediate(t, in, i, &op);
        break;
    case OPK_REL:
        put(t, "%#" PRIx64, truncated(ip + in->len + in->imm, in->opsize));
        break;
    case OPK_FARPTR:
        put(t, "%#" PRIx64 ":%#" PRIx64, in->imm2, in->imm);
        break;
    case OPK_SREG:
        put_segment(t, op.reg);
        break;
    case OPK_CREG:
        put(t, "cr%u", op.reg);
        break;
    case OPK_DREG:
        put(t, "dr%u", op.reg);
        break;
    case OPK_MMX:
        put(t, "mm%u", op.reg);
        break;
    case OPK_VEC:
        put(t, "%cmm%u", op.size == 32 ? 'y' : 'x', op.reg);
        break;
    case OPK_ST:
        put(t, "st(%u)", op.reg);
        break;
    default:
        break;
    }
}

static void put_prefixes(struct text *t, const struct insn *in) {
    uint32_t attr = in->row->attr;
    if (in->prefixes & PFX_LOCK)
        put(t, "lock ");
    if (!(attr & INSN_STRING))
        return;
    bool compares = in->row->flags_written & FL_ZF;
    if (in->prefixes & PFX_REP)
        put(t, compares ? "repe " : "rep ");
    else if (in->prefixes & PFX_REPNE)
        put(t, compares ? "repne " : "rep ");
}

size_t insn_format(const struct insn *in, uint64_t ip, char *buf, size_t size) {
    struct text t = {.buf = buf, .size = size};
    if (size)
        buf[0] = '\0';
    put_prefixes(&t, in);
    put(&t, "%s", in->row->mnemonic);
    if (in->row->id == INSN_CALLF || in->row->id == INSN_JMPF || in->row->id == INSN_RETF)
        put(&t, " far");
    unsigned shown = 0;
    for (unsigned i = 0; i < in->row->visible; i++) {
        struct operand op;
        insn_operand(in, i, &op);
        if (op.kind == OPK_FLAGS)
            continue;
        put(&t, shown++ ? ", " : " ");
        put_operand(&t, in, i, ip);
    }
    return t.len < size ? t.len : size ? size - 1 : 0;
}

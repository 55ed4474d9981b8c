/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Re-encodes a guest instruction for the host (SDM vol. 2A chapter 2): general registers move to
 * registers that a C function may change, memory operands become [RSI], vector registers keep their
 * numbers.
 *
 * Shape of the code: RBX to the stack if the instruction implies it; MXCSR if it matters;
 * arithmetic flags; vector, MMX and general registers from struct ref; the instruction; everything
 * it may write back to struct ref; flags; MXCSR. RDI is struct ref throughout, RSI the operand or
 * the operation.
 */
#include "cpu/soft/ref/host_emit.h"

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, NO_REG = 0xff };

#define OFF_GPR(n)    ((uint32_t)(offsetof(struct ref, r) + 8 * (n)))
#define OFF_VEC(n)    ((uint32_t)(offsetof(struct ref, s.fpu.vec) + 32 * (n)))
#define OFF_ST(n)     ((uint32_t)(offsetof(struct ref, s.fpu.st) + 16 * (n)))
#define OFF_AF        ((uint32_t)offsetof(struct ref, af))
#define OFF_MXCSR     ((uint32_t)offsetof(struct ref, s.fpu.mxcsr))
#define MXCSR_CONTROL 0xffc0u
#define MXCSR_DEFAULT 0x1f80u

/* How the instruction uses registers. */
struct plan {
    const struct insn *in;
    uint8_t map[16];           /* guest general register -> host register */
    uint16_t gpr, gpr_written; /* bit sets of guest numbers */
    uint16_t vec, vec_written;
    uint8_t mmx, mmx_written;
    bool high_byte;            /* AH, CH, DH or BH is named: no REX possible */
    int reg, rm, vvvv, opcode; /* guest general register in that field, -1 if none */
};

struct emitter {
    uint8_t *p;
    unsigned n;
};

static void put(struct emitter *e, uint8_t byte) { e->p[e->n++] = byte; }

static void put_bytes(struct emitter *e, unsigned count, const char *bytes) {
    memcpy(e->p + e->n, bytes, count);
    e->n += count;
}

static void put32(struct emitter *e, uint32_t value) {
    memcpy(e->p + e->n, &value, 4);
    e->n += 4;
}

/* ModRM for [RDI + disp32]. */
static void put_field(struct emitter *e, unsigned reg, uint32_t offset) {
    put(e, (uint8_t)(0x87 | (reg & 7) << 3));
    put32(e, offset);
}

static void move_gpr(struct emitter *e, bool load, unsigned host, unsigned guest) {
    put(e, (uint8_t)(0x48 | (host >> 3) << 2));
    put(e, load ? 0x8b : 0x89);
    put_field(e, host, OFF_GPR(guest));
}

/* movups, or with VEX vmovups of 16 or 32 bytes. */
static void move_vec(struct emitter *e, bool load, unsigned n, unsigned vl) {
    if (vl) {
        put(e, 0xc5);
        put(e, (uint8_t)((n & 8 ? 0x78 : 0xf8) | (vl == 32 ? 4 : 0)));
    } else {
        if (n & 8)
            put(e, 0x44);
        put(e, 0x0f);
    }
    put(e, load ? 0x10 : 0x11);
    put_field(e, n, OFF_VEC(n));
}

static void move_mmx(struct emitter *e, bool load, unsigned n) {
    put(e, 0x0f);
    put(e, load ? 0x6f : 0x7f);
    put_field(e, n, OFF_ST(n));
    if (!load) { /* bits 79:64 of a register that MMX writes become ones */
        put_bytes(e, 2, "\x66\xc7");
        put_field(e, 0, OFF_ST(n) + 8);
        put(e, 0xff);
        put(e, 0xff);
    }
}

/* ---- the plan ---- */

static void plan_gpr(struct plan *p, unsigned i, const struct operand *op) {
    p->gpr |= (uint16_t)(1u << op->reg);
    if (op->access & 2)
        p->gpr_written |= (uint16_t)(1u << op->reg);
    p->high_byte |= op->high_byte;
    switch (insn_operand_method(p->in, i)) {
    case 0:
        p->map[op->reg] = op->reg; /* implied: must be there */
        break;
    case 'E':
    case 'R':
        p->rm = op->reg;
        break;
    case 'G':
        p->reg = op->reg;
        break;
    case 'B':
        p->vvvv = op->reg;
        break;
    default:
        p->opcode = op->reg;
        break;
    }
}

static void plan_operand(struct plan *p, unsigned i, const struct operand *op,
                         struct host_code *code) {
    switch (op->kind) {
    case OPK_GPR:
        plan_gpr(p, i, op);
        break;
    case OPK_VEC:
        p->vec |= (uint16_t)(1u << op->reg);
        if (op->access & 2)
            p->vec_written |= (uint16_t)(1u << op->reg);
        break;
    case OPK_MMX:
        p->mmx |= (uint8_t)(1u << op->reg);
        if (op->access & 2)
            p->mmx_written |= (uint8_t)(1u << op->reg);
        break;
    case OPK_MEM:
        code->mem_size = op->size;
        code->access = op->access;
        break;
    default:
        break;
    }
}

/* Gives every explicit register a host register; implied ones stay where they are. */
static bool plan_map(struct plan *p) {
    static const uint8_t pool[] = {RAX, RCX, RDX, R8, R9, R10, R11};
    unsigned taken = 0, count = p->high_byte ? 3 : sizeof(pool);

    for (unsigned g = 0; g < 16; g++)
        if (p->map[g] != NO_REG) {
            if (g > RBX)
                return false;
            taken |= 1u << g;
        }
    for (unsigned g = 0; g < 16; g++) {
        unsigned i = 0;
        if (!(p->gpr >> g & 1) || p->map[g] != NO_REG)
            continue;
        while (i < count && taken >> pool[i] & 1)
            i++;
        if (i == count)
            return false;
        p->map[g] = pool[i];
        taken |= 1u << pool[i];
    }
    return true;
}

static bool make_plan(const struct insn *in, struct plan *p, struct host_code *code) {
    bool memory = false;

    *p = (struct plan){.in = in, .reg = -1, .rm = -1, .vvvv = -1, .opcode = -1};
    memset(p->map, NO_REG, sizeof(p->map));
    for (unsigned i = 0; i < in->row->nops; i++) {
        struct operand op;
        insn_operand(in, i, &op);
        memory |= op.kind == OPK_MEM;
        plan_operand(p, i, &op, code);
    }
    if (in->mem != memory || (memory && (!code->mem_size || !code->access || code->mem_size > 64)))
        return false;
    return plan_map(p);
}

/* ---- the instruction itself ---- */

static unsigned field(const struct plan *p, int guest, unsigned otherwise, bool byte_field) {
    if (guest < 0)
        return otherwise;
    /* The high halves are numbers 4..7 of a byte operand; with them no other operand is above 3. */
    return p->map[guest] + (byte_field ? 4u : 0);
}

/* Is the byte register in this field a high half? */
static bool is_high(const struct insn *in, char first, char second) {
    for (unsigned i = 0; i < in->row->nops; i++) {
        struct operand op;
        char method = insn_operand_method(in, i);
        if (method != first && method != second)
            continue;
        insn_operand(in, i, &op);
        if (op.kind == OPK_GPR && op.high_byte)
            return true;
    }
    return false;
}

struct fields {
    unsigned reg, rm, vvvv, opcode;
};

static struct fields place_operands(const struct plan *p) {
    const struct insn *in = p->in;
    struct fields f;

    f.reg = field(p, p->reg, in->reg, is_high(in, 'G', 'G'));
    f.rm = in->mem ? RSI : field(p, p->rm, in->rm, is_high(in, 'E', 'R'));
    f.vvvv = field(p, p->vvvv, in->vvvv, false);
    f.opcode = in->opcode;
    if (p->opcode >= 0)
        f.opcode = (in->opcode & 0xf8u) | field(p, p->opcode, 0, is_high(in, 'Z', 'Z'));
    return f;
}

/* Does 66 have to be there? In 16-bit code it means the opposite, so ask what it did, not whether
 * it was. */
static bool needs_66(const struct insn *in) {
    if (in->row->attr & (INSN_SSE | INSN_MMX | INSN_FPU) || in->row->feature == FEAT_ADX)
        return in->pp == 1;
    if (in->opsize != 2)
        return false;
    for (unsigned i = 0; i < in->row->nops; i++) {
        struct operand op;
        insn_operand(in, i, &op);
        if (op.size == 2)
            return true;
    }
    return false;
}

/* VEX.W. Outside 64-bit mode it is ignored where it would select a 64-bit general register. */
static bool wide_operand(const struct insn *in) {
    if (in->mode == 8 || !in->vex_w)
        return in->vex_w;
    for (unsigned i = 0; i < in->row->nops; i++) {
        char method = insn_operand_method(in, i);
        struct operand op;
        insn_operand(in, i, &op);
        if (op.kind == OPK_GPR || method == 'E' || method == 'R')
            return false;
    }
    return true;
}

static void put_vex(struct emitter *e, const struct insn *in, const struct fields *f) {
    put(e, 0xc4);
    put(e, (uint8_t)((f->reg & 8 ? 0 : 0x80) | 0x40 | (f->rm & 8 ? 0 : 0x20) | in->map));
    put(e, (uint8_t)((wide_operand(in) ? 0x80 : 0) | (~f->vvvv & 15) << 3 | (in->vl == 32 ? 4 : 0) |
                     in->pp));
    put(e, in->opcode);
}

static void put_legacy(struct emitter *e, const struct plan *p, const struct fields *f) {
    const struct insn *in = p->in;
    uint8_t rex = (uint8_t)(0x40 | (in->rex & 8) | (f->reg & 8) >> 1 | (f->rm & 8) >> 3);

    if (p->opcode >= 0)
        rex = (uint8_t)(0x40 | (in->rex & 8) | (f->opcode - (in->opcode & 0xf8u)) >> 3);
    if (in->prefixes & PFX_LOCK)
        put(e, 0xf0);
    if (needs_66(in))
        put(e, 0x66);
    if (in->map && in->pp >= 2)
        put(e, in->pp == 2 ? 0xf3 : 0xf2);
    if (!p->high_byte)
        put(e, rex);
    if (in->map)
        put(e, 0x0f);
    if (in->map >= 2)
        put(e, in->map == 2 ? 0x38 : 0x3a);
    if (p->opcode >= 0)
        put(e, (uint8_t)((in->opcode & 0xf8u) | ((f->opcode - (in->opcode & 0xf8u)) & 7)));
    else
        put(e, in->opcode);
}

static void put_instruction(struct emitter *e, const struct plan *p) {
    const struct insn *in = p->in;
    struct fields f = place_operands(p);
    uint64_t imm = in->imm;

    if (in->prefixes & PFX_VEX)
        put_vex(e, in, &f);
    else
        put_legacy(e, p, &f);
    if (in->modrm_at)
        put(e, (uint8_t)((in->mem ? 0 : 0xc0) | (f.reg & 7) << 3 | (f.rm & 7)));
    if (in->mode != 8 && insn_operand_method(in, 3) == 'L')
        imm &= 0x7f; /* eight registers: the top bit of the number is ignored */
    memcpy(e->p + e->n, &imm, in->imm_len);
    e->n += in->imm_len;
}

/* ---- what stands around it ---- */

static void load_flags(struct emitter *e) {
    put(e, 0x8b);
    put_field(e, RAX, OFF_AF);       /* mov eax, [af] */
    put_bytes(e, 3, "\x04\x7f\x9e"); /* add al, 127 (overflows if al = 1); sahf */
}

static void save_flags(struct emitter *e) {
    put_bytes(e, 5, "\xb8\x00\x00\x00\x00"); /* mov eax, 0: keeps the flags */
    put_bytes(e, 4, "\x9f\x0f\x90\xc0");     /* lahf; seto al */
    put(e, 0x89);
    put_field(e, RAX, OFF_AF);
}

/* The guest's MXCSR may be in force already (see leave_mxcsr): loading costs more than looking. */
static void enter_mxcsr(struct emitter *e) {
    put_bytes(e, 5, "\x0f\xae\x5c\x24\xfc"); /* stmxcsr [rsp-4] */
    put_bytes(e, 4, "\x8b\x44\x24\xfc");     /* mov eax, [rsp-4] */
    put(e, 0x3b);
    put_field(e, RAX, OFF_MXCSR); /* cmp eax, [mxcsr] */
    put_bytes(e, 2, "\x74\x07");  /* je over the next */
    put_bytes(e, 2, "\x0f\xae");
    put_field(e, 2, OFF_MXCSR); /* ldmxcsr [mxcsr] */
}

/* C code may run with the guest's sticky flags, not with its rounding mode or unmasked exceptions.
 */
static void leave_mxcsr(struct emitter *e) {
    put_bytes(e, 2, "\x0f\xae");
    put_field(e, 3, OFF_MXCSR); /* stmxcsr [mxcsr] */
    put(e, 0x8b);
    put_field(e, RAX, OFF_MXCSR);
    put(e, 0x25);
    put32(e, MXCSR_CONTROL); /* and eax, control bits */
    put(e, 0x3d);
    put32(e, MXCSR_DEFAULT);     /* cmp eax, default */
    put_bytes(e, 2, "\x74\x0d"); /* je over the next two */
    put_bytes(e, 4, "\xc7\x44\x24\xfc");
    put32(e, MXCSR_DEFAULT);                 /* mov dword [rsp-4], default */
    put_bytes(e, 5, "\x0f\xae\x54\x24\xfc"); /* ldmxcsr [rsp-4] */
}

static bool flags_in(const struct insn_row *row) {
    const unsigned all = FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF;

    return row->flags_read || (row->flags_written && row->flags_written != all) ||
           row->flags_undefined;
}

static void put_loads(struct emitter *e, const struct plan *p) {
    for (unsigned i = 0; i < 16; i++)
        if (p->vec >> i & 1)
            move_vec(e, true, i, p->in->vl);
    for (unsigned i = 0; i < 8; i++)
        if (p->mmx >> i & 1)
            move_mmx(e, true, i);
    for (unsigned i = 0; i < 16; i++)
        if (p->gpr >> i & 1)
            move_gpr(e, true, p->map[i], i);
}

static void put_stores(struct emitter *e, const struct plan *p) {
    for (unsigned i = 0; i < 16; i++)
        if (p->gpr_written >> i & 1)
            move_gpr(e, false, p->map[i], i);
    for (unsigned i = 0; i < 16; i++)
        if (p->vec_written >> i & 1)
            move_vec(e, false, i, p->in->vl ? 32 : 0); /* VEX clears what is above its length */
    for (unsigned i = 0; i < 8; i++)
        if (p->mmx_written >> i & 1)
            move_mmx(e, false, i);
}

static unsigned thunk_flags(const struct insn *in, const struct plan *p) {
    uint32_t attr = in->row->attr;
    unsigned flags = 0;

    if (attr & INSN_MMX)
        flags |= HOST_MMX;
    else if (attr & INSN_FPU)
        flags |= HOST_X87;
    else if (!in->mem)
        flags |= HOST_STEP;
    if (attr & INSN_MXCSR)
        flags |= HOST_MXCSR;
    if (in->vl == 32)
        flags |= HOST_WIDE;
    if (p->map[RBX] == RBX)
        flags |= HOST_SAVED_RBX;
    return flags;
}

static void put_exit(struct emitter *e, unsigned flags) {
    if (flags & HOST_WIDE)
        put_bytes(e, 3, "\xc5\xf8\x77"); /* vzeroupper */
    if (flags & HOST_X87)
        put_bytes(e, 2, "\xdb\xe3"); /* fninit */
    else if (flags & HOST_MMX)
        put_bytes(e, 2, "\x0f\x77"); /* emms */
    if (flags & HOST_SAVED_RBX)
        put(e, 0x5b);
    if (flags & HOST_STEP) {
        put_bytes(e, 3, "\x48\x83\xc6");
        put(e, sizeof(struct ref_op)); /* add rsi, sizeof(struct ref_op) */
        put_bytes(e, 2, "\xff\x66");
        put(e, offsetof(struct ref_op, fn)); /* jmp [rsi + fn] */
    } else {
        put_bytes(e, 3, "\x31\xc0\xc3"); /* xor eax, eax; ret */
    }
}

bool host_emit(const struct insn *in, struct host_code *ret) {
    _Static_assert(sizeof(struct ref_op) < 128 && offsetof(struct ref_op, fn) < 128,
                   "8-bit displacements");
    struct emitter e = {.p = ret->bytes};
    struct plan p;

    ret->mem_size = ret->access = 0;
    if (!make_plan(in, &p, ret))
        return false;
    ret->flags = thunk_flags(in, &p);
    if (ret->flags & HOST_SAVED_RBX)
        put(&e, 0x53);
    if (ret->flags & HOST_X87)
        put_bytes(&e, 4, "\x48\x0f\xae\x0a"); /* fxrstor64 [rdx] */
    if (ret->flags & HOST_MXCSR)
        enter_mxcsr(&e);
    if (flags_in(in->row))
        load_flags(&e);
    put_loads(&e, &p);
    put_instruction(&e, &p);
    if (ret->flags & HOST_X87)
        put_bytes(&e, 4, "\x48\x0f\xae\x02"); /* fxsave64 [rdx] */
    put_stores(&e, &p);
    if (in->row->flags_written)
        save_flags(&e);
    if (ret->flags & HOST_MXCSR)
        leave_mxcsr(&e);
    put_exit(&e, ret->flags);
    ret->len = e.n;
    return true;
}

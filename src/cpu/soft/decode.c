/* SPDX-License-Identifier: GPL-2.0-or-later */
/* x86 instruction decoder over the tables made from opcodes.tab; Intel SDM vol. 2, chapter 2. */
#include "cpu/soft/decode.h"

#include <endian.h>
#include <string.h>

/* The first four are legacy opcode maps, the others the maps of VEX. */
enum { SPACE_VEX = 4, SPACE_COUNT = 7 };

enum {
    LAYOUT_D64 = 1,      /* operand size defaults to 8 in 64-bit mode, 66 makes it 2 */
    LAYOUT_F64 = 2,      /* operand size is 8 in 64-bit mode, 66 is ignored */
    LAYOUT_MODREG = 4,   /* ModRM.mod is ignored: rm is always a register */
    LAYOUT_IGNORE66 = 8, /* 66 selects the row and so is no operand-size prefix */
    LAYOUT_NOVVVV = 16,  /* VEX.vvvv must be 1111 */
    LAYOUT_VSIB = 32,    /* gather: needs a SIB byte and three different registers */
};

enum imm_kind {
    IMM_NONE,
    /* Sign-extended: byte, 2 or 4 bytes, branch displacements. */
    IMM_SIB,
    IMM_IZ,
    IMM_JB,
    IMM_JZ,
    /* Zero-extended: byte, 2 bytes, 2 or 4 or 8 bytes. */
    IMM_IB,
    IMM_IW,
    IMM_IV,
    /* Not one number after the operands: shift by 1, ENTER, far pointer, moffs. */
    IMM_ONE,
    IMM_IW_IB,
    IMM_AP,
    IMM_OB,
    IMM_OV,
};

struct layout {
    uint8_t flags;
    uint8_t imm;
};

/* Sizes of operands; the numbers below SIZE_V are bytes. */
enum operand_size {
    SIZE_NONE = 0,
    SIZE_1 = 1,
    SIZE_2 = 2,
    SIZE_4 = 4,
    SIZE_8 = 8,
    SIZE_10 = 10,
    SIZE_16 = 16,
    SIZE_32 = 32,
    SIZE_V = 64, /* operand size */
    SIZE_Z,      /* operand size, 4 instead of 8 */
    SIZE_Y,      /* operand size, 4 instead of 2 */
    SIZE_M,      /* 8 in 64-bit mode, else 4 */
    SIZE_P,      /* far pointer in memory */
    SIZE_A,      /* pair of BOUND */
    SIZE_S,      /* limit and base of a descriptor table */
    SIZE_ASIZE,  /* address size */
    SIZE_X,      /* vector length */
    SIZE_X2,     /* half of it */
    SIZE_X4,
    SIZE_X8,
    SIZE_ENV, /* x87 environment */
    SIZE_SAV, /* x87 environment and registers */
};

enum operand_source { FROM_NONE, FROM_REG, FROM_RM, FROM_VVVV, FROM_OPCODE, FROM_IS4, FROM_FIXED };

struct operand_code {
    char method;
    uint8_t kind, source, fixed;
    uint8_t reg_size, mem_size;
    uint8_t rm_may_be_memory;
};

#include "insn_table.inc"

enum { TREE = 1u << 31 };

/* Prefix bytes outside 64-bit mode; there 40..4f are REX as well. */
enum { P_NONE, P_SEG, P_OPSIZE, P_ADSIZE, P_LOCK, P_REPNE, P_REP, P_REX };

static const uint8_t prefix_kind[256] = {
    [0x26] = P_SEG,  [0x2e] = P_SEG,   [0x36] = P_SEG,    [0x3e] = P_SEG,
    [0x64] = P_SEG,  [0x65] = P_SEG,   [0x66] = P_OPSIZE, [0x67] = P_ADSIZE,
    [0xf0] = P_LOCK, [0xf2] = P_REPNE, [0xf3] = P_REP,    [0x40 ... 0x4f] = P_REX,
};

enum { REX_B = 1, REX_X = 2, REX_R = 4, REX_W = 8 };

/* The path of most instructions. Inlined as a whole it keeps the cursor in registers, so the rare
 * paths outside of it get a copy of the cursor. */
#define HOT static inline __attribute__((always_inline))

/* Where decoding stands. */
struct cursor {
    const uint8_t *bytes;
    size_t given;
    uint8_t at, limit; /* limit: the smaller of `given` and 15 */
    uint8_t space;
    bool vex_l, vex_v_used;
    bool seg_override;
};

/* A byte beyond the limit is needed. */
HOT int out_of_bytes(struct insn *in, const struct cursor *c) {
    in->len = c->limit;
    return c->limit == INSN_MAX_LEN ? -2 : -1;
}

HOT int undefined_opcode(struct insn *in, const struct cursor *c) {
    in->len = c->at;
    return 0;
}

HOT bool have(const struct cursor *c, unsigned count) { return c->at + count <= c->limit; }

static void take_segment(struct insn *in, struct cursor *c, uint8_t byte) {
    in->prefixes |= PFX_SEG;
    if (byte >= 0x64) {
        in->seg = (uint8_t)(SEG_FS + (byte - 0x64));
        c->seg_override = true;
    } else if (in->mode != 8) {
        /* In 64-bit mode these four are ignored, they do not undo FS and GS. */
        in->seg = (uint8_t)((byte >> 3) & 3);
        c->seg_override = true;
    }
}

/* Takes all prefixes; false if the bytes end. REX counts only right before the opcode. */
static bool take_any_prefixes(struct insn *in, struct cursor *c) {
    for (; c->at < c->limit; c->at++) {
        uint8_t byte = c->bytes[c->at];
        uint8_t kind = prefix_kind[byte];
        if (kind == P_NONE)
            return true;
        if (kind == P_REX) {
            if (in->mode != 8)
                return true;
            in->rex = byte & 15;
            in->prefixes |= PFX_REX;
            continue;
        }
        in->rex = 0;
        in->prefixes &= (uint8_t)~PFX_REX;
        switch (kind) {
        case P_SEG:
            take_segment(in, c, byte);
            break;
        case P_OPSIZE:
            in->prefixes |= PFX_OPSIZE;
            break;
        case P_ADSIZE:
            in->prefixes |= PFX_ADSIZE;
            break;
        case P_LOCK:
            in->prefixes |= PFX_LOCK;
            break;
        case P_REPNE: /* the last of f2 and f3 counts */
            in->prefixes = (uint8_t)((in->prefixes & ~PFX_REP) | PFX_REPNE);
            break;
        default:
            in->prefixes = (uint8_t)((in->prefixes & ~PFX_REPNE) | PFX_REP);
            break;
        }
    }
    return false;
}

/* No prefix, or REX alone, is what most instructions have. */
HOT bool take_prefixes(struct insn *in, struct cursor *c) {
    if (have(c, 2)) {
        uint8_t byte = c->bytes[0];
        if (prefix_kind[byte] == P_NONE)
            return true;
        if ((byte & 0xf0) == 0x40 && in->mode == 8 && prefix_kind[c->bytes[1]] == P_NONE) {
            in->rex = byte & 15;
            in->prefixes = PFX_REX;
            c->at = 1;
            return true;
        }
    }
    struct cursor copy = *c;
    bool done = take_any_prefixes(in, &copy);
    *c = copy;
    return done;
}

/* c->at is after C4 or C5. Returns false on an encoding that is undefined whatever the opcode. */
static bool take_vex(struct insn *in, struct cursor *c, bool three) {
    uint8_t payload = c->bytes[c->at++];
    uint8_t rex = (uint8_t)(~payload >> 5 & REX_R);
    unsigned map = 1;
    bool forbidden = in->prefixes & (PFX_LOCK | PFX_OPSIZE | PFX_REP | PFX_REPNE | PFX_REX);

    if (three) {
        map = payload & 31;
        rex = (uint8_t)(~payload >> 5 & 7);
        payload = c->bytes[c->at++];
        in->vex_w = payload >> 7;
        rex |= (uint8_t)(payload >> 4 & REX_W);
    }
    if (in->mode != 8)
        rex = 0; /* 8 registers, no 64-bit operand size */
    in->prefixes |= PFX_VEX;
    in->rex = rex;
    in->vvvv = (uint8_t)(~payload >> 3 & (in->mode == 8 ? 15 : 7));
    c->vex_v_used = ~payload & 0x78;
    c->vex_l = payload >> 2 & 1;
    in->vl = c->vex_l ? 32 : 16;
    in->pp = payload & 3;
    in->map = (uint8_t)map;
    c->space = (uint8_t)(SPACE_VEX + map - 1);
    return !forbidden && map >= 1 && map <= 3;
}

/* Opcode bytes after the prefixes. Returns 1, or what insn_decode returns. */
HOT int take_opcode(struct insn *in, struct cursor *c) {
    uint8_t byte = c->bytes[c->at++];

    if (byte == 0x0f) {
        if (!have(c, 1))
            return out_of_bytes(in, c);
        in->map = 1;
        byte = c->bytes[c->at++];
        if (byte == 0x38 || byte == 0x3a) {
            if (!have(c, 1))
                return out_of_bytes(in, c);
            in->map = byte == 0x38 ? 2 : 3;
            byte = c->bytes[c->at++];
        }
        c->space = in->map;
    } else if ((byte & 0xfe) == 0xc4) {
        if (!have(c, 1))
            return out_of_bytes(in, c);
        /* Outside 64-bit mode these are LDS and LES unless they would name a register. */
        if (in->mode == 8 || c->bytes[c->at] >= 0xc0) {
            if (!have(c, byte == 0xc4 ? 3 : 2))
                return out_of_bytes(in, c);
            struct cursor copy = *c;
            bool defined = take_vex(in, &copy, byte == 0xc4);
            *c = copy;
            byte = c->bytes[c->at++];
            if (!defined)
                return undefined_opcode(in, c);
        }
    }
    in->opcode = byte;
    in->opcode_at = (uint8_t)(c->at - 1);
    if (in->prefixes & PFX_VEX)
        return 1;
    if (in->prefixes & (PFX_REP | PFX_REPNE))
        in->pp = in->prefixes & PFX_REP ? 2 : 3;
    else if (in->prefixes & PFX_OPSIZE)
        in->pp = 1;
    return 1;
}

HOT void set_sizes(struct insn *in) {
    static const uint8_t toggled[9] = {[2] = 4, [4] = 2, [8] = 4};
    in->adsize = in->prefixes & PFX_ADSIZE ? toggled[in->mode] : in->mode;
    if (in->rex & REX_W)
        in->opsize = 8;
    else if (in->prefixes & PFX_VEX)
        in->opsize = 4;
    else if (in->mode == 8)
        in->opsize = in->prefixes & PFX_OPSIZE ? 2 : 4;
    else
        in->opsize = in->prefixes & PFX_OPSIZE ? toggled[in->mode] : in->mode;
}

HOT unsigned find_row(const struct insn *in, const struct cursor *c) {
    /* All answers at once: which are asked differs with the opcode, a switch would mispredict. */
    const uint8_t answers[] = {
        [ASK_MODE64] = in->mode == 8,
        [ASK_PP] = in->pp,
        [ASK_MOD3] = in->mod == 3,
        [ASK_REG] = in->reg & 7,
        [ASK_RM] = in->rm & 7,
        [ASK_W] = in->vex_w,
        [ASK_L] = c->vex_l,
        [ASK_OSIZE] = in->opsize >> 2,
        [ASK_ASIZE] = in->adsize >> 2,
        [ASK_REXB] = in->rex & REX_B,
    };
    uint32_t cell = tree_roots[c->space][in->opcode];
    while (cell & TREE)
        cell = tree_cells[(cell & 0xffff) + answers[cell >> 16 & 0x7fff]];
    return cell;
}

/* The next `len` bytes (1..8), which must be there. */
HOT uint64_t next_bytes(const struct cursor *c, unsigned len, bool is_signed) {
    unsigned unused = (64 - 8 * len) & 63;
    uint64_t value = 0;
    if (c->at + 8u <= c->given) {
        memcpy(&value, c->bytes + c->at, 8);
        value = le64toh(value);
    } else {
        for (unsigned i = len; i-- > 0;)
            value = value << 8 | c->bytes[c->at + i];
    }
    value <<= unused;
    return is_signed ? (uint64_t)((int64_t)value >> unused) : value >> unused;
}

/* Takes a displacement of `len` bytes; false if the bytes end. */
HOT bool take_disp(struct insn *in, struct cursor *c, unsigned len) {
    if (!have(c, len))
        return false;
    in->disp_at = c->at;
    in->disp_len = (uint8_t)len;
    in->disp = (int64_t)next_bytes(c, len, true);
    c->at = (uint8_t)(c->at + len);
    return true;
}

static bool take_address16(struct insn *in, struct cursor *c) {
    /* bx+si bx+di bp+si bp+di si di bp bx */
    static const uint8_t base[8] = {3, 3, 5, 5, 6, 7, 5, 3};
    static const uint8_t index[4] = {6, 7, 6, 7};
    if (in->mod == 0 && in->rm == 6)
        return take_disp(in, c, 2);
    in->base = base[in->rm];
    if (in->rm < 4)
        in->index = index[in->rm];
    return in->mod == 0 || take_disp(in, c, in->mod);
}

HOT bool take_address(struct insn *in, struct cursor *c, bool vsib) {
    if (in->adsize == 2) {
        struct cursor copy = *c;
        bool done = take_address16(in, &copy);
        *c = copy;
        return done;
    }
    unsigned low = in->rm & 7;
    bool sib_byte = low == 4;
    if (sib_byte) {
        if (!have(c, 1))
            return false;
        in->sib_at = c->at;
        uint8_t sib = c->bytes[c->at++];
        uint8_t index = (uint8_t)((sib >> 3 & 7) | (in->rex & REX_X) << 2);
        in->scale = sib >> 6;
        in->index = index != 4 || vsib ? index : REG_NONE;
        low = sib & 7;
    }
    if (in->mod == 0 && low == 5) {
        in->rip_relative = !sib_byte && in->mode == 8;
        return take_disp(in, c, 4);
    }
    in->base = (uint8_t)(low | (in->rex & REX_B) << 3);
    return in->mod == 0 || take_disp(in, c, in->mod == 1 ? 1 : 4);
}

HOT void default_segment(struct insn *in, const struct cursor *c) {
    if (!c->seg_override)
        in->seg = in->base == 4 || in->base == 5 ? SEG_SS : SEG_DS;
}

/* Immediates made of two parts, and moffs. */
static bool take_odd_immediate(struct insn *in, struct cursor *c, enum imm_kind kind) {
    unsigned offset_len = in->opsize == 2 ? 2 : 4;
    if (kind == IMM_ONE) {
        in->imm = 1;
        return true;
    }
    if (kind == IMM_OB || kind == IMM_OV) {
        if (!have(c, in->adsize))
            return false;
        in->mem = true;
        in->disp_at = c->at;
        in->disp_len = in->adsize;
        in->disp = (int64_t)next_bytes(c, in->adsize, false);
        c->at = (uint8_t)(c->at + in->adsize);
        return true;
    }
    unsigned first = kind == IMM_AP ? offset_len : 2, second = kind == IMM_AP ? 2 : 1;
    if (!have(c, first + second))
        return false;
    uint64_t both = next_bytes(c, first + second, false);
    in->imm_at = c->at;
    in->imm_len = (uint8_t)(first + second);
    in->imm = both & ((UINT64_C(1) << 8 * first) - 1);
    in->imm2 = both >> 8 * first;
    c->at = (uint8_t)(c->at + first + second);
    return true;
}

HOT bool take_immediate(struct insn *in, struct cursor *c, enum imm_kind kind) {
    /* Bytes by operand size 2, 4, 8. */
    static const uint8_t lengths[][3] = {
        [IMM_SIB] = {1, 1, 1}, [IMM_IZ] = {2, 4, 4}, [IMM_JB] = {1, 1, 1}, [IMM_JZ] = {2, 4, 4},
        [IMM_IB] = {1, 1, 1},  [IMM_IW] = {2, 2, 2}, [IMM_IV] = {2, 4, 8},
    };
    if (kind == IMM_NONE)
        return true;
    if (kind >= IMM_ONE) {
        struct cursor copy = *c;
        bool done = take_odd_immediate(in, &copy, kind);
        *c = copy;
        return done;
    }
    unsigned len = lengths[kind][in->opsize >> 2];
    if (!have(c, len))
        return false;
    in->imm = next_bytes(c, len, kind < IMM_IB);
    in->imm_at = c->at;
    in->imm_len = (uint8_t)len;
    c->at = (uint8_t)(c->at + len);
    return true;
}

/* The row is known: operand size as it wants it. */
HOT void settle_opsize(struct insn *in, unsigned flags) {
    if (!(flags & (LAYOUT_IGNORE66 | LAYOUT_D64 | LAYOUT_F64)))
        return;
    if (flags & LAYOUT_IGNORE66 && !(in->prefixes & PFX_VEX))
        in->opsize = in->rex & REX_W ? 8 : 4;
    if (in->mode == 8 && (flags & LAYOUT_F64 || (flags & LAYOUT_D64 && in->opsize == 4)))
        in->opsize = 8;
}

/* Takes the ModRM byte if the opcode has one; false if the bytes end. */
HOT bool take_modrm(struct insn *in, struct cursor *c) {
    if (!(opcode_has_modrm[c->space][in->opcode >> 5] >> (in->opcode & 31) & 1))
        return true;
    if (!have(c, 1))
        return false;
    uint8_t modrm = c->bytes[c->at];
    in->modrm_at = c->at++;
    in->mod = modrm >> 6;
    in->reg = (uint8_t)((modrm >> 3 & 7) | (in->rex & REX_R) << 1);
    in->rm = (uint8_t)((modrm & 7) | (in->rex & REX_B) << 3);
    return true;
}

/* MOV to and from control registers (even opcodes) and debug registers. */
static bool special_register_exists(const struct insn *in) {
    enum { CONTROL_REGISTERS = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 8 };
    return in->opcode & 1 ? in->reg < 8 : CONTROL_REGISTERS >> in->reg & 1;
}

static bool gather_registers_differ(const struct insn *in) {
    return in->reg != in->index && in->reg != in->vvvv && in->index != in->vvvv;
}

/* Rows with a rule of their own about what their bytes may be. */
static bool fields_are_defined(struct insn *in, bool vvvv_used, unsigned flags) {
    if (flags & LAYOUT_NOVVVV && vvvv_used)
        return false;
    if (flags & LAYOUT_MODREG) {
        in->mod = 3;
        return special_register_exists(in);
    }
    return !(flags & LAYOUT_VSIB) || (in->adsize != 2 && (in->rm & 7) == 4);
}

HOT int take_rest(struct insn *in, struct cursor *c, unsigned row) {
    const struct layout layout = layouts[row];
    in->row = &insn_rows[row];
    settle_opsize(in, layout.flags);
    if (layout.flags & (LAYOUT_NOVVVV | LAYOUT_MODREG | LAYOUT_VSIB) &&
        !fields_are_defined(in, c->vex_v_used, layout.flags))
        return undefined_opcode(in, c);
    if (in->modrm_at && in->mod != 3) {
        in->mem = true;
        if (!take_address(in, c, layout.flags & LAYOUT_VSIB))
            return out_of_bytes(in, c);
        if (layout.flags & LAYOUT_VSIB && !gather_registers_differ(in))
            return undefined_opcode(in, c);
    }
    default_segment(in, c);
    if (!take_immediate(in, c, layout.imm))
        return out_of_bytes(in, c);
    in->len = c->at;
    return in->len;
}

int insn_decode(struct insn *in, const uint8_t *bytes, size_t n, unsigned mode) {
    struct cursor c = {
        .bytes = bytes, .given = n, .limit = n < INSN_MAX_LEN ? (uint8_t)n : INSN_MAX_LEN};

    memset(in, 0, sizeof(*in));
    in->row = &insn_rows[0];
    in->mode = (uint8_t)mode;
    in->base = in->index = REG_NONE;
    if (!take_prefixes(in, &c))
        return out_of_bytes(in, &c);
    int status = take_opcode(in, &c);
    if (status <= 0)
        return status;
    set_sizes(in);
    if (!take_modrm(in, &c))
        return out_of_bytes(in, &c);
    unsigned row = find_row(in, &c);
    if (!row)
        return undefined_opcode(in, &c);
    return take_rest(in, &c, row);
}

bool insn_lock_ok(const struct insn *in) {
    return !(in->prefixes & PFX_LOCK) || (in->row->attr & INSN_LOCKABLE && in->mem);
}

static unsigned size_in_bytes(const struct insn *in, unsigned size) {
    unsigned vl = in->vl ? in->vl : 16;
    switch (size) {
    case SIZE_V:
        return in->opsize;
    case SIZE_Z:
        return in->opsize == 2 ? 2 : 4;
    case SIZE_Y:
        return in->opsize == 8 ? 8 : 4;
    case SIZE_M:
        return in->mode == 8 ? 8 : 4;
    case SIZE_P:
        return in->opsize + 2u;
    case SIZE_A:
        return in->opsize * 2u;
    case SIZE_S:
        return in->mode == 8 ? 10 : 6;
    case SIZE_ASIZE:
        return in->adsize;
    case SIZE_X:
        return vl;
    case SIZE_X2:
        return vl / 2;
    case SIZE_X4:
        return vl / 4;
    case SIZE_X8:
        return vl / 8;
    case SIZE_ENV:
        return in->opsize == 2 ? 14 : 28;
    case SIZE_SAV:
        return in->opsize == 2 ? 94 : 108;
    default:
        return size;
    }
}

/* Register number of an operand that names a register. */
static unsigned register_number(const struct insn *in, const struct operand_code *code) {
    switch (code->source) {
    case FROM_REG:
        return in->reg;
    case FROM_RM:
        return in->rm;
    case FROM_VVVV:
        return in->vvvv;
    case FROM_OPCODE:
        return (in->opcode & 7u) | (in->rex & REX_B) << 3;
    case FROM_IS4:
        return in->imm >> 4 & (in->mode == 8 ? 15 : 7);
    default:
        return code->fixed;
    }
}

void insn_operand(const struct insn *in, unsigned i, struct operand *ret_op) {
    memset(ret_op, 0, sizeof(*ret_op));
    if (i >= in->row->nops)
        return;
    const struct operand_code *code = &operand_codes[in->row->op[i]];
    ret_op->kind = code->kind;
    ret_op->access = in->row->access[i];
    if (code->rm_may_be_memory && in->mem) {
        ret_op->kind = OPK_MEM;
        ret_op->size = (uint16_t)size_in_bytes(in, code->mem_size);
        return;
    }
    unsigned reg = register_number(in, code);
    ret_op->size = (uint16_t)size_in_bytes(in, code->reg_size);
    switch (code->kind) {
    case OPK_GPR:
        /* Without REX numbers 4..7 of a byte are the high halves of 0..3. */
        if (ret_op->size == 1 && reg >= 4 && reg < 8 &&
            (code->source == FROM_FIXED || !(in->prefixes & (PFX_REX | PFX_VEX)))) {
            ret_op->high_byte = true;
            reg -= 4;
        }
        break;
    case OPK_MMX:
    case OPK_ST:
    case OPK_SREG:
        reg &= 7;
        break;
    default:
        break;
    }
    ret_op->reg = (uint8_t)reg;
}

char insn_operand_method(const struct insn *in, unsigned i) {
    return i < in->row->nops ? operand_codes[in->row->op[i]].method : 0;
}

const char *insn_feature_name(unsigned feature) {
    return feature < FEAT_COUNT ? feature_names[feature] : "unknown";
}

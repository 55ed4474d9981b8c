/* SPDX-License-Identifier: GPL-2.0-or-later */
/* x86 instruction decoder over the tables made from opcodes.tab; Intel SDM vol. 2, chapter 2. */
#include "cpu/soft/decode.h"

#include <string.h>

/* The first four are legacy opcode maps, the others the maps of VEX. */
enum { SPACE_VEX = 4, SPACE_COUNT = 7 };

enum {
    LAYOUT_D64 = 1,      /* operand size defaults to 8 in 64-bit mode, 66 makes it 2 */
    LAYOUT_F64 = 2,      /* operand size is 8 in 64-bit mode, 66 is ignored */
    LAYOUT_MODREG = 4,   /* ModRM.mod is ignored: rm is always a register */
    LAYOUT_IGNORE66 = 8, /* 66 selects the row and so is no operand-size prefix */
    LAYOUT_NOVVVV = 16,  /* VEX.vvvv must be 1111 */
};

enum imm_kind {
    IMM_NONE,
    IMM_ONE,   /* no bytes: shift by 1 */
    IMM_IB,    /* zero-extended */
    IMM_SIB,   /* byte, sign-extended */
    IMM_IW,    /* zero-extended */
    IMM_IZ,    /* 2 or 4 bytes, sign-extended */
    IMM_IV,    /* 2, 4 or 8 bytes */
    IMM_IW_IB, /* ENTER */
    IMM_JB,
    IMM_JZ,
    IMM_AP, /* far pointer: offset, then selector */
    IMM_OB, /* moffs: address-sized offset */
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

/* Where decoding stands. */
struct cursor {
    const uint8_t *bytes;
    uint8_t at, limit; /* limit: the smaller of the bytes given and 15 */
    uint8_t space;
    bool vex_w, vex_l, vex_v_used;
    bool seg_override;
};

/* A byte beyond the limit is needed. */
static int out_of_bytes(struct insn *in, const struct cursor *c) {
    in->len = c->limit;
    return c->limit == INSN_MAX_LEN ? -2 : -1;
}

static int undefined_opcode(struct insn *in, const struct cursor *c) {
    in->len = c->at;
    return 0;
}

static inline bool have(const struct cursor *c, unsigned count) {
    return c->at + count <= c->limit;
}

static void take_segment(struct insn *in, struct cursor *c, uint8_t byte) {
    in->prefixes |= PFX_SEG;
    if (byte >= 0x64) {
        in->seg = (uint8_t)(SEG_FS + (byte - 0x64));
        c->seg_override = true;
    } else if (in->mode !=
               8) { /* in 64-bit mode the other four are ignored, they do not undo FS and GS */
        in->seg = (uint8_t)((byte >> 3) & 3);
        c->seg_override = true;
    }
}

/* Takes all prefixes; false if the bytes end. REX counts only right before the opcode. */
static bool take_prefixes(struct insn *in, struct cursor *c) {
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
        c->vex_w = in->vex_w = payload >> 7;
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
static int take_opcode(struct insn *in, struct cursor *c) {
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
            bool defined = take_vex(in, c, byte == 0xc4);
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

static void set_sizes(struct insn *in) {
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

static unsigned find_row(const struct insn *in, const struct cursor *c) {
    uint32_t cell = tree_roots[c->space][in->opcode];
    while (cell & TREE) {
        unsigned answer;
        switch (cell >> 16 & 0x7fff) {
        case ASK_MODE64:
            answer = in->mode == 8;
            break;
        case ASK_PP:
            answer = in->pp;
            break;
        case ASK_MOD3:
            answer = in->mod == 3;
            break;
        case ASK_REG:
            answer = in->reg & 7;
            break;
        case ASK_RM:
            answer = in->rm & 7;
            break;
        case ASK_W:
            answer = c->vex_w;
            break;
        case ASK_L:
            answer = c->vex_l;
            break;
        case ASK_OSIZE:
            answer = in->opsize >> 2;
            break;
        case ASK_ASIZE:
            answer = in->adsize >> 2;
            break;
        default:
            answer = in->rex & REX_B;
            break;
        }
        cell = tree_cells[(cell & 0xffff) + answer];
    }
    return cell;
}

static uint64_t little_endian(const uint8_t *bytes, unsigned len) {
    uint64_t value = 0;
    for (unsigned i = len; i-- > 0;)
        value = value << 8 | bytes[i];
    return value;
}

static int64_t signed_value(const uint8_t *bytes, unsigned len) {
    switch (len) {
    case 1:
        return (int8_t)bytes[0];
    case 2:
        return (int16_t)little_endian(bytes, 2);
    case 4:
        return (int32_t)little_endian(bytes, 4);
    default:
        return (int64_t)little_endian(bytes, 8);
    }
}

/* Takes a displacement of `len` bytes; false if the bytes end. */
static bool take_disp(struct insn *in, struct cursor *c, unsigned len) {
    if (!have(c, len))
        return false;
    in->disp_at = c->at;
    in->disp_len = (uint8_t)len;
    in->disp = signed_value(c->bytes + c->at, len);
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

static bool take_address(struct insn *in, struct cursor *c, bool vsib) {
    unsigned low = in->rm & 7;
    if (low == 4) {
        if (!have(c, 1))
            return false;
        in->sib_at = c->at;
        uint8_t sib = c->bytes[c->at++];
        uint8_t index = (uint8_t)((sib >> 3 & 7) | (in->rex & REX_X) << 2);
        in->scale = sib >> 6;
        if (index != 4 || vsib)
            in->index = index;
        low = sib & 7;
        if (low == 5 && in->mod == 0)
            return take_disp(in, c, 4);
    } else if (low == 5 && in->mod == 0) {
        in->rip_relative = in->mode == 8;
        return take_disp(in, c, 4);
    }
    in->base = (uint8_t)(low | (in->rex & REX_B) << 3);
    return in->mod == 0 || take_disp(in, c, in->mod == 1 ? 1 : 4);
}

static void default_segment(struct insn *in, const struct cursor *c) {
    if (!c->seg_override)
        in->seg = in->base == 4 || in->base == 5 ? SEG_SS : SEG_DS;
}

static bool take_immediate_bytes(struct insn *in, struct cursor *c, unsigned len) {
    if (!have(c, len))
        return false;
    in->imm_at = c->at;
    in->imm_len = (uint8_t)len;
    c->at = (uint8_t)(c->at + len);
    return true;
}

/* Immediates made of two parts, and moffs. */
static bool take_odd_immediate(struct insn *in, struct cursor *c, enum imm_kind kind) {
    const uint8_t *bytes = c->bytes + c->at;
    unsigned offset_len = in->opsize == 2 ? 2 : 4;
    switch (kind) {
    case IMM_IW_IB:
        if (!take_immediate_bytes(in, c, 3))
            return false;
        in->imm = little_endian(bytes, 2);
        in->imm2 = bytes[2];
        return true;
    case IMM_AP:
        if (!take_immediate_bytes(in, c, offset_len + 2))
            return false;
        in->imm = little_endian(bytes, offset_len);
        in->imm2 = little_endian(bytes + offset_len, 2);
        return true;
    default:
        if (!have(c, in->adsize))
            return false;
        in->mem = true;
        in->disp_at = c->at;
        in->disp_len = in->adsize;
        in->disp = (int64_t)little_endian(bytes, in->adsize);
        c->at = (uint8_t)(c->at + in->adsize);
        return true;
    }
}

static bool take_immediate(struct insn *in, struct cursor *c, enum imm_kind kind) {
    const uint8_t *bytes = c->bytes + c->at;
    unsigned len = 1;
    switch (kind) {
    case IMM_NONE:
        return true;
    case IMM_ONE:
        in->imm = 1;
        return true;
    case IMM_IB:
    case IMM_SIB:
    case IMM_JB:
        break;
    case IMM_IW:
        len = 2;
        break;
    case IMM_IZ:
    case IMM_JZ:
        len = in->opsize == 2 ? 2 : 4;
        break;
    case IMM_IV:
        len = in->opsize;
        break;
    default:
        return take_odd_immediate(in, c, kind);
    }
    if (!take_immediate_bytes(in, c, len))
        return false;
    if (kind == IMM_IB || kind == IMM_IW || kind == IMM_IV)
        in->imm = little_endian(bytes, len);
    else
        in->imm = (uint64_t)signed_value(bytes, len);
    return true;
}

/* The row is known: operand size as it wants it. */
static void settle_opsize(struct insn *in, unsigned flags) {
    if (flags & LAYOUT_IGNORE66 && !(in->prefixes & PFX_VEX))
        in->opsize = in->rex & REX_W ? 8 : 4;
    if (in->mode != 8)
        return;
    if (flags & LAYOUT_F64 || (flags & LAYOUT_D64 && in->opsize == 4))
        in->opsize = 8;
}

static bool take_modrm(struct insn *in, struct cursor *c) {
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

static int take_rest(struct insn *in, struct cursor *c, unsigned row) {
    const struct layout *layout = &layouts[row];
    in->row = &insn_rows[row];
    settle_opsize(in, layout->flags);
    if (layout->flags & LAYOUT_NOVVVV && c->vex_v_used)
        return undefined_opcode(in, c);
    if (layout->flags & LAYOUT_MODREG) {
        in->mod = 3;
        if (!special_register_exists(in))
            return undefined_opcode(in, c);
    }
    if (in->modrm_at && in->mod != 3) {
        bool vsib = in->row->attr & INSN_VSIB;
        if (vsib && (in->adsize == 2 || (in->rm & 7) != 4))
            return undefined_opcode(in, c);
        in->mem = true;
        if (!(in->adsize == 2 ? take_address16(in, c) : take_address(in, c, vsib)))
            return out_of_bytes(in, c);
    }
    if (in->row->attr & INSN_VSIB && !gather_registers_differ(in))
        return undefined_opcode(in, c);
    default_segment(in, c);
    if (!take_immediate(in, c, layout->imm))
        return out_of_bytes(in, c);
    in->len = c->at;
    return in->len;
}

int insn_decode(struct insn *in, const uint8_t *bytes, size_t n, unsigned mode) {
    struct cursor c = {.bytes = bytes, .limit = n < INSN_MAX_LEN ? (uint8_t)n : INSN_MAX_LEN};

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
    if (opcode_has_modrm[c.space][in->opcode >> 5] >> (in->opcode & 31) & 1 && !take_modrm(in, &c))
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

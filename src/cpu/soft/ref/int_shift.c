/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shifts, rotates, double shifts, bit tests and bit scans. Source: SDM vol. 2. */
#include "cpu/soft/ref/int_ops.h"

/* Flags in and out: a count of zero leaves them all, rotates leave most, so the host starts with
 * the guest's. */
#define SHIFT_VALUE(bits, name)                                                                    \
    static inline INT_TYPE(bits) name##bits(struct ref *c, INT_TYPE(bits) a, uint8_t n) {          \
        uint32_t f = c->af;                                                                        \
        __asm__("addb $0x7f, %%al\n\tsahf\n\t" #name INT_SUFFIX_##bits                             \
                " %%cl, %[a]\n\t" INT_TAKE_FLAGS                                                   \
                : [a] "+q"(a), "+&a"(f)                                                            \
                : "c"(n)                                                                           \
                : "cc");                                                                           \
        INT_SET_FLAGS(c, f);                                                                       \
        return a;                                                                                  \
    }

/* o->aux: count comes from CL, else o->imm. */
#define SHIFT_HANDLERS(bits, name)                                                                 \
    SHIFT_VALUE(bits, name)                                                                        \
    INT_HANDLER(name##_ri##bits) {                                                                 \
        INT_SET_##bits(c, o->dst, name##bits(c, INT_GET_##bits(c, o->dst), (uint8_t)o->imm));      \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    INT_HANDLER(name##_rc##bits) {                                                                 \
        INT_SET_##bits(c, o->dst,                                                                  \
                       name##bits(c, INT_GET_##bits(c, o->dst), (uint8_t)c->r[X86_RCX]));          \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    INT_HANDLER(name##_m##bits) {                                                                  \
        INT_TYPE(bits) *p = ref_write_ptr(c, o, ref_lin(c, o, bits / 8, true), bits / 8, true);    \
        *p = name##bits(c, *p, (uint8_t)(o->aux ? c->r[X86_RCX] : o->imm));                        \
        ref_write_done(c, o, p);                                                                   \
        REF_NEXT(c, o);                                                                            \
    }

#define SHIFT_TABLE(name)                                                                          \
    {                                                                                              \
        {name##_ri8, name##_ri16, name##_ri32, name##_ri64},                                       \
            {name##_rc8, name##_rc16, name##_rc32, name##_rc64},                                   \
            {name##_m8, name##_m16, name##_m32, name##_m64},                                       \
    }
#define SHIFT_ALL(name) INT_EACH_SIZE(SHIFT_HANDLERS, name)

SHIFT_ALL(shl)
SHIFT_ALL(shr)
SHIFT_ALL(sar)
SHIFT_ALL(rol)
SHIFT_ALL(ror)
SHIFT_ALL(rcl)
SHIFT_ALL(rcr)

static ref_fn *const shl_fn[3][4] = SHIFT_TABLE(shl);
static ref_fn *const shr_fn[3][4] = SHIFT_TABLE(shr);
static ref_fn *const sar_fn[3][4] = SHIFT_TABLE(sar);
static ref_fn *const rol_fn[3][4] = SHIFT_TABLE(rol);
static ref_fn *const ror_fn[3][4] = SHIFT_TABLE(ror);
static ref_fn *const rcl_fn[3][4] = SHIFT_TABLE(rcl);
static ref_fn *const rcr_fn[3][4] = SHIFT_TABLE(rcr);

static bool bind_shift(struct ref *c, const struct insn *in, struct ref_op *o,
                       ref_fn *const fns[3][4]) {
    struct operand d, n;
    unsigned form;

    insn_operand(in, 0, &d);
    insn_operand(in, 1, &n);
    o->aux = n.kind == OPK_GPR;
    o->imm = n.kind == OPK_IMM ? in->imm_len ? in->imm : 1 : 0;
    form = o->aux;
    if (d.kind == OPK_MEM) {
        ref_set_mem(c, in, o);
        form = 2;
    } else {
        o->dst = int_slot(&d);
    }
    o->size = (uint8_t)d.size;
    o->fn = fns[form][int_log2(d.size)];
    return true;
}

/* ---- SHLD, SHRD ---- */

#define DOUBLE_SHIFT(bits, name)                                                                   \
    static inline INT_TYPE(bits)                                                                   \
        name##bits(struct ref *c, INT_TYPE(bits) a, INT_TYPE(bits) b, uint8_t n) {                 \
        uint32_t f = c->af;                                                                        \
        __asm__("addb $0x7f, %%al\n\tsahf\n\t" #name INT_SUFFIX_##bits                             \
                " %%cl, %[b], %[a]\n\t" INT_TAKE_FLAGS                                             \
                : [a] "+r"(a), "+&a"(f)                                                            \
                : [b] "r"(b), "c"(n)                                                               \
                : "cc");                                                                           \
        INT_SET_FLAGS(c, f);                                                                       \
        return a;                                                                                  \
    }                                                                                              \
    INT_HANDLER(name##_r##bits) {                                                                  \
        uint8_t n = (uint8_t)(o->aux ? c->r[X86_RCX] : o->imm);                                    \
        INT_SET_##bits(c, o->dst,                                                                  \
                       name##bits(c, INT_GET_##bits(c, o->dst), INT_GET_##bits(c, o->src), n));    \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    INT_HANDLER(name##_m##bits) {                                                                  \
        uint8_t n = (uint8_t)(o->aux ? c->r[X86_RCX] : o->imm);                                    \
        INT_TYPE(bits) *p = ref_write_ptr(c, o, ref_lin(c, o, bits / 8, true), bits / 8, true);    \
        *p = name##bits(c, *p, INT_GET_##bits(c, o->src), n);                                      \
        ref_write_done(c, o, p);                                                                   \
        REF_NEXT(c, o);                                                                            \
    }
INT_EACH_WIDE(DOUBLE_SHIFT, shld)
INT_EACH_WIDE(DOUBLE_SHIFT, shrd)

static bool bind_double_shift(struct ref *c, const struct insn *in, struct ref_op *o) {
    static ref_fn *const fns[2][2][3] = {
        {{shld_r16, shld_r32, shld_r64}, {shld_m16, shld_m32, shld_m64}},
        {{shrd_r16, shrd_r32, shrd_r64}, {shrd_m16, shrd_m32, shrd_m64}},
    };

    if (in->mem)
        ref_set_mem(c, in, o);
    o->dst = in->rm;
    o->src = in->reg;
    o->aux = in->opcode & 1; /* a4, ac: immediate; a5, ad: CL */
    o->imm = in->imm;
    o->size = in->opsize;
    o->fn = fns[in->row->id == INSN_SHRD][in->mem][int_log2(in->opsize) - 1];
    return true;
}

bool int_bind_shift(struct ref *c, const struct insn *in, struct ref_op *o) {
    switch (in->row->id) {
    case INSN_SHL:
        return bind_shift(c, in, o, shl_fn);
    case INSN_SHR:
        return bind_shift(c, in, o, shr_fn);
    case INSN_SAR:
        return bind_shift(c, in, o, sar_fn);
    case INSN_ROL:
        return bind_shift(c, in, o, rol_fn);
    case INSN_ROR:
        return bind_shift(c, in, o, ror_fn);
    case INSN_RCL:
        return bind_shift(c, in, o, rcl_fn);
    case INSN_RCR:
        return bind_shift(c, in, o, rcr_fn);
    case INSN_SHLD:
    case INSN_SHRD:
        return bind_double_shift(c, in, o);
    default:
        return false;
    }
}

/* ---- BT BTS BTR BTC ---- */

enum bit_op { BIT_TEST, BIT_SET, BIT_RESET, BIT_COMPLEMENT };

static void set_cf(struct ref *c, bool cf) {
    c->af = (c->af & ~0x100u) | (uint32_t)cf << 8; /* OF SF AF PF undefined: left; ZF unchanged */
}

static uint64_t changed(uint64_t v, uint64_t bit, unsigned op) {
    return op == BIT_SET          ? v | bit
           : op == BIT_RESET      ? v & ~bit
           : op == BIT_COMPLEMENT ? v ^ bit
                                  : v;
}

/* o->aux: bit_op | 4 if the index is in register o->src, else o->imm; | 8 LOCK. */
INT_HANDLER(bit_r) {
    unsigned n = (unsigned)(o->aux & 4 ? c->r[o->src] : o->imm) & (o->size * 8u - 1);
    uint64_t v = c->r[o->dst], bit = 1ull << n;

    set_cf(c, v & bit);
    if (o->aux & 3)
        ref_set_reg(c, o->dst, o->size, changed(v, bit, o->aux & 3));
    REF_NEXT(c, o);
}

/* A register index reaches beyond the operand: the address moves by whole operands. */
static uint64_t bit_lin(struct ref *c, const struct ref_op *o, unsigned *ret_bit) {
    int64_t n = o->size == 8   ? (int64_t)c->r[o->src]
                : o->size == 4 ? (int32_t)c->r[o->src]
                               : (int16_t)c->r[o->src];
    uint64_t ea;

    *ret_bit = (unsigned)(o->aux & 4 ? c->r[o->src] : o->imm) & (o->size * 8u - 1);
    if (!(o->aux & 4))
        return ref_lin(c, o, o->size, o->aux & 3);
    ea = ref_ea(c, o) + (uint64_t)(n >> (int_log2(o->size) + 3)) * o->size;
    if (o->eaf & REF_EA_32)
        ea = (uint32_t)ea;
    else if (o->eaf & REF_EA_16)
        ea = (uint16_t)ea;
    return ref_seg_lin(c, o, o->seg, ea, o->size, o->aux & 3);
}

static uint64_t load_sized(const void *p, unsigned size) {
    uint64_t v = 0;

    memcpy(&v, p, size);
    return v;
}

static uint64_t locked_bit(void *p, unsigned size, uint64_t bit, unsigned op) {
#define LOCKED_BIT(bits)                                                                           \
    (op == BIT_SET ? __atomic_fetch_or((INT_TYPE(bits) *)p, (INT_TYPE(bits))bit, __ATOMIC_SEQ_CST) \
     : op == BIT_RESET                                                                             \
         ? __atomic_fetch_and((INT_TYPE(bits) *)p, (INT_TYPE(bits)) ~bit, __ATOMIC_SEQ_CST)        \
         : __atomic_fetch_xor((INT_TYPE(bits) *)p, (INT_TYPE(bits))bit, __ATOMIC_SEQ_CST))
    return size == 8 ? LOCKED_BIT(64) : size == 4 ? LOCKED_BIT(32) : LOCKED_BIT(16);
#undef LOCKED_BIT
}

INT_HANDLER(bit_test_m) {
    unsigned n;
    uint64_t lin = bit_lin(c, o, &n);

    set_cf(c, load_sized(ref_read_ptr(c, o, lin, o->size), o->size) >> n & 1);
    REF_NEXT(c, o);
}

INT_HANDLER(bit_m) {
    unsigned n, op = o->aux & 3;
    uint64_t lin = bit_lin(c, o, &n), bit = 1ull << n, v;
    void *p = ref_write_ptr(c, o, lin, o->size, true);

    if ((o->aux & 8) && !ref_splits_line(p, o->size)) {
        v = locked_bit(p, o->size, bit, op);
    } else {
        uint64_t w;
        v = load_sized(p, o->size);
        w = changed(v, bit, op);
        memcpy(p, &w, o->size);
    }
    ref_write_done(c, o, p);
    set_cf(c, v & bit);
    REF_NEXT(c, o);
}

static bool bind_bit(struct ref *c, const struct insn *in, struct ref_op *o, enum bit_op op) {
    struct operand n;

    insn_operand(in, 1, &n);
    o->size = in->opsize;
    o->dst = in->rm;
    o->src = n.kind == OPK_GPR ? n.reg : 0;
    o->aux = (uint8_t)(op | (n.kind == OPK_GPR ? 4 : 0) | (in->prefixes & PFX_LOCK ? 8 : 0));
    o->imm = in->imm;
    o->fn = !in->mem ? bit_r : op == BIT_TEST ? bit_test_m : bit_m;
    if (in->mem)
        ref_set_mem(c, in, o);
    return true;
}

/* ---- BSF BSR TZCNT LZCNT POPCNT: what the host does with a zero source, too ---- */

#define SCAN_HANDLERS(bits, name)                                                                  \
    static inline void name##_do##bits(struct ref *c, const struct ref_op *o,                      \
                                       INT_TYPE(bits) src) {                                       \
        uint64_t d = c->r[o->dst], s = src;                                                        \
        uint32_t f = c->af;                                                                        \
        __asm__("addb $0x7f, %%al\n\tsahf\n\t" SCAN_##name##_##bits "\n\t" INT_TAKE_FLAGS          \
                : [d] "+r"(d), "+&a"(f)                                                            \
                : [s] "r"(s)                                                                       \
                : "cc");                                                                           \
        INT_SET_FLAGS(c, f);                                                                       \
        c->r[o->dst] = d;                                                                          \
    }                                                                                              \
    INT_HANDLER(name##_r##bits) {                                                                  \
        name##_do##bits(c, o, (INT_TYPE(bits))c->r[o->src]);                                       \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    INT_HANDLER(name##_m##bits) {                                                                  \
        name##_do##bits(c, o, ref_load##bits(c, o, ref_lin(c, o, bits / 8, false)));               \
        REF_NEXT(c, o);                                                                            \
    }
#define SCAN_bsf_16    "bsfw %w[s], %w[d]"
#define SCAN_bsf_32    "bsfl %k[s], %k[d]"
#define SCAN_bsf_64    "bsfq %[s], %[d]"
#define SCAN_bsr_16    "bsrw %w[s], %w[d]"
#define SCAN_bsr_32    "bsrl %k[s], %k[d]"
#define SCAN_bsr_64    "bsrq %[s], %[d]"
#define SCAN_tzcnt_16  "tzcntw %w[s], %w[d]"
#define SCAN_tzcnt_32  "tzcntl %k[s], %k[d]"
#define SCAN_tzcnt_64  "tzcntq %[s], %[d]"
#define SCAN_lzcnt_16  "lzcntw %w[s], %w[d]"
#define SCAN_lzcnt_32  "lzcntl %k[s], %k[d]"
#define SCAN_lzcnt_64  "lzcntq %[s], %[d]"
#define SCAN_popcnt_16 "popcntw %w[s], %w[d]"
#define SCAN_popcnt_32 "popcntl %k[s], %k[d]"
#define SCAN_popcnt_64 "popcntq %[s], %[d]"
INT_EACH_WIDE(SCAN_HANDLERS, bsf)
INT_EACH_WIDE(SCAN_HANDLERS, bsr)
INT_EACH_WIDE(SCAN_HANDLERS, tzcnt)
INT_EACH_WIDE(SCAN_HANDLERS, lzcnt)
INT_EACH_WIDE(SCAN_HANDLERS, popcnt)

#define SCAN_TABLE(name)                                                                           \
    {                                                                                              \
        {name##_r16, name##_r32, name##_r64}, { name##_m16, name##_m32, name##_m64 }               \
    }

static bool bind_scan(struct ref *c, const struct insn *in, struct ref_op *o,
                      ref_fn *const fns[2][3]) {
    if (in->mem)
        ref_set_mem(c, in, o);
    o->dst = in->reg;
    o->src = in->rm;
    o->size = in->opsize;
    o->fn = fns[in->mem][int_log2(in->opsize) - 1];
    return true;
}

bool int_bind_bits(struct ref *c, const struct insn *in, struct ref_op *o) {
    static ref_fn *const bsf[2][3] = SCAN_TABLE(bsf), *const bsr[2][3] = SCAN_TABLE(bsr);
    static ref_fn *const tzcnt[2][3] = SCAN_TABLE(tzcnt), *const lzcnt[2][3] = SCAN_TABLE(lzcnt);
    static ref_fn *const popcnt[2][3] = SCAN_TABLE(popcnt);

    switch (in->row->id) {
    case INSN_BT:
        return bind_bit(c, in, o, BIT_TEST);
    case INSN_BTS:
        return bind_bit(c, in, o, BIT_SET);
    case INSN_BTR:
        return bind_bit(c, in, o, BIT_RESET);
    case INSN_BTC:
        return bind_bit(c, in, o, BIT_COMPLEMENT);
    case INSN_BSF:
        return bind_scan(c, in, o, bsf);
    case INSN_BSR:
        return bind_scan(c, in, o, bsr);
    case INSN_TZCNT:
        return bind_scan(c, in, o, ref_has(c, in->row->feature) ? tzcnt : bsf);
    case INSN_LZCNT:
        return bind_scan(c, in, o, ref_has(c, in->row->feature) ? lzcnt : bsr);
    case INSN_POPCNT:
        return bind_scan(c, in, o, popcnt);
    default:
        return false;
    }
}

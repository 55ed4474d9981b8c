/* SPDX-License-Identifier: GPL-2.0-or-later */
/* MUL IMUL DIV IDIV, and the decimal adjustments AAA AAS AAM AAD DAA DAS. Source: SDM vol. 2. */
#include "cpu/soft/ref/int_ops.h"

/* rDX:rAX (AX for bytes) = rAX * source. Undefined flags as the host leaves them. */
#define WIDE_MUL(bits, name)                                                                       \
    static inline void name##_do##bits(struct ref *c, INT_TYPE(bits) b) {                          \
        INT_TYPE(bits) hi, lo = INT_GET_##bits(c, X86_RAX);                                        \
        uint32_t f;                                                                                \
        __asm__(#name INT_SUFFIX_##bits " %[b]\n\tmov" INT_SUFFIX_##bits " %%" MUL_A_##bits        \
                ", %[lo]\n\t" INT_TAKE_FLAGS                                                       \
                : [lo] "=&r"(lo), "=&d"(hi), "=&a"(f)                                              \
                : [b] "r"(b), "2"((uint64_t)lo)                                                    \
                : "cc");                                                                           \
        INT_SET_FLAGS(c, f);                                                                       \
        INT_SET_##bits(c, X86_RAX, lo);                                                            \
        INT_SET_##bits(c, X86_RDX, hi);                                                            \
    }
#define MUL_A_16 "ax"
#define MUL_A_32 "eax"
#define MUL_A_64 "rax"
INT_EACH_WIDE(WIDE_MUL, mul)
INT_EACH_WIDE(WIDE_MUL, imul)

#define BYTE_MUL(name)                                                                             \
    static inline void name##_do8(struct ref *c, uint8_t b) {                                      \
        uint16_t v = REF_R8(c, 0);                                                                 \
        uint32_t f = v;                                                                            \
        __asm__(#name "b %[b]\n\tmovw %%ax, %[v]\n\t" INT_TAKE_FLAGS                               \
                : [v] "=&r"(v), "+&a"(f)                                                           \
                : [b] "q"(b)                                                                       \
                : "cc");                                                                           \
        INT_SET_FLAGS(c, f);                                                                       \
        REF_R16(c, X86_RAX) = v;                                                                   \
    }
BYTE_MUL(mul)
BYTE_MUL(imul)

#define ONE_OPERAND(bits, name)                                                                    \
    INT_HANDLER(name##_r##bits) {                                                                  \
        name##_do##bits(c, INT_GET_##bits(c, o->src));                                             \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    INT_HANDLER(name##_m##bits) {                                                                  \
        name##_do##bits(c, ref_load##bits(c, o, ref_lin(c, o, bits / 8, false)));                  \
        REF_NEXT(c, o);                                                                            \
    }
INT_EACH_SIZE(ONE_OPERAND, mul)
INT_EACH_SIZE(ONE_OPERAND, imul)

/* Division: #DE by the book, flags undefined (left as they are). */
#define DIVIDE(bits, name, wide, narrow, minimum, dividend)                                        \
    static void name##_do##bits(struct ref *c, const struct ref_op *o, INT_TYPE(bits) divisor) {   \
        wide n = (wide)(dividend), d = (narrow)divisor, q;                                         \
        if (!d || (minimum && n == (wide)minimum && d == (wide)-1))                                \
            ref_raise(c, o, X86_DE);                                                               \
        q = n / d;                                                                                 \
        if (q != (narrow)q)                                                                        \
            ref_raise(c, o, X86_DE);                                                               \
        DIVIDE_SET_##bits(c, (INT_TYPE(bits))q, (INT_TYPE(bits))(n % d));                          \
    }
typedef unsigned __int128 u128;
typedef __int128 i128;
#define MIN_I128               ((u128)1 << 127)
#define DIVIDE_SET_8(c, q, r)  (REF_R8(c, 0) = (q), REF_R8(c, 1) = (r))
#define DIVIDE_SET_16(c, q, r) (INT_SET_16(c, X86_RAX, q), INT_SET_16(c, X86_RDX, r))
#define DIVIDE_SET_32(c, q, r) (INT_SET_32(c, X86_RAX, q), INT_SET_32(c, X86_RDX, r))
#define DIVIDE_SET_64(c, q, r) (INT_SET_64(c, X86_RAX, q), INT_SET_64(c, X86_RDX, r))
#define PAIR16(c)              ((uint32_t)(uint16_t)(c)->r[X86_RDX] << 16 | (uint16_t)(c)->r[X86_RAX])
#define PAIR32(c)              ((uint64_t)(uint32_t)(c)->r[X86_RDX] << 32 | (uint32_t)(c)->r[X86_RAX])
#define PAIR64(c)              ((u128)(c)->r[X86_RDX] << 64 | (c)->r[X86_RAX])
DIVIDE(8, div, uint64_t, uint8_t, 0, (uint16_t)c->r[X86_RAX])
DIVIDE(16, div, uint64_t, uint16_t, 0, PAIR16(c))
DIVIDE(32, div, uint64_t, uint32_t, 0, PAIR32(c))
DIVIDE(8, idiv, int64_t, int8_t, INT64_MIN, (int16_t)c->r[X86_RAX])
DIVIDE(16, idiv, int64_t, int16_t, INT64_MIN, (int32_t)PAIR16(c))
DIVIDE(32, idiv, int64_t, int32_t, INT64_MIN, (int64_t)PAIR32(c))
DIVIDE(64, idiv, i128, int64_t, MIN_I128, (i128)PAIR64(c))

static void div_do64(struct ref *c, const struct ref_op *o, uint64_t d) {
    uint64_t hi = c->r[X86_RDX], lo = c->r[X86_RAX];

    if (hi >= d) /* zero divisor included: the quotient would not fit */
        ref_raise(c, o, X86_DE);
    __asm__("divq %[d]" : "+a"(lo), "+d"(hi) : [d] "r"(d) : "cc");
    c->r[X86_RAX] = lo;
    c->r[X86_RDX] = hi;
}

#define DIVIDE_HANDLERS(bits, name)                                                                \
    INT_HANDLER(name##_r##bits) {                                                                  \
        name##_do##bits(c, o, INT_GET_##bits(c, o->src));                                          \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    INT_HANDLER(name##_m##bits) {                                                                  \
        name##_do##bits(c, o, ref_load##bits(c, o, ref_lin(c, o, bits / 8, false)));               \
        REF_NEXT(c, o);                                                                            \
    }
INT_EACH_SIZE(DIVIDE_HANDLERS, div)
INT_EACH_SIZE(DIVIDE_HANDLERS, idiv)

#define GROUP_TABLE(name)                                                                          \
    {                                                                                              \
        {name##_r8, name##_r16, name##_r32, name##_r64}, {                                         \
            name##_m8, name##_m16, name##_m32, name##_m64                                          \
        }                                                                                          \
    }

static bool bind_group(struct ref *c, const struct insn *in, struct ref_op *o,
                       ref_fn *const fns[2][4]) {
    struct operand s;

    insn_operand(in, 0, &s);
    if (s.kind == OPK_MEM)
        ref_set_mem(c, in, o);
    else
        o->src = int_slot(&s);
    o->size = (uint8_t)s.size;
    o->fn = fns[s.kind == OPK_MEM][int_log2(s.size)];
    return true;
}

/* ---- IMUL with two and three operands ---- */

#define IMUL_WIDE(bits)                                                                            \
    static inline void imul2_do##bits(struct ref *c, const struct ref_op *o, INT_TYPE(bits) a,     \
                                      INT_TYPE(bits) b) {                                          \
        uint32_t f;                                                                                \
        __asm__("imul" INT_SUFFIX_##bits " %[b], %[a]\n\t" INT_TAKE_FLAGS                          \
                : [a] "+r"(a), "=&a"(f)                                                            \
                : [b] "r"(b)                                                                       \
                : "cc");                                                                           \
        INT_SET_FLAGS(c, f);                                                                       \
        INT_SET_##bits(c, o->dst, a);                                                              \
    }                                                                                              \
    INT_HANDLER(imul2_r##bits) {                                                                   \
        imul2_do##bits(c, o, INT_GET_##bits(c, o->dst), INT_GET_##bits(c, o->src));                \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    INT_HANDLER(imul2_m##bits) {                                                                   \
        INT_TYPE(bits) b = ref_load##bits(c, o, ref_lin(c, o, bits / 8, false));                   \
        imul2_do##bits(c, o, INT_GET_##bits(c, o->dst), b);                                        \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    INT_HANDLER(imul3_r##bits) {                                                                   \
        imul2_do##bits(c, o, INT_GET_##bits(c, o->src), (INT_TYPE(bits))o->imm);                   \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    INT_HANDLER(imul3_m##bits) {                                                                   \
        INT_TYPE(bits) a = ref_load##bits(c, o, ref_lin(c, o, bits / 8, false));                   \
        imul2_do##bits(c, o, a, (INT_TYPE(bits))o->imm);                                           \
        REF_NEXT(c, o);                                                                            \
    }
INT_EACH_WIDE(IMUL_WIDE)

static bool bind_imul(struct ref *c, const struct insn *in, struct ref_op *o) {
    static ref_fn *const imul_fns[2][4] = GROUP_TABLE(imul);
    static ref_fn *const fns[2][2][3] = {
        {{imul2_r16, imul2_r32, imul2_r64}, {imul2_m16, imul2_m32, imul2_m64}},
        {{imul3_r16, imul3_r32, imul3_r64}, {imul3_m16, imul3_m32, imul3_m64}},
    };

    if (in->map == 0 && (in->opcode & 0xfe) == 0xf6)
        return bind_group(c, in, o, imul_fns);
    if (in->mem)
        ref_set_mem(c, in, o);
    o->dst = in->reg;
    o->src = in->rm;
    o->imm = in->imm;
    o->size = in->opsize;
    o->fn = fns[in->map == 0][in->mem][int_log2(in->opsize) - 1];
    return true;
}

/* ---- decimal adjustments: SDM vol. 2A; undefined flags are left as they were, SF ZF PF follow AL
 * ---- */

static void result_flags(struct ref *c, uint8_t al) {
    uint32_t f = c->af & ~0xc400u;

    f |= (al & 0x80u) << 8;
    f |= al ? 0 : 0x4000u;
    f |= __builtin_parity(al) ? 0 : 0x400u;
    c->af = f;
}

static void set_af_cf(struct ref *c, bool af, bool cf) {
    c->af = (c->af & ~0x1100u) | (af ? 0x1000u : 0) | (cf ? 0x100u : 0);
}

INT_HANDLER(aaa_aas) /* o->aux: AAS */
{
    bool adjust = (REF_R8(c, 0) & 15) > 9 || (c->af & 0x1000);

    if (adjust)
        REF_R16(c, X86_RAX) = (uint16_t)(c->r[X86_RAX] + (o->aux ? (uint64_t)-0x106 : 0x106));
    set_af_cf(c, adjust, adjust);
    REF_R8(c, 0) &= 15;
    REF_NEXT(c, o);
}

INT_HANDLER(daa_das) /* o->aux: DAS */
{
    uint8_t old = REF_R8(c, 0), al = old;
    bool old_cf = c->af & 0x100, cf = false, low = (old & 15) > 9 || (c->af & 0x1000);

    if (low) {
        cf = old_cf || (o->aux ? al < 6 : al > 0xf9);
        al = (uint8_t)(o->aux ? al - 6 : al + 6);
    }
    if (old > 0x99 || old_cf) {
        al = (uint8_t)(o->aux ? al - 0x60 : al + 0x60);
        cf = true;
    }
    REF_R8(c, 0) = al;
    set_af_cf(c, low, cf);
    result_flags(c, al);
    REF_NEXT(c, o);
}

INT_HANDLER(aam) {
    uint8_t base = (uint8_t)o->imm, al = REF_R8(c, 0);

    if (!base)
        ref_raise(c, o, X86_DE);
    REF_R8(c, 1) = al / base;
    REF_R8(c, 0) = al % base;
    result_flags(c, al % base);
    REF_NEXT(c, o);
}

INT_HANDLER(aad) {
    uint8_t al = (uint8_t)(REF_R8(c, 0) + REF_R8(c, 1) * (uint8_t)o->imm);

    REF_R16(c, X86_RAX) = al;
    result_flags(c, al);
    REF_NEXT(c, o);
}

static bool bind_decimal(struct ref_op *o, const struct insn *in, ref_fn *fn, unsigned aux) {
    o->fn = fn;
    o->aux = (uint8_t)aux;
    o->imm = in->imm;
    return true;
}

bool int_bind_mul(struct ref *c, const struct insn *in, struct ref_op *o) {
    static ref_fn *const mul[2][4] = GROUP_TABLE(mul), *const div[2][4] = GROUP_TABLE(div);
    static ref_fn *const idiv[2][4] = GROUP_TABLE(idiv);

    switch (in->row->id) {
    case INSN_MUL:
        return bind_group(c, in, o, mul);
    case INSN_IMUL:
        return bind_imul(c, in, o);
    case INSN_DIV:
        return bind_group(c, in, o, div);
    case INSN_IDIV:
        return bind_group(c, in, o, idiv);
    case INSN_AAA:
        return bind_decimal(o, in, aaa_aas, 0);
    case INSN_AAS:
        return bind_decimal(o, in, aaa_aas, 1);
    case INSN_DAA:
        return bind_decimal(o, in, daa_das, 0);
    case INSN_DAS:
        return bind_decimal(o, in, daa_das, 1);
    case INSN_AAM:
        return bind_decimal(o, in, aam, 0);
    case INSN_AAD:
        return bind_decimal(o, in, aad, 0);
    default:
        return false;
    }
}

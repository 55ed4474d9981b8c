/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Integer arithmetic and logic: ADD OR ADC SBB AND SUB XOR CMP TEST INC DEC NEG NOT. Source: SDM
 * vol. 2. */
#include "cpu/soft/ref/int_ops.h"

/* value = a OP b with flags; ADC and SBB take CF from c->af, the others ignore it. */
#define ALU_VALUE(bits, name)                                                                      \
    static inline INT_TYPE(bits) name##bits(struct ref *c, INT_TYPE(bits) a, INT_TYPE(bits) b) {   \
        uint32_t f;                                                                                \
        __asm__(#name INT_SUFFIX_##bits " %[b], %[a]\n\t" INT_TAKE_FLAGS                           \
                : [a] "+q"(a), "=&a"(f)                                                            \
                : [b] "q"(b)                                                                       \
                : "cc");                                                                           \
        INT_SET_FLAGS(c, f);                                                                       \
        return a;                                                                                  \
    }
#define ALU_VALUE_CF(bits, name)                                                                   \
    static inline INT_TYPE(bits) name##bits(struct ref *c, INT_TYPE(bits) a, INT_TYPE(bits) b) {   \
        uint32_t f;                                                                                \
        __asm__(INT_GIVE_CF #name INT_SUFFIX_##bits " %[b], %[a]\n\t" INT_TAKE_FLAGS               \
                : [a] "+q"(a), "=&a"(f)                                                            \
                : [b] "q"(b), [af] "q"(c->af)                                                      \
                : "cc");                                                                           \
        INT_SET_FLAGS(c, f);                                                                       \
        return a;                                                                                  \
    }
/* The same, atomically on guest memory. */
#define ALU_LOCKED(bits, name)                                                                     \
    static inline void name##_locked##bits(struct ref *c, INT_TYPE(bits) * p, INT_TYPE(bits) b) {  \
        uint32_t f;                                                                                \
        __asm__ volatile(INT_GIVE_CF "lock " #name INT_SUFFIX_##bits                               \
                         " %[b], %[p]\n\t" INT_TAKE_FLAGS                                          \
                         : [p] "+m"(*p), "=&a"(f)                                                  \
                         : [b] "q"(b), [af] "q"(c->af)                                             \
                         : "cc", "memory");                                                        \
        INT_SET_FLAGS(c, f);                                                                       \
    }

#define ALU_HANDLERS(bits, name)                                                                   \
    INT_HANDLER(name##_rr##bits) {                                                                 \
        INT_SET_##bits(c, o->dst,                                                                  \
                       name##bits(c, INT_GET_##bits(c, o->dst), INT_GET_##bits(c, o->src)));       \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    INT_HANDLER(name##_ri##bits) {                                                                 \
        INT_SET_##bits(c, o->dst,                                                                  \
                       name##bits(c, INT_GET_##bits(c, o->dst), (INT_TYPE(bits))o->imm));          \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    INT_HANDLER(name##_rm##bits) {                                                                 \
        INT_TYPE(bits) b = ref_load##bits(c, o, ref_lin(c, o, bits / 8, false));                   \
        INT_SET_##bits(c, o->dst, name##bits(c, INT_GET_##bits(c, o->dst), b));                    \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    static void name##_to_mem##bits(struct ref *c, const struct ref_op *o, INT_TYPE(bits) b) {     \
        INT_TYPE(bits) *p = ref_write_ptr(c, o, ref_lin(c, o, bits / 8, true), bits / 8, true);    \
        *p = name##bits(c, *p, b);                                                                 \
        ref_write_done(c, o, p);                                                                   \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    static void name##_to_mem_locked##bits(struct ref *c, const struct ref_op *o,                  \
                                           INT_TYPE(bits) b) {                                     \
        INT_TYPE(bits) *p = ref_write_ptr(c, o, ref_lin(c, o, bits / 8, true), bits / 8, true);    \
        if (REF_UNLIKELY(ref_splits_line(p, bits / 8)))                                            \
            *p = name##bits(c, *p, b);                                                             \
        else                                                                                       \
            name##_locked##bits(c, p, b);                                                          \
        ref_write_done(c, o, p);                                                                   \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    INT_HANDLER(name##_mr##bits) { name##_to_mem##bits(c, o, INT_GET_##bits(c, o->src)); }         \
    INT_HANDLER(name##_mi##bits) { name##_to_mem##bits(c, o, (INT_TYPE(bits))o->imm); }            \
    INT_HANDLER(name##_lmr##bits) { name##_to_mem_locked##bits(c, o, INT_GET_##bits(c, o->src)); } \
    INT_HANDLER(name##_lmi##bits) { name##_to_mem_locked##bits(c, o, (INT_TYPE(bits))o->imm); }

/* CMP and TEST write flags only. */
#define ALU_COMPARE_HANDLERS(bits, name)                                                           \
    INT_HANDLER(name##_rr##bits) {                                                                 \
        name##bits(c, INT_GET_##bits(c, o->dst), INT_GET_##bits(c, o->src));                       \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    INT_HANDLER(name##_ri##bits) {                                                                 \
        name##bits(c, INT_GET_##bits(c, o->dst), (INT_TYPE(bits))o->imm);                          \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    INT_HANDLER(name##_rm##bits) {                                                                 \
        INT_TYPE(bits) b = ref_load##bits(c, o, ref_lin(c, o, bits / 8, false));                   \
        name##bits(c, INT_GET_##bits(c, o->dst), b);                                               \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    INT_HANDLER(name##_mr##bits) {                                                                 \
        name##bits(c, ref_load##bits(c, o, ref_lin(c, o, bits / 8, false)),                        \
                   INT_GET_##bits(c, o->src));                                                     \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    INT_HANDLER(name##_mi##bits) {                                                                 \
        name##bits(c, ref_load##bits(c, o, ref_lin(c, o, bits / 8, false)),                        \
                   (INT_TYPE(bits))o->imm);                                                        \
        REF_NEXT(c, o);                                                                            \
    }

#define ALU_FORMS(name)                                                                            \
    {                                                                                              \
        {name##_rr8, name##_rr16, name##_rr32, name##_rr64},                                       \
            {name##_ri8, name##_ri16, name##_ri32, name##_ri64},                                   \
            {name##_rm8, name##_rm16, name##_rm32, name##_rm64},                                   \
            {name##_mr8, name##_mr16, name##_mr32, name##_mr64},                                   \
            {name##_mi8, name##_mi16, name##_mi32, name##_mi64},                                   \
            {name##_lmr8, name##_lmr16, name##_lmr32, name##_lmr64},                               \
            {name##_lmi8, name##_lmi16, name##_lmi32, name##_lmi64},                               \
    }
#define ALU_COMPARE_FORMS(name)                                                                    \
    {                                                                                              \
        {name##_rr8, name##_rr16, name##_rr32, name##_rr64},                                       \
            {name##_ri8, name##_ri16, name##_ri32, name##_ri64},                                   \
            {name##_rm8, name##_rm16, name##_rm32, name##_rm64},                                   \
            {name##_mr8, name##_mr16, name##_mr32, name##_mr64},                                   \
            {name##_mi8, name##_mi16, name##_mi32, name##_mi64},                                   \
    }

#define ALU_PLAIN(name) INT_EACH_SIZE(ALU_VALUE, name)
#define ALU_CARRY(name) INT_EACH_SIZE(ALU_VALUE_CF, name)
#define ALU_ALL(name)   INT_EACH_SIZE(ALU_LOCKED, name) INT_EACH_SIZE(ALU_HANDLERS, name)

ALU_PLAIN(add)
ALU_PLAIN(or)
ALU_PLAIN(and)
ALU_PLAIN(sub)
ALU_PLAIN(xor) ALU_PLAIN(cmp) ALU_PLAIN(test) ALU_CARRY(adc) ALU_CARRY(sbb) ALU_ALL(add) ALU_ALL(or)
    ALU_ALL(adc) ALU_ALL(sbb) ALU_ALL(and) ALU_ALL(sub) ALU_ALL(xor)
        INT_EACH_SIZE(ALU_COMPARE_HANDLERS, cmp) INT_EACH_SIZE(ALU_COMPARE_HANDLERS, test)

            static ref_fn *const add_fn[INT_FORMS][4] = ALU_FORMS(add);
static ref_fn *const or_fn[INT_FORMS][4] = ALU_FORMS(or);
static ref_fn *const adc_fn[INT_FORMS][4] = ALU_FORMS(adc);
static ref_fn *const sbb_fn[INT_FORMS][4] = ALU_FORMS(sbb);
static ref_fn *const and_fn[INT_FORMS][4] = ALU_FORMS(and);
static ref_fn *const sub_fn[INT_FORMS][4] = ALU_FORMS(sub);
static ref_fn *const xor_fn[INT_FORMS][4] = ALU_FORMS(xor);
static ref_fn *const cmp_fn[INT_FORMS][4] = ALU_COMPARE_FORMS(cmp);
static ref_fn *const test_fn[INT_FORMS][4] = ALU_COMPARE_FORMS(test);

/* ---- one operand: INC and DEC keep CF; NOT keeps all flags ---- */

#define UNARY_VALUE(bits, name)                                                                    \
    static inline INT_TYPE(bits) name##bits(struct ref *c, INT_TYPE(bits) a) {                     \
        uint32_t f;                                                                                \
        __asm__(INT_GIVE_CF #name INT_SUFFIX_##bits " %[a]\n\t" INT_TAKE_FLAGS                     \
                : [a] "+q"(a), "=&a"(f)                                                            \
                : [af] "q"(c->af)                                                                  \
                : "cc");                                                                           \
        INT_SET_FLAGS(c, f);                                                                       \
        return a;                                                                                  \
    }                                                                                              \
    static inline void name##_locked##bits(struct ref *c, INT_TYPE(bits) * p) {                    \
        uint32_t f;                                                                                \
        __asm__ volatile(INT_GIVE_CF "lock " #name INT_SUFFIX_##bits " %[p]\n\t" INT_TAKE_FLAGS    \
                         : [p] "+m"(*p), "=&a"(f)                                                  \
                         : [af] "q"(c->af)                                                         \
                         : "cc", "memory");                                                        \
        INT_SET_FLAGS(c, f);                                                                       \
    }

#define NOT_VALUE(bits)                                                                            \
    static inline INT_TYPE(bits) not ##bits(struct ref * c, INT_TYPE(bits) a) {                    \
        return (INT_TYPE(bits)) ~a;                                                                \
    }                                                                                              \
    static inline void not_locked##bits(struct ref *c, INT_TYPE(bits) * p) {                       \
        __atomic_fetch_xor(p, (INT_TYPE(bits)) ~0ull, __ATOMIC_SEQ_CST);                           \
    }

#define UNARY_HANDLERS(bits, name)                                                                 \
    INT_HANDLER(name##_r##bits) {                                                                  \
        INT_SET_##bits(c, o->dst, name##bits(c, INT_GET_##bits(c, o->dst)));                       \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    INT_HANDLER(name##_m##bits) {                                                                  \
        INT_TYPE(bits) *p = ref_write_ptr(c, o, ref_lin(c, o, bits / 8, true), bits / 8, true);    \
        *p = name##bits(c, *p);                                                                    \
        ref_write_done(c, o, p);                                                                   \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    INT_HANDLER(name##_lm##bits) {                                                                 \
        INT_TYPE(bits) *p = ref_write_ptr(c, o, ref_lin(c, o, bits / 8, true), bits / 8, true);    \
        if (REF_UNLIKELY(ref_splits_line(p, bits / 8)))                                            \
            *p = name##bits(c, *p);                                                                \
        else                                                                                       \
            name##_locked##bits(c, p);                                                             \
        ref_write_done(c, o, p);                                                                   \
        REF_NEXT(c, o);                                                                            \
    }

#define UNARY_FORMS(name)                                                                          \
    {                                                                                              \
        {name##_r8, name##_r16, name##_r32, name##_r64},                                           \
            {name##_m8, name##_m16, name##_m32, name##_m64},                                       \
            {name##_lm8, name##_lm16, name##_lm32, name##_lm64},                                   \
    }

INT_EACH_SIZE(UNARY_VALUE, inc)
INT_EACH_SIZE(UNARY_VALUE, dec)
INT_EACH_SIZE(UNARY_VALUE, neg)
INT_EACH_SIZE(NOT_VALUE)
INT_EACH_SIZE(UNARY_HANDLERS, inc)
INT_EACH_SIZE(UNARY_HANDLERS, dec)
INT_EACH_SIZE(UNARY_HANDLERS, neg)
INT_EACH_SIZE(UNARY_HANDLERS, not )

static ref_fn *const inc_fn[3][4] = UNARY_FORMS(inc);
static ref_fn *const dec_fn[3][4] = UNARY_FORMS(dec);
static ref_fn *const neg_fn[3][4] = UNARY_FORMS(neg);
static ref_fn *const not_fn[3][4] = UNARY_FORMS(not );

static bool bind_unary(struct ref *c, const struct insn *in, struct ref_op *o,
                       ref_fn *const fns[3][4]) {
    struct operand d;
    unsigned form = 0;

    insn_operand(in, 0, &d);
    if (d.kind == OPK_MEM) {
        ref_set_mem(c, in, o);
        form = in->prefixes & PFX_LOCK ? 2 : 1;
    } else {
        o->dst = int_slot(&d);
    }
    o->size = (uint8_t)d.size;
    o->fn = fns[form][int_log2(d.size)];
    return true;
}

static ref_fn *const (*two_operand(unsigned id))[4] {
    switch (id) {
    case INSN_ADD:
        return add_fn;
    case INSN_OR:
        return or_fn;
    case INSN_ADC:
        return adc_fn;
    case INSN_SBB:
        return sbb_fn;
    case INSN_AND:
        return and_fn;
    case INSN_SUB:
        return sub_fn;
    case INSN_XOR:
        return xor_fn;
    case INSN_CMP:
        return cmp_fn;
    case INSN_TEST:
        return test_fn;
    default:
        return NULL;
    }
}

bool int_bind_alu(struct ref *c, const struct insn *in, struct ref_op *o) {
    ref_fn *const(*fns)[4] = two_operand(in->row->id);

    if (fns) {
        int form = int_bind_form(c, in, o);
        o->fn = fns[form][int_log2(o->size)];
        return true;
    }
    switch (in->row->id) {
    case INSN_INC:
        return bind_unary(c, in, o, inc_fn);
    case INSN_DEC:
        return bind_unary(c, in, o, dec_fn);
    case INSN_NEG:
        return bind_unary(c, in, o, neg_fn);
    case INSN_NOT:
        return bind_unary(c, in, o, not_fn);
    default:
        return false;
    }
}

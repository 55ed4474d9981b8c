/* SPDX-License-Identifier: GPL-2.0-or-later */
/* XCHG XADD CMPXCHG CMPXCHG8B CMPXCHG16B. Source: SDM vol. 2. XCHG with memory is always locked. */
#include "cpu/soft/ref/int_ops.h"

/* An operand across a cache line is worked on in an aligned copy: see ref_splits_line. */
#define UNSPLIT(p, copy)                                                                           \
    (ref_splits_line(p, sizeof(*(p))) ? (memcpy(&(copy), p, sizeof(copy)), &(copy)) : (p))
#define REJOIN(p, q) ((q) != (p) ? (void)memcpy(p, q, sizeof(*(p))) : (void)0)

#define EXCHANGE(bits)                                                                             \
    INT_HANDLER(xchg_r##bits) {                                                                    \
        INT_TYPE(bits) a = INT_GET_##bits(c, o->dst), b = INT_GET_##bits(c, o->src);               \
        INT_SET_##bits(c, o->dst, b);                                                              \
        INT_SET_##bits(c, o->src, a);                                                              \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    INT_HANDLER(xchg_m##bits) {                                                                    \
        INT_TYPE(bits) *p = ref_write_ptr(c, o, ref_lin(c, o, bits / 8, true), bits / 8, true);    \
        INT_TYPE(bits) copy, *q = UNSPLIT(p, copy);                                                \
        INT_TYPE(bits) old = __atomic_exchange_n(q, INT_GET_##bits(c, o->src), __ATOMIC_SEQ_CST);  \
        REJOIN(p, q);                                                                              \
        ref_write_done(c, o, p);                                                                   \
        INT_SET_##bits(c, o->src, old);                                                            \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    static inline INT_TYPE(bits)                                                                   \
        xadd_flags##bits(struct ref *c, INT_TYPE(bits) a, INT_TYPE(bits) b) {                      \
        uint32_t f;                                                                                \
        __asm__("add" INT_SUFFIX_##bits " %[b], %[a]\n\t" INT_TAKE_FLAGS                           \
                : [a] "+q"(a), "=&a"(f)                                                            \
                : [b] "q"(b)                                                                       \
                : "cc");                                                                           \
        INT_SET_FLAGS(c, f);                                                                       \
        return a;                                                                                  \
    }                                                                                              \
    INT_HANDLER(xadd_r##bits) {                                                                    \
        INT_TYPE(bits) a = INT_GET_##bits(c, o->dst), b = INT_GET_##bits(c, o->src);               \
        INT_TYPE(bits) sum = xadd_flags##bits(c, a, b);                                            \
        INT_SET_##bits(c, o->src, a);                                                              \
        INT_SET_##bits(c, o->dst, sum);                                                            \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    INT_HANDLER(xadd_m##bits) {                                                                    \
        INT_TYPE(bits) *p = ref_write_ptr(c, o, ref_lin(c, o, bits / 8, true), bits / 8, true);    \
        INT_TYPE(bits) b = INT_GET_##bits(c, o->src);                                              \
        INT_TYPE(bits) copy, *q = UNSPLIT(p, copy);                                                \
        INT_TYPE(bits) old = __atomic_fetch_add(q, b, __ATOMIC_SEQ_CST);                           \
        REJOIN(p, q);                                                                              \
        ref_write_done(c, o, p);                                                                   \
        xadd_flags##bits(c, old, b);                                                               \
        INT_SET_##bits(c, o->src, old);                                                            \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    static inline bool cmpxchg_compare##bits(struct ref *c, INT_TYPE(bits) old) {                  \
        INT_TYPE(bits) a = INT_GET_##bits(c, X86_RAX);                                             \
        uint32_t f;                                                                                \
        __asm__("cmp" INT_SUFFIX_##bits " %[b], %[a]\n\t" INT_TAKE_FLAGS                           \
                : "=&a"(f)                                                                         \
                : [a] "q"(a), [b] "q"(old)                                                         \
                : "cc");                                                                           \
        INT_SET_FLAGS(c, f);                                                                       \
        return a == old;                                                                           \
    }                                                                                              \
    INT_HANDLER(cmpxchg_r##bits) {                                                                 \
        INT_TYPE(bits) old = INT_GET_##bits(c, o->dst);                                            \
        if (cmpxchg_compare##bits(c, old))                                                         \
            INT_SET_##bits(c, o->dst, INT_GET_##bits(c, o->src));                                  \
        else /* the destination keeps its upper half too */                                        \
            INT_SET_##bits(c, X86_RAX, old);                                                       \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    INT_HANDLER(cmpxchg_m##bits) {                                                                 \
        INT_TYPE(bits) *p = ref_write_ptr(c, o, ref_lin(c, o, bits / 8, true), bits / 8, true);    \
        INT_TYPE(bits) old = INT_GET_##bits(c, X86_RAX);                                           \
        INT_TYPE(bits) copy, *q = UNSPLIT(p, copy);                                                \
        __atomic_compare_exchange_n(q, &old, INT_GET_##bits(c, o->src), false, __ATOMIC_SEQ_CST,   \
                                    __ATOMIC_SEQ_CST);                                             \
        REJOIN(p, q);                                                                              \
        ref_write_done(c, o, p);                                                                   \
        if (!cmpxchg_compare##bits(c, old))                                                        \
            INT_SET_##bits(c, X86_RAX, old);                                                       \
        REF_NEXT(c, o);                                                                            \
    }
INT_EACH_SIZE(EXCHANGE)

#define EXCHANGE_TABLE(name)                                                                       \
    {                                                                                              \
        {name##_r8, name##_r16, name##_r32, name##_r64}, {                                         \
            name##_m8, name##_m16, name##_m32, name##_m64                                          \
        }                                                                                          \
    }

static bool bind_exchange(struct ref *c, const struct insn *in, struct ref_op *o,
                          ref_fn *const fns[2][4]) {
    struct operand d, s;

    insn_operand(in, 0, &d);
    insn_operand(in, 1, &s);
    if (s.kind == OPK_MEM) { /* XCHG is symmetric */
        struct operand t = d;
        d = s;
        s = t;
    }
    if (d.kind == OPK_MEM)
        ref_set_mem(c, in, o);
    else
        o->dst = int_slot(&d);
    o->src = int_slot(&s);
    o->size = (uint8_t)d.size;
    o->fn = fns[d.kind == OPK_MEM][int_log2(d.size)];
    return true;
}

/* ---- two words at once ---- */

static void set_zf(struct ref *c, bool zf) { c->af = (c->af & ~0x4000u) | (zf ? 0x4000u : 0); }

INT_HANDLER(cmpxchg8b) {
    uint64_t *p = ref_write_ptr(c, o, ref_lin(c, o, 8, true), 8, true);
    uint64_t old = (uint32_t)c->r[X86_RAX] | c->r[X86_RDX] << 32;
    uint64_t want = (uint32_t)c->r[X86_RBX] | c->r[X86_RCX] << 32;
    uint64_t copy, *q = UNSPLIT(p, copy);
    bool equal =
        __atomic_compare_exchange_n(q, &old, want, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);

    REJOIN(p, q);
    ref_write_done(c, o, p);
    if (!equal) {
        c->r[X86_RAX] = (uint32_t)old;
        c->r[X86_RDX] = old >> 32;
    }
    set_zf(c, equal);
    REF_NEXT(c, o);
}

INT_HANDLER(cmpxchg16b) {
    uint64_t lin = ref_lin(c, o, 16, true), *p;
    uint64_t lo = c->r[X86_RAX], hi = c->r[X86_RDX];
    bool equal;

    if (lin & 15)
        ref_raise_error(c, o, X86_GP, 0);
    p = ref_write_ptr(c, o, lin, 16, true);
    __asm__ volatile("lock cmpxchg16b %[p]"
                     : [p] "+m"(*(unsigned __int128 *)p), "+a"(lo), "+d"(hi), "=@ccz"(equal)
                     : "b"(c->r[X86_RBX]), "c"(c->r[X86_RCX])
                     : "memory");
    ref_write_done(c, o, p);
    c->r[X86_RAX] = lo;
    c->r[X86_RDX] = hi;
    set_zf(c, equal);
    REF_NEXT(c, o);
}

bool int_bind_exchange(struct ref *c, const struct insn *in, struct ref_op *o) {
    static ref_fn *const xchg[2][4] = EXCHANGE_TABLE(xchg), *const xadd[2][4] =
                                                                EXCHANGE_TABLE(xadd);
    static ref_fn *const cmpxchg[2][4] = EXCHANGE_TABLE(cmpxchg);

    switch (in->row->id) {
    case INSN_XCHG:
        return bind_exchange(c, in, o, xchg);
    case INSN_XADD:
        return bind_exchange(c, in, o, xadd);
    case INSN_CMPXCHG:
        return bind_exchange(c, in, o, cmpxchg);
    case INSN_CMPXCHG8B:
    case INSN_CMPXCHG16B:
        ref_set_mem(c, in, o);
        o->size = in->row->id == INSN_CMPXCHG16B ? 16 : 8;
        o->fn = in->row->id == INSN_CMPXCHG16B ? cmpxchg16b : cmpxchg8b;
        return true;
    default:
        return false;
    }
}

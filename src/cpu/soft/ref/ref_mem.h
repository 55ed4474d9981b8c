/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inline fast paths of the reference interpreter: effective addresses, TLB hits, tail calls.
 * Included by ref.h. */
#ifndef CPU_SOFT_REF_REF_MEM_H
#define CPU_SOFT_REF_REF_MEM_H

#include <string.h>

#define REF_LIKELY(x)   __builtin_expect(!!(x), 1)
#define REF_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* Runs the next operation of the block: the last statement of a handler that does not end the
 * block. */
#define REF_NEXT(c, o) return (o)[1].fn((c), (o) + 1)

static inline uint64_t ref_ea(const struct ref *c, const struct ref_op *o) {
    return c->r[o->base] + (c->r[o->index] << o->scale) + (uint64_t)(int64_t)o->disp;
}

/* Linear address of the memory operand; segment checks and wrap-around done. */
static inline uint64_t ref_lin(struct ref *c, const struct ref_op *o, unsigned size, bool write) {
    if (REF_LIKELY(!o->eaf))
        return ref_ea(c, o);
    return ref_lin_slow(c, o, size, write);
}

static inline unsigned ref_tlb_index(uint64_t lin) { return lin >> 12 & (JIT_TLB_SIZE - 1); }

/* True with the host's address of [lin, lin + size) if the TLB has it, for reading or writing. */
static inline bool ref_tlb_read(const struct ref *c, unsigned bank, uint64_t lin, unsigned size,
                                void **ret_p) {
    const struct jit_tlb_entry *t = &c->jit.tlb[bank][ref_tlb_index(lin)];
    uint64_t offset = lin - t->tag_r;

    *ret_p = (void *)(t->addend + lin);
    return REF_LIKELY(offset <= 4096 - size);
}

static inline bool ref_tlb_write(const struct ref *c, unsigned bank, uint64_t lin, unsigned size,
                                 void **ret_p) {
    const struct jit_tlb_entry *t = &c->jit.tlb[bank][ref_tlb_index(lin)];
    uint64_t offset = lin - t->tag_w;

    *ret_p = (void *)(t->addend + lin);
    return REF_LIKELY(offset <= 4096 - size);
}

#define REF_DEFINE_LOAD(bits)                                                                      \
    static inline uint##bits##_t ref_load##bits(struct ref *c, const struct ref_op *o,             \
                                                uint64_t lin) {                                    \
        uint##bits##_t v;                                                                          \
        void *p;                                                                                   \
        if (!ref_tlb_read(c, c->tlb, lin, sizeof(v), &p))                                          \
            return (uint##bits##_t)ref_load_slow(c, o, lin, sizeof(v));                            \
        memcpy(&v, p, sizeof(v));                                                                  \
        return v;                                                                                  \
    }                                                                                              \
    static inline void ref_store##bits(struct ref *c, const struct ref_op *o, uint64_t lin,        \
                                       uint##bits##_t v) {                                         \
        void *p;                                                                                   \
        if (!ref_tlb_write(c, c->tlb, lin, sizeof(v), &p))                                         \
            ref_store_slow(c, o, lin, sizeof(v), v);                                               \
        else                                                                                       \
            memcpy(p, &v, sizeof(v));                                                              \
    }
REF_DEFINE_LOAD(8)
REF_DEFINE_LOAD(16)
REF_DEFINE_LOAD(32)
REF_DEFINE_LOAD(64)

/* Pointer to an operand of `size` bytes (1..64) to read. */
static inline const void *ref_read_ptr(struct ref *c, const struct ref_op *o, uint64_t lin,
                                       unsigned size) {
    void *p;
    return ref_tlb_read(c, c->tlb, lin, size, &p) ? p : ref_read_ptr_slow(c, o, lin, size);
}

/* A locked access across a cache line stops every core of the host, and some hosts punish it with
 * seconds of sleep. So it goes without the lock: on the only processor there is, or while the
 * others stand still (ref_write_ptr). */
static inline bool ref_splits_line(const void *p, unsigned size) {
    return ((uintptr_t)p & 63) + size > 64;
}

/* Pointer to an operand to write, or to read and write; then ref_write_done with the same pointer.
 */
static inline void *ref_write_ptr(struct ref *c, const struct ref_op *o, uint64_t lin,
                                  unsigned size, bool read) {
    void *p;
    if (ref_tlb_write(c, c->tlb, lin, size, &p) &&
        !(read && REF_UNLIKELY(ref_splits_line(p, size)) && c->group.several))
        return p;
    return ref_write_ptr_slow(c, o, lin, size, read);
}

static inline void ref_write_done(struct ref *c, const struct ref_op *o, const void *p) {
    if (REF_UNLIKELY((const uint8_t *)p >= c->bounce &&
                     (const uint8_t *)p < c->bounce + sizeof(c->bounce)))
        ref_write_commit(c, o);
}

/* Register access. Byte registers are named by byte offset (o->dst, o->src of size-1 operands). */
#define REF_R8(c, i)  (((uint8_t *)(c)->r)[i])
#define REF_R16(c, i) (*(uint16_t *)&(c)->r[i])
#define REF_R64(c, i) ((c)->r[i])

static inline void ref_set_reg(struct ref *c, unsigned i, unsigned size, uint64_t v) {
    if (size == 8)
        c->r[i] = v;
    else if (size == 4)
        c->r[i] = (uint32_t)v;
    else
        REF_R16(c, i) = (uint16_t)v;
}

#endif

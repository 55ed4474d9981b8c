/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory operands: linear addresses and the software TLB's check. Source: SDM vol. 2A 2.1 and 2.2.
 */
#include "cpu/soft/jit/translate.h"

/* A = linear address of the memory operand. EFLAGS are free. */
bool access_address(struct trans *t, const struct line *l) {
    const struct insn *in = &l->in;
    struct emit *e = &t->e;
    unsigned base = in->base, index = in->index, w = in->adsize == 8 ? 8 : 0;

    if (in->rip_relative) {
        int64_t d = (int64_t)l->off + in->len + in->disp;
        if (d != (int32_t)d || in->adsize != 8)
            return false;
        e_load(e, H_A, OFF(jit.page));
        e_lea(e, H_A, H_A, (int32_t)d);
    } else {
        if (base != REG_NONE && is_evicted(base)) {
            e_load(e, H_A, OFF_R(base));
            if (index == base)
                index = H_A;
            base = H_A;
        }
        if (index != REG_NONE && is_evicted(index) &&
            !(index == H_A && base == H_A && in->index == in->base)) {
            e_load(e, H_B, OFF_R(index));
            index = H_B;
        }
        e8(e, 0x40 | w | 4 | (index != REG_NONE && index >= 8 ? 2 : 0) |
                  (base != REG_NONE && base >= 8));
        e8(e, 0x8d);
        if (base == REG_NONE) { /* [index*s + disp32] or [disp32] */
            e8(e, (H_A & 7) << 3 | 4);
            e8(e, in->scale << 6 | (index == REG_NONE ? 4 : index & 7) << 3 | 5);
        } else if (index != REG_NONE || (base & 7) == 4) {
            e8(e, 0x80 | (H_A & 7) << 3 | 4);
            e8(e, in->scale << 6 | (index == REG_NONE ? 4 : index & 7) << 3 | (base & 7));
        } else {
            e8(e, 0x80 | (H_A & 7) << 3 | (base & 7));
        }
        e32(e, (uint32_t)(int32_t)in->disp);
    }
    if (in->seg >= SEG_FS)
        e_gs(e, 1, 0x03, H_A,
             OFF(s.seg) + in->seg * sizeof(struct x86_segment) +
                 offsetof(struct x86_segment, base));
    return true;
}

/* Linear address in A -> offset in the page in A, host page in B. */
void access_check(struct trans *t, uint32_t off, unsigned size, bool write, bool align) {
    struct emit *e = &t->e;
    size_t tag = write ? offsetof(struct ref, jit.tag_w) : offsetof(struct ref, jit.tag_r),
           retry = e->n;
    struct stub *s;

    tag += t->bank * sizeof(t->c->jit.tag_r[0]);
    e_bytes(e, "\x65\xc4\x62\x82\xf5\x34\x25", 7); /* pext r14, r15, gs:[index_mask] */
    e32(e, (uint32_t)OFF(jit.index_mask));
    e_gs_index(e, 0x2b, H_A, H_B, tag); /* sub r15, gs:[r14*8 + tag] */
    e_bytes(e, "\x49\x81\xff", 3);      /* cmp r15, 4096 - size */
    e32(e, 4096 - size);
    s = stub_add(t, STUB_SLOW, e_jcc(e, 7), off);
    s->retry = retry;
    s->info = size | (write ? 0x100 : 0);
    if (align) { /* test r15d, size - 1 */
        e_bytes(e, "\x41\xf7\xc7", 3);
        e32(e, size - 1);
        stub_add(t, STUB_BAIL, e_jcc(e, 5), off);
    }
    e_gs_index(e, 0x8b, H_B, H_B,
               offsetof(struct ref, jit.host) + t->bank * sizeof(t->c->jit.host[0]));
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PUSH, POP and LEAVE. */
#include "cpu/soft/jit/translate.h"

/* Arguments of 32-bit functions as a rule. The value waits in jit.target while the slot is looked
 * up. */
static bool push_memory(struct trans *t, const struct line *l) {
    struct emit *e = &t->e;
    enum flags_place flags = t->flags;
    size_t before = e->n;

    flags_keep(t, l);
    if (!access_address(t, l)) {
        e->n = before;
        t->flags = flags;
        return false;
    }
    access_check(t, l->off, t->code, false, false);
    access_op(t, 0x8b, H_A);
    e_store(e, H_A, OFF(jit.target));
    access_base(t, H_RSP, -(int32_t)t->code);
    access_check(t, l->off, t->code, true, false);
    access_collapse(t);
    e_load(e, H_B, OFF(jit.target));
    access_op(t, 0x89, H_B);
    put_add(t, H_RSP, H_RSP, -(int32_t)t->code);
    return true;
}

bool stack_push(struct trans *t, const struct line *l) {
    struct emit *e = &t->e;
    struct operand s;

    insn_operand(&l->in, 0, &s);
    if (l->in.opsize == t->code && s.kind == OPK_MEM)
        return push_memory(t, l);
    if (l->in.opsize != t->code || (s.kind != OPK_GPR && s.kind != OPK_IMM))
        return false;
    flags_keep_for_access(t, l);
    access_base(t, H_RSP, -(int32_t)t->code);
    access_check(t, l->off, t->code, true, false);
    if (s.kind == OPK_IMM) {
        access_op(t, 0xc7, 0); /* mov, imm32 */
        e32(e, (uint32_t)l->in.imm);
    } else if (is_evicted(s.reg)) {
        access_collapse(t);
        e_load(e, H_B, OFF_R(s.reg));
        access_op(t, 0x89, H_B);
    } else {
        access_op(t, 0x89, s.reg);
    }
    put_add(t, H_RSP, H_RSP, -(int32_t)t->code);
    return true;
}

bool stack_pop(struct trans *t, const struct line *l) {
    struct emit *e = &t->e;
    struct operand d;

    insn_operand(&l->in, 0, &d);
    if (l->in.opsize != t->code || d.kind != OPK_GPR || d.reg == H_RSP)
        return false;
    flags_keep_for_access(t, l);
    access_base(t, H_RSP, 0);
    access_check(t, l->off, t->code, false, false);
    if (is_evicted(d.reg)) {
        access_op(t, 0x8b, H_B);
        e_store(e, H_B, OFF_R(d.reg));
    } else {
        access_op(t, 0x8b, d.reg);
    }
    put_add(t, H_RSP, H_RSP, (int32_t)t->code);
    return true;
}

bool stack_leave(struct trans *t, const struct line *l) {
    if (l->in.opsize != t->code)
        return false;
    flags_keep_for_access(t, l);
    access_base(t, H_RBP, 0);
    access_check(t, l->off, t->code, false, false);
    put_add(t, H_RSP, H_RBP, (int32_t)t->code);
    access_op(t, 0x8b, H_RBP);
    return true;
}

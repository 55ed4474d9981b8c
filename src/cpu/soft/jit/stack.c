/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PUSH, POP and LEAVE. */
#include "cpu/soft/jit/translate.h"

bool stack_push(struct trans *t, const struct line *l) {
    struct emit *e = &t->e;
    struct operand s;

    insn_operand(&l->in, 0, &s);
    if (l->in.opsize != 8 || (s.kind != OPK_GPR && s.kind != OPK_IMM))
        return false;
    flags_keep(t, l);
    access_base(t, H_RSP, -8);
    access_check(t, l->off, 8, true, false);
    if (s.kind == OPK_IMM) {
        access_op(t, 0xc7, 0); /* mov qword, imm32 */
        e32(e, (uint32_t)l->in.imm);
    } else if (is_evicted(s.reg)) {
        access_collapse(t);
        e_load(e, H_B, OFF_R(s.reg));
        access_op(t, 0x89, H_B);
    } else {
        access_op(t, 0x89, s.reg);
    }
    e_lea(e, H_RSP, H_RSP, -8);
    return true;
}

bool stack_pop(struct trans *t, const struct line *l) {
    struct emit *e = &t->e;
    struct operand d;

    insn_operand(&l->in, 0, &d);
    if (l->in.opsize != 8 || d.kind != OPK_GPR || d.reg == H_RSP)
        return false;
    flags_keep(t, l);
    access_base(t, H_RSP, 0);
    access_check(t, l->off, 8, false, false);
    if (is_evicted(d.reg)) {
        access_op(t, 0x8b, H_B);
        e_store(e, H_B, OFF_R(d.reg));
    } else {
        access_op(t, 0x8b, d.reg);
    }
    e_lea(e, H_RSP, H_RSP, 8);
    return true;
}

bool stack_leave(struct trans *t, const struct line *l) {
    struct emit *e = &t->e;

    if (l->in.opsize != 8)
        return false;
    flags_keep(t, l);
    access_base(t, H_RBP, 0);
    access_check(t, l->off, 8, false, false);
    e_lea(e, H_RSP, H_RBP, 8);
    access_op(t, 0x8b, H_RBP);
    return true;
}

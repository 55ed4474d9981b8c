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
    e_lea(e, H_A, H_RSP, -8);
    access_check(t, l->off, 8, true, false);
    if (s.kind == OPK_IMM) {
        e_bytes(e, "\x4b\xc7\x04\x37", 4); /* mov qword [r15 + r14], imm32 */
        e32(e, (uint32_t)l->in.imm);
    } else if (is_evicted(s.reg)) {
        e_bytes(e, "\x4f\x8d\x3c\x37", 4); /* lea r15, [r15 + r14] */
        e_load(e, H_B, OFF_R(s.reg));
        e_bytes(e, "\x4d\x89\x37", 3); /* mov [r15], r14 */
    } else {
        e_ab(e, 0x89, s.reg);
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
    e_mov(e, H_A, H_RSP);
    access_check(t, l->off, 8, false, false);
    if (is_evicted(d.reg)) {
        e_ab(e, 0x8b, H_B);
        e_store(e, H_B, OFF_R(d.reg));
    } else {
        e_ab(e, 0x8b, d.reg);
    }
    e_lea(e, H_RSP, H_RSP, 8);
    return true;
}

bool stack_leave(struct trans *t, const struct line *l) {
    struct emit *e = &t->e;

    if (l->in.opsize != 8)
        return false;
    flags_keep(t, l);
    e_mov(e, H_A, H_RBP);
    access_check(t, l->off, 8, false, false);
    e_lea(e, H_RSP, H_RBP, 8);
    e_ab(e, 0x8b, H_RBP);
    return true;
}

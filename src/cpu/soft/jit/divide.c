/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * DIV and IDIV of 32 and 64 bits. Source: SDM vol. 2A, DIV and IDIV.
 *
 * The host must not raise #DE, so what might is looked at first and left to the interpreter: for
 * DIV a quotient that does not fit, for IDIV any dividend that is not its lower half with its sign
 * (what compilers make of a division) and the divisors 0 and -1. Flags stay as they are (flags.c).
 */
#include "cpu/soft/jit/translate.h"

static void bail_if(struct trans *t, const struct line *l, unsigned cc) {
    stub_add(t, STUB_BAIL, e_jcc(&t->e, cc), l->off);
}

/* A = the divisor. */
static bool put_divisor(struct trans *t, const struct line *l) {
    const struct insn *in = &l->in;

    if (in->mem) {
        if (!access_address(t, l))
            return false;
        access_check(t, l->off, in->opsize, false, false);
        e_op(&t->e, in->opsize == 8, 0x8b, H_A, t->place);
    } else if (is_evicted(in->rm)) {
        e_load(&t->e, H_A, OFF_R(in->rm));
    } else {
        e_mov(&t->e, H_A, in->rm);
    }
    return true;
}

bool divide(struct trans *t, const struct line *l) {
    bool is_signed = l->in.row->id == INSN_IDIV;
    unsigned w = l->in.opsize == 8 ? 8 : 0;
    struct emit *e = &t->e;

    if (l->in.opcode != 0xf7 || l->in.opsize < 4)
        return false;
    flags_keep(t, l);
    if (!put_divisor(t, l))
        return false;
    if (is_signed) {
        e_mov(e, H_B, H_RAX);
        e8(e, 0x41 | w); /* sar r14, 31 or 63 */
        e_bytes(e, "\xc1\xfe", 2);
        e8(e, w ? 63 : 31);
        e8(e, 0x44 | w); /* cmp rdx, r14 */
        e_bytes(e, "\x39\xf2", 2);
        bail_if(t, l, 5);
        e8(e, 0x45 | w); /* lea r14, [r15 + 1] */
        e_bytes(e, "\x8d\x77\x01", 3);
        e8(e, 0x41 | w); /* cmp r14, 1 */
        e_bytes(e, "\x83\xfe\x01", 3);
        bail_if(t, l, 6);
    } else {
        e8(e, 0x44 | w); /* cmp rdx, r15 */
        e_bytes(e, "\x39\xfa", 2);
        bail_if(t, l, 3);
    }
    e8(e, 0x41 | w); /* div r15, idiv r15 */
    e8(e, 0xf7);
    e8(e, is_signed ? 0xff : 0xf7);
    return true;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PUSH POP PUSHA POPA ENTER LEAVE. Source: SDM vol. 2; the stack pointer moves only after the
 * access succeeded. */
#include "cpu/soft/ref/int_ops.h"

uint64_t int_stack_pointer(const struct ref *c) {
    switch (c->mode >> 2 & 3) {
    case 0:
        return (uint16_t)c->r[X86_RSP];
    case 1:
        return (uint32_t)c->r[X86_RSP];
    default:
        return c->r[X86_RSP];
    }
}

void int_set_stack_pointer(struct ref *c, uint64_t sp) {
    ref_set_reg(c, X86_RSP, 2u << (c->mode >> 2 & 3), sp);
}

static uint64_t wrap_sp(const struct ref *c, uint64_t sp) {
    switch (c->mode >> 2 & 3) {
    case 0:
        return (uint16_t)sp;
    case 1:
        return (uint32_t)sp;
    default:
        return sp;
    }
}

static void store_sized(struct ref *c, const struct ref_op *o, uint64_t lin, unsigned size,
                        uint64_t v) {
    if (size == 8)
        ref_store64(c, o, lin, v);
    else if (size == 4)
        ref_store32(c, o, lin, (uint32_t)v);
    else
        ref_store16(c, o, lin, (uint16_t)v);
}

static uint64_t load_sized(struct ref *c, const struct ref_op *o, uint64_t lin, unsigned size) {
    return size == 8   ? ref_load64(c, o, lin)
           : size == 4 ? ref_load32(c, o, lin)
                       : ref_load16(c, o, lin);
}

void int_push(struct ref *c, const struct ref_op *o, unsigned size, uint64_t value) {
    uint64_t sp = wrap_sp(c, int_stack_pointer(c) - size);

    store_sized(c, o, ref_seg_lin(c, o, SEG_SS, sp, size, true), size, value);
    int_set_stack_pointer(c, sp);
}

uint64_t int_pop(struct ref *c, const struct ref_op *o, unsigned size) {
    uint64_t sp = int_stack_pointer(c);
    uint64_t v = load_sized(c, o, ref_seg_lin(c, o, SEG_SS, sp, size, false), size);

    int_set_stack_pointer(c, sp + size);
    return v;
}

/* ---- 64-bit mode, 8 bytes: the common ones ---- */

INT_HANDLER(push_r64) {
    uint64_t sp = c->r[X86_RSP] - 8;

    ref_store64(c, o, sp, c->r[o->src]);
    c->r[X86_RSP] = sp;
    REF_NEXT(c, o);
}
INT_HANDLER(push_i64) {
    uint64_t sp = c->r[X86_RSP] - 8;

    ref_store64(c, o, sp, o->imm);
    c->r[X86_RSP] = sp;
    REF_NEXT(c, o);
}
INT_HANDLER(push_m64) {
    uint64_t v = ref_load64(c, o, ref_lin(c, o, 8, false)), sp = c->r[X86_RSP] - 8;

    int_check_stack(c, o, sp);
    ref_store64(c, o, sp, v);
    c->r[X86_RSP] = sp;
    REF_NEXT(c, o);
}
INT_HANDLER(pop_r64) {
    uint64_t v = ref_load64(c, o, c->r[X86_RSP]);

    c->r[X86_RSP] += 8;
    c->r[o->dst] = v;
    REF_NEXT(c, o);
}
INT_HANDLER(leave64) {
    uint64_t v = ref_load64(c, o, c->r[X86_RBP]);

    c->r[X86_RSP] = c->r[X86_RBP] + 8;
    c->r[X86_RBP] = v;
    REF_NEXT(c, o);
}

/* ---- any size, any mode ---- */

INT_HANDLER(push_r) {
    int_push(c, o, o->size, c->r[o->src]);
    REF_NEXT(c, o);
}
INT_HANDLER(push_i) {
    int_push(c, o, o->size, o->imm);
    REF_NEXT(c, o);
}
INT_HANDLER(push_m) {
    uint64_t v = load_sized(c, o, ref_lin(c, o, o->size, false), o->size);

    int_check_stack(c, o, c->r[X86_RSP] - o->size);
    int_push(c, o, o->size, v);
    REF_NEXT(c, o);
}
INT_HANDLER(pop_r) {
    uint64_t v = int_pop(c, o, o->size);

    ref_set_reg(c, o->dst, o->size, v);
    REF_NEXT(c, o);
}
/* POP to memory: an address based on rSP uses the incremented value, and a fault leaves rSP alone.
 */
INT_HANDLER(pop_m) {
    uint64_t old = c->r[X86_RSP], popped, v, lin;

    int_check_stack(c, o, old);
    v = int_pop(c, o, o->size);
    popped = c->r[X86_RSP];
    lin = ref_ea(c, o);
    c->r[X86_RSP] = old;
    if (o->eaf & REF_EA_32)
        lin = (uint32_t)lin;
    else if (o->eaf & REF_EA_16)
        lin = (uint16_t)lin;
    lin = ref_seg_lin(c, o, o->seg, lin, o->size, true);
    store_sized(c, o, lin, o->size, v);
    c->r[X86_RSP] = popped;
    REF_NEXT(c, o);
}

INT_HANDLER(leave) {
    uint64_t sp = wrap_sp(c, c->r[X86_RBP]);
    uint64_t v = load_sized(c, o, ref_seg_lin(c, o, SEG_SS, sp, o->size, false), o->size);

    int_set_stack_pointer(c, sp + o->size);
    ref_set_reg(c, X86_RBP, o->size, v);
    REF_NEXT(c, o);
}

INT_HANDLER(enter) /* o->imm: frame size, o->aux: level */
{
    unsigned size = o->size, level = o->aux;
    uint64_t sp = int_stack_pointer(c), bp = wrap_sp(c, c->r[X86_RBP]), frame, lin;

    sp = wrap_sp(c, sp - size);
    store_sized(c, o, ref_seg_lin(c, o, SEG_SS, sp, size, true), size, c->r[X86_RBP]);
    frame = c->mode & REF_MODE_STACK ? sp : (uint32_t)(c->r[X86_RSP] & 0xffff0000) | sp;
    for (unsigned i = 1; i < level; i++) {
        uint64_t v;
        bp = wrap_sp(c, bp - size);
        v = load_sized(c, o, ref_seg_lin(c, o, SEG_SS, bp, size, false), size);
        sp = wrap_sp(c, sp - size);
        store_sized(c, o, ref_seg_lin(c, o, SEG_SS, sp, size, true), size, v);
    }
    if (level) {
        sp = wrap_sp(c, sp - size);
        store_sized(c, o, ref_seg_lin(c, o, SEG_SS, sp, size, true), size, frame);
    }
    sp = wrap_sp(c, sp - o->imm);
    /* The manual wants a write to the new top to be possible. */
    lin = ref_seg_lin(c, o, SEG_SS, sp, size, true);
    ref_check_alignment(c, o, lin, size);
    ref_probe_write(c, o, lin, size, c->cpl == 3);
    ref_set_reg(c, X86_RBP, size, frame);
    int_set_stack_pointer(c, sp);
    REF_NEXT(c, o);
}

INT_HANDLER(pusha) {
    uint64_t sp = int_stack_pointer(c), top = wrap_sp(c, sp - 8u * o->size);

    for (unsigned i = 8; i-- > 0;) { /* rAX first, rDI is lowest */
        uint64_t at = wrap_sp(c, top + (uint64_t)i * o->size);
        store_sized(c, o, ref_seg_lin(c, o, SEG_SS, at, o->size, true), o->size, c->r[7 - i]);
    }
    int_set_stack_pointer(c, top);
    REF_NEXT(c, o);
}

INT_HANDLER(popa) {
    uint64_t sp = int_stack_pointer(c);

    for (unsigned i = 0; i < 8;
         i++) { /* one by one: a fault keeps what came before, and POPA starts again */
        uint64_t at = wrap_sp(c, sp + (uint64_t)i * o->size);
        uint64_t v = load_sized(c, o, ref_seg_lin(c, o, SEG_SS, at, o->size, false), o->size);
        if (7 - i != X86_RSP)
            ref_set_reg(c, 7 - i, o->size, v);
    }
    int_set_stack_pointer(c, sp + 8u * o->size);
    REF_NEXT(c, o);
}

static bool bind_push(struct ref *c, const struct insn *in, struct ref_op *o) {
    struct operand s;
    bool fast = in->mode == 8 && in->opsize == 8;

    insn_operand(in, 0, &s);
    o->size = in->opsize;
    if (s.kind == OPK_GPR) {
        o->src = s.reg;
        o->fn = fast ? push_r64 : push_r;
    } else if (s.kind == OPK_IMM) {
        o->imm = in->imm;
        o->fn = fast ? push_i64 : push_i;
    } else if (s.kind == OPK_MEM) {
        ref_set_mem(c, in, o);
        o->fn = fast ? push_m64 : push_m;
    } else {
        return false; /* segment registers: seg.c */
    }
    return true;
}

static bool bind_pop(struct ref *c, const struct insn *in, struct ref_op *o) {
    struct operand d;

    insn_operand(in, 0, &d);
    o->size = in->opsize;
    if (d.kind == OPK_GPR) {
        o->dst = d.reg;
        o->fn = in->mode == 8 && in->opsize == 8 ? pop_r64 : pop_r;
    } else if (d.kind == OPK_MEM) {
        ref_set_mem(c, in, o);
        o->fn = pop_m;
    } else {
        return false;
    }
    return true;
}

bool int_bind_stack(struct ref *c, const struct insn *in, struct ref_op *o) {
    o->seg = SEG_SS;
    o->size = in->opsize;
    switch (in->row->id) {
    case INSN_PUSH:
        return bind_push(c, in, o);
    case INSN_POP:
        return bind_pop(c, in, o);
    case INSN_PUSHA:
        o->fn = pusha;
        return true;
    case INSN_POPA:
        o->fn = popa;
        return true;
    case INSN_LEAVE:
        o->fn = in->mode == 8 && in->opsize == 8 ? leave64 : leave;
        return true;
    case INSN_ENTER:
        o->imm = (uint16_t)in->imm;
        o->aux = in->imm2 & 31;
        o->fn = enter;
        return true;
    default:
        return false;
    }
}

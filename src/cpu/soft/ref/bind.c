/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Binding: from a decoded instruction to the handler and operands of a ref_op.
 *
 * What makes the instruction undefined in this machine (feature not advertised, LOCK where it is
 * not allowed, wrong mode, privilege) is decided here, once, because the block's key holds the
 * mode.
 */
#include "cpu/soft/ref/int_ops.h"

void ref_set_mem(struct ref *c, const struct insn *in, struct ref_op *o) {
    bool legacy = in->mode != 8;

    o->base = in->base == REG_NONE ? REF_ZERO : in->base;
    o->index = in->index == REG_NONE ? REF_ZERO : in->index;
    o->scale = in->scale;
    o->disp = (int32_t)in->disp;
    o->seg = in->seg;
    o->eaf = 0;
    if (legacy)
        o->eaf |= REF_EA_LEGACY;
    else if (in->seg >= SEG_FS)
        o->eaf |= REF_EA_SEG;
    if (in->adsize == 4)
        o->eaf |= REF_EA_32;
    else if (in->adsize == 2)
        o->eaf |= REF_EA_16;
    if (in->rip_relative) {
        o->base = REF_PC;
        o->disp = (int32_t)(in->disp + o->off + o->len);
    }
}

const struct insn *ref_keep_insn(struct ref *c, const struct insn *in) {
    struct insn *copy = ref_arena_alloc(c, sizeof(*copy));

    *copy = *in;
    return copy;
}

int int_bind_form(struct ref *c, const struct insn *in, struct ref_op *o) {
    struct operand d, s;

    insn_operand(in, 0, &d);
    insn_operand(in, 1, &s);
    o->size = (uint8_t)d.size;
    if (d.kind == OPK_MEM || s.kind == OPK_MEM)
        ref_set_mem(c, in, o);
    if (d.kind == OPK_GPR)
        o->dst = int_slot(&d);
    if (s.kind == OPK_GPR)
        o->src = int_slot(&s);
    if (s.kind == OPK_IMM)
        o->imm = in->imm;
    if (d.kind == OPK_GPR)
        return s.kind == OPK_GPR   ? INT_RR
               : s.kind == OPK_IMM ? INT_RI
               : s.kind == OPK_MEM ? INT_RM
                                   : -1;
    if (d.kind == OPK_MEM) {
        bool lock = in->prefixes & PFX_LOCK;
        if (s.kind == OPK_GPR)
            return lock ? INT_LOCK_MR : INT_MR;
        if (s.kind == OPK_IMM)
            return lock ? INT_LOCK_MI : INT_MI;
    }
    return -1;
}

bool ref_bind_int(struct ref *c, const struct insn *in, struct ref_op *o) {
    return int_bind_alu(c, in, o) || int_bind_mov(c, in, o) || int_bind_flow(c, in, o) ||
           int_bind_stack(c, in, o) || int_bind_shift(c, in, o) || int_bind_bits(c, in, o) ||
           int_bind_mul(c, in, o) || int_bind_exchange(c, in, o) || int_bind_string(c, in, o) ||
           int_bind_misc(c, in, o);
}

/* TZCNT, LZCNT without the feature are BSF, BSR (the F3 prefix is ignored); PREFETCHW is a NOP. */
static bool feature_missing(const struct ref *c, const struct insn *in) {
    if (ref_has(c, in->row->feature))
        return false;
    return in->row->id != INSN_TZCNT && in->row->id != INSN_LZCNT &&
           in->row->feature != FEAT_PREFETCHW;
}

static bool undefined(const struct ref *c, const struct insn *in) {
    return feature_missing(c, in) || !insn_lock_ok(in) ||
           ((in->row->attr & INSN_REAL_UD) && (c->mode & REF_MODE_REAL)) ||
           ((in->prefixes & PFX_VEX) && (c->mode & REF_MODE_REAL)) ||
           ((in->row->id == INSN_SYSCALL || in->row->id == INSN_SYSRET) &&
            in->mode != 8); /* as Intel has it */
}

void ref_bind(struct ref *c, const struct insn *in, struct ref_op *o) {
    if (undefined(c, in)) {
        o->fn = ref_op_ud;
        return;
    }
    if ((in->row->attr & INSN_PRIV) && (c->mode & (REF_MODE_USER | REF_MODE_RING12))) {
        o->fn = ref_op_gp0;
        return;
    }
    if (!ref_bind_int(c, in, o) && !ref_bind_sys(c, in, o) && !ref_bind_fpu(c, in, o) &&
        !ref_bind_host(c, in, o))
        o->fn = ref_op_ud;
}

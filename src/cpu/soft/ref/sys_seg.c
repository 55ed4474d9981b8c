/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Instructions on segment and descriptor-table registers, and far branches.
 * Source: Intel SDM vol. 2 (MOV, PUSH, POP, LDS.., LGDT, SGDT, LLDT, LTR, LAR, LSL, VERR, ARPL,
 * CALL, JMP, RET); UMIP: vol. 3A 2.5.
 *
 * aux of an operation: SRC_MEM if the r/m operand is memory, and the segment register's number.
 */
#include "cpu/soft/ref/sys.h"

enum { SRC_MEM = 0x80, ENDS_BLOCK = 0x40, NUMBER = 0x0f };

static uint16_t load_rm16(struct ref *c, const struct ref_op *o) {
    if (o->aux & SRC_MEM)
        return ref_load16(c, o, ref_lin(c, o, 2, false));
    return (uint16_t)c->r[o->src];
}

/* A 16-bit system value to r/m: memory takes 16 bits, a register as many as the operand size. */
static void store_rm(struct ref *c, const struct ref_op *o, uint64_t value) {
    if (o->aux & SRC_MEM)
        ref_store16(c, o, ref_lin(c, o, 2, true), (uint16_t)value);
    else
        ref_set_reg(c, o->src, o->size, value);
}

static void set_zf(struct ref *c, bool on) { c->af = (c->af & ~0x4000u) | (on ? 0x4000 : 0); }

static void check_umip(struct ref *c, const struct ref_op *o) {
    if (c->cpl && (c->s.cr4 & X86_CR4_UMIP))
        ref_raise_error(c, o, X86_GP, 0);
}

/* ------------------------------------------------------------------ MOV, PUSH, POP, LES .. LGS */

static void mov_from_sreg(struct ref *c, const struct ref_op *o) {
    store_rm(c, o, c->s.seg[o->dst].sel);
    REF_NEXT(c, o);
}

/* Nothing comes between this instruction and the next. */
static void loaded_ss(struct ref *c) {
    c->s.shadow = 1;
    c->s.debug_hold = (c->mode & REF_MODE_STEP) != 0;
}

static void mov_to_sreg(struct ref *c, const struct ref_op *o) {
    sys_load_sreg(c, o, o->dst, load_rm16(c, o));
    if (o->dst == SEG_SS)
        loaded_ss(c);
    ref_end(c, o);
}

static void push_sreg(struct ref *c, const struct ref_op *o) {
    struct sys_stack st = sys_stack_now(c);
    uint16_t sel = c->s.seg[o->dst].sel;

    if (o->size == 4) { /* the pointer moves by four, two bytes are written */
        st.sp = (st.sp & ~st.mask) | ((st.sp - 2) & st.mask);
        sys_push(c, o, &st, 2, sel);
    } else {
        sys_push(c, o, &st, o->size, sel);
    }
    sys_set_sp(c, &st);
    REF_NEXT(c, o);
}

static void pop_sreg(struct ref *c, const struct ref_op *o) {
    struct sys_stack st = sys_stack_now(c);
    uint16_t sel =
        (uint16_t)sys_pop(c, o, &st, 2); /* no more is read, whatever the pointer moves by */

    st.sp = (st.sp & ~st.mask) | ((st.sp + o->size - 2) & st.mask);
    sys_load_sreg(c, o, o->dst, sel);
    sys_set_sp(c, &st);
    if (o->dst == SEG_SS)
        loaded_ss(c);
    ref_end(c, o);
}

/* m16:16, m16:32 or m16:64. */
static uint64_t load_far_pointer(struct ref *c, const struct ref_op *o, uint16_t *ret_sel) {
    uint64_t lin = ref_lin(c, o, o->size + 2u, false);
    uint64_t offset = o->size == 8   ? ref_load64(c, o, lin)
                      : o->size == 4 ? ref_load32(c, o, lin)
                                     : ref_load16(c, o, lin);

    *ret_sel = ref_load16(c, o, lin + o->size);
    return offset;
}

static void load_far(struct ref *c, const struct ref_op *o) {
    uint16_t sel;
    uint64_t offset = load_far_pointer(c, o, &sel);

    sys_load_sreg(c, o, o->aux & NUMBER, sel);
    ref_set_reg(c, o->dst, o->size, offset);
    ref_end(c, o);
}

/* ------------------------------------------------------------------ far branches */

static void jump_far_imm(struct ref *c, const struct ref_op *o) {
    const struct insn *in = o->ptr;

    sys_far_jump(c, o, (uint16_t)in->imm2, in->imm, o->size);
}

static void call_far_imm(struct ref *c, const struct ref_op *o) {
    const struct insn *in = o->ptr;

    sys_far_call(c, o, (uint16_t)in->imm2, in->imm, o->size);
}

static void jump_far_mem(struct ref *c, const struct ref_op *o) {
    uint16_t sel;
    uint64_t rip = load_far_pointer(c, o, &sel);

    sys_far_jump(c, o, sel, rip, o->size);
}

static void call_far_mem(struct ref *c, const struct ref_op *o) {
    uint16_t sel;
    uint64_t rip = load_far_pointer(c, o, &sel);

    sys_far_call(c, o, sel, rip, o->size);
}

static void ret_far(struct ref *c, const struct ref_op *o) {
    sys_far_return(c, o, o->size, (uint16_t)o->imm);
}

static void iret(struct ref *c, const struct ref_op *o) { sys_iret(c, o, o->size); }

/* ------------------------------------------------------------------ descriptor tables */

static void store_table(struct ref *c, const struct ref_op *o, const struct x86_table *t) {
    unsigned base_size = o->size == 8 ? 8 : 4;
    uint64_t lin;

    check_umip(c, o);
    lin = ref_lin(c, o, 2 + base_size, true);
    ref_probe_write(c, o, lin, 2 + base_size, c->cpl == 3);
    ref_store16(c, o, lin, t->limit);
    if (base_size == 8)
        ref_store64(c, o, lin + 2, t->base);
    else
        ref_store32(c, o, lin + 2, (uint32_t)t->base);
    REF_NEXT(c, o);
}

static void sgdt(struct ref *c, const struct ref_op *o) { store_table(c, o, &c->s.gdtr); }

static void sidt(struct ref *c, const struct ref_op *o) { store_table(c, o, &c->s.idtr); }

static void load_table(struct ref *c, const struct ref_op *o, struct x86_table *t) {
    uint64_t lin = ref_lin(c, o, o->size == 8 ? 10 : 6, false), base;
    uint16_t limit = ref_load16(c, o, lin);

    base = o->size == 8 ? ref_load64(c, o, lin + 2) : ref_load32(c, o, lin + 2);
    if (o->size == 2)
        base &= 0xffffff;
    if (!sys_canonical(base))
        ref_raise_error(c, o, X86_GP, 0);
    t->limit = limit;
    t->base = base;
    ref_end(c, o);
}

static void lgdt(struct ref *c, const struct ref_op *o) { load_table(c, o, &c->s.gdtr); }

static void lidt(struct ref *c, const struct ref_op *o) { load_table(c, o, &c->s.idtr); }

static void sldt(struct ref *c, const struct ref_op *o) {
    check_umip(c, o);
    store_rm(c, o, c->s.ldtr.sel);
    REF_NEXT(c, o);
}

static void str(struct ref *c, const struct ref_op *o) {
    check_umip(c, o);
    store_rm(c, o, c->s.tr.sel);
    REF_NEXT(c, o);
}

static void lldt(struct ref *c, const struct ref_op *o) {
    uint16_t sel = load_rm16(c, o);
    struct sys_desc d;

    if (!(sel & 0xfffc)) {
        c->s.ldtr = sys_null_seg(sel, 0);
        ref_end(c, o);
        return;
    }
    if ((sel & 4) || !sys_read_desc(c, o, sel, &d) ||
        (d.seg.attr & (X86_ATTR_S | X86_ATTR_TYPE)) != DESC_LDT)
        sys_fault_sel(c, o, X86_GP, sel);
    if (!(d.seg.attr & X86_ATTR_P))
        sys_fault_sel(c, o, X86_NP, sel);
    if (sys_long(c))
        sys_read_desc_high(c, o, &d);
    c->s.ldtr = d.seg;
    ref_end(c, o);
}

static void ltr(struct ref *c, const struct ref_op *o) {
    uint16_t sel = load_rm16(c, o);
    struct sys_desc d;
    unsigned type;

    if (!(sel & 0xfffc))
        ref_raise_error(c, o, X86_GP, 0);
    if ((sel & 4) || !sys_read_desc(c, o, sel, &d))
        sys_fault_sel(c, o, X86_GP, sel);
    type = d.seg.attr & (X86_ATTR_S | X86_ATTR_TYPE);
    if (type != DESC_TSS32 && (type != DESC_TSS16 || sys_long(c)))
        sys_fault_sel(c, o, X86_GP, sel);
    if (!(d.seg.attr & X86_ATTR_P))
        sys_fault_sel(c, o, X86_NP, sel);
    if (sys_long(c))
        sys_read_desc_high(c, o, &d);
    d.seg.attr |= 2; /* busy */
    ref_store_sys(c, o, d.lin + 5, 1, d.seg.attr & 0xff);
    c->s.tr = d.seg;
    ref_end(c, o);
}

/* ------------------------------------------------------------------ LAR, LSL, VERR, VERW, ARPL */

/* A descriptor that software at this CPL and RPL may see. */
static bool visible(struct ref *c, const struct ref_op *o, uint16_t sel, struct sys_desc *d) {
    unsigned dpl;

    if (!(sel & 0xfffc) || !sys_read_desc(c, o, sel, d))
        return false;
    if (DESC_IS_CODE(d->seg.attr) && (d->seg.attr & DESC_CONFORMING))
        return true;
    dpl = X86_ATTR_DPL(d->seg.attr);
    return c->cpl <= dpl && (sel & 3u) <= dpl;
}

/* Bit sets of system descriptor types: SDM vol. 2 tables 3-52 (LAR) and 3-56 (LSL), without and
 * with EFER.LMA. */
static bool known_type(const struct ref *c, const struct sys_desc *d, uint32_t legacy,
                       uint32_t lma) {
    if (d->seg.attr & X86_ATTR_S)
        return true;
    return (sys_long(c) ? lma : legacy) >> DESC_TYPE(d->seg.attr) & 1;
}

static void lar(struct ref *c, const struct ref_op *o) {
    uint16_t sel = load_rm16(c, o);
    struct sys_desc d;
    bool ok = visible(c, o, sel, &d) && known_type(c, &d, 0x1a3e, 0x1a04);

    if (ok)
        ref_set_reg(c, o->dst, o->size, d.raw >> 32 & 0xffff00);
    set_zf(c, ok);
    REF_NEXT(c, o);
}

static void lsl(struct ref *c, const struct ref_op *o) {
    uint16_t sel = load_rm16(c, o);
    struct sys_desc d;
    bool ok = visible(c, o, sel, &d) && known_type(c, &d, 0x0a0e, 0x0a04);

    if (ok)
        ref_set_reg(c, o->dst, o->size, d.seg.limit);
    set_zf(c, ok);
    REF_NEXT(c, o);
}

static void verr(struct ref *c, const struct ref_op *o) {
    uint16_t sel = load_rm16(c, o);
    struct sys_desc d;

    set_zf(c, visible(c, o, sel, &d) && (d.seg.attr & X86_ATTR_S) &&
                  (!DESC_IS_CODE(d.seg.attr) || (d.seg.attr & 2)));
    REF_NEXT(c, o);
}

static void verw(struct ref *c, const struct ref_op *o) {
    uint16_t sel = load_rm16(c, o);
    struct sys_desc d;

    set_zf(c, visible(c, o, sel, &d) && DESC_IS_WRITABLE_DATA(d.seg.attr));
    REF_NEXT(c, o);
}

static void arpl(struct ref *c, const struct ref_op *o) {
    uint64_t lin = o->aux & SRC_MEM ? ref_lin(c, o, 2, false) : 0;
    uint16_t dst = o->aux & SRC_MEM ? ref_load16(c, o, lin) : (uint16_t)c->r[o->src];
    unsigned rpl = c->r[o->dst] & 3;
    bool adjust = (dst & 3u) < rpl;

    if (adjust) {
        dst = (uint16_t)((dst & ~3u) | rpl);
        if (o->aux & SRC_MEM) /* only now need it be writable */
            ref_store16(c, o, ref_lin(c, o, 2, true), dst);
        else
            REF_R16(c, o->src) = dst;
    }
    set_zf(c, adjust);
    REF_NEXT(c, o);
}

/* ------------------------------------------------------------------ binding */

static const struct {
    uint16_t id;
    ref_fn *fn;
} by_id[] = {
    {INSN_SGDT, sgdt}, {INSN_SIDT, sidt},    {INSN_LGDT, lgdt}, {INSN_LIDT, lidt},
    {INSN_SLDT, sldt}, {INSN_STR, str},      {INSN_LLDT, lldt}, {INSN_LTR, ltr},
    {INSN_LAR, lar},   {INSN_LSL, lsl},      {INSN_VERR, verr}, {INSN_VERW, verw},
    {INSN_ARPL, arpl}, {INSN_RETF, ret_far}, {INSN_IRET, iret},
};

/* MOV, PUSH and POP of segment registers. CS cannot be loaded, and there are only six. */
static bool bind_sreg(const struct insn *in, struct ref_op *o) {
    struct operand first, second;
    const struct operand *sreg;
    bool load;

    insn_operand(in, 0, &first);
    insn_operand(in, 1, &second);
    sreg = first.kind == OPK_SREG ? &first : &second;
    if (sreg->kind != OPK_SREG)
        return false;
    o->dst = sreg->reg;
    load = in->row->id == INSN_POP || (in->row->id == INSN_MOV_SREG && sreg == &first);
    if (sreg->reg > SEG_GS || (load && sreg->reg == SEG_CS))
        o->fn = ref_op_ud;
    else if (in->row->id == INSN_MOV_SREG)
        o->fn = load ? mov_to_sreg : mov_from_sreg;
    else
        o->fn = load ? pop_sreg : push_sreg;
    return true;
}

static bool bind_far(struct ref *c, const struct insn *in, struct ref_op *o) {
    switch (in->row->id) {
    case INSN_LES:
        o->aux |= SEG_ES;
        break;
    case INSN_LDS:
        o->aux |= SEG_DS;
        break;
    case INSN_LSS:
        o->aux |= SEG_SS;
        break;
    case INSN_LFS:
        o->aux |= SEG_FS;
        break;
    case INSN_LGS:
        o->aux |= SEG_GS;
        break;
    case INSN_JMPF:
        o->fn = in->mem ? jump_far_mem : jump_far_imm;
        o->ptr = in->mem ? NULL : ref_keep_insn(c, in);
        return true;
    case INSN_CALLF:
        o->fn = in->mem ? call_far_mem : call_far_imm;
        o->ptr = in->mem ? NULL : ref_keep_insn(c, in);
        return true;
    default:
        return false;
    }
    o->fn = load_far;
    return true;
}

bool sys_bind_seg(struct ref *c, const struct insn *in, struct ref_op *o) {
    unsigned id = in->row->id;

    if (id == INSN_MOV_SREG || id == INSN_PUSH || id == INSN_POP)
        return bind_sreg(in, o);
    for (unsigned i = 0; i < sizeof(by_id) / sizeof(by_id[0]); i++)
        if (by_id[i].id == id) {
            o->fn = by_id[i].fn;
            if (in->mode == 8 &&
                (id == INSN_SGDT || id == INSN_SIDT || id == INSN_LGDT || id == INSN_LIDT))
                o->size = 8; /* whatever the prefixes say */
            return true;
        }
    return bind_far(c, in, o);
}

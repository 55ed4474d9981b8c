/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Transfers between segments: far JMP, CALL and RET, call gates, IRET in all modes.
 * Source: Intel SDM vol. 2, "Operation" of CALL, JMP, RET, IRET; vol. 3A 5.8 (call gates), 20.2
 * (IRET to v86).
 */
#include "cpu/soft/ref/sys.h"

static uint64_t cut(uint64_t v, unsigned size) {
    return size == 8 ? v : size == 4 ? (uint32_t)v : (uint16_t)v;
}

/* Address of the next instruction, to be saved. */
static uint64_t next_rip(const struct ref *c, const struct ref_op *o) {
    unsigned code = c->mode & REF_MODE_CODE;

    return cut(ref_next_rip(c, o), code == 2 ? 8 : code ? 4 : 2);
}

static void land(struct ref *c, const struct x86_segment *cs, unsigned cpl, uint64_t rip) {
    sys_set_cs(c, cs, cpl);
    ref_update_mode(c);
    ref_goto(c, rip);
}

/* ------------------------------------------------------------------ real and virtual-8086 mode */

static struct x86_segment flat_cs(const struct ref *c, uint16_t sel) {
    return sys_v86(c) ? sys_v86_seg(sel) : sys_real_seg(c, &c->s.seg[SEG_CS], sel);
}

static void land_real(struct ref *c, const struct x86_segment *cs, uint64_t rip) {
    c->s.seg[SEG_CS] = *cs;
    ref_update_mode(c);
    ref_goto(c, rip);
}

static void far_real(struct ref *c, const struct ref_op *o, uint16_t sel, uint64_t rip,
                     unsigned size, bool call) {
    struct x86_segment cs = flat_cs(c, sel);
    struct sys_stack st = sys_stack_now(c);

    if (call) {
        sys_push(c, o, &st, size, c->s.seg[SEG_CS].sel);
        sys_push(c, o, &st, size, next_rip(c, o));
    }
    sys_check_rip(c, o, &cs, rip);
    sys_set_sp(c, &st);
    land_real(c, &cs, rip);
}

/* ------------------------------------------------------------------ code segments and gates */

/* CS of a far JMP or CALL without a gate. */
static void check_direct(struct ref *c, const struct ref_op *o, uint16_t sel,
                         const struct sys_desc *d) {
    unsigned dpl = X86_ATTR_DPL(d->seg.attr);

    if (d->seg.attr & DESC_CONFORMING ? dpl > c->cpl : (sel & 3u) > c->cpl || dpl != c->cpl)
        sys_fault_sel(c, o, X86_GP, sel);
    if (sys_long(c) && (d->seg.attr & X86_ATTR_L) && (d->seg.attr & X86_ATTR_DB))
        sys_fault_sel(c, o, X86_GP, sel);
    if (!(d->seg.attr & X86_ATTR_P))
        sys_fault_sel(c, o, X86_NP, sel);
}

/* Of a 64-bit offset only the low half counts where the code is not 64-bit. */
static uint64_t offset_in(const struct ref *c, const struct x86_segment *cs, uint64_t rip) {
    return sys_long(c) && (cs->attr & X86_ATTR_L) ? rip : (uint32_t)rip;
}

static void far_direct(struct ref *c, const struct ref_op *o, struct sys_desc *d, uint64_t rip,
                       unsigned size, bool call) {
    struct sys_stack st = sys_stack_now(c);

    check_direct(c, o, d->seg.sel, d);
    rip = offset_in(c, &d->seg, rip);
    if (call) {
        sys_push(c, o, &st, size, c->s.seg[SEG_CS].sel);
        sys_push(c, o, &st, size, next_rip(c, o));
    }
    sys_check_rip(c, o, &d->seg, rip);
    sys_set_accessed(c, o, d);
    sys_set_sp(c, &st);
    land(c, &d->seg, c->cpl, rip);
}

struct call_gate {
    uint16_t sel;
    uint64_t rip;
    unsigned size, params;
};

static void read_call_gate(struct ref *c, const struct ref_op *o, const struct sys_desc *d,
                           struct call_gate *g) {
    g->sel = (uint16_t)(d->raw >> 16);
    g->rip = (d->raw & 0xffff) | (d->raw >> 32 & 0xffff0000);
    g->params = d->raw >> 32 & 31;
    g->size = DESC_TYPE(d->seg.attr) == DESC_CALL16 ? 2 : 4;
    if (g->size == 2)
        g->rip &= 0xffff;
    if (sys_long(c)) {
        struct sys_desc high = *d;

        /* The second half has the shape of a system descriptor's, its low 32 bits are the offset's.
         */
        high.seg.base = 0;
        sys_read_desc_high(c, o, &high);
        g->rip |= high.seg.base;
        g->size = 8;
        g->params = 0;
    }
}

/* The code segment behind a call gate; returns the privilege level to run at. */
static unsigned check_gated(struct ref *c, const struct ref_op *o, uint16_t sel, bool call,
                            struct sys_desc *cs) {
    unsigned dpl;

    if (!(sel & 0xfffc))
        ref_raise_error(c, o, X86_GP, c->ext);
    if (!sys_read_desc(c, o, sel, cs) || !DESC_IS_CODE(cs->seg.attr))
        sys_fault_sel(c, o, X86_GP, sel);
    dpl = X86_ATTR_DPL(cs->seg.attr);
    if (dpl > c->cpl || (!call && !(cs->seg.attr & DESC_CONFORMING) && dpl != c->cpl))
        sys_fault_sel(c, o, X86_GP, sel);
    if (sys_long(c) && (cs->seg.attr & (X86_ATTR_L | X86_ATTR_DB)) != X86_ATTR_L)
        sys_fault_sel(c, o, X86_GP, sel);
    if (!(cs->seg.attr & X86_ATTR_P))
        sys_fault_sel(c, o, X86_NP, sel);
    return cs->seg.attr & DESC_CONFORMING ? c->cpl : dpl;
}

static void call_inner(struct ref *c, const struct ref_op *o, const struct call_gate *g,
                       struct sys_desc *cs, unsigned cpl) {
    struct sys_stack old = sys_stack_now(c), st = sys_stack_inner(c, o, cpl, 0);
    uint64_t param[31];

    for (unsigned i = 0; i < g->params; i++)
        param[i] = sys_pop(c, o, &old, g->size);
    sys_push(c, o, &st, g->size, c->s.seg[SEG_SS].sel);
    sys_push(c, o, &st, g->size, c->r[X86_RSP]);
    for (unsigned i = g->params; i--;)
        sys_push(c, o, &st, g->size, param[i]);
    sys_push(c, o, &st, g->size, c->s.seg[SEG_CS].sel);
    sys_push(c, o, &st, g->size, next_rip(c, o));
    sys_check_rip(c, o, &cs->seg, g->rip);
    sys_set_accessed(c, o, cs);
    st.ss.attr &= ~SYS_STACK64;
    c->s.seg[SEG_SS] = st.ss;
    c->r[X86_RSP] = sys_long(c) ? st.sp : (uint32_t)st.sp;
    land(c, &cs->seg, cpl, g->rip);
}

static void through_gate(struct ref *c, const struct ref_op *o, const struct sys_desc *d,
                         bool call) {
    struct call_gate g;
    struct sys_stack st;
    struct sys_desc cs;
    unsigned cpl;

    read_call_gate(c, o, d, &g);
    cpl = check_gated(c, o, g.sel, call, &cs);
    if (cpl < c->cpl) {
        call_inner(c, o, &g, &cs, cpl);
        return;
    }
    st = sys_stack_now(c);
    if (call) {
        sys_push(c, o, &st, g.size, c->s.seg[SEG_CS].sel);
        sys_push(c, o, &st, g.size, next_rip(c, o));
    }
    sys_check_rip(c, o, &cs.seg, g.rip);
    sys_set_accessed(c, o, &cs);
    sys_set_sp(c, &st);
    land(c, &cs.seg, cpl, g.rip);
}

static void far_system(struct ref *c, const struct ref_op *o, struct sys_desc *d, bool call) {
    unsigned dpl = X86_ATTR_DPL(d->seg.attr), type = DESC_TYPE(d->seg.attr);
    uint16_t sel = d->seg.sel;
    bool known = type == DESC_CALL32;

    if (!sys_long(c))
        known |=
            type == DESC_CALL16 || type == DESC_TASK || type == DESC_TSS16 || type == DESC_TSS32;
    if (!known || dpl < c->cpl || (sel & 3u) > dpl)
        sys_fault_sel(c, o, X86_GP, sel);
    if (!(d->seg.attr & X86_ATTR_P))
        sys_fault_sel(c, o, X86_NP, sel);
    if (type == DESC_CALL32 || type == DESC_CALL16)
        through_gate(c, o, d, call);
    else if (type == DESC_TASK)
        sys_task_gate(c, o, d, call ? TASK_CALL : TASK_JUMP, next_rip(c, o), false, 0);
    else
        sys_task_switch(c, o, sel, call ? TASK_CALL : TASK_JUMP, next_rip(c, o), false, 0);
}

static void far_transfer(struct ref *c, const struct ref_op *o, uint16_t sel, uint64_t rip,
                         unsigned size, bool call) {
    struct sys_desc d;

    rip = cut(rip, size);
    if (!sys_protected(c)) {
        far_real(c, o, sel, rip, size, call);
        return;
    }
    if (!(sel & 0xfffc))
        ref_raise_error(c, o, X86_GP, 0);
    if (!sys_read_desc(c, o, sel, &d))
        sys_fault_sel(c, o, X86_GP, sel);
    if (DESC_IS_CODE(d.seg.attr))
        far_direct(c, o, &d, rip, size, call);
    else if (d.seg.attr & X86_ATTR_S)
        sys_fault_sel(c, o, X86_GP, sel);
    else
        far_system(c, o, &d, call);
}

void sys_far_jump(struct ref *c, const struct ref_op *o, uint16_t sel, uint64_t rip,
                  unsigned size) {
    far_transfer(c, o, sel, rip, size, false);
}

void sys_far_call(struct ref *c, const struct ref_op *o, uint16_t sel, uint64_t rip,
                  unsigned size) {
    far_transfer(c, o, sel, rip, size, true);
}

/* ------------------------------------------------------------------ returns */

/* CS popped by RET or IRET. */
static void check_return_cs(struct ref *c, const struct ref_op *o, uint16_t sel,
                            struct sys_desc *d) {
    unsigned rpl = sel & 3u, dpl;

    if (!(sel & 0xfffc))
        ref_raise_error(c, o, X86_GP, 0);
    if (!sys_read_desc(c, o, sel, d) || !DESC_IS_CODE(d->seg.attr) || rpl < c->cpl)
        sys_fault_sel(c, o, X86_GP, sel);
    dpl = X86_ATTR_DPL(d->seg.attr);
    if (d->seg.attr & DESC_CONFORMING ? dpl > rpl : dpl != rpl)
        sys_fault_sel(c, o, X86_GP, sel);
    if (sys_long(c) && (d->seg.attr & X86_ATTR_L) && (d->seg.attr & X86_ATTR_DB))
        sys_fault_sel(c, o, X86_GP, sel);
    if (!(d->seg.attr & X86_ATTR_P))
        sys_fault_sel(c, o, X86_NP, sel);
}

/* SS popped by a return to level `rpl` into `cs`: null is allowed in 64-bit code below level 3. */
static struct x86_segment check_return_ss(struct ref *c, const struct ref_op *o, uint16_t sel,
                                          unsigned rpl, const struct x86_segment *cs) {
    struct sys_desc d;

    if (!(sel & 0xfffc) && sys_long(c) && (cs->attr & X86_ATTR_L) && rpl != 3 && (sel & 3u) == rpl)
        return sys_null_seg(sel, rpl);
    sys_check_stack_seg(c, o, sel, rpl, X86_GP, &d);
    sys_set_accessed(c, o, &d);
    return d.seg;
}

static void set_return_sp(struct ref *c, const struct x86_segment *cs, uint64_t sp,
                          unsigned extra) {
    struct sys_stack st = {.sp = sp + extra, .mask = 0xffff};

    if (sys_long(c) && (cs->attr & X86_ATTR_L))
        st.mask = ~0ull;
    else if (c->s.seg[SEG_SS].attr & X86_ATTR_DB)
        st.mask = 0xffffffff;
    sys_set_sp(c, &st);
}

static void return_real(struct ref *c, const struct ref_op *o, unsigned size, unsigned extra) {
    struct sys_stack st = sys_stack_now(c);
    uint64_t rip = sys_pop(c, o, &st, size);
    struct x86_segment cs = flat_cs(c, (uint16_t)sys_pop(c, o, &st, size));

    sys_check_rip(c, o, &cs, rip);
    st.sp += extra;
    sys_set_sp(c, &st);
    land_real(c, &cs, rip);
}

/* Only two bytes are read, whatever the stack pointer moves by. */
static uint16_t pop_selector(struct ref *c, const struct ref_op *o, struct sys_stack *st,
                             unsigned size) {
    uint16_t sel = (uint16_t)sys_pop(c, o, st, 2);

    st->sp = (st->sp & ~st->mask) | ((st->sp + size - 2) & st->mask);
    return sel;
}

void sys_far_return(struct ref *c, const struct ref_op *o, unsigned size, unsigned extra) {
    struct sys_stack st = sys_stack_now(c);
    struct x86_segment ss;
    struct sys_desc cs;
    uint64_t rip, sp;
    unsigned cpl;

    if (!sys_protected(c)) {
        return_real(c, o, size, extra);
        return;
    }
    rip = sys_pop(c, o, &st, size);
    check_return_cs(c, o, pop_selector(c, o, &st, size), &cs);
    rip = offset_in(c, &cs.seg, rip);
    cpl = cs.seg.sel & 3;
    st.sp = (st.sp & ~st.mask) | ((st.sp + extra) & st.mask);
    if (cpl == c->cpl) {
        sys_check_rip(c, o, &cs.seg, rip);
        sys_set_accessed(c, o, &cs);
        set_return_sp(c, &cs.seg, st.sp, 0);
        land(c, &cs.seg, cpl, rip);
        return;
    }
    sp = sys_pop(c, o, &st, size);
    ss = check_return_ss(c, o, pop_selector(c, o, &st, size), cpl, &cs.seg);
    sys_check_rip(c, o, &cs.seg, rip);
    sys_set_accessed(c, o, &cs);
    c->s.seg[SEG_SS] = ss;
    set_return_sp(c, &cs.seg, sp, extra);
    sys_set_cs(c, &cs.seg, cpl);
    sys_drop_inner_segs(c);
    land(c, &cs.seg, cpl, rip);
}

/* ------------------------------------------------------------------ IRET */

/* The flags that IRET at this level and operand size takes from the stack. */
static uint64_t iret_flags(const struct ref *c, uint64_t popped, unsigned size) {
    uint64_t mask = X86_FLAGS_ARITH | X86_FLAG_TF | X86_FLAG_DF | X86_FLAG_NT | X86_FLAG_RF |
                    X86_FLAG_AC | X86_FLAG_ID;

    if (c->cpl <= sys_iopl(c))
        mask |= X86_FLAG_IF;
    if (c->cpl == 0)
        mask |= X86_FLAG_IOPL | X86_FLAG_VIF | X86_FLAG_VIP;
    if (!sys_protected(c)) {
        mask |= X86_FLAG_IF;
        if (!sys_v86(c))
            mask |= X86_FLAG_IOPL;
        mask &= ~(uint64_t)(X86_FLAG_VIF | X86_FLAG_VIP);
    }
    if (size == 2)
        mask &= 0xffff;
    return (popped & mask) | (ref_rflags(c) & ~mask);
}

static void iret_real(struct ref *c, const struct ref_op *o, unsigned size) {
    struct sys_stack st = sys_stack_now(c);
    struct x86_segment cs;
    uint64_t rip, flags;

    if (sys_v86(c) && sys_iopl(c) < 3)
        ref_raise_error(c, o, X86_GP, 0);
    rip = sys_pop(c, o, &st, size);
    cs = flat_cs(c, (uint16_t)sys_pop(c, o, &st, size));
    flags = iret_flags(c, sys_pop(c, o, &st, size), size);
    sys_check_rip(c, o, &cs, rip);
    sys_set_sp(c, &st);
    c->s.seg[SEG_CS] = cs;
    ref_set_rflags(c, flags);
    land_real(c, &cs, rip);
}

static void iret_to_v86(struct ref *c, const struct ref_op *o, struct sys_stack *st, uint64_t rip,
                        uint16_t cs, uint64_t flags) {
    static const uint8_t order[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    struct x86_segment code = sys_v86_seg(cs);
    uint64_t sp = sys_pop(c, o, st, 4);
    uint16_t ss = (uint16_t)sys_pop(c, o, st, 4), sel[4];

    for (unsigned i = 0; i < 4; i++)
        sel[i] = (uint16_t)sys_pop(c, o, st, 4);
    sys_check_rip(c, o, &code, rip);
    for (unsigned i = 0; i < 4; i++)
        c->s.seg[order[i]] = sys_v86_seg(sel[i]);
    c->s.seg[SEG_SS] = sys_v86_seg(ss);
    c->s.seg[SEG_CS] = code;
    c->r[X86_RSP] = sp;
    c->cpl = 3;
    ref_set_rflags(c, flags & 0x3f7fd7);
    ref_update_mode(c);
    ref_goto(c, rip);
}

/* NT: back to the task that this one interrupted or was called by. */
static void iret_task(struct ref *c, const struct ref_op *o) {
    uint16_t link;

    if (sys_long(c))
        ref_raise_error(c, o, X86_GP, 0);
    link = (uint16_t)ref_load_sys(c, o, c->s.tr.base, 2);
    sys_task_switch(c, o, link, TASK_IRET, next_rip(c, o), false, 0);
}

static void iret_protected(struct ref *c, const struct ref_op *o, unsigned size) {
    struct sys_stack st = sys_stack_now(c);
    uint64_t rip = sys_pop(c, o, &st, size), flags, sp;
    uint16_t sel = pop_selector(c, o, &st, size);
    struct x86_segment ss;
    struct sys_desc cs;
    unsigned cpl;
    bool outer;

    flags = sys_pop(c, o, &st, size);
    if (size == 4 && (flags & X86_FLAG_VM) && c->cpl == 0 && !sys_long(c)) {
        iret_to_v86(c, o, &st, rip, sel, flags);
        return;
    }
    check_return_cs(c, o, sel, &cs);
    rip = offset_in(c, &cs.seg, rip);
    cpl = sel & 3;
    outer = cpl > c->cpl;
    if (outer || sys_code64(c)) { /* 64-bit code always returns SS:RSP too */
        sp = sys_pop(c, o, &st, size);
        ss = check_return_ss(c, o, pop_selector(c, o, &st, size), cpl, &cs.seg);
    } else {
        sp = st.sp;
        ss = c->s.seg[SEG_SS];
    }
    sys_check_rip(c, o, &cs.seg, rip);
    sys_set_accessed(c, o, &cs);
    flags = iret_flags(c, flags, size); /* by the level before the return */
    c->s.seg[SEG_SS] = ss;
    set_return_sp(c, &cs.seg, sp, 0);
    sys_set_cs(c, &cs.seg, cpl);
    if (outer)
        sys_drop_inner_segs(c);
    ref_set_rflags(c, flags);
    land(c, &cs.seg, cpl, rip);
}

void sys_iret(struct ref *c, const struct ref_op *o, unsigned size) {
    sys_serialize(c);
    c->s.nmi_blocked = false; /* even if the IRET faults */
    if (c->s.nmi_pending)
        c->stop_block = true;
    if (!sys_protected(c))
        iret_real(c, o, size);
    else if (c->fl & X86_FLAG_NT)
        iret_task(c, o);
    else
        iret_protected(c, o, size);
}

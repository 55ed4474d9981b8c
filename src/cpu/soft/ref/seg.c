/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Segment descriptors, segment register loads, and stacks that are built before they come into
 * force. Source: Intel SDM vol. 3A 3.4 (segments), 5.2-5.8 (protection), 7.2 (TSS); vol. 2 MOV,
 * "Protected Mode Exceptions".
 */
#include "cpu/soft/ref/seg.h"

#include "cpu/soft/ref/sys.h"

void sys_fault_sel(struct ref *c, const struct ref_op *o, unsigned vector, uint16_t sel) {
    ref_raise_error(c, o, vector, (sel & 0xfffcu) | c->ext);
}

/* ------------------------------------------------------------------ descriptors */

static void unpack(struct x86_segment *g, uint16_t sel, uint64_t raw) {
    g->sel = sel;
    g->attr = raw >> 40 & 0xf0ff;
    g->base = (raw >> 16 & 0xffffff) | (raw >> 32 & 0xff000000);
    g->limit = (raw & 0xffff) | (raw >> 32 & 0xf0000);
    if (g->attr & X86_ATTR_G)
        g->limit = g->limit << 12 | 0xfff;
}

/* Base and limit of the table that a selector names; an unusable LDT has no entries. */
static bool find_entry(const struct ref *c, uint16_t sel, unsigned size, uint64_t *ret_lin) {
    uint32_t offset = sel & 0xfff8u, limit = c->s.gdtr.limit;
    uint64_t base = c->s.gdtr.base;

    if (sel & 4) {
        if (c->s.ldtr.attr & X86_ATTR_UNUSABLE)
            return false;
        base = c->s.ldtr.base;
        limit = c->s.ldtr.limit;
    }
    if (offset + size - 1 > limit)
        return false;
    *ret_lin = base + offset;
    return true;
}

bool sys_read_desc(struct ref *c, const struct ref_op *o, uint16_t sel, struct sys_desc *ret) {
    if (!find_entry(c, sel, 8, &ret->lin))
        return false;
    ret->raw = sys_load64(c, o, ret->lin);
    unpack(&ret->seg, sel, ret->raw);
    return true;
}

void sys_read_desc_high(struct ref *c, const struct ref_op *o, struct sys_desc *d) {
    uint64_t lin, high;

    if (!find_entry(c, d->seg.sel, 16, &lin))
        sys_fault_sel(c, o, X86_GP, d->seg.sel);
    high = ref_load_sys(c, o, lin + 8, 8);
    if (high >> 40 & 0x1f) /* the type field of the upper half must be 0 */
        sys_fault_sel(c, o, X86_GP, d->seg.sel);
    d->seg.base |= high << 32;
    if (!sys_canonical(d->seg.base))
        sys_fault_sel(c, o, X86_GP, d->seg.sel);
}

void sys_set_accessed(struct ref *c, const struct ref_op *o, struct sys_desc *d) {
    if (d->seg.attr & 1)
        return;
    d->seg.attr |= 1;
    ref_store_sys(c, o, d->lin + 5, 1, d->seg.attr & 0xff);
}

struct x86_segment sys_null_seg(uint16_t sel, unsigned dpl) {
    return (struct x86_segment){.sel = sel, .attr = X86_ATTR_UNUSABLE | dpl << 5};
}

/* Real mode replaces selector and base only: a limit loaded in protected mode stays ("unreal"
 * mode). */
struct x86_segment sys_real_seg(const struct ref *c, const struct x86_segment *old, uint16_t sel) {
    struct x86_segment g = *old;

    if (g.attr & X86_ATTR_UNUSABLE) {
        g.attr = 0x93;
        g.limit = 0xffff;
    }
    g.sel = sel;
    g.base = (uint64_t)sel << 4;
    return g;
}

struct x86_segment sys_v86_seg(uint16_t sel) {
    return (struct x86_segment){
        .sel = sel, .attr = 0xf3, .limit = 0xffff, .base = (uint64_t)sel << 4};
}

/* ------------------------------------------------------------------ loads */

void sys_check_stack_seg(struct ref *c, const struct ref_op *o, uint16_t sel, unsigned cpl,
                         unsigned vector, struct sys_desc *ret) {
    if (!(sel & 0xfffc) || !sys_read_desc(c, o, sel, ret))
        sys_fault_sel(c, o, vector, sel);
    if ((sel & 3u) != cpl || X86_ATTR_DPL(ret->seg.attr) != cpl ||
        !DESC_IS_WRITABLE_DATA(ret->seg.attr))
        sys_fault_sel(c, o, vector, sel);
    if (!(ret->seg.attr & X86_ATTR_P))
        sys_fault_sel(c, o, X86_SS, sel);
}

static void load_ss(struct ref *c, const struct ref_op *o, uint16_t sel) {
    struct sys_desc d;

    if (!(sel & 0xfffc)) {
        if (!sys_code64(c) || c->cpl == 3 || (sel & 3) != c->cpl)
            sys_fault_sel(c, o, X86_GP, 0);
        c->s.seg[SEG_SS] = sys_null_seg(sel, c->cpl);
        return;
    }
    sys_check_stack_seg(c, o, sel, c->cpl, X86_GP, &d);
    sys_set_accessed(c, o, &d);
    c->s.seg[SEG_SS] = d.seg;
}

static void load_data(struct ref *c, const struct ref_op *o, unsigned seg, uint16_t sel) {
    struct sys_desc d;
    unsigned dpl;

    if (!(sel & 0xfffc)) {
        c->s.seg[seg] = sys_null_seg(sel, 0);
        return;
    }
    if (!sys_read_desc(c, o, sel, &d) || !(d.seg.attr & X86_ATTR_S))
        sys_fault_sel(c, o, X86_GP, sel);
    dpl = X86_ATTR_DPL(d.seg.attr);
    if ((d.seg.attr & 8) && !(d.seg.attr & 2)) /* execute-only code */
        sys_fault_sel(c, o, X86_GP, sel);
    if (!(DESC_IS_CODE(d.seg.attr) && (d.seg.attr & DESC_CONFORMING)) &&
        ((sel & 3u) > dpl || c->cpl > dpl))
        sys_fault_sel(c, o, X86_GP, sel);
    if (!(d.seg.attr & X86_ATTR_P))
        sys_fault_sel(c, o, X86_NP, sel);
    sys_set_accessed(c, o, &d);
    c->s.seg[seg] = d.seg;
}

void sys_load_sreg(struct ref *c, const struct ref_op *o, unsigned seg, uint16_t sel) {
    if (!sys_protected(c)) {
        c->s.seg[seg] = sys_v86(c) ? sys_v86_seg(sel) : sys_real_seg(c, &c->s.seg[seg], sel);
        if (seg == SEG_SS)
            ref_update_mode(c);
        else
            ref_update_flat(c);
    } else if (seg == SEG_SS) {
        load_ss(c, o, sel);
        ref_update_mode(c);
    } else {
        load_data(c, o, seg, sel);
        ref_update_flat(c);
    }
}

void sys_set_cs(struct ref *c, const struct x86_segment *cs, unsigned cpl) {
    c->s.seg[SEG_CS] = *cs;
    c->s.seg[SEG_CS].sel = (uint16_t)((cs->sel & 0xfffc) | cpl);
    c->cpl = (uint8_t)cpl;
    if (c->s.seg[SEG_SS].attr & X86_ATTR_UNUSABLE)
        c->s.seg[SEG_SS].attr = X86_ATTR_UNUSABLE | cpl << 5;
}

void sys_drop_inner_segs(struct ref *c) {
    static const uint8_t data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};

    for (unsigned i = 0; i < sizeof(data); i++) {
        struct x86_segment *g = &c->s.seg[data[i]];

        if (g->attr & X86_ATTR_UNUSABLE) {
            g->sel = 0; /* null selectors lose their RPL, and nothing else */
            continue;
        }
        if (DESC_IS_CODE(g->attr) && (g->attr & DESC_CONFORMING))
            continue;
        if (X86_ATTR_DPL(g->attr) < c->cpl)
            *g = sys_null_seg(0, 0);
    }
}

void sys_check_rip(struct ref *c, const struct ref_op *o, const struct x86_segment *cs,
                   uint64_t rip) {
    bool wide = sys_long(c) && (cs->attr & X86_ATTR_L);

    if (wide ? !sys_canonical(rip) : rip > cs->limit)
        ref_raise_error(c, o, X86_GP, c->ext);
}

/* ------------------------------------------------------------------ stacks */

static uint64_t stack_mask(const struct x86_segment *ss) {
    if (ss->attr & SYS_STACK64)
        return ~0ull;
    return ss->attr & X86_ATTR_DB ? 0xffffffff : 0xffff;
}

struct sys_stack sys_stack_now(struct ref *c) {
    struct sys_stack st = {.sp = c->r[X86_RSP], .ss = c->s.seg[SEG_SS], .user = c->cpl == 3};

    st.ss.attr &= ~SYS_STACK64;
    if (sys_code64(c))
        st.ss.attr |= SYS_STACK64;
    st.mask = stack_mask(&st.ss);
    return st;
}

/* SS:ESP of a level in a 16- or 32-bit TSS. */
static struct sys_stack inner_legacy(struct ref *c, const struct ref_op *o, unsigned cpl) {
    const struct x86_segment *tr = &c->s.tr;
    bool wide = DESC_TYPE(tr->attr) & 8;
    uint32_t at = wide ? 4 + 8 * cpl : 2 + 4 * cpl;
    struct sys_stack st = {0};
    struct sys_desc d;
    uint16_t sel;

    if (at + (wide ? 5 : 3) > tr->limit)
        sys_fault_sel(c, o, X86_TS, tr->sel);
    st.sp = ref_load_sys(c, o, tr->base + at, wide ? 4 : 2);
    sel = (uint16_t)ref_load_sys(c, o, tr->base + at + (wide ? 4 : 2), 2);
    sys_check_stack_seg(c, o, sel, cpl, X86_TS, &d);
    sys_set_accessed(c, o, &d);
    st.ss = d.seg;
    st.ss.attr &= ~SYS_STACK64; /* bit 53 means nothing in a data segment */
    st.error = sel;
    return st;
}

static struct sys_stack inner_long(struct ref *c, const struct ref_op *o, unsigned cpl,
                                   unsigned ist) {
    uint32_t at = ist ? 28 + 8 * ist : 4 + 8 * cpl;
    struct sys_stack st = {0};

    if (at + 7 > c->s.tr.limit)
        sys_fault_sel(c, o, X86_TS, c->s.tr.sel);
    st.sp = sys_load64(c, o, c->s.tr.base + at);
    st.ss = sys_null_seg((uint16_t)cpl, cpl);
    st.ss.attr |= SYS_STACK64;
    return st;
}

struct sys_stack sys_stack_inner(struct ref *c, const struct ref_op *o, unsigned cpl,
                                 unsigned ist) {
    struct sys_stack st = sys_long(c) ? inner_long(c, o, cpl, ist) : inner_legacy(c, o, cpl);

    st.user = cpl == 3;
    st.mask = stack_mask(&st.ss);
    return st;
}

static bool outside(const struct x86_segment *ss, uint64_t offset, unsigned size) {
    uint64_t last = offset + size - 1;

    if ((ss->attr & (X86_ATTR_S | 0xc)) == (X86_ATTR_S | 4)) /* expand-down */
        return offset <= ss->limit || last > (ss->attr & X86_ATTR_DB ? 0xffffffff : 0xffff);
    return last > ss->limit && ss->limit != 0xffffffff; /* nothing is outside 4 GiB: it wraps */
}

static uint64_t stack_lin(struct ref *c, const struct ref_op *o, const struct sys_stack *st,
                          unsigned size) {
    uint64_t offset = st->sp & st->mask;

    if (st->ss.attr & SYS_STACK64) {
        if (!sys_canonical(offset) || !sys_canonical(offset + size - 1))
            sys_fault_sel(c, o, X86_SS, st->error);
        return offset;
    }
    if ((st->ss.attr & X86_ATTR_UNUSABLE) || outside(&st->ss, offset, size))
        sys_fault_sel(c, o, X86_SS, st->error);
    return (uint32_t)(st->ss.base + offset);
}

void sys_push(struct ref *c, const struct ref_op *o, struct sys_stack *st, unsigned size,
              uint64_t value) {
    uint64_t lin;

    st->sp = (st->sp & ~st->mask) | ((st->sp - size) & st->mask);
    lin = stack_lin(c, o, st, size);
    if (!st->user && size == 8)
        sys_store64(c, o, lin, value);
    else if (!st->user)
        ref_store_sys(c, o, lin, size, value);
    else if (size == 8)
        ref_store64(c, o, lin, value);
    else if (size == 4)
        ref_store32(c, o, lin, (uint32_t)value);
    else
        ref_store16(c, o, lin, (uint16_t)value);
}

uint64_t sys_pop(struct ref *c, const struct ref_op *o, struct sys_stack *st, unsigned size) {
    uint64_t lin = stack_lin(c, o, st, size), v;

    if (!st->user && size == 8)
        v = sys_load64(c, o, lin);
    else if (!st->user)
        v = ref_load_sys(c, o, lin, size);
    else if (size == 8)
        v = ref_load64(c, o, lin);
    else
        v = size == 4 ? ref_load32(c, o, lin) : ref_load16(c, o, lin);
    st->sp = (st->sp & ~st->mask) | ((st->sp + size) & st->mask);
    return v;
}

void sys_set_sp(struct ref *c, const struct sys_stack *st) {
    if (st->mask == 0xffff)
        REF_R16(c, X86_RSP) = (uint16_t)st->sp;
    else
        c->r[X86_RSP] = st->sp & st->mask;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hardware task switches with 16-bit and 32-bit TSSs.
 * Source: Intel SDM vol. 3A 7.2 (structures), 7.3 (switching, tables 7-1 and 7-2), 7.4 (linking).
 *
 * All that can fault in the old task's context is read, and the old TSS probed for writing, before
 * anything changes. From the moment the new task's registers are loaded, faults belong to the new
 * task: it is in force with whatever segments are good so far, the others null.
 */
#include "cpu/soft/ref/sys.h"

enum { TSS_WORDS = 8 + 2 }; /* general registers, IP, flags */

struct tss_layout {
    uint8_t size; /* of a register slot */
    uint8_t ip, flags, gpr, seg, nsegs, ldt;
    uint8_t first, last; /* bytes of the part that a switch saves: [first, last) */
    uint8_t limit;       /* least limit */
};

static const struct tss_layout tss16 = {2, 14, 16, 18, 34, 4, 42, 14, 42, 43};
static const struct tss_layout tss32 = {4, 32, 36, 40, 72, 6, 96, 32, 96, 103};

struct task {
    uint32_t ip, flags, gpr[8], cr3;
    uint16_t seg[6], ldt;
    bool trap;
};

static const struct tss_layout *layout(uint32_t attr) {
    return DESC_TYPE(attr) & 8 ? &tss32 : &tss16;
}

static void save_task(struct ref *c, const struct ref_op *o, const struct tss_layout *t,
                      uint64_t rip, uint64_t flags) {
    uint64_t base = c->s.tr.base;

    ref_probe_write(c, o, base + t->first, t->last - t->first, false);
    ref_store_sys(c, o, base + t->ip, t->size, rip);
    ref_store_sys(c, o, base + t->flags, t->size, flags);
    for (unsigned i = 0; i < 8; i++)
        ref_store_sys(c, o, base + t->gpr + i * t->size, t->size, c->r[i]);
    for (unsigned i = 0; i < t->nsegs; i++)
        ref_store_sys(c, o, base + t->seg + i * t->size, 2, c->s.seg[i].sel);
}

static void read_task(struct ref *c, const struct ref_op *o, const struct tss_layout *t,
                      uint64_t base, struct task *ret) {
    memset(ret, 0, sizeof(*ret));
    if (t == &tss32) {
        ret->cr3 = (uint32_t)ref_load_sys(c, o, base + 28, 4);
        ret->trap = ref_load_sys(c, o, base + 100, 2) & 1;
    }
    ret->ip = (uint32_t)ref_load_sys(c, o, base + t->ip, t->size);
    ret->flags = (uint32_t)ref_load_sys(c, o, base + t->flags, t->size);
    for (unsigned i = 0; i < 8; i++)
        ret->gpr[i] = (uint32_t)ref_load_sys(c, o, base + t->gpr + i * t->size, t->size) |
                      (t == &tss16 ? 0xffff0000u : 0);
    for (unsigned i = 0; i < t->nsegs; i++)
        ret->seg[i] = (uint16_t)ref_load_sys(c, o, base + t->seg + i * t->size, 2);
    ret->ldt = (uint16_t)ref_load_sys(c, o, base + t->ldt, 2);
}

static void set_busy(struct ref *c, const struct ref_op *o, uint64_t desc_lin, bool busy) {
    uint64_t type = ref_load_sys(c, o, desc_lin + 5, 1);

    ref_store_sys(c, o, desc_lin + 5, 1, busy ? type | 2 : type & ~2ull);
}

/* ------------------------------------------------------------------ in the new task */

static void load_ldt(struct ref *c, uint16_t sel) {
    struct sys_desc d;

    c->s.ldtr = sys_null_seg(sel, 0);
    if (!(sel & 0xfffc))
        return;
    if ((sel & 4) || !sys_read_desc(c, NULL, sel, &d) ||
        (d.seg.attr & (X86_ATTR_S | X86_ATTR_TYPE)) != DESC_LDT || !(d.seg.attr & X86_ATTR_P))
        sys_fault_sel(c, NULL, X86_TS, sel);
    c->s.ldtr = d.seg;
}

static void load_task_cs(struct ref *c, uint16_t sel) {
    struct sys_desc d;
    unsigned dpl, rpl = sel & 3u;

    if (!(sel & 0xfffc) || !sys_read_desc(c, NULL, sel, &d) || !DESC_IS_CODE(d.seg.attr))
        sys_fault_sel(c, NULL, X86_TS, sel);
    dpl = X86_ATTR_DPL(d.seg.attr);
    if (d.seg.attr & DESC_CONFORMING ? dpl > rpl : dpl != rpl)
        sys_fault_sel(c, NULL, X86_TS, sel);
    if (!(d.seg.attr & X86_ATTR_P))
        sys_fault_sel(c, NULL, X86_NP, sel);
    sys_set_accessed(c, NULL, &d);
    c->s.seg[SEG_CS] = d.seg;
    ref_update_mode(c);
}

static void load_task_data(struct ref *c, unsigned seg, uint16_t sel) {
    struct sys_desc d;
    unsigned dpl;

    if (!(sel & 0xfffc))
        return;
    if (!sys_read_desc(c, NULL, sel, &d) || !(d.seg.attr & X86_ATTR_S) ||
        ((d.seg.attr & 8) && !(d.seg.attr & 2)))
        sys_fault_sel(c, NULL, X86_TS, sel);
    dpl = X86_ATTR_DPL(d.seg.attr);
    if (!(DESC_IS_CODE(d.seg.attr) && (d.seg.attr & DESC_CONFORMING)) &&
        ((sel & 3u) > dpl || c->cpl > dpl))
        sys_fault_sel(c, NULL, X86_TS, sel);
    if (!(d.seg.attr & X86_ATTR_P))
        sys_fault_sel(c, NULL, X86_NP, sel);
    sys_set_accessed(c, NULL, &d);
    c->s.seg[seg] = d.seg;
}

static void load_task_segments(struct ref *c, const struct task *t) {
    static const uint8_t data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    struct sys_desc ss;

    load_ldt(c, t->ldt);
    if (t->flags & X86_FLAG_VM) {
        for (unsigned i = 0; i < 6; i++)
            c->s.seg[i] = sys_v86_seg(t->seg[i]);
        ref_update_mode(c);
        return;
    }
    load_task_cs(c, t->seg[SEG_CS]);
    sys_check_stack_seg(c, NULL, t->seg[SEG_SS], c->cpl, X86_TS, &ss);
    sys_set_accessed(c, NULL, &ss);
    c->s.seg[SEG_SS] = ss.seg;
    ref_update_mode(c);
    for (unsigned i = 0; i < sizeof(data); i++)
        load_task_data(c, data[i], t->seg[data[i]]);
    ref_update_flat(c);
}

/* Registers of the new task, its segments as bare selectors: the point of no return. */
static void enter_task(struct ref *c, const struct task *t, const struct x86_segment *tr,
                       bool nested) {
    uint64_t flags = t->flags | X86_FLAG_FIXED;

    c->s.tr = *tr;
    c->s.tr.attr |= 2; /* busy */
    for (unsigned i = 0; i < 8; i++)
        c->r[i] = t->gpr[i];
    for (unsigned i = 0; i < 6; i++)
        c->s.seg[i] = sys_null_seg(t->seg[i], 0);
    c->cpl = t->seg[SEG_CS] & 3;
    c->s.seg[SEG_SS].attr |= (uint32_t)c->cpl << 5;
    /* A CS that cannot be loaded is reported at the new task's first instruction: it must not look
     * like an unusable one to the fault's own delivery. */
    c->s.seg[SEG_CS].attr = 0x9b | X86_ATTR_DB | (uint32_t)c->cpl << 5;
    c->s.seg[SEG_CS].limit = 0xffffffff;
    if (nested)
        flags |= X86_FLAG_NT;
    c->s.cr0 |= X86_CR0_TS;
    c->s.dr7 &= ~0x55ull; /* local breakpoints */
    ref_set_rflags(c, flags);
    ref_update_mode(c);
    ref_goto(c, t->ip);
}

static void load_task_cr3(struct ref *c, uint32_t cr3) {
    if (!(c->s.cr0 & X86_CR0_PG))
        return;
    if ((c->s.cr4 & X86_CR4_PAE) && !ref_load_pdptes(c, cr3))
        ref_raise_error(c, NULL, X86_GP, c->ext);
    c->s.cr3 = cr3;
    ref_tlb_flush(c);
}

static void push_error(struct ref *c, bool wide, uint32_t error) {
    struct sys_stack st = sys_stack_now(c);

    sys_push(c, NULL, &st, wide ? 4 : 2, error);
    sys_set_sp(c, &st);
}

/* ------------------------------------------------------------------ the switch */

/* Reads and checks the TSS descriptor by the rules of who asks. */
static void check_target(struct ref *c, const struct ref_op *o, uint16_t sel, enum sys_task how,
                         struct sys_desc *d) {
    unsigned vector = how == TASK_IRET ? X86_TS : X86_GP, type;

    if (!(sel & 0xfffc) || (sel & 4) || !sys_read_desc(c, o, sel, d))
        sys_fault_sel(c, o, vector, sel);
    type = d->seg.attr & (X86_ATTR_S | X86_ATTR_TYPE);
    if (how == TASK_IRET ? type != DESC_TSS16_BUSY && type != DESC_TSS32_BUSY
                         : type != DESC_TSS16 && type != DESC_TSS32)
        sys_fault_sel(c, o, vector, sel);
    if (!(d->seg.attr & X86_ATTR_P))
        sys_fault_sel(c, o, X86_NP, sel);
    if (d->seg.limit < layout(d->seg.attr)->limit)
        sys_fault_sel(c, o, X86_TS, sel);
}

void sys_task_switch(struct ref *c, const struct ref_op *o, uint16_t sel, enum sys_task how,
                     uint64_t rip, bool has_error, uint32_t error) {
    const struct tss_layout *from = layout(c->s.tr.attr), *to;
    bool nested = how == TASK_CALL || how == TASK_EVENT;
    uint64_t flags = ref_rflags(c), old_lin;
    uint16_t old_sel = c->s.tr.sel;
    struct sys_desc d, old;
    struct task t;

    check_target(c, o, sel, how, &d);
    to = layout(d.seg.attr);
    if (c->s.tr.limit < from->limit || !sys_read_desc(c, o, old_sel, &old))
        sys_fault_sel(c, o, X86_TS, old_sel);
    old_lin = old.lin;
    read_task(c, o, to, d.seg.base, &t);
    ref_probe_write(c, o, old_lin + 5, 1, false);
    ref_probe_write(c, o, d.lin + 5, 1, false);
    if (nested)
        ref_probe_write(c, o, d.seg.base, 2, false);
    if (how == TASK_IRET)
        flags &= ~(uint64_t)X86_FLAG_NT;
    save_task(c, o, from, rip, flags);
    if (!nested)
        set_busy(c, o, old_lin, false);
    else
        ref_store_sys(c, o, d.seg.base, 2, old_sel);
    if (how != TASK_IRET)
        set_busy(c, o, d.lin, true);
    enter_task(c, &t, &d.seg, nested);
    if (to == &tss32)
        load_task_cr3(c, t.cr3);
    load_task_segments(c, &t);
    sys_check_rip(c, NULL, &c->s.seg[SEG_CS], t.ip);
    if (has_error)
        push_error(c, to == &tss32, error);
    if (t.trap) {
        c->s.dr6 |= 1u << 15; /* BT */
        ref_raise(c, NULL, X86_DB);
    }
}

void sys_task_gate(struct ref *c, const struct ref_op *o, const struct sys_desc *gate,
                   enum sys_task how, uint64_t rip, bool has_error, uint32_t error) {
    uint16_t sel = how == TASK_EVENT ? gate->seg.sel : (uint16_t)(gate->raw >> 16);

    sys_task_switch(c, o, sel, how, rip, has_error, error);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Delivery of interrupts and exceptions: real mode's vector table, interrupt, trap and task gates,
 * long mode. Source: Intel SDM vol. 3A chapter 6 (6.12 calls to handlers, 6.13 error codes, 6.14
 * 64-bit mode, table 6-5 double faults), 20.3 (virtual-8086); vol. 2A, INT n, "Operation".
 *
 * Everything is checked and pushed before any register changes, so a fault on the way leaves the
 * machine as it was but for bytes below the stack pointer.
 */
#include "base/trace.h"
#include "cpu/soft/ref/sys.h"

struct event {
    const struct ref_op *o; /* the instruction that faults: INT n and its kin, else NULL */
    enum ref_event_kind kind;
    unsigned vector;
    uint64_t rip; /* to be saved */
    bool has_error;
    uint32_t error;
};

struct gate {
    unsigned type, dpl, ist;
    bool present;
    uint16_t sel;
    uint64_t offset;
};

/* SDM vol. 3A tables 6-4 and 6-5. */
int ref_combine(const struct ref *c, unsigned first, unsigned second) {
    const uint32_t contributory =
        1u << X86_DE | 1u << X86_TS | 1u << X86_NP | 1u << X86_SS | 1u << X86_GP;
    bool second_bad = contributory >> second & 1;

    if (first == X86_DF && (second_bad || second == X86_PF))
        return -1;
    if ((contributory >> first & 1) && second_bad)
        return X86_DF;
    if (first == X86_PF && (second_bad || second == X86_PF))
        return X86_DF;
    return (int)second;
}

static _Noreturn void fault_idt(struct ref *c, const struct event *e, unsigned vector) {
    ref_raise_error(c, e->o, vector, e->vector << 3 | 2 | c->ext);
}

/* RF in the saved image: set for faults, so that an instruction breakpoint is not met again. */
static uint64_t flags_image(const struct ref *c, const struct event *e) {
    const uint32_t not_faults =
        1u << X86_DB | 1u << X86_NMI | 1u << X86_BP | 1u << X86_OF | 1u << X86_DF | 1u << X86_MC;
    uint64_t flags = ref_rflags(c);

    if (e->kind == REF_EVENT_EXCEPTION && !(not_faults >> e->vector & 1))
        flags |= X86_FLAG_RF;
    return flags;
}

/* What every delivery ends with: flags, debug and NMI state, the handler's address. */
static void enter_handler(struct ref *c, const struct event *e, uint32_t clear, uint64_t rip) {
    c->fl &= ~clear;
    if (e->vector == X86_DB && e->kind == REF_EVENT_EXCEPTION)
        c->s.dr7 &= ~(1ull << 13); /* GD */
    if (e->kind == REF_EVENT_NMI)
        c->s.nmi_blocked = true;
    c->ext = false;
    c->halted = false;
    ref_update_mode(c);
    ref_goto(c, rip);
}

/* ------------------------------------------------------------------ real mode */

static void deliver_real(struct ref *c, const struct event *e) {
    struct sys_stack st = sys_stack_now(c);
    struct x86_segment cs;
    uint32_t entry;

    if (e->vector * 4 + 3 > c->s.idtr.limit)
        fault_idt(c, e, X86_GP);
    entry = (uint32_t)ref_load_sys(c, e->o, c->s.idtr.base + e->vector * 4, 4);
    sys_push(c, e->o, &st, 2, ref_rflags(c));
    sys_push(c, e->o, &st, 2, c->s.seg[SEG_CS].sel);
    sys_push(c, e->o, &st, 2, e->rip);
    cs = sys_real_seg(c, &c->s.seg[SEG_CS], (uint16_t)(entry >> 16));
    sys_check_rip(c, e->o, &cs, entry & 0xffff);
    sys_set_sp(c, &st);
    c->s.seg[SEG_CS] = cs;
    enter_handler(c, e, X86_FLAG_IF | X86_FLAG_TF | X86_FLAG_AC | X86_FLAG_RF, entry & 0xffff);
}

/* ------------------------------------------------------------------ gates */

static void read_gate(struct ref *c, const struct event *e, struct gate *g) {
    unsigned size = sys_long(c) ? 16 : 8;
    uint64_t lin = c->s.idtr.base + e->vector * size, raw;

    if (e->vector * size + size - 1 > c->s.idtr.limit)
        fault_idt(c, e, X86_GP);
    raw = sys_load64(c, e->o, lin);
    g->type = raw >> 40 & 0x1f;
    g->dpl = raw >> 45 & 3;
    g->present = raw >> 47 & 1;
    g->sel = (uint16_t)(raw >> 16);
    g->offset = (raw & 0xffff) | (raw >> 32 & 0xffff0000);
    g->ist = 0;
    if (sys_long(c)) {
        g->offset |= sys_load64(c, e->o, lin + 8) << 32;
        g->ist = raw >> 32 & 7;
    }
}

static void check_gate(struct ref *c, const struct event *e, const struct gate *g) {
    bool known = g->type == DESC_INT32 || g->type == DESC_TRAP32;

    if (!sys_long(c))
        known |= g->type == DESC_TASK || g->type == DESC_INT16 || g->type == DESC_TRAP16;
    if (!known || (e->kind == REF_EVENT_SOFT && g->dpl < c->cpl))
        fault_idt(c, e, X86_GP);
    if (!g->present)
        fault_idt(c, e, X86_NP);
}

/* The handler's code segment; returns its privilege level. */
static unsigned read_handler_cs(struct ref *c, const struct event *e, const struct gate *g,
                                struct sys_desc *cs) {
    unsigned dpl;

    if (!(g->sel & 0xfffc))
        ref_raise_error(c, e->o, X86_GP, c->ext);
    if (!sys_read_desc(c, e->o, g->sel, cs))
        sys_fault_sel(c, e->o, X86_GP, g->sel);
    dpl = X86_ATTR_DPL(cs->seg.attr);
    if (!DESC_IS_CODE(cs->seg.attr) || dpl > c->cpl)
        sys_fault_sel(c, e->o, X86_GP, g->sel);
    if (sys_long(c) && (cs->seg.attr & (X86_ATTR_L | X86_ATTR_DB)) != X86_ATTR_L)
        sys_fault_sel(c, e->o, X86_GP, g->sel);
    if (!(cs->seg.attr & X86_ATTR_P))
        sys_fault_sel(c, e->o, X86_NP, g->sel);
    if (cs->seg.attr & DESC_CONFORMING)
        dpl = c->cpl;
    if (sys_v86(c) && dpl != 0)
        sys_fault_sel(c, e->o, X86_GP, g->sel);
    return dpl;
}

/* Five or six quadwords, in one piece when they lie in one writable page. */
static void push_frame64(struct ref *c, const struct event *e, struct sys_stack *st) {
    unsigned n = e->has_error ? 6 : 5;
    uint64_t frame[6] = {e->error,          e->rip,        c->s.seg[SEG_CS].sel,
                         flags_image(c, e), c->r[X86_RSP], c->s.seg[SEG_SS].sel};
    uint64_t lin = st->sp - n * 8, *p;
    void *at;

    if (!ref_tlb_write(c, st->user, lin, n * 8, &at)) {
        for (unsigned i = 0; i < n; i++)
            sys_push(c, e->o, st, 8, frame[5 - i]);
        return;
    }
    p = (uint64_t *)at + n;
    for (unsigned i = 1; i <= 5; i++) /* not memcpy: that becomes a REP MOVS, many times slower */
        p[-(int)i] = frame[6 - i];
    if (e->has_error)
        p[-6] = frame[0];
    st->sp = lin;
}

static void deliver_long(struct ref *c, const struct event *e, const struct gate *g) {
    struct sys_stack st;
    struct sys_desc cs;
    unsigned cpl = read_handler_cs(c, e, g, &cs);

    if (cpl < c->cpl || g->ist) {
        st = sys_stack_inner(c, e->o, cpl, g->ist);
    } else {
        st = sys_stack_now(c);
        st.ss.attr |= SYS_STACK64; /* from compatibility mode too */
        if (!sys_code64(c))
            st.sp = (uint32_t)st.sp;
        st.mask = ~0ull;
    }
    st.sp &= ~15ull;
    sys_check_rip(c, e->o, &cs.seg, g->offset);
    push_frame64(c, e, &st);
    sys_set_accessed(c, e->o, &cs);
    if (cpl < c->cpl)
        c->s.seg[SEG_SS] = sys_null_seg((uint16_t)cpl, cpl);
    c->r[X86_RSP] = st.sp;
    sys_set_cs(c, &cs.seg, cpl);
    enter_handler(
        c, e, X86_FLAG_TF | X86_FLAG_NT | X86_FLAG_RF | (g->type == DESC_INT32 ? X86_FLAG_IF : 0),
        g->offset);
}

static void push_frame_legacy(struct ref *c, const struct event *e, const struct gate *g,
                              struct sys_stack *st, bool inner) {
    unsigned size = g->type & 8 ? 4 : 2;

    if (sys_v86(c)) {
        sys_push(c, e->o, st, size, c->s.seg[SEG_GS].sel);
        sys_push(c, e->o, st, size, c->s.seg[SEG_FS].sel);
        sys_push(c, e->o, st, size, c->s.seg[SEG_DS].sel);
        sys_push(c, e->o, st, size, c->s.seg[SEG_ES].sel);
    }
    if (inner) {
        sys_push(c, e->o, st, size, c->s.seg[SEG_SS].sel);
        sys_push(c, e->o, st, size, c->r[X86_RSP]);
    }
    sys_push(c, e->o, st, size, flags_image(c, e));
    sys_push(c, e->o, st, size, c->s.seg[SEG_CS].sel);
    sys_push(c, e->o, st, size, e->rip);
    if (e->has_error)
        sys_push(c, e->o, st, size, e->error);
}

static void deliver_legacy(struct ref *c, const struct event *e, const struct gate *g) {
    struct sys_stack st;
    struct sys_desc cs;
    unsigned cpl = read_handler_cs(c, e, g, &cs);
    uint64_t rip = g->type & 8 ? g->offset : g->offset & 0xffff;
    bool inner = cpl < c->cpl;

    st = inner ? sys_stack_inner(c, e->o, cpl, 0) : sys_stack_now(c);
    push_frame_legacy(c, e, g, &st, inner);
    sys_check_rip(c, e->o, &cs.seg, rip);
    sys_set_accessed(c, e->o, &cs);
    if (inner) {
        c->s.seg[SEG_SS] = st.ss;
        c->r[X86_RSP] = st.sp & 0xffffffff;
    } else {
        sys_set_sp(c, &st);
    }
    if (sys_v86(c)) {
        c->s.seg[SEG_ES] = c->s.seg[SEG_DS] = sys_null_seg(0, 0);
        c->s.seg[SEG_FS] = c->s.seg[SEG_GS] = sys_null_seg(0, 0);
    }
    sys_set_cs(c, &cs.seg, cpl);
    enter_handler(c, e,
                  X86_FLAG_TF | X86_FLAG_NT | X86_FLAG_RF | X86_FLAG_VM |
                      (g->type == DESC_INT32 || g->type == DESC_INT16 ? X86_FLAG_IF : 0),
                  rip);
}

static void deliver_task(struct ref *c, const struct event *e, const struct gate *g) {
    struct sys_desc gate = {.seg = {.sel = g->sel}};

    if (e->kind == REF_EVENT_NMI)
        c->s.nmi_blocked = true;
    sys_task_gate(c, e->o, &gate, TASK_EVENT, e->rip, e->has_error, e->error);
    c->ext = false;
    c->halted = false;
}

void sys_deliver(struct ref *c, const struct ref_op *o, enum ref_event_kind kind, unsigned vector,
                 uint64_t ret_rip, bool has_error, uint32_t error) {
    struct event e = {o, kind, vector, ret_rip, has_error, error};
    struct gate g;

    c->ext = kind != REF_EVENT_SOFT;
    if (!(c->s.cr0 & X86_CR0_PE)) {
        deliver_real(c, &e);
        return;
    }
    read_gate(c, &e, &g);
    check_gate(c, &e, &g);
    if (g.type == DESC_TASK)
        deliver_task(c, &e, &g);
    else if (sys_long(c))
        deliver_long(c, &e, &g);
    else
        deliver_legacy(c, &e, &g);
}

void ref_deliver(struct ref *c, enum ref_event_kind kind, unsigned vector, bool has_error,
                 uint32_t error) {
    sys_deliver(c, NULL, kind, vector, c->rip, has_error, error);
}

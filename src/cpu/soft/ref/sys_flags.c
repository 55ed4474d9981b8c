/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interrupt flag, flag image, software interrupts, system calls, HLT.
 * Source: Intel SDM vol. 2 (CLI, STI, PUSHF, POPF, INT n, BOUND, SYSCALL, SYSRET, SYSENTER,
 * SYSEXIT, SWAPGS); vol. 3A 5.8.7, 5.8.8 (fast system calls), 20.2 (virtual-8086 mode; VME and PVI
 * are not advertised).
 */
#include "cpu/soft/ref/sys.h"

/* Segments that SYSCALL and its kin load without looking at descriptors. */
enum {
    ATTR_CODE64 = 0xa09b,
    ATTR_CODE32 = 0xc09b,
    ATTR_DATA = 0xc093, /* DPL 0 */
    ATTR_RING3 = 3 << 5,
};

static _Noreturn void fault_gp(struct ref *c, const struct ref_op *o) {
    ref_raise_error(c, o, X86_GP, 0);
}

/* ------------------------------------------------------------------ CLI, STI, PUSHF, POPF */

static bool may_change_if(const struct ref *c) {
    return c->cpl <= sys_iopl(c) || !(c->s.cr0 & X86_CR0_PE);
}

static void cli(struct ref *c, const struct ref_op *o) {
    if (REF_UNLIKELY(!may_change_if(c)))
        fault_gp(c, o);
    sys_set_if(c, false);
    ref_end_linked(c, o);
}

static void sti(struct ref *c, const struct ref_op *o) {
    if (REF_UNLIKELY(!may_change_if(c)))
        fault_gp(c, o);
    if (!(c->fl & X86_FLAG_IF))
        c->s.shadow = 1;
    sys_set_if(c, true);
    ref_end_linked(c, o);
}

static void check_v86_iopl(struct ref *c, const struct ref_op *o) {
    if (REF_UNLIKELY(sys_v86(c) && sys_iopl(c) < 3))
        fault_gp(c, o);
}

static void pushf64(struct ref *c, const struct ref_op *o) {
    uint64_t sp = c->r[X86_RSP] - 8;

    if (REF_UNLIKELY(!sys_canonical(sp)))
        ref_raise_error(c, o, X86_SS, 0);
    ref_store64(c, o, sp, ref_rflags(c) & 0xfcffff);
    c->r[X86_RSP] = sp;
    REF_NEXT(c, o);
}

static void pushf(struct ref *c, const struct ref_op *o) {
    struct sys_stack st = sys_stack_now(c);

    check_v86_iopl(c, o);
    sys_push(c, o, &st, o->size, ref_rflags(c) & 0xfcffff); /* VM and RF read as 0 */
    sys_set_sp(c, &st);
    REF_NEXT(c, o);
}

static void set_popped(struct ref *c, const struct ref_op *o, uint64_t popped) {
    uint64_t mask =
        X86_FLAGS_ARITH | X86_FLAG_TF | X86_FLAG_DF | X86_FLAG_NT | X86_FLAG_AC | X86_FLAG_ID;
    uint32_t mode = c->mode;

    if (may_change_if(c))
        mask |= X86_FLAG_IF;
    if (c->cpl == 0)
        mask |= X86_FLAG_IOPL;
    if (o->size == 2)
        mask &= 0xffff;
    ref_set_rflags(c, (popped & mask) | (ref_rflags(c) & ~mask & ~(uint64_t)X86_FLAG_RF));
    if (mode == c->mode)
        ref_end_linked(c, o);
    else
        ref_end(c, o);
}

static void popf64(struct ref *c, const struct ref_op *o) {
    uint64_t sp = c->r[X86_RSP], popped;

    if (REF_UNLIKELY(!sys_canonical(sp)))
        ref_raise_error(c, o, X86_SS, 0);
    popped = ref_load64(c, o, sp);
    c->r[X86_RSP] = sp + 8;
    set_popped(c, o, popped);
}

static void popf(struct ref *c, const struct ref_op *o) {
    struct sys_stack st = sys_stack_now(c);
    uint64_t popped;

    check_v86_iopl(c, o);
    popped = sys_pop(c, o, &st, o->size);
    sys_set_sp(c, &st);
    set_popped(c, o, popped);
}

/* ------------------------------------------------------------------ HLT, INT n */

static void hlt(struct ref *c, const struct ref_op *o) {
    ref_halt(c);
    ref_end(c, o);
}

static void software_interrupt(struct ref *c, const struct ref_op *o, enum ref_event_kind kind,
                               unsigned vector) {
    uint64_t rip = ref_next_rip(c, o);

    if (!sys_code64(c))
        rip = (uint32_t)rip;
    sys_deliver(c, o, kind, vector, rip, false, 0);
    c->entered = true;
}

static void int_n(struct ref *c, const struct ref_op *o) {
    check_v86_iopl(c, o);
    software_interrupt(c, o, REF_EVENT_SOFT, (uint8_t)o->imm);
}

static void int3(struct ref *c, const struct ref_op *o) {
    software_interrupt(c, o, REF_EVENT_SOFT, X86_BP);
}

static void int1(struct ref *c, const struct ref_op *o) {
    c->s.dr6 |= c->s.debug_pending; /* one #DB tells both */
    c->s.debug_pending = 0;
    software_interrupt(c, o, REF_EVENT_ICEBP, X86_DB);
}

static void into(struct ref *c, const struct ref_op *o) {
    if (c->af & 1)
        software_interrupt(c, o, REF_EVENT_SOFT, X86_OF);
    else
        ref_end(c, o);
}

static uint64_t bound_offset(const struct ref *c, const struct ref_op *o) {
    return o->eaf & REF_EA_16 ? (uint16_t)ref_ea(c, o) : (uint32_t)ref_ea(c, o);
}

static void bound(struct ref *c, const struct ref_op *o) {
    uint64_t lin = ref_lin(c, o, o->size, false);
    int32_t index, low, high;

    index = o->size == 4 ? (int32_t)c->r[o->dst] : (int16_t)c->r[o->dst];
    low = o->size == 4 ? (int32_t)ref_load32(c, o, lin) : (int16_t)ref_load16(c, o, lin);
    if (index < low) /* the upper bound is not even read */
        ref_raise(c, o, X86_BR);
    lin = ref_seg_lin(c, o, o->seg, bound_offset(c, o) + o->size, o->size, false);
    high = o->size == 4 ? (int32_t)ref_load32(c, o, lin) : (int16_t)ref_load16(c, o, lin);
    if (index > high)
        ref_raise(c, o, X86_BR);
    REF_NEXT(c, o);
}

/* ------------------------------------------------------------------ SYSCALL, SYSENTER */

static void set_flat(struct ref *c, uint16_t cs, uint32_t cs_attr, uint16_t ss, uint32_t ss_attr) {
    c->s.seg[SEG_CS] = (struct x86_segment){.sel = cs, .attr = cs_attr, .limit = 0xffffffff};
    c->s.seg[SEG_SS] = (struct x86_segment){.sel = ss, .attr = ss_attr, .limit = 0xffffffff};
    c->cpl = cs & 3;
}

/* Intel's: in 64-bit code only. */
static void syscall_64(struct ref *c, const struct ref_op *o) {
    uint64_t flags;
    uint16_t sel = (c->s.star >> 32) & 0xfffc;

    if (!(c->s.efer & X86_EFER_SCE) || !sys_code64(c))
        ref_raise(c, o, X86_UD);
    flags = ref_rflags(c) & ~(uint64_t)X86_FLAG_RF;
    c->r[X86_RCX] = ref_next_rip(c, o);
    c->r[11] = flags;
    set_flat(c, sel, ATTR_CODE64, (uint16_t)(sel + 8), ATTR_DATA);
    ref_set_rflags(c, flags & ~c->s.sfmask);
    c->entered = true;
    ref_update_mode(c);
    ref_goto(c, c->s.lstar);
}

static void sysret(struct ref *c, const struct ref_op *o) {
    uint16_t sel = (uint16_t)(c->s.star >> 48);
    uint64_t rip = o->size == 8 ? c->r[X86_RCX] : (uint32_t)c->r[X86_RCX];

    if (!(c->s.efer & X86_EFER_SCE) || !sys_code64(c))
        ref_raise(c, o, X86_UD);
    if (!sys_canonical(rip))
        fault_gp(c, o);
    set_flat(c, (uint16_t)((sel + (o->size == 8 ? 16 : 0)) | 3),
             (o->size == 8 ? ATTR_CODE64 : ATTR_CODE32) | ATTR_RING3, (uint16_t)((sel + 8) | 3),
             ATTR_DATA | ATTR_RING3);
    ref_set_rflags(c, (c->r[11] & 0x3c7fd7) | X86_FLAG_FIXED);
    if (c->fl & X86_FLAG_TF) /* unlike POPF and IRET it traps itself, in user code already */
        c->s.debug_pending |= X86_DR6_BS;
    ref_update_mode(c);
    ref_goto(c, rip);
}

static void sysenter(struct ref *c, const struct ref_op *o) {
    uint16_t sel = c->s.sysenter_cs & 0xfffc;

    if (!(c->s.cr0 & X86_CR0_PE) || !sel)
        fault_gp(c, o);
    c->fl &= ~(X86_FLAG_VM | X86_FLAG_IF | X86_FLAG_RF);
    set_flat(c, sel, sys_long(c) ? ATTR_CODE64 : ATTR_CODE32, (uint16_t)(sel + 8), ATTR_DATA);
    c->r[X86_RSP] = sys_long(c) ? c->s.sysenter_esp : (uint32_t)c->s.sysenter_esp;
    ref_update_mode(c);
    ref_goto(c, sys_long(c) ? c->s.sysenter_eip : (uint32_t)c->s.sysenter_eip);
}

static void sysexit(struct ref *c, const struct ref_op *o) {
    uint16_t sel = c->s.sysenter_cs & 0xfffc;
    bool wide = o->size == 8;
    uint64_t rip = wide ? c->r[X86_RDX] : (uint32_t)c->r[X86_RDX];
    uint64_t sp = wide ? c->r[X86_RCX] : (uint32_t)c->r[X86_RCX];

    if (!(c->s.cr0 & X86_CR0_PE) || !sel || !sys_canonical(rip) || !sys_canonical(sp))
        fault_gp(c, o);
    set_flat(c, (uint16_t)((sel + (wide ? 32 : 16)) | 3),
             (wide ? ATTR_CODE64 : ATTR_CODE32) | ATTR_RING3,
             (uint16_t)((sel + (wide ? 40 : 24)) | 3), ATTR_DATA | ATTR_RING3);
    c->r[X86_RSP] = sp;
    ref_update_mode(c);
    ref_goto(c, rip);
}

static void swapgs(struct ref *c, const struct ref_op *o) {
    uint64_t base = c->s.seg[SEG_GS].base;

    c->s.seg[SEG_GS].base = c->s.kernel_gs_base;
    c->s.kernel_gs_base = base;
    ref_end_linked(c, o);
}

/* ------------------------------------------------------------------ binding */

bool sys_bind_flags(struct ref *c, const struct insn *in, struct ref_op *o) {
    bool wide = in->mode == 8 && in->opsize == 8;

    switch (in->row->id) {
    case INSN_CLI:
        o->fn = cli;
        return true;
    case INSN_STI:
        o->fn = sti;
        return true;
    case INSN_PUSHF:
        o->fn = wide ? pushf64 : pushf;
        return true;
    case INSN_POPF:
        o->fn = wide ? popf64 : popf;
        return true;
    case INSN_HLT:
        o->fn = hlt;
        return true;
    case INSN_INT:
        o->fn = int_n;
        o->imm = in->imm;
        return true;
    case INSN_INT3:
        o->fn = int3;
        return true;
    case INSN_INT1:
        o->fn = int1;
        return true;
    case INSN_INTO:
        o->fn = into;
        return true;
    case INSN_BOUND:
        o->fn = bound;
        return true;
    case INSN_SYSCALL:
        o->fn = syscall_64;
        return true;
    case INSN_SYSRET:
        o->fn = sysret;
        return true;
    case INSN_SYSENTER:
        o->fn = sysenter;
        return true;
    case INSN_SYSEXIT:
        o->fn = sysexit;
        return true;
    case INSN_SWAPGS:
        o->fn = swapgs;
        return true;
    default:
        return false;
    }
}

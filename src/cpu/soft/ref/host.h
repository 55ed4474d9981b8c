/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Instructions that touch FPU and vector state: what host.c, host_move.c, fpu.c and xsave.c share.
 *
 * Contract: handlers and binders on the vCPU's thread, as ref.h says.
 */
#ifndef CPU_SOFT_REF_HOST_H
#define CPU_SOFT_REF_HOST_H

#include "cpu/soft/ref/ref.h"

enum {
    FSW_ES = 0x80,     /* an unmasked exception is pending */
    FSW_BUSY = 0x8000, /* follows ES */
    FSW_TOP = 0x3800,
    FSW_EXCEPTIONS = 0x3f,
    FSW_PRECISION = 0x20,
    MXCSR_DEFAULT = 0x1f80,
    FCW_DEFAULT = 0x37f,
};

/* Binds an operation that raises #UD or #NM if the state the row needs is switched off (CR0, CR4,
 * XCR0: SDM vol. 3A 2.5, 13.1); else returns false. */
bool host_bind_unavailable(struct ref *c, const struct insn *in, struct ref_op *o);

/* Before a waiting x87 or MMX instruction: #MF if an exception is pending. With CR0.NE = 0 real
 * boards raise IRQ 13 through FERR#; this one ignores the exception, as if IGNNE# were asserted. */
static inline void host_check_pending(struct ref *c, const struct ref_op *o) {
    if (REF_UNLIKELY((c->s.fpu.fsw & FSW_ES) && (c->s.cr0 & X86_CR0_NE)))
        ref_raise(c, o, X86_MF);
}

/* ES and B follow from the exception flags and their masks. */
static inline void host_update_pending(struct x86_fpu *f) {
    f->fsw &= (uint16_t) ~(FSW_ES | FSW_BUSY);
    if (f->fsw & ~f->fcw & FSW_EXCEPTIONS)
        f->fsw |= FSW_ES | FSW_BUSY;
}

/* Enters MMX mode: TOP 0, all registers valid, st[] in order of the physical registers. */
void host_enter_mmx(struct ref *c);

/* Effective address without segment base, as FDP holds it. */
static inline uint64_t host_offset(const struct ref *c, const struct ref_op *o) {
    uint64_t ea = ref_ea(c, o);
    return o->eaf & REF_EA_16 ? (uint16_t)ea : o->eaf & REF_EA_32 ? (uint32_t)ea : ea;
}

/* Linear address of a field of an area in memory: each is looked at by itself, and offsets wrap as
 * the address size says. */
static inline uint64_t fpu_area_at(struct ref *c, const struct ref_op *o, unsigned offset,
                                   unsigned size, bool write) {
    uint64_t at = host_offset(c, o) + offset;

    if (REF_LIKELY(!o->eaf))
        return at;
    at = o->eaf & REF_EA_16 ? (uint16_t)at : o->eaf & REF_EA_32 ? (uint32_t)at : at;
    return ref_seg_lin(c, o, o->seg, at, size, write);
}

/* #GP(0) unless the linear address is a multiple of size (a power of two): before the segment is
 * looked at, as processors do. */
static inline void host_check_aligned(struct ref *c, const struct ref_op *o, unsigned size) {
    uint64_t lin = host_offset(c, o);

    if (REF_UNLIKELY(o->eaf & (REF_EA_LEGACY | REF_EA_SEG)))
        lin += c->s.seg[o->seg].base;
    if (REF_UNLIKELY(lin & (size - 1)))
        ref_raise_error(c, o, X86_GP, 0);
}

/* Plain moves between vector registers, general registers and memory, in C; false for anything
 * else. */
bool host_bind_move(struct ref *c, const struct insn *in, struct ref_op *o);

/* TOP becomes `top`; the physical registers stay what they are. */
void fpu_set_top(struct x86_fpu *f, unsigned top);
void fpu_init(struct x86_fpu *f); /* FNINIT */
/* XINUSE: components of XCR0 that are not in their initial state. */
uint64_t fpu_xinuse(const struct x86_fpu *f);

/* fpu_mask.c: masked moves and gathers. xsave.c: FXSAVE, XSAVE and their kin. */
bool fpu_bind_mask(struct ref *c, const struct insn *in, struct ref_op *o);
bool fpu_bind_xsave(struct ref *c, const struct insn *in, struct ref_op *o);

#endif

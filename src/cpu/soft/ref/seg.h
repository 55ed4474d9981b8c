/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Segment descriptors and stacks under construction (seg.c). What takes an operation may leave by a
 * fault before it has changed guest state.
 */
#ifndef CPU_SOFT_REF_SEG_H
#define CPU_SOFT_REF_SEG_H

#include "cpu/soft/ref/ref.h"

#define DESC_TYPE(a)             ((a)&X86_ATTR_TYPE)
#define DESC_IS_CODE(a)          (((a) & (X86_ATTR_S | 8)) == (X86_ATTR_S | 8))
#define DESC_IS_WRITABLE_DATA(a) (((a) & (X86_ATTR_S | 8 | 2)) == (X86_ATTR_S | 2))
#define DESC_CONFORMING          4u

enum desc_type { /* system descriptors */
                 DESC_TSS16 = 1,
                 DESC_LDT = 2,
                 DESC_TSS16_BUSY = 3,
                 DESC_CALL16 = 4,
                 DESC_TASK = 5,
                 DESC_INT16 = 6,
                 DESC_TRAP16 = 7,
                 DESC_TSS32 = 9,
                 DESC_TSS32_BUSY = 11,
                 DESC_CALL32 = 12,
                 DESC_INT32 = 14,
                 DESC_TRAP32 = 15,
};

struct sys_desc {
    uint64_t lin, raw; /* where it stands, the 8 bytes */
    struct x86_segment seg;
};

_Noreturn void sys_fault_sel(struct ref *c, const struct ref_op *o, unsigned vector, uint16_t sel);
/* False if the selector is outside its table (null selectors are in GDT entry 0: the caller looks
 * first). */
bool sys_read_desc(struct ref *c, const struct ref_op *o, uint16_t sel, struct sys_desc *ret);
/* Bits 63:32 of the base of a 16-byte system descriptor; #GP if they lie outside the table. */
void sys_read_desc_high(struct ref *c, const struct ref_op *o, struct sys_desc *d);
void sys_set_accessed(struct ref *c, const struct ref_op *o, struct sys_desc *d);
void sys_load_sreg(struct ref *c, const struct ref_op *o, unsigned seg, uint16_t sel);
/* A stack segment for privilege level `cpl`: reads and checks, faulting with `vector` (not present:
 * #SS). */
void sys_check_stack_seg(struct ref *c, const struct ref_op *o, uint16_t sel, unsigned cpl,
                         unsigned vector, struct sys_desc *ret);
struct x86_segment sys_null_seg(uint16_t sel, unsigned dpl);
struct x86_segment sys_real_seg(const struct ref *c, const struct x86_segment *old, uint16_t sel);
struct x86_segment sys_v86_seg(uint16_t sel);
/* CS and CPL; SS's DPL follows CPL. The caller ends with ref_update_mode. */
void sys_set_cs(struct ref *c, const struct x86_segment *cs, unsigned cpl);
/* After a return to an outer level: data segments that it may not use become null, and null
 * selectors 0. */
void sys_drop_inner_segs(struct ref *c);
/* #GP(0) (with EXT) unless offset is inside a code segment about to be loaded. */
void sys_check_rip(struct ref *c, const struct ref_op *o, const struct x86_segment *cs,
                   uint64_t rip);

/* ---- stacks that are not, or not yet, in force ---- */
struct sys_stack {
    uint64_t sp, mask;     /* mask: the bits of SP that move */
    struct x86_segment ss; /* attr with L: 64-bit stack, no limit */
    uint16_t error;        /* selector in #SS */
    bool user;             /* accessed with user rights */
};
#define SYS_STACK64 X86_ATTR_L
struct sys_stack sys_stack_now(struct ref *c);
/* The stack of an inner level from the TSS (SDM vol. 3A 5.8.5, 6.12.1). `ist` only in long mode. */
struct sys_stack sys_stack_inner(struct ref *c, const struct ref_op *o, unsigned cpl, unsigned ist);
void sys_push(struct ref *c, const struct ref_op *o, struct sys_stack *st, unsigned size,
              uint64_t value);
uint64_t sys_pop(struct ref *c, const struct ref_op *o, struct sys_stack *st, unsigned size);
void sys_set_sp(struct ref *c, const struct sys_stack *st); /* into RSP, as wide as the stack is */

#endif

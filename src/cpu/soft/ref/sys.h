/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the system side of the interpreter shares: descriptors, stacks under construction, transfers
 * of control. Everything here may leave by a fault (longjmp) before it has changed guest state.
 */
#ifndef CPU_SOFT_REF_SYS_H
#define CPU_SOFT_REF_SYS_H

#include "cpu/soft/ref/ref.h"

/* ---- modes ---- */
static inline bool sys_long(const struct ref *c) { return c->s.efer & X86_EFER_LMA; }
static inline bool sys_code64(const struct ref *c) { return (c->mode & REF_MODE_CODE) == 2; }
static inline bool sys_protected(const struct ref *c) {
    return !(c->mode & REF_MODE_REAL);
} /* and not v86 */
static inline bool sys_v86(const struct ref *c) { return c->fl & X86_FLAG_VM; }
static inline unsigned sys_iopl(const struct ref *c) { return c->fl >> 12 & 3; }

static inline bool sys_canonical(uint64_t v) { return (uint64_t)((int64_t)(v << 16) >> 16) == v; }

/* Sets RFLAGS.IF alone: what CLI and STI need of ref_set_rflags. */
static inline void sys_set_if(struct ref *c, bool on) {
    c->fl = on ? c->fl | X86_FLAG_IF : c->fl & ~X86_FLAG_IF;
    c->att_mask = on ? ~0u : ~(uint32_t)REF_ATT_INTR;
}

/* End of a handler of a block-ending instruction that does not branch. */
static inline void ref_end(struct ref *c, const struct ref_op *o) {
    uint64_t rip = ref_next_rip(c, o);
    unsigned code = c->mode & REF_MODE_CODE;

    ref_goto(c, code == 2 ? rip : code ? (uint32_t)rip : (uint16_t)rip);
}

/* The same after an instruction that changed neither mode nor translation: the successor may be
 * remembered. */
static inline void ref_end_linked(struct ref *c, const struct ref_op *o) {
    ref_end(c, o);
    c->link = &c->block->link[0];
    c->next = c->block->link[0];
}

/* ref_load_sys and ref_store_sys with the hit in line: descriptors, frames and gates are 8 bytes as
 * a rule. */
static inline uint64_t sys_load64(struct ref *c, const struct ref_op *o, uint64_t lin) {
    const struct ref_tlb_entry *e = &c->bank[0][lin >> 12 & (REF_TLB_SIZE - 1)];

    if (REF_UNLIKELY(lin - e->tag_r > 4096 - 8))
        return ref_load_sys(c, o, lin, 8);
    return *(const uint64_t *)(lin + e->addend);
}

static inline void sys_store64(struct ref *c, const struct ref_op *o, uint64_t lin,
                               uint64_t value) {
    const struct ref_tlb_entry *e = &c->bank[0][lin >> 12 & (REF_TLB_SIZE - 1)];

    if (REF_UNLIKELY(lin - e->tag_w > 4096 - 8))
        ref_store_sys(c, o, lin, 8, value);
    else
        *(uint64_t *)(lin + e->addend) = value;
}

/* ---- mmu.c ---- */
/* Loads the PDPTE registers from CR3; false (nothing changed) if one has reserved bits set. */
bool ref_load_pdptes(struct ref *c, uint64_t cr3);

/* ---- seg.c: descriptors ---- */
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
/* After a return to an outer level: data segments that it may not use become null. */
void sys_drop_inner_segs(struct ref *c);
/* #GP(0) (with EXT) unless offset is inside a code segment about to be loaded. */
void sys_check_rip(struct ref *c, const struct ref_op *o, const struct x86_segment *cs,
                   uint64_t rip);

/* ---- seg.c: stacks that are not, or not yet, in force ---- */
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

/* ---- event.c ---- */
/* INT n and its kin: `o` is what faults, ret_rip what is saved. */
void sys_deliver(struct ref *c, const struct ref_op *o, enum ref_event_kind kind, unsigned vector,
                 uint64_t ret_rip, bool has_error, uint32_t error);

/* ---- far.c ---- */
void sys_far_jump(struct ref *c, const struct ref_op *o, uint16_t sel, uint64_t rip, unsigned size);
void sys_far_call(struct ref *c, const struct ref_op *o, uint16_t sel, uint64_t rip, unsigned size);
void sys_far_return(struct ref *c, const struct ref_op *o, unsigned size, unsigned extra);
void sys_iret(struct ref *c, const struct ref_op *o, unsigned size);

/* ---- task.c ---- */
enum sys_task { TASK_JUMP, TASK_CALL, TASK_EVENT, TASK_IRET };
/* Switches to the task of a TSS selector; rip is what the old task resumes at. */
void sys_task_switch(struct ref *c, const struct ref_op *o, uint16_t sel, enum sys_task how,
                     uint64_t rip, bool has_error, uint32_t error);
/* The selector in a task gate, then as above. */
void sys_task_gate(struct ref *c, const struct ref_op *o, const struct sys_desc *gate,
                   enum sys_task how, uint64_t rip, bool has_error, uint32_t error);

/* ---- msr.c, sys_*.c ---- */
uint64_t sys_tsc(struct ref *c);
bool sys_bind_seg(struct ref *c, const struct insn *in, struct ref_op *o);
bool sys_bind_control(struct ref *c, const struct insn *in, struct ref_op *o);
bool sys_bind_flags(struct ref *c, const struct insn *in, struct ref_op *o);
bool sys_bind_misc(struct ref *c, const struct insn *in, struct ref_op *o);
bool sys_bind_msr(struct ref *c, const struct insn *in, struct ref_op *o);
bool sys_read_msr(struct ref *c, uint32_t msr, uint64_t *ret_value); /* false: #GP */
bool sys_write_msr(struct ref *c, uint32_t msr, uint64_t value);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the system side of the interpreter shares: descriptors, stacks under construction, transfers
 * of control. Everything here may leave by a fault (longjmp) before it has changed guest state.
 */
#ifndef CPU_SOFT_REF_SYS_H
#define CPU_SOFT_REF_SYS_H

#include "cpu/soft/ref/ref.h"
#include "cpu/soft/ref/seg.h"

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

    ref_goto(c, sys_code64(c) ? rip : (uint32_t)rip);
}

/* The same after an instruction that changed neither mode nor translation: the successor may be
 * remembered. */
static inline void ref_end_linked(struct ref *c, const struct ref_op *o) {
    ref_end(c, o);
    ref_follow_link(c, 0);
}

/* ref_load_sys and ref_store_sys with the hit in line: descriptors, frames and gates are 8 bytes as
 * a rule. */
static inline uint64_t sys_load64(struct ref *c, const struct ref_op *o, uint64_t lin) {
    uint64_t value;
    void *p;

    if (!ref_tlb_read(c, 0, lin, 8, &p))
        return ref_load_sys(c, o, lin, 8);
    memcpy(&value, p, 8);
    return value;
}

static inline void sys_store64(struct ref *c, const struct ref_op *o, uint64_t lin,
                               uint64_t value) {
    void *p;

    if (!ref_tlb_write(c, 0, lin, 8, &p))
        ref_store_sys(c, o, lin, 8, value);
    else
        memcpy(p, &value, 8);
}

/* Serializing instructions (SDM vol. 3A 8.3): what is stored before them is seen by others before
 * anything after them happens. */
static inline void sys_serialize(const struct ref *c) {
    if (c->group.several)
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* ---- mmu.c ---- */
/* Loads the PDPTE registers from CR3; false (nothing changed) if one has reserved bits set. */
bool ref_load_pdptes(struct ref *c, uint64_t cr3);

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

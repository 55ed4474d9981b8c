/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVM's paravirtual interface as far as it concerns one processor: pages of the guest in which it
 * says how long the host let it wait, whether it sleeps, and that an interrupt has ended.
 * Source: Linux Documentation/virt/kvm/x86/msr.rst, arch/x86/include/uapi/asm/kvm_para.h.
 *
 * Contract: all on the processor's thread, without the machine lock.
 */
#ifndef CPU_SOFT_REF_PV_H
#define CPU_SOFT_REF_PV_H

#include "cpu/soft/ref/ref.h"

/* Around guest code: what others asked for while it slept is done; the guest is told that it
 * sleeps. No offer of a silent EOI outlasts ref_pv_leave. */
void ref_pv_enter(struct ref *c);
void ref_pv_leave(struct ref *c, enum cpu_exit why);

/* Acknowledges an interrupt: the vector, or -1. Between ref_bus_begin and ref_bus_end. */
int ref_pv_ack(struct ref *c);

/* Before the LAPIC is looked at or written to; not between ref_bus_begin and ref_bus_end. */
void ref_pv_settle(struct ref *c);

/* The MSRs STEAL_TIME and EOI_EN; false: #GP. */
bool ref_pv_write_steal(struct ref *c, uint32_t msr, uint64_t value);
bool ref_pv_write_eoi(struct ref *c, uint32_t msr, uint64_t value);

#endif

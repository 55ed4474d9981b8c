/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVM's hypercalls between processors, the same for every backend that does not have them in the
 * host's kernel: kick, interrupts to many, yield.
 * Source: Linux Documentation/virt/kvm/x86/hypercalls.rst, include/uapi/linux/kvm_para.h.
 */
#ifndef MACHINE_PARAVIRT_H
#define MACHINE_PARAVIRT_H

#include <stdbool.h>
#include <stdint.h>

#include "machine/machine.h"

struct device;
struct vcpu;

struct paravirt_cpus {
    struct device **lapic; /* `count` each */
    struct vcpu *vcpu[MACHINE_MAX_CPUS];
    unsigned count;
};

/*
 * The call `nr` with its arguments by processor `caller` (in privileged code, of 64 bits or not),
 * on its thread with the machine lock held. Returns what the guest gets: 0 or more, or a negative
 * KVM error; unknown calls -KVM_ENOSYS. Nothing that the guest passes can do harm: what addresses
 * no processor is not counted.
 */
int64_t paravirt_call(const struct paravirt_cpus *cpus, unsigned caller, uint64_t nr,
                      const uint64_t arg[4], bool code64);

#endif

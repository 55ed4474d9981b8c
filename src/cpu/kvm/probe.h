/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is this host's KVM worth using? A /dev/kvm that opens may still emulate kernels, at a
 * thousandth of the speed, and with gaps (KVM on hosts that have no hardware virtualization
 * themselves). So a tiny guest is run, in kernel mode, and measured.
 *
 * Contract: any thread, less than a second, returns whatever KVM does: it blocks a real-time signal
 * and uses a timer of its own for as long.
 */
#ifndef CPU_KVM_PROBE_H
#define CPU_KVM_PROBE_H

#include <stdbool.h>
#include <stdint.h>

struct kvm_verdict {
    bool usable;
    uint64_t rate;  /* loop instructions a second of processor time; 0: it did not come so far */
    char text[160]; /* a clause: "the host's KVM runs ..." */
};

/* Runs the guest. */
void kvm_probe(struct kvm_verdict *ret);
/* The same, or what was found since the host started, by anybody of this user: kept in a file below
 * $XDG_RUNTIME_DIR, or /run/vivarium for root. Without a place for it, it is found anew. */
void kvm_probe_cached(struct kvm_verdict *ret);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is this host's KVM worth using? A /dev/kvm that opens may still emulate kernels, at a
 * thousandth of the speed, and with gaps (KVM on hosts that have no hardware virtualization
 * themselves). So a tiny guest is run, in kernel mode, and measured.
 */
#ifndef CPU_KVM_PROBE_H
#define CPU_KVM_PROBE_H

#include <stdbool.h>
#include <stdint.h>

/* Emulations: 4 million; the slowest real one seen: 130 million. */
#define KVM_SLOWEST_REAL 50000000ull

struct kvm_verdict {
    bool usable;
    bool passing;   /* it may be another one soon: nothing was found out */
    uint64_t rate;  /* loop instructions a second of processor time; 0: it did not come so far */
    char text[160]; /* a clause: "the host's KVM runs ..." */
};

/* Runs the guest, in this thread: it blocks a real-time signal and uses a timer of its own for as
 * long. It may hang where KVM does. */
void kvm_probe(struct kvm_verdict *ret);

/* The same in a child that has so many milliseconds, and is killed then; whatever `probe` does,
 * this returns. */
void kvm_probe_apart(void (*probe)(struct kvm_verdict *ret), unsigned ms, struct kvm_verdict *ret);

/* In less than a second, whatever KVM does: what was found since the host started, by anybody of
 * this user, or what is found now. It is kept in a file below $XDG_RUNTIME_DIR, or /run for root;
 * without a safe place for it, it is found anew each time. Threads: any, but not in the jail. */
void kvm_probe_cached(struct kvm_verdict *ret);

/* Of the file at `path`, which holds what was found when the host's boot had that id. False: it
 * says nothing, or is not as we write it, or not ours alone. */
bool kvm_verdict_load(const char *path, const char *boot, struct kvm_verdict *ret);
/* Nothing happens if it cannot be kept there. */
void kvm_verdict_keep(const char *path, const char *boot, const struct kvm_verdict *v);

#endif

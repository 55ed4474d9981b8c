/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Signals that end KVM_RUN and do nothing else: blocked in the thread, but not inside of that call
 * (Linux Documentation/virt/kvm/api.rst, KVM_SET_SIGNAL_MASK). */
#ifndef CPU_KVM_INSIDE_H
#define CPU_KVM_INSIDE_H

/* For the calling thread, which runs this processor (its descriptor) and has the signal blocked
 * already: 0 or a negative errno. */
int kvm_unblock_inside(int cpu, int sig);
/* Takes away those that have come. */
void kvm_eat_signals(int sig);

#endif

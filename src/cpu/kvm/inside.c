/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Signals that end KVM_RUN.
 *
 * Calls (vcpu): ioctl:KVM_SET_SIGNAL_MASK rt_sigtimedwait
 */
#include "cpu/kvm/inside.h"

#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>

enum { KERNEL_SET = 8 }; /* bytes of the kernel's set */

int kvm_unblock_inside(int cpu, int sig) {
    uint32_t space[(sizeof(struct kvm_signal_mask) + KERNEL_SET) / 4] = {0};
    struct kvm_signal_mask *mask = (struct kvm_signal_mask *)space;
    sigset_t now;

    pthread_sigmask(SIG_SETMASK, NULL, &now);
    sigdelset(&now, sig);
    mask->len = KERNEL_SET;
    memcpy(mask->sigset, &now, KERNEL_SET);
    return ioctl(cpu, KVM_SET_SIGNAL_MASK, mask) < 0 ? -errno : 0;
}

void kvm_eat_signals(int sig) {
    const struct timespec now = {0};
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, sig);
    while (sigtimedwait(&set, NULL, &now) > 0)
        ;
}

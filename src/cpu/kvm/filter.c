/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MSRs that the model has not are not the guest's either (4.97 KVM_X86_SET_MSR_FILTER): KVM knows
 * many more, of the host's kind, and a guest that used them could not move. Those of the x2APIC
 * cannot be filtered. Kernels before 5.10 have no filter.
 *
 * What the model has and KVM has in another way is answered here (4.117
 * KVM_CAP_X86_USER_SPACE_MSR): KVM tells of 32 banks of machine checks, whose registers the model
 * has not.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "cpu/kvm/kvm.h"
#include "cpu/msr.h"

enum { WINDOW = 0x1000, MCG_CAP = 0x179 };

/* Where MSRs are: of all processors, of KVM, of AMD's beginning. */
static const uint32_t windows[] = {0, 0x4b564000, 0xc0000000};
enum { WINDOWS = sizeof(windows) / sizeof(windows[0]) };

/* A filtered register comes to us instead of raising #GP. */
static bool asks_us(int vm) {
    struct kvm_enable_cap cap = {.cap = KVM_CAP_X86_USER_SPACE_MSR,
                                 .args = {KVM_MSR_EXIT_REASON_FILTER}};

    return ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_X86_USER_SPACE_MSR) > 0 &&
           ioctl(vm, KVM_ENABLE_CAP, &cap) == 0;
}

void kvm_answer_msr(struct kvm_run *run) {
    bool read = run->exit_reason == KVM_EXIT_X86_RDMSR;

    run->msr.data = 0; /* no banks */
    run->msr.error = !(read && run->msr.index == MCG_CAP);
}

int kvm_filter_msrs(int vm, struct error *err) {
    static const uint32_t both = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE;
    struct kvm_msr_filter filter = {.flags = KVM_MSR_FILTER_DEFAULT_DENY};
    uint8_t bits[WINDOWS][WINDOW / 8];
    bool asked;

    if (ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_X86_MSR_FILTER) <= 0)
        return 0;
    asked = asks_us(vm);
    memset(bits, 0, sizeof(bits));
    for (unsigned w = 0; w < WINDOWS; w++) {
        for (uint32_t i = 0; i < WINDOW; i++)
            if (cpu_has_msr(windows[w] + i) && !(asked && windows[w] + i == MCG_CAP))
                bits[w][i / 8] |= (uint8_t)(1u << i % 8);
        filter.ranges[w] = (struct kvm_msr_filter_range){
            .flags = both, .nmsrs = WINDOW, .base = windows[w], .bitmap = bits[w]};
    }
    return ioctl(vm, KVM_X86_SET_MSR_FILTER, &filter) < 0
               ? error_set(err, -errno, "KVM refuses the model's registers: %s; use --cpu soft",
                           strerror(errno))
               : 0;
}

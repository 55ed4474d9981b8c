/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVM's LAPICs: their registers (4.57 KVM_GET_LAPIC), messages to them, the 8259s' line.
 *
 * A vector that KVM has taken out of the IRR for the processor but not delivered yet goes back
 * there: a state lies between two instructions.
 *
 * Calls (main): ioctl:KVM_GET_LAPIC ioctl:KVM_SET_LAPIC ioctl:KVM_GET_VCPU_EVENTS
 *     ioctl:KVM_GET_MSRS ioctl:KVM_SET_MSRS ioctl:KVM_GET_SREGS ioctl:KVM_SET_SREGS
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "cpu/kvm/kvm.h"

enum { IN_SERVICE = 0x10, LEVEL = 0x18, REQUESTED = 0x20 };

static void take_back(struct kvm_cpu *c, struct cpu_apic *apic) {
    struct kvm_vcpu_events events = {0};
    unsigned v;

    if (ioctl(c->fd, KVM_GET_VCPU_EVENTS, &events) < 0 || !events.interrupt.injected ||
        events.interrupt.soft)
        return;
    v = events.interrupt.nr;
    if (!(apic->reg[IN_SERVICE + v / 32] >> v % 32 & 1))
        return; /* of the 8259s: see kvm_get_state */
    apic->reg[IN_SERVICE + v / 32] &= ~(1u << v % 32);
    apic->reg[REQUESTED + v / 32] |= 1u << v % 32;
}

static void get(struct cpu *cpu, struct cpu_apic *ret) {
    struct kvm_cpu *c = (struct kvm_cpu *)cpu;
    struct kvm_lapic_state page = {0};
    struct kvm_sregs sregs = {0};

    kvm_call(c, "its LAPIC", KVM_GET_LAPIC, &page);
    kvm_call(c, "its registers", KVM_GET_SREGS, &sregs);
    *ret = (struct cpu_apic){.base = sregs.apic_base};
    kvm_one_msr(c, KVM_GET_MSRS, KVM_MSR_TSC_DEADLINE, &ret->tsc_deadline);
    for (unsigned i = 0; i < 64; i++)
        memcpy(&ret->reg[i], page.regs + 16 * i, 4);
    take_back(c, ret);
}

/* What was under way elsewhere ends here, and the I/O APIC wants to know. */
static void expect_ends(struct kvm_vm *vm, const struct cpu_apic *apic) {
    for (unsigned v = 0; v < 256; v++) {
        uint32_t active = apic->reg[IN_SERVICE + v / 32] | apic->reg[REQUESTED + v / 32];

        if (active & apic->reg[LEVEL + v / 32] & 1u << v % 32)
            kvm_vm_expect_level(vm, (uint8_t)v);
    }
}

static int set(struct cpu *cpu, const struct cpu_apic *apic, struct error *err) {
    struct kvm_cpu *c = (struct kvm_cpu *)cpu;
    uint64_t deadline = apic->tsc_deadline;
    struct kvm_lapic_state page = {0};
    struct kvm_sregs sregs = {0};
    int r = kvm_call(c, "its registers", KVM_GET_SREGS, &sregs);

    expect_ends(c->vm, apic);
    for (unsigned i = 0; i < 64; i++)
        memcpy(page.regs + 16 * i, &apic->reg[i], 4);
    sregs.apic_base = apic->base;
    if (r >= 0)
        r = kvm_call(c, "its registers", KVM_SET_SREGS, &sregs);
    if (r >= 0)
        r = kvm_call(c, "its LAPIC", KVM_SET_LAPIC, &page);
    if (r >= 0)
        r = kvm_one_msr(c, KVM_SET_MSRS, KVM_MSR_TSC_DEADLINE, &deadline);
    c->deadline = deadline; /* see kvm_follow_clock */
    if (r < 0)
        *err = c->cpu.error;
    return r < 0 ? r : 0;
}

static int ring(struct cpu *cpu, uint64_t addr, int fd, bool on) {
    return kvm_vm_ring(((struct kvm_cpu *)cpu)->vm, addr, fd, on);
}

static int carry(struct cpu *cpu, int fd, const struct msi_message *m) {
    return kvm_vm_carry(((struct kvm_cpu *)cpu)->vm, fd, m);
}

static void message(struct cpu *cpu, uint64_t addr, uint32_t data) {
    kvm_vm_message(((struct kvm_cpu *)cpu)->vm, addr, data);
}

static void ext_int(struct cpu *cpu, bool level) {
    struct kvm_cpu *c = (struct kvm_cpu *)cpu;

    if (__atomic_exchange_n(&c->ext_int, level, __ATOMIC_ACQ_REL) != level && level)
        kvm_leave_guest(c);
}

const struct cpu_apic_ops kvm_apic_ops = {
    .get = get, .set = set, .message = message, .ext_int = ext_int, .ring = ring, .carry = carry};

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interrupt messages to KVM's LAPICs, and the eventfds that raise them or are signalled by the
 * guest.
 *
 * The I/O APIC is ours, but only the LAPIC knows when a level-triggered interrupt ends. KVM reports
 * the end of those vectors that its routing table names, in entries that belong to I/O APIC pins
 * (7.5, KVM_CAP_SPLIT_IRQCHIP). Which pin it is does not matter to us: an entry for each vector
 * that was ever sent so is enough, and is added when it is sent first.
 *
 * Behind those, from KVM_PINS on, each eventfd that raises a message (4.75 KVM_IRQFD) has an
 * entry. The table is set as a whole (4.52 KVM_SET_GSI_ROUTING), which takes KVM a millisecond.
 *
 * Calls (main, vcpu): ioctl:KVM_SET_GSI_ROUTING ioctl:KVM_SIGNAL_MSI ioctl:KVM_IRQFD
 *     ioctl:KVM_IOEVENTFD
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "base/trace.h"
#include "bus/wires.h"
#include "cpu/kvm/kvm.h"

enum { MSI_LEVEL = 1 << 15, MSI_ASSERT = 1 << 14, TO_ALL = 0xfeeff000 };
enum { SHORT = 2 }; /* bytes of a driver's notification */

struct kvm_carrier { /* fd raises the message by the entry KVM_PINS + its place; -1: none does */
    int fd;
    struct msi_message message;
};

/* ------------------------------------------------------------------ the table */

static struct kvm_irq_routing_entry entry(unsigned gsi, uint64_t addr, uint32_t data) {
    struct kvm_irq_routing_entry e = {.gsi = gsi, .type = KVM_IRQ_ROUTING_MSI};

    e.u.msi.address_lo = (uint32_t)addr;
    e.u.msi.address_hi = (uint32_t)(addr >> 32);
    e.u.msi.data = data;
    return e;
}

/* With the lock. */
static int set_table(struct kvm_vm *vm) {
    struct kvm_irq_routing *table;
    unsigned n = 0;
    int r;

    table = calloc(1, sizeof(*table) + (KVM_PINS + vm->carriers) * sizeof(table->entries[0]));
    if (!table)
        return -ENOMEM;
    for (unsigned v = KVM_VECTORS - KVM_PINS; v < KVM_VECTORS; v++)
        if (vm->level[v]) {
            table->entries[n] = entry(n, TO_ALL, v | MSI_LEVEL | MSI_ASSERT);
            n++;
        }
    for (unsigned i = 0; i < vm->carriers; i++)
        if (vm->carrier[i].fd >= 0)
            table->entries[n++] =
                entry(KVM_PINS + i, vm->carrier[i].message.addr, vm->carrier[i].message.data);
    table->nr = n;
    r = ioctl(vm->fd, KVM_SET_GSI_ROUTING, table) < 0 ? -errno : 0;
    if (r < 0)
        trace(kvm_refused, -r);
    free(table);
    return r;
}

void kvm_vm_expect_level(struct kvm_vm *vm, uint8_t vector) {
    pthread_mutex_lock(&vm->lock);
    if (!vm->level[vector]) {
        vm->level[vector] = true;
        set_table(vm);
    }
    pthread_mutex_unlock(&vm->lock);
}

void kvm_vm_message(struct kvm_vm *vm, uint64_t addr, uint32_t data) {
    struct kvm_msi msi = {
        .address_lo = (uint32_t)addr, .address_hi = (uint32_t)(addr >> 32), .data = data};

    if (data & MSI_LEVEL) {
        if (!(data & MSI_ASSERT))
            return; /* the line fell: nobody listens */
        kvm_vm_expect_level(vm, (uint8_t)data);
    }
    if (ioctl(vm->fd, KVM_SIGNAL_MSI, &msi) < 0)
        trace(kvm_refused, errno);
}

/* ------------------------------------------------------------------ eventfds that raise messages
 */

static struct kvm_carrier *find(struct kvm_vm *vm, int fd) {
    for (unsigned i = 0; i < vm->carriers; i++)
        if (vm->carrier[i].fd == fd)
            return &vm->carrier[i];
    return NULL;
}

/* A free place, made if need be; their numbers never change. */
static struct kvm_carrier *place(struct kvm_vm *vm) {
    struct kvm_carrier *free_one = find(vm, -1), *more;

    if (free_one)
        return free_one;
    if (KVM_PINS + vm->carriers == vm->max_routes)
        return NULL;
    more = realloc(vm->carrier, (vm->carriers + 1) * sizeof(*more));
    if (!more)
        return NULL;
    vm->carrier = more;
    more[vm->carriers].fd = -1;
    return &more[vm->carriers++];
}

static int switch_irqfd(struct kvm_vm *vm, const struct kvm_carrier *c, bool on) {
    struct kvm_irqfd irqfd = {.fd = (uint32_t)c->fd,
                              .gsi = KVM_PINS + (uint32_t)(c - vm->carrier),
                              .flags = on ? 0 : KVM_IRQFD_FLAG_DEASSIGN};

    return ioctl(vm->fd, KVM_IRQFD, &irqfd) < 0 ? -errno : 0;
}

static int begin(struct kvm_vm *vm, int fd, const struct msi_message *message) {
    struct kvm_carrier *c = place(vm);
    int r;

    if (!c)
        return -ENOSPC;
    *c = (struct kvm_carrier){fd, *message};
    r = set_table(vm);
    if (r == 0)
        r = switch_irqfd(vm, c, true);
    if (r < 0)
        c->fd = -1; /* the entry goes with the next table */
    return r;
}

static int change(struct kvm_vm *vm, struct kvm_carrier *c, const struct msi_message *message) {
    int r;

    c->message = *message;
    r = set_table(vm);
    if (r == 0)
        return 0;
    switch_irqfd(vm, c, false);
    c->fd = -1;
    return r;
}

static int end(struct kvm_vm *vm, struct kvm_carrier *c) {
    int r = switch_irqfd(vm, c, false);

    c->fd = -1;
    return r;
}

int kvm_vm_carry(struct kvm_vm *vm, int fd, const struct msi_message *message) {
    struct kvm_carrier *c;
    int r;

    if (message && (message->data & MSI_LEVEL)) /* its end would have to be reported */
        return -ENOTSUP;
    pthread_mutex_lock(&vm->lock);
    c = find(vm, fd);
    if (!message)
        r = c ? end(vm, c) : 0;
    else
        r = c ? change(vm, c, message) : begin(vm, fd, message);
    pthread_mutex_unlock(&vm->lock);
    return r;
}

/* ------------------------------------------------------------------ eventfds that the guest
 * signals */

int kvm_vm_ring(struct kvm_vm *vm, uint64_t addr, int fd, bool on) {
    struct kvm_ioeventfd e = {.addr = addr,
                              .len = vm->rings_any_length ? 0 : SHORT,
                              .fd = fd,
                              .flags = on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN};

    return ioctl(vm->fd, KVM_IOEVENTFD, &e) < 0 ? -errno : 0;
}

/* ------------------------------------------------------------------ life */

void kvm_vm_init_routes(struct kvm_vm *vm) {
    int most = ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_IRQ_ROUTING);

    vm->max_routes = most > KVM_PINS ? (unsigned)most : KVM_PINS;
    if (ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_IRQFD) <= 0)
        vm->max_routes = KVM_PINS; /* none of them */
    vm->rings_any_length = ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_IOEVENTFD_ANY_LENGTH) > 0;
}

void kvm_vm_free_routes(struct kvm_vm *vm) { free(vm->carrier); }

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtual machine of KVM's: its making, its memory.
 *
 * Calls (main, vcpu): ioctl:KVM_SET_USER_MEMORY_REGION
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cpu/kvm/kvm.h"

static struct kvm_cpuid2 *get_supported(int kvm) {
    size_t size = sizeof(struct kvm_cpuid2) + KVM_LEAVES * sizeof(struct kvm_cpuid_entry2);
    struct kvm_cpuid2 *c = calloc(1, size);

    if (!c)
        return NULL;
    c->nent = KVM_LEAVES;
    if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, c) == 0)
        return c;
    free(c);
    return NULL;
}

/* ------------------------------------------------------------------ memory */

static int set_slot(struct kvm_vm *vm, unsigned i, gpa base, uint64_t size) {
    const struct mem_range *r = &vm->mem->range[i];
    struct kvm_userspace_memory_region region = {
        .slot = i,
        .flags = r->readonly    ? KVM_MEM_READONLY
                 : vm->dirty.on ? KVM_MEM_LOG_DIRTY_PAGES
                                : 0,
        .guest_phys_addr = base,
        .memory_size = size,
        .userspace_addr = (uintptr_t)r->host,
    };

    return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) < 0 ? -errno : 0;
}

/* Memory of a device yields to RAM: then its accesses come to the board one by one. */
static bool is_free(const struct kvm_vm *vm, unsigned i) {
    const struct mem_range *r = &vm->mem->range[i];

    for (unsigned k = 0; k < vm->mem->count; k++)
        if (k != i && r->base < vm->mem->range[k].base + vm->mem->range[k].size &&
            vm->mem->range[k].base < r->base + r->size)
            return false;
    return true;
}

int kvm_vm_map(struct kvm_vm *vm, struct error *err) {
    int r = 0;

    pthread_mutex_lock(&vm->lock);
    for (unsigned pass = 0; pass < 2; pass++) /* what goes makes room for what comes */
        for (unsigned i = 0; r == 0 && i < vm->mem->count; i++) {
            const struct mem_range *range = &vm->mem->range[i];
            struct kvm_slot *s = &vm->slot[i];
            bool wanted = range->base != MEM_NOWHERE && range->size && is_free(vm, i);

            if (pass == 0 && s->size &&
                (!wanted || s->base != range->base || s->size != range->size)) {
                r = kvm_dirty_slot_goes(vm, i);
                if (r == 0)
                    r = set_slot(vm, i, s->base, 0);
                s->size = 0;
            }
            if (pass == 1 && wanted && !s->size) {
                r = set_slot(vm, i, range->base, range->size);
                if (r == 0)
                    *s = (struct kvm_slot){range->base, range->size};
            }
        }
    pthread_mutex_unlock(&vm->lock);
    return r < 0 ? error_set(err, r, "KVM refuses guest memory: %s", strerror(-r)) : 0;
}

/* Where memory is, or may come, there is no window: RAM hides what is behind it. */
static bool is_clear(const struct mem *m, gpa at, uint64_t size) {
    for (unsigned i = 0; i < m->count; i++)
        if (at < m->range[i].base + m->range[i].whole && m->range[i].base < at + size)
            return false;
    return true;
}

int kvm_vm_window(struct kvm_vm *vm, unsigned n, gpa at, void *memory, uint64_t size) {
    struct kvm_userspace_memory_region region = {
        .slot = MEM_MAX_RANGES + n,
        .guest_phys_addr = at,
        .memory_size = size,
        .userspace_addr = (uintptr_t)memory,
    };
    int r;

    if (size && !is_clear(vm->mem, at, size))
        return -EEXIST;
    pthread_mutex_lock(&vm->lock);
    r = ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) < 0 ? -errno : 0;
    pthread_mutex_unlock(&vm->lock);
    return r;
}

int kvm_vm_remap(struct kvm_vm *vm) {
    int r = 0;

    pthread_mutex_lock(&vm->lock);
    for (unsigned i = 0; r == 0 && i < vm->mem->count; i++)
        if (vm->slot[i].size && !vm->mem->range[i].readonly)
            r = set_slot(vm, i, vm->slot[i].base, vm->slot[i].size);
    pthread_mutex_unlock(&vm->lock);
    return r;
}

/* ------------------------------------------------------------------ life */

static int split_irqchip(int fd) {
    struct kvm_enable_cap cap = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {KVM_PINS}};

    return ioctl(fd, KVM_ENABLE_CAP, &cap) < 0 ? -errno : 0;
}

/* Three pages below the firmware that Intel's processors need (4.41, 4.44); others ignore it. */
static void set_addresses(int fd) {
    uint64_t identity = 0xfeffc000;

    ioctl(fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
    ioctl(fd, KVM_SET_TSS_ADDR, 0xfeffd000);
}

static int make(struct kvm_vm *vm, int kvm, const struct cpu_config *config, struct error *err) {
    int r = kvm_check_capabilities(kvm, err);

    if (r < 0)
        return r;
    r = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    vm->run_size = r > 0 ? (size_t)r : 0;
    vm->supported = get_supported(kvm);
    vm->fd = ioctl(kvm, KVM_CREATE_VM, 0);
    if (vm->fd < 0 || !vm->run_size || !vm->supported)
        return error_set(err, -EIO, "KVM makes no virtual machine: %s; use --cpu soft",
                         strerror(errno));
    vm->scaled.can = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_TSC_CONTROL) > 0;
    kvm_find_lacks(vm);
    kvm_vm_init_routes(vm);
    r = kvm_dirty_choose(vm, config->dirty_ring, err);
    if (r < 0)
        return r;
    set_addresses(vm->fd);
    r = kvm_filter_msrs(vm->fd, err);
    if (r < 0)
        return r;
    r = split_irqchip(vm->fd);
    return r < 0 ? error_set(err, r, "KVM gives no interrupt controllers: %s; use --cpu soft",
                             strerror(-r))
                 : kvm_vm_map(vm, err);
}

static struct kvm_vm *vm_new(const struct cpu_config *config, struct error *err) {
    struct kvm_vm *vm = calloc(1, sizeof(*vm));
    int kvm = vm ? kvm_open(err) : error_set(err, -ENOMEM, "KVM: out of memory"), r;

    if (!vm || kvm < 0) {
        free(vm);
        return NULL;
    }
    *vm = (struct kvm_vm){.fd = -1, .users = 1, .mem = config->bus.mem};
    pthread_mutex_init(&vm->lock, NULL);
    r = make(vm, kvm, config, err);
    close(kvm);
    if (r == 0)
        return vm;
    kvm_vm_leave(vm);
    return NULL;
}

struct kvm_vm *kvm_vm_join(const struct cpu_config *config, struct error *err) {
    struct kvm_vm *vm;

    if (!config->peers || !config->peers[0])
        return vm_new(config, err);
    vm = ((struct kvm_cpu *)config->peers[0])->vm;
    vm->users++;
    return vm;
}

void kvm_vm_leave(struct kvm_vm *vm) {
    if (!vm || --vm->users)
        return;
    if (vm->fd >= 0)
        close(vm->fd);
    pthread_mutex_destroy(&vm->lock);
    kvm_vm_free_routes(vm);
    free(vm->supported);
    free(vm);
}

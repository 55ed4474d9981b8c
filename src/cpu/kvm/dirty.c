/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which pages KVM's processors wrote, and KVM itself on their behalf (its clock, steal time): by
 * its log, a bitmap a slot (4.8 KVM_GET_DIRTY_LOG, 4.117 KVM_CLEAR_DIRTY_LOG), or by a ring a
 * processor (8.29 KVM_CAP_DIRTY_LOG_RING). Both end in the bitmap of bus/dirty.h.
 *
 * The log is read and cleared when somebody asks, with all processors at rest; so nothing is
 * written between the two, and manual clearing only says which slots are to be made read-only
 * again. The ring is read then, too, and whenever one is full; with it there is no log.
 *
 * A slot's pages are its range's, by number: what a slot had is read before it goes.
 *
 * Calls (main, vcpu): ioctl:KVM_GET_DIRTY_LOG ioctl:KVM_CLEAR_DIRTY_LOG ioctl:KVM_RESET_DIRTY_RINGS
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/trace.h"
#include "bus/dirty.h"
#include "cpu/kvm/kvm.h"

/* Pages that a processor writes before it comes back for that. */
enum { RING_PAGES = 4096 };

/* ------------------------------------------------------------------ the log */

/* Before the first slot: else KVM makes pages read-only whenever the log is read. */
static void choose_manual(struct kvm_vm *vm) {
    struct kvm_enable_cap cap = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
                                 .args = {KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE}};
    int can = ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);

    vm->dirty.manual = can > 0 && (can & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE) &&
                       ioctl(vm->fd, KVM_ENABLE_CAP, &cap) == 0;
}

static int read_log(struct kvm_vm *vm, unsigned i) {
    uint64_t pages = vm->slot[i].size >> MEM_PAGE_SHIFT, words = (pages + 63) / 64;
    uint64_t *bits = calloc(words, 8), seen = 0;
    struct kvm_dirty_log log = {.slot = i, .dirty_bitmap = bits};
    struct kvm_clear_dirty_log clear = {
        .slot = i, .num_pages = (uint32_t)pages, .dirty_bitmap = bits};
    int r = bits ? 0 : -ENOMEM;

    if (r == 0 && ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log) < 0)
        r = -errno;
    for (uint64_t w = 0; r == 0 && w < words; w++) {
        seen |= bits[w];
        for (uint64_t left = bits[w]; left; left &= left - 1)
            dirty_note_page(&vm->mem->range[i], 64 * w + (uint64_t)__builtin_ctzll(left));
    }
    if (r == 0 && seen && vm->dirty.manual && ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &clear) < 0)
        r = -errno;
    free(bits);
    return r;
}

/* ------------------------------------------------------------------ the rings */

int kvm_dirty_map_ring(struct kvm_cpu *c) {
    struct kvm_vm *vm = c->vm;
    void *ring;

    if (!vm->dirty.ring)
        return 0;
    ring = mmap(NULL, RING_PAGES * sizeof(struct kvm_dirty_gfn), PROT_READ | PROT_WRITE, MAP_SHARED,
                c->fd, KVM_DIRTY_LOG_PAGE_OFFSET * sysconf(_SC_PAGESIZE));
    if (ring == MAP_FAILED)
        return -errno;
    c->ring = ring;
    return 0;
}

void kvm_dirty_unmap_ring(struct kvm_cpu *c) {
    if (c->ring)
        munmap(c->ring, RING_PAGES * sizeof(struct kvm_dirty_gfn));
    c->ring = NULL;
}

/*
 * KVM fills entries in order and takes back those that were given back. It leaves the guest while
 * some are still free; one that emulates many instructions in one go (an emulation, see probe.c)
 * has been seen to write over the oldest instead. In a ring without a free entry anything may be
 * missing.
 */
static unsigned read_ring(struct kvm_cpu *c) {
    unsigned n = 0;

    for (; n < RING_PAGES; n++, c->ring_at++) {
        struct kvm_dirty_gfn *e = &c->ring[c->ring_at % RING_PAGES];
        const struct mem_range *r;

        if (!(__atomic_load_n(&e->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_DIRTY))
            break;
        r = e->slot < c->vm->mem->count ? &c->vm->mem->range[e->slot] : NULL;
        if (r && e->offset < r->whole >> MEM_PAGE_SHIFT)
            dirty_note_page(r, e->offset);
        __atomic_store_n(&e->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
    }
    if (n == RING_PAGES)
        dirty_note_all(c->vm->mem);
    return n;
}

static int read_rings(struct kvm_vm *vm) {
    unsigned n = 0;

    for (unsigned i = 0; i < vm->cpus; i++)
        if (vm->cpu[i]->ring)
            n += read_ring(vm->cpu[i]);
    return n && ioctl(vm->fd, KVM_RESET_DIRTY_RINGS, 0) < 0 ? -errno : 0;
}

int kvm_dirty_ring_full(struct kvm_cpu *c) {
    int r;

    c->count.rings++;
    pthread_mutex_lock(&c->vm->lock);
    r = read_rings(c->vm);
    pthread_mutex_unlock(&c->vm->lock);
    return r;
}

/* ------------------------------------------------------------------ both */

int kvm_dirty_choose(struct kvm_vm *vm, bool ring, struct error *err) {
    struct kvm_enable_cap cap = {.cap = KVM_CAP_DIRTY_LOG_RING,
                                 .args = {RING_PAGES * sizeof(struct kvm_dirty_gfn)}};
    int most;

    if (!ring) {
        choose_manual(vm);
        return 0;
    }
    most = ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_DIRTY_LOG_RING);
    if (most < (int)cap.args[0] || ioctl(vm->fd, KVM_ENABLE_CAP, &cap) < 0)
        return error_set(err, -ENOTSUP,
                         "the host's KVM has no rings of written pages (KVM_CAP_DIRTY_LOG_RING); "
                         "use --dirty-log on, or a newer kernel");
    vm->dirty.ring = true;
    return 0;
}

/* Lock held. */
int kvm_dirty_slot_goes(struct kvm_vm *vm, unsigned i) {
    if (!vm->dirty.on)
        return 0;
    return vm->dirty.ring ? read_rings(vm) : read_log(vm, i);
}

int kvm_dirty_track(struct cpu *cpu, bool on, struct error *err) {
    struct kvm_vm *vm = ((struct kvm_cpu *)cpu)->vm;
    int r;

    if (vm->dirty.on == on)
        return 0;
    vm->dirty.on = on;
    r = kvm_vm_remap(vm);
    if (r == 0)
        return 0;
    vm->dirty.on = false;
    return error_set(err, r, "KVM does not tell which pages are written: %s", strerror(-r));
}

int kvm_dirty_collect(struct cpu *cpu, struct error *err) {
    struct kvm_vm *vm = ((struct kvm_cpu *)cpu)->vm;
    int r = 0;

    if (cpu->config.index) /* one asks for all */
        return 0;
    if (!vm->dirty.on)
        return error_set(err, -EINVAL, "KVM was not asked to tell which pages are written");
    pthread_mutex_lock(&vm->lock);
    if (vm->dirty.ring)
        r = read_rings(vm);
    for (unsigned i = 0; r == 0 && !vm->dirty.ring && i < vm->mem->count; i++)
        if (vm->slot[i].size && !vm->mem->range[i].readonly)
            r = read_log(vm, i);
    pthread_mutex_unlock(&vm->lock);
    return r < 0 ? error_set(err, r, "KVM does not tell which pages were written: %s", strerror(-r))
                 : 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Split virtqueues as the device sees them.
 * Source: Virtual I/O Device (VIRTIO) Version 1.2, section 2.7 (split virtqueues), 2.1.2 (needs
 * reset).
 *
 *   descriptor (16 bytes): 0 address, 8 length, 12 flags (1 next, 2 device-writable, 4 indirect),
 * 14 next available ring: 0 flags (1 no interrupt), 2 index, 4 + 2i heads, then the driver's event
 * index used ring: 0 flags (1 no kick), 2 index, 4 + 8i (id, length), then the device's event index
 *
 * Theory of operation. The driver's thread writes the rings while we read them, without our lock.
 * Each index is read once with acquire order, then what it covers; each descriptor is copied before
 * it is checked. Where one side writes its wish (event index) and then looks at the other's index,
 * a full fence stands between, or both could miss each other.
 *
 * Nothing of the guest's rings is kept as a host pointer across calls; addresses are checked on
 * each use.
 *
 * Departures: descriptors of length 0 break the ring, though 1.2 does not forbid them; no known
 * driver makes them. A chain may be longer than its queue through an indirect table (2.7.5.3.1
 * forbids that to the driver, but block drivers with short queues do it), up to VIRTIO_CHAIN_MAX.
 */
#include "devices/virtio/virtio.h"

#include <string.h>

#include "base/bytes.h"
#include "base/trace.h"
#include "bus/dirty.h"
#include "devices/virtio/virtio_internal.h"

enum { DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4, DESC_SIZE = 16 };
enum { AVAIL_NO_INTERRUPT = 1, USED_NO_KICK = 1 };

#define NO_BUDGET      UINT32_MAX
#define AGAIN_DELAY_NS 10000 /* long enough that a vCPU gets the machine lock in between */

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

struct rings { /* host addresses, for the length of one call */
    const uint8_t *desc;
    uint8_t *avail, *used;
};

static uint16_t load_u16(const uint8_t *p, int order) {
    return le16toh(__atomic_load_n((const uint16_t *)p, order));
}

static void store_u16(uint8_t *p, uint16_t value, int order) {
    __atomic_store_n((uint16_t *)p, htole16(value), order);
}

static uint8_t *avail_used_event(const struct virtqueue *q, const struct rings *r) {
    return r->avail + 4 + 2 * (size_t)q->size;
}

static uint8_t *used_avail_event(const struct virtqueue *q, const struct rings *r) {
    return r->used + 4 + 8 * (size_t)q->size;
}

bool virtio_has(const struct virtio *v, uint64_t feature) {
    return (v->driver_features & v->offered & feature) == feature;
}

static bool running(const struct virtio *v) {
    enum { WANT = VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK };

    return (v->status & (WANT | VIRTIO_STATUS_NEEDS_RESET)) == WANT;
}

bool virtio_live(const struct virtio *v) {
    return running(v) && (v->pci.config[PCI_COMMAND] & PCI_COMMAND_MASTER);
}

void virtio_broken(struct virtio *v, const char *why) {
    bool was_running = running(v);

    trace(virtio_broken, v->pci.dev.name, why);
    if (v->status & VIRTIO_STATUS_NEEDS_RESET)
        return;
    v->status |= VIRTIO_STATUS_NEEDS_RESET;
    stat_inc(virtio_broken);
    if (was_running)
        virtio_signal(v, v->config_vector, VIRTIO_ISR_CONFIG);
}

static int broken(struct virtio *v, const char *why) {
    virtio_broken(v, why);
    return -1;
}

void virtqueue_reset(struct virtqueue *q, uint16_t size) {
    *q = (struct virtqueue){
        .size = size, .vector = VIRTIO_NO_VECTOR, .signalled_valid = true, .budget = NO_BUDGET};
}

void virtqueue_loaded(struct virtqueue *q) {
    q->signalled_valid = false; /* at worst one interrupt too many */
    q->quiet = q->starved = false;
    q->budget = NO_BUDGET;
}

static bool map_rings(struct virtio *v, const struct virtqueue *q, struct rings *ret) {
    const struct mem *m = v->pci.dev.env.mem;

    /* A queue size comes from the guest or a snapshot: a power of two keeps the index arithmetic
     * true. */
    if (!q->size || q->size > VIRTIO_QUEUE_SIZE_MAX || (q->size & (q->size - 1)) ||
        (q->desc & 15) || (q->avail & 1) || (q->used & 3)) {
        virtio_broken(v, "a queue is misaligned or has an impossible size");
        return false;
    }
    ret->desc = mem_ptr(m, q->desc, DESC_SIZE * (uint64_t)q->size, false);
    ret->avail = mem_ptr(m, q->avail, 6 + 2 * (uint64_t)q->size, false);
    ret->used = mem_ptr(m, q->used, 6 + 8 * (uint64_t)q->size, true);
    if (ret->desc && ret->avail && ret->used)
        return true;
    virtio_broken(v, "a ring lies outside of RAM");
    return false;
}

static struct desc load_desc(const uint8_t *p) {
    struct desc d = {load_le64(p), load_le32(p + 8), load_le16(p + 12), load_le16(p + 14)};

    /* The copy is what gets checked: the compiler must not read the guest's bytes again later. */
    __asm__ volatile("" : "+m"(d) : : "memory");
    return d;
}

/* Adds the buffer, in pieces where it spans ranges of memory that are apart in the host. */
static int add_buffer(struct virtio *v, struct virtio_chain *c, const struct desc *d) {
    const struct mem *m = v->pci.dev.env.mem;
    bool write = d->flags & DESC_WRITE;
    uint64_t addr = d->addr, left = d->len;

    if (!left)
        return broken(v, "a descriptor has length 0");
    if (!write && c->in_count)
        return broken(v, "a readable descriptor follows a writable one");
    while (left) {
        const struct mem_range *range = mem_find(m, addr);
        uint64_t at = range ? addr - range->base : 0, part = range ? range->size - at : 0;
        unsigned n = c->out_count + c->in_count;

        if (!range || (write && range->readonly))
            return broken(v, "a descriptor points outside of RAM");
        if (n >= VIRTIO_CHAIN_MAX)
            return broken(v, "a chain is too long");
        if (part > left)
            part = left;
        c->iov[n] = (struct iovec){range->host + at, part};
        c->addr[n] = addr;
        *(write ? &c->in_count : &c->out_count) += 1;
        *(write ? &c->in_len : &c->out_len) += part;
        addr += part;
        left -= part;
    }
    return 0;
}

/* Goes over to the indirect table that d describes. */
static int enter_indirect(struct virtio *v, const struct desc *d, const uint8_t **ret_table,
                          uint32_t *ret_count) {
    if (!virtio_has(v, VIRTIO_F_INDIRECT_DESC))
        return broken(v, "an indirect descriptor without the feature");
    if (d->flags & DESC_NEXT)
        return broken(v, "an indirect descriptor with a successor");
    if (!d->len || d->len % DESC_SIZE)
        return broken(v, "an indirect table has a wrong length");
    *ret_table = mem_ptr(v->pci.dev.env.mem, d->addr, d->len, false);
    if (!*ret_table)
        return broken(v, "an indirect table lies outside of RAM");
    *ret_count = d->len / DESC_SIZE;
    return 0;
}

static int walk(struct virtio *v, const struct virtqueue *q, const uint8_t *table,
                struct virtio_chain *c) {
    uint32_t count = q->size, i = c->head, steps = 0;
    bool indirect = false;

    for (;;) {
        struct desc d;

        if (i >= count)
            return broken(v, "a descriptor index is out of range");
        if (++steps > count)
            return broken(v, "the descriptors form a loop");
        d = load_desc(table + (size_t)i * DESC_SIZE);
        if (d.flags & DESC_INDIRECT) {
            if (indirect)
                return broken(v, "an indirect descriptor in an indirect table");
            if (enter_indirect(v, &d, &table, &count) < 0)
                return -1;
            indirect = true;
            i = steps = 0;
            continue;
        }
        if (add_buffer(v, c, &d) <
            0) /* also ends long walks: each step takes a place in the chain */
            return -1;
        if (!(d.flags & DESC_NEXT))
            return 0;
        i = d.next;
    }
}

static void used_written(struct virtio *v, const struct virtqueue *q) {
    mem_written(v->pci.dev.env.mem, q->used, 6 + 8 * (uint64_t)q->size);
}

/* Tells the driver that we want to hear of the next chain, and makes sure that it sees that before
 * we look at its index again. */
static void ask_for_kick(struct virtio *v, const struct virtqueue *q, const struct rings *r) {
    if (virtio_has(v, VIRTIO_F_EVENT_IDX))
        store_u16(used_avail_event(q, r), q->last_avail, __ATOMIC_RELAXED);
    else
        store_u16(r->used, 0, __ATOMIC_RELAXED);
    used_written(v, q);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static uint16_t waiting(const struct virtqueue *q, const struct rings *r) {
    return (uint16_t)(load_u16(r->avail + 2, __ATOMIC_ACQUIRE) - q->last_avail);
}

static struct virtqueue *usable_queue(struct virtio *v, unsigned queue) {
    if (queue >= v->queue_count || !v->queue[queue].enabled)
        return NULL;
    return &v->queue[queue];
}

static int take(struct virtio *v, unsigned queue, const struct rings *r, uint16_t head,
                struct virtio_chain *ret_chain) {
    ret_chain->queue = (uint16_t)queue;
    ret_chain->epoch = v->epoch;
    ret_chain->out_count = ret_chain->in_count = 0;
    ret_chain->out_len = ret_chain->in_len = 0;
    ret_chain->head = head;
    return walk(v, &v->queue[queue], r->desc, ret_chain);
}

int virtio_retake(struct virtio *v, unsigned queue, uint16_t head, struct virtio_chain *ret_chain) {
    struct virtqueue *q = usable_queue(v, queue);
    struct rings r;

    if (!q || !virtio_live(v))
        return 0;
    if (!map_rings(v, q, &r) || take(v, queue, &r, head, ret_chain) < 0)
        return -1;
    trace(virtio_pop, v->pci.dev.name, queue, head, ret_chain->out_count, ret_chain->in_count);
    return 1;
}

/* All that a device may write, whatever becomes of the request. */
static void note_dirty(const struct virtio *v, const struct virtio_chain *c) {
    if (!dirty_noted(v->pci.dev.env.mem))
        return;
    for (unsigned i = c->out_count; i < c->out_count + c->in_count; i++)
        dirty_note(v->pci.dev.env.mem, c->addr[i], c->iov[i].iov_len);
}

int virtio_pop(struct virtio *v, unsigned queue, struct virtio_chain *ret_chain) {
    struct virtqueue *q = usable_queue(v, queue);
    struct rings r;
    uint16_t n, head;

    if (!q || !virtio_live(v))
        return 0;
    if (!map_rings(v, q, &r))
        return -1;
    n = waiting(q, &r);
    if (!n && !q->quiet) {
        ask_for_kick(v, q, &r);
        n = waiting(q, &r);
    }
    if (!n)
        return 0;
    if (n > q->size)
        return broken(v, "the available index jumped");
    if (!q->budget) {
        q->starved = true;
        return 0;
    }
    head = load_u16(r.avail + 4 + 2 * (size_t)(q->last_avail & (q->size - 1)), __ATOMIC_RELAXED);
    if (take(v, queue, &r, head, ret_chain) < 0)
        return -1;
    q->last_avail++;
    if (q->budget != NO_BUDGET)
        q->budget--;
    note_dirty(v, ret_chain);
    stat_inc(virtio_chains);
    trace(virtio_pop, v->pci.dev.name, queue, ret_chain->head, ret_chain->out_count,
          ret_chain->in_count);
    return 1;
}

void virtio_unpop(struct virtio *v, const struct virtio_chain *chain) {
    struct virtqueue *q = usable_queue(v, chain->queue);

    if (!q || chain->epoch != v->epoch)
        return;
    q->last_avail--;
    if (q->budget != NO_BUDGET)
        q->budget++;
}

/* CPUs may hold decoded instructions of the pages that the device wrote. */
static void mark_written(struct virtio *v, const struct virtio_chain *c, uint32_t written) {
    uint64_t left = written;

    for (unsigned i = c->out_count; left && i < c->out_count + c->in_count; i++) {
        uint64_t n = c->iov[i].iov_len < left ? c->iov[i].iov_len : left;

        mem_written(v->pci.dev.env.mem, c->addr[i], n);
        left -= n;
    }
}

static void push(struct virtio *v, const struct virtio_chain *chain, uint32_t written, bool show) {
    struct virtqueue *q = usable_queue(v, chain->queue);
    struct rings r;
    uint8_t *slot;

    note_dirty(v, chain);
    if (!q || chain->epoch != v->epoch || !running(v))
        return;
    mark_written(v, chain, written);
    if (!map_rings(v, q, &r))
        return;
    slot = r.used + 4 + 8 * (size_t)(q->used_idx & (q->size - 1));
    store_le32(slot, chain->head);
    store_le32(slot + 4, written);
    q->used_idx++;
    if (show)
        store_u16(r.used + 2, q->used_idx, __ATOMIC_RELEASE);
    mem_written(v->pci.dev.env.mem, q->used, 6 + 8 * (uint64_t)q->size);
    trace(virtio_push, v->pci.dev.name, chain->queue, chain->head, written);
}

void virtio_push(struct virtio *v, const struct virtio_chain *chain, uint32_t written) {
    push(v, chain, written, true);
}

void virtio_push_later(struct virtio *v, const struct virtio_chain *chain, uint32_t written) {
    push(v, chain, written, false);
}

/* 2.7.10: does the interval (old, now] of used indexes contain the one that the driver waits for?
 */
static bool event_passed(uint16_t event, uint16_t now, uint16_t old) {
    return (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

static bool wants_interrupt(struct virtio *v, struct virtqueue *q, const struct rings *r) {
    uint16_t old = q->signalled_used;
    bool valid = q->signalled_valid;

    q->signalled_used = q->used_idx;
    q->signalled_valid = true;
    if (valid && old == q->used_idx) /* nothing new since */
        return false;
    if (!virtio_has(v, VIRTIO_F_EVENT_IDX))
        return !(load_u16(r->avail, __ATOMIC_RELAXED) & AVAIL_NO_INTERRUPT);
    return !valid ||
           event_passed(load_u16(avail_used_event(q, r), __ATOMIC_RELAXED), q->used_idx, old);
}

void virtio_interrupt(struct virtio *v, unsigned queue) {
    struct virtqueue *q = usable_queue(v, queue);
    struct rings r;

    if (!q || !running(v) || !map_rings(v, q, &r))
        return;
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* our used index before the driver's wish */
    if (!wants_interrupt(v, q, &r))
        return;
    stat_inc(virtio_interrupts);
    trace(virtio_interrupt, v->pci.dev.name, queue, q->vector);
    virtio_signal(v, q->vector, VIRTIO_ISR_QUEUE);
}

bool virtio_want_kick(struct virtio *v, unsigned queue, bool want) {
    struct virtqueue *q = usable_queue(v, queue);
    struct rings r;

    if (!q || !virtio_live(v) || !map_rings(v, q, &r))
        return false;
    q->quiet = !want;
    if (!want) { /* with event indexes it is enough not to move ours on */
        if (!virtio_has(v, VIRTIO_F_EVENT_IDX)) {
            store_u16(r.used, USED_NO_KICK, __ATOMIC_RELAXED);
            used_written(v, q);
        }
        return false;
    }
    ask_for_kick(v, q, &r);
    return waiting(q, &r) && !q->starved;
}

void virtio_kick(struct virtio *v, unsigned queue) {
    struct virtqueue *q = usable_queue(v, queue);

    if (!q || !virtio_live(v)) {
        trace(virtio_ignored, v->pci.dev.name, "kick of a queue that does not run");
        return;
    }
    stat_inc(virtio_kicks);
    trace(virtio_notify, v->pci.dev.name, queue);
    q->budget = q->size;
    q->starved = false;
    v->type->notify(v, queue);
    q->budget = NO_BUDGET;
    if (q->starved) {
        q->starved = false;
        trace(virtio_again, v->pci.dev.name, queue);
        virtio_again(v, queue);
    }
}

void virtio_again(struct virtio *v, unsigned queue) {
    if (queue >= v->queue_count)
        return;
    v->again_queues |= 1u << queue;
    if (!clock_timer_armed(&v->again))
        clock_timer_arm(&v->again, clock_now(v->pci.dev.env.clock) + AGAIN_DELAY_NS);
}

void virtio_kick_all(struct virtio *v) {
    for (unsigned i = 0; i < v->queue_count; i++)
        if (v->queue[i].enabled && virtio_live(v))
            virtio_again(v, i);
}

void virtio_again_fired(void *opaque) {
    struct virtio *v = opaque;
    uint32_t queues = v->again_queues;

    v->again_queues = 0;
    for (unsigned i = 0; i < v->queue_count; i++)
        if (queues & 1u << i)
            virtio_kick(v, i);
}

void virtio_again_stop(struct virtio *v) {
    v->again_queues = 0;
    clock_timer_disarm(&v->again);
}

// clang-format off
const struct state_desc virtqueue_state = {
    .name = "virtqueue",
    .version = 1,
    .struct_size = sizeof(struct virtqueue),
    .fields = (const struct state_field[]){
        STATE_MAX(struct virtqueue, size, VIRTIO_QUEUE_SIZE_MAX),
        STATE(struct virtqueue, vector),
        STATE(struct virtqueue, enabled),
        STATE(struct virtqueue, desc),
        STATE(struct virtqueue, avail),
        STATE(struct virtqueue, used),
        STATE(struct virtqueue, last_avail),
        STATE(struct virtqueue, used_idx),
        STATE_END,
    },
};
// clang-format on

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtio driver that knows the rules and keeps them most of the time.
 * Source: Virtual I/O Device (VIRTIO) Version 1.2, 2.7 (split queues), 3.1.1
 * (initialisation), 4.1.4 (layout).
 */
#include <string.h>

#include "base/bytes.h"
#include "devices/rig_internal.h"
#include "support/test.h"

enum {
    VENDOR = 0x1af4,
    CAP_COMMON = 1,
    CAP_NOTIFY = 2,
    DEVICE_FEATURE_SEL = 0,
    DEVICE_FEATURE = 4,
    DRIVER_FEATURE_SEL = 8,
    DRIVER_FEATURE = 12,
    NUM_QUEUES = 0x12,
    STATUS = 0x14,
    QUEUE_SEL = 0x16,
    QUEUE_SIZE = 0x18,
    QUEUE_VECTOR = 0x1a,
    QUEUE_ENABLE = 0x1c,
    QUEUE_DESC = 0x20,
    QUEUE_AVAIL = 0x28,
    QUEUE_USED = 0x30,
    DESC_NEXT = 1,
    DESC_WRITE = 2,
    DESC_INDIRECT = 4,
    DESC_SIZE = 16,
    RINGS = 0x40000,
    RINGS_OF_ONE = 0x8000, /* descriptors, then +4000 available, +5000 used ring */
    TABLES = 0x60000,      /* indirect tables */
    BUFFERS = 0x80000,
    BUFFERS_SIZE = 0x80000,
};

struct place { /* of a register area: physical address, 0 = none */
    uint64_t common, notify;
    uint32_t notify_stride;
};

static uint32_t config(struct rig *r, unsigned offset, unsigned size) {
    return pci_config_read(r->bus, r->devfn, offset, size);
}

static bool find_areas(struct rig *r, struct place *p) {
    unsigned at, hops = 0;

    *p = (struct place){0};
    if (!r->bus || config(r, PCI_VENDOR, 2) != VENDOR)
        return false;
    for (at = config(r, PCI_CAP_PTR, 1); at && hops < 48; at = config(r, at + 1, 1), hops++) {
        uint32_t bar = config(r, at + 4, 1), type = config(r, at + 3, 1);
        uint64_t base;

        if (config(r, at, 1) != PCI_CAP_VENDOR || bar >= PCI_BARS)
            continue;
        base = config(r, PCI_BAR0 + 4 * bar, 4) & ~15u;
        base |= (uint64_t)config(r, PCI_BAR0 + 4 * bar + 4, 4) << 32;
        base += config(r, at + 8, 4);
        if (type == CAP_COMMON)
            p->common = base;
        if (type == CAP_NOTIFY) {
            p->notify = base;
            p->notify_stride = config(r, at + 16, 4);
        }
    }
    return p->common && p->notify;
}

static bool sometimes(struct rng *rng, unsigned one_in) { return rng_below(rng, one_in) == 0; }

/* ------------------------------------------------------------------ descriptors */

struct driver {
    struct rig *rig;
    struct rng *rng;
    struct place place;
    unsigned type;  /* virtio device id */
    unsigned queue; /* being filled */
    bool careless;
};

enum { NET = 1, BLOCK = 2, SCSI = 8 };               /* the others need no special chains */
enum { IN = 0, OUT = 1, DISCARD = 11, ZEROES = 13 }; /* block requests */
enum { MAX_CHAIN = 40 };

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

/* For careless drivers: true once in a while. */
static bool slips(struct driver *d, unsigned one_in) {
    return d->careless && sometimes(d->rng, one_in);
}

static uint64_t some_address(struct driver *d) {
    if (slips(d, 32))
        return rng_next(d->rng);
    if (slips(d, 32))
        return 0x100000 - rng_below(d->rng, 64); /* the end of RAM */
    if (slips(d, 32))
        return RINGS + rng_below(d->rng, RINGS_OF_ONE); /* over our own rings */
    if (slips(d, 32))
        return 0xffff0000; /* ROM */
    return BUFFERS + rng_below(d->rng, BUFFERS_SIZE - 0x10000);
}

static uint32_t some_length(struct driver *d) {
    static const uint32_t usual[] = {512, 512, 1024, 1536, 4096, 65024};

    if (slips(d, 32))
        return 0;
    if (slips(d, 32))
        return (uint32_t)rng_next(d->rng);
    if (slips(d, 4))
        return (uint32_t)rng_below(d->rng, 70000);
    return usual[rng_below(d->rng, sizeof(usual) / sizeof(usual[0]))];
}

static void put_desc(struct driver *d, gpa table, uint32_t i, const struct desc *desc) {
    uint8_t b[DESC_SIZE];

    store_le64(b, desc->addr);
    store_le32(b + 8, desc->len);
    store_le16(b + 12, desc->flags);
    store_le16(b + 14, desc->next);
    mem_write(&d->rig->mem, table + (uint64_t)i * DESC_SIZE, b, sizeof(b));
}

/* A block request's header: 5.2.6. Returns its type. */
static uint8_t put_block_header(struct driver *d, uint64_t addr) {
    static const uint8_t types[] = {IN, IN, IN, OUT, OUT, OUT, 4, 8, DISCARD, ZEROES, 77};
    uint8_t h[16] = {types[rng_below(d->rng, sizeof(types))]};

    store_le64(h + 8, sometimes(d->rng, 16) ? rng_next(d->rng) : rng_below(d->rng, 520));
    mem_write(&d->rig->mem, addr, h, sizeof(h));
    return h[0];
}

/* Ranges of a discard. */
static void put_segments(struct driver *d, uint64_t addr) {
    for (unsigned i = 0; i < 4; i++) {
        uint8_t s[16];

        store_le64(s, rng_below(d->rng, 520));
        store_le32(s + 8, (uint32_t)rng_below(d->rng, 16));
        store_le32(s + 12, sometimes(d->rng, 8));
        mem_write(&d->rig->mem, addr + 16 * i, s, sizeof(s));
    }
}

/* Header, data, status; now and then cut at other places (2.7.4). Returns how many are readable. */
static uint32_t shape_block(struct driver *d, struct desc *c, uint32_t n) {
    uint8_t type = put_block_header(d, c[0].addr);
    bool in = type == IN || type == 8;

    c[0].len = 16;
    c[n - 1].len = 1;
    if (n > 2 && (type == DISCARD || type == ZEROES)) {
        for (uint32_t i = 1; i < n - 1; i++) {
            c[i].len = 16 * (1 + (uint32_t)rng_below(d->rng, 4));
            put_segments(d, c[i].addr);
        }
    } else if (sometimes(d->rng, 4)) {
        if (in)
            c[n - 1].len += 512;
        else
            c[0].len += 512;
    }
    return in ? 1 : n - 1;
}

/* Header with a command, data either way, answer: 5.6.6. On the first two queues a request of the
 * control queue, or a buffer for events. */
static uint32_t shape_scsi(struct driver *d, struct desc *c, uint32_t n) {
    static const uint8_t commands[] = {0x00, 0x12, 0x1a, 0x15, 0x25, 0x28, 0x2a, 0x2a, 0x35,
                                       0x41, 0x42, 0x5a, 0x88, 0x8a, 0x93, 0x9e, 0xa0, 0x1b};
    uint8_t h[51] = {1, (uint8_t)rng_below(d->rng, 3), 0x40, (uint8_t)rng_below(d->rng, 2)};
    bool in = sometimes(d->rng, 2);

    if (d->queue == 0) {
        uint8_t task[24] = {0, 0, 0, 0, (uint8_t)rng_below(d->rng, 9), 0, 0, 0, 1};

        mem_write(&d->rig->mem, c[0].addr, task, sizeof(task));
        c[0].len = sizeof(task);
        return 1;
    }
    if (d->queue == 1)
        return 0;
    h[19] = commands[rng_below(d->rng, sizeof(commands))];
    h[20] = (uint8_t)(rng_next(d->rng) & rng_next(d->rng) & rng_next(d->rng));
    for (unsigned i = 2; i < 16; i++)
        h[19 + i] = sometimes(d->rng, 3) ? (uint8_t)rng_below(d->rng, 10) : 0;
    mem_write(&d->rig->mem, c[0].addr, h, sizeof(h));
    c[0].len = sizeof(h);
    if (in || n < 3) {
        c[1].len = 108;
        return 1;
    }
    c[n - 1].len = 108;
    return n - 1;
}

/* A frame's header: 5.1.6. */
static void put_net_header(struct driver *d, uint64_t addr) {
    uint8_t h[12] = {sometimes(d->rng, 3),
                     sometimes(d->rng, 4) ? (uint8_t)rng_below(d->rng, 6) : 0};

    store_le16(h + 6, (uint16_t)rng_below(d->rng, 60));
    store_le16(h + 8, (uint16_t)rng_below(d->rng, 20));
    mem_write(&d->rig->mem, addr, h, sizeof(h));
}

/* Draws a chain as the device type wants it; returns its length. */
static uint32_t draw_chain(struct driver *d, struct desc c[static MAX_CHAIN], uint32_t limit) {
    uint32_t n = 1 + (uint32_t)rng_below(d->rng, sometimes(d->rng, 8) ? MAX_CHAIN : 4), readable;
    bool in = d->queue % 2 == 0;

    if ((d->type == BLOCK || d->type == SCSI) && n < 3)
        n = 2 + (uint32_t)rng_below(d->rng, 2);
    if (n > limit)
        n = limit;
    for (uint32_t i = 0; i < n; i++)
        c[i] = (struct desc){some_address(d), some_length(d), 0, 0};
    if (d->type == BLOCK && n > 1) {
        readable = shape_block(d, c, n);
    } else if (d->type == SCSI && n > 1) {
        readable = shape_scsi(d, c, n);
    } else {
        readable = in ? 0 : n;
        if (d->type == NET && !in)
            put_net_header(d, c[0].addr);
    }
    if (slips(d, 8))
        readable = (uint32_t)rng_below(d->rng, n + 1);
    for (uint32_t i = readable; i < n; i++)
        c[i].flags = DESC_WRITE;
    return n;
}

static void put_chain(struct driver *d, gpa table, uint32_t first, uint32_t size, struct desc *c,
                      uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        c[i].next = (uint16_t)((first + i + 1) % size);
        if (i + 1 < n)
            c[i].flags |= DESC_NEXT;
        if (slips(d, 100))
            c[i].flags = (uint16_t)rng_next(d->rng);
        if (slips(d, 100))
            c[i].next = (uint16_t)rng_next(d->rng);
        put_desc(d, table, (first + i) % size, &c[i]);
    }
}

/* Puts a request at `head` of the ring's table; returns how many of its descriptors it took. */
static uint32_t put_request(struct driver *d, gpa table, uint32_t head, uint32_t size,
                            uint32_t left) {
    struct desc c[MAX_CHAIN], outer;
    uint32_t n;

    if (!sometimes(d->rng, 4)) {
        n = draw_chain(d, c, left);
        put_chain(d, table, head, size, c, n);
        return n;
    }
    outer = (struct desc){TABLES + rng_below(d->rng, 64) * 0x400, 0, DESC_INDIRECT, 0};
    n = draw_chain(d, c, MAX_CHAIN);
    outer.len = n * DESC_SIZE + slips(d, 50);
    put_chain(d, outer.addr, 0, MAX_CHAIN, c, n);
    put_desc(d, table, head, &outer);
    return 1;
}

static void refill(struct driver *d) {
    gpa rings = RINGS + (gpa)d->queue * RINGS_OF_ONE, avail = rings + 0x4000;
    struct rig *r = d->rig;
    uint32_t head = 0, size;
    uint16_t index;
    uint8_t word[2];

    io_write(&r->mmio, d->place.common + QUEUE_SEL, 2, d->queue);
    size = (uint32_t)io_read(&r->mmio, d->place.common + QUEUE_SIZE, 2);
    if (!size || size > 256 || mem_read(&r->mem, avail + 2, word, 2) < 0)
        return;
    index = load_le16(word);
    for (uint64_t n = rng_below(d->rng, 6); n && head < size; n--) {
        uint16_t shown = (uint16_t)(slips(d, 50) ? rng_next(d->rng) : head);

        head += put_request(d, rings, head, size, size - head);
        if (slips(d, 8))
            head = (uint32_t)rng_below(d->rng, size);
        store_le16(word, shown);
        mem_write(&r->mem, avail + 4 + 2 * (gpa)(index++ % size), word, 2);
    }
    if (slips(d, 50))
        index = (uint16_t)rng_next(d->rng);
    store_le16(word, index);
    mem_write(&r->mem, avail + 2, word, 2);
    store_le16(word, sometimes(d->rng, 4)); /* no interrupts, please */
    mem_write(&r->mem, avail, word, 2);
    store_le16(word, (uint16_t)(index - rng_below(d->rng, 4))); /* used_event */
    mem_write(&r->mem, avail + 4 + 2 * (gpa)size, word, 2);
}

static bool find_device(struct driver *d, struct rig *r, struct rng *rng) {
    *d = (struct driver){.rig = r, .rng = rng, .careless = sometimes(rng, 3)};
    if (!find_areas(r, &d->place))
        return false;
    d->type = config(r, PCI_DEVICE, 2) - 0x1040;
    return true;
}

void rig_kick(struct rig *r, uint64_t seed) {
    struct rng rng = rng_seed(seed);
    struct driver d;
    unsigned queues;

    if (!find_device(&d, r, &rng))
        return;
    queues = (unsigned)io_read(&r->mmio, d.place.common + NUM_QUEUES, 2);
    if (!queues || queues > 64)
        return;
    d.queue = (unsigned)rng_below(&rng, queues);
    refill(&d);
    io_write(&r->mmio, d.place.notify + (uint64_t)d.queue * d.place.notify_stride, 2, d.queue);
}

/* ------------------------------------------------------------------ initialisation */

static void negotiate(struct driver *d) {
    uint64_t take = sometimes(d->rng, 2) ? ~0ull : rng_next(d->rng), common = d->place.common;
    struct io_space *io = &d->rig->mmio;

    for (unsigned half = 0; half < 2; half++) {
        uint32_t offered;

        io_write(io, common + DEVICE_FEATURE_SEL, 4, half);
        offered = (uint32_t)io_read(io, common + DEVICE_FEATURE, 4);
        io_write(io, common + DRIVER_FEATURE_SEL, 4, half);
        io_write(io, common + DRIVER_FEATURE, 4,
                 (offered & (uint32_t)(take >> (32 * half))) | half); /* VERSION_1 always */
    }
}

static void enable_queue(struct driver *d) {
    gpa rings = RINGS + (gpa)d->queue * RINGS_OF_ONE;
    uint64_t common = d->place.common, desc = rings, avail = rings + 0x4000, used = rings + 0x5000;
    struct io_space *io = &d->rig->mmio;
    uint8_t zero[0x3000] = {0};

    mem_write(&d->rig->mem, avail, zero, sizeof(zero));
    io_write(io, common + QUEUE_SEL, 2, d->queue);
    if (sometimes(d->rng, 3))
        io_write(io, common + QUEUE_SIZE, 2, 1u << rng_below(d->rng, 9));
    if (slips(d, 20))
        io_write(io, common + QUEUE_SIZE, 2, rng_below(d->rng, 520));
    if (slips(d, 20))
        desc = rng_next(d->rng);
    if (slips(d, 20))
        avail = rng_next(d->rng);
    if (slips(d, 20))
        used = some_address(d);
    io_write(io, common + QUEUE_VECTOR, 2, rng_below(d->rng, 4));
    io_write(io, common + QUEUE_DESC, 8, desc);
    io_write(io, common + QUEUE_AVAIL, 8, avail);
    io_write(io, common + QUEUE_USED, 8, used);
    if (!slips(d, 20))
        io_write(io, common + QUEUE_ENABLE, 2, 1);
}

static void enable_msix(struct rig *r) {
    unsigned at, hops = 0;

    for (at = config(r, PCI_CAP_PTR, 1); at && hops < 48; at = config(r, at + 1, 1), hops++)
        if (config(r, at, 1) == PCI_CAP_MSIX)
            pci_config_write(r->bus, r->devfn, at + 2, 2, 0x8000);
}

void rig_drive(struct rig *r, uint64_t seed) {
    struct rng rng = rng_seed(seed);
    struct error err = {0};
    struct driver d;
    uint64_t status;
    unsigned queues;

    if (!r->bus || pci_bus_assign(r->bus, 0xe0000000, 0xf0000000, 0xc000, &err) < 0)
        return;
    pci_config_write(r->bus, r->devfn, PCI_COMMAND, 2,
                     PCI_COMMAND_IO | PCI_COMMAND_MEM |
                         (sometimes(&rng, 20) ? 0 : PCI_COMMAND_MASTER));
    if (!find_device(&d, r, &rng))
        return;
    if (sometimes(&rng, 2))
        enable_msix(r);
    status = d.place.common + STATUS;
    io_write(&r->mmio, status, 1, 0);
    io_write(&r->mmio, status, 1, 1 | 2);
    negotiate(&d);
    io_write(&r->mmio, status, 1, 1 | 2 | 8);
    queues = (unsigned)io_read(&r->mmio, d.place.common + NUM_QUEUES, 2);
    for (d.queue = 0; d.queue < queues && d.queue < 8; d.queue++)
        enable_queue(&d);
    io_write(&r->mmio, status, 1, 1 | 2 | 8 | 4);
    for (unsigned n = 0; n < 4; n++)
        rig_kick(r, rng_next(&rng));
}

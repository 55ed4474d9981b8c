/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The test driver: virtio 1.2, 3.1.1 (initialisation), 4.1.4 (finding the areas), 2.7.13 (supplying
 * buffers). */
#include "devices/virtio_driver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

enum { NEXT = 1, WRITE = 2, INDIRECT = 4, BAR_WINDOW = 0xc0000000, MSI_ADDRESS = 0xfee00000 };

static void give_up(const char *what, const char *why) {
    fprintf(stderr, "virtio_driver: %s: %s\n", what, why);
    abort();
}

/* ---- board ---- */

static void note_msi(void *opaque, uint64_t addr, uint32_t data) {
    struct board *b = opaque;

    if (b->msi_count < BOARD_MSI_MAX)
        b->msi[b->msi_count] = (struct board_msi){addr, data};
    b->msi_count++;
}

static void note_intx(void *opaque, unsigned n, bool level) {
    struct board *b = opaque;

    b->intx_edges += level && !b->intx[n];
    b->intx[n] = level;
}

void test_board_init(struct board *b, uint64_t ram) {
    struct error err = {0};
    struct irq wires[4];

    memset(b, 0, sizeof(*b));
    if (mem_init(&b->mem, &err) < 0 || mem_add(&b->mem, 0, ram, false, &err) < 0)
        give_up("memory", err.text);
    b->clock = clock_new_stepped();
    b->bus = pci_bus_new(&b->pio, &b->mmio);
    if (!b->clock || !b->bus)
        give_up("board", "out of memory");
    for (unsigned i = 0; i < 4; i++)
        wires[i] = (struct irq){note_intx, b, i};
    pci_bus_set_intx(b->bus, wires);
    b->next = 0x1000;
    b->bar_next = BAR_WINDOW;
}

void test_board_done(struct board *b) {
    pci_bus_free(b->bus);
    io_space_done(&b->pio);
    io_space_done(&b->mmio);
    clock_free(b->clock);
    mem_done(&b->mem);
}

struct device_env board_env(struct board *b, const void *config) {
    return (struct device_env){
        .mem = &b->mem,
        .clock = b->clock,
        .msi = {note_msi, b},
        .config = config,
    };
}

struct device *board_add(struct board *b, const char *cls, const void *config, unsigned devfn) {
    struct device_env env = board_env(b, config);
    struct error err = {0};
    const struct device_class *c = device_class_find(cls);
    struct device *dev;

    if (!c)
        give_up(cls, "there is no such class");
    dev = device_new(c, cls, &env, &err);
    if (!dev || pci_bus_attach(b->bus, (struct pci_device *)dev, devfn, &err) < 0)
        give_up(cls, err.text);
    return dev;
}

gpa board_alloc(struct board *b, uint64_t len, uint64_t align) {
    gpa at = (b->next + align - 1) & ~(align - 1);
    void *p = mem_ptr(&b->mem, at, len, true);

    if (!p)
        give_up("board_alloc", "guest memory is used up");
    memset(p, 0, len);
    b->next = at + len;
    return at;
}

uint16_t board_load16(struct board *b, gpa addr) {
    uint8_t p[2] = {0};

    mem_read(&b->mem, addr, p, sizeof(p));
    return load_le16(p);
}

uint32_t board_load32(struct board *b, gpa addr) {
    uint8_t p[4] = {0};

    mem_read(&b->mem, addr, p, sizeof(p));
    return load_le32(p);
}

void board_store16(struct board *b, gpa addr, uint16_t v) {
    uint8_t p[2];

    store_le16(p, v);
    mem_write(&b->mem, addr, p, sizeof(p));
}

void board_store32(struct board *b, gpa addr, uint32_t v) {
    uint8_t p[4];

    store_le32(p, v);
    mem_write(&b->mem, addr, p, sizeof(p));
}

void board_store64(struct board *b, gpa addr, uint64_t v) {
    uint8_t p[8];

    store_le64(p, v);
    mem_write(&b->mem, addr, p, sizeof(p));
}

/* ---- finding the device ---- */

static uint32_t config(struct driver *d, unsigned offset, unsigned size) {
    return pci_config_read(d->b->bus, d->devfn, offset, size);
}

/* Sizes each BAR with all ones, as every guest does, and gives it an address. */
static void place_bars(struct driver *d) {
    for (unsigned i = 0; i < PCI_BARS; i++) {
        unsigned at = PCI_BAR0 + 4 * i;
        bool is64 = (config(d, at, 4) & 7) == 4;
        uint32_t size;

        pci_config_write(d->b->bus, d->devfn, at, 4, ~0u);
        size = ~(config(d, at, 4) & ~0xfu) + 1;
        if (!size)
            continue;
        d->b->bar_next = (d->b->bar_next + size - 1) & ~((gpa)size - 1);
        pci_config_write(d->b->bus, d->devfn, at, 4, (uint32_t)d->b->bar_next);
        d->b->bar_next += size;
        if (is64)
            pci_config_write(d->b->bus, d->devfn, PCI_BAR0 + 4 * ++i, 4, 0);
    }
    pci_config_write(d->b->bus, d->devfn, PCI_COMMAND, 2, PCI_COMMAND_MEM | PCI_COMMAND_MASTER);
}

static gpa bar_base(struct driver *d, unsigned bar) {
    return config(d, PCI_BAR0 + 4 * bar, 4) & ~0xfu;
}

static void take_virtio_cap(struct driver *d, unsigned at) {
    gpa area = bar_base(d, config(d, at + 4, 1)) + config(d, at + 8, 4);

    switch (config(d, at + 3, 1)) {
    case 1:
        d->common = area;
        break;
    case 2:
        d->notify = area;
        d->stride = config(d, at + 16, 4);
        break;
    case 3:
        d->isr = area;
        break;
    case 4:
        d->device = area;
        d->device_len = config(d, at + 12, 4);
        break;
    }
}

void driver_find(struct driver *d, struct board *b, unsigned devfn) {
    *d = (struct driver){.b = b, .devfn = devfn};
    if (config(d, PCI_VENDOR, 2) != 0x1af4)
        give_up("driver_find", "no virtio device there");
    place_bars(d);
    for (unsigned at = config(d, PCI_CAP_PTR, 1); at; at = config(d, at + 1, 1)) {
        unsigned id = config(d, at, 1);

        if (id == PCI_CAP_VENDOR)
            take_virtio_cap(d, at);
        if (id == PCI_CAP_MSIX) {
            uint32_t table = config(d, at + 4, 4);

            d->msix_cap = at;
            d->msix_table = bar_base(d, table & 7) + (table & ~7u);
        }
    }
    if (!d->common || !d->notify || !d->isr || !d->msix_cap)
        give_up("driver_find", "a capability is missing");
}

uint64_t driver_read(struct driver *d, unsigned offset, unsigned size) {
    return io_read(&d->b->mmio, d->common + offset, size);
}

void driver_write(struct driver *d, unsigned offset, unsigned size, uint64_t value) {
    io_write(&d->b->mmio, d->common + offset, size, value);
}

uint64_t driver_config(struct driver *d, unsigned offset, unsigned size) {
    return io_read(&d->b->mmio, d->device + offset, size);
}

void driver_config_write(struct driver *d, unsigned offset, unsigned size, uint64_t value) {
    io_write(&d->b->mmio, d->device + offset, size, value);
}

uint8_t driver_status(struct driver *d) { return (uint8_t)driver_read(d, 0x14, 1); }

uint8_t driver_isr(struct driver *d) { return (uint8_t)io_read(&d->b->mmio, d->isr, 1); }

uint64_t driver_offered(struct driver *d) {
    uint64_t low;

    driver_write(d, 0, 4, 0);
    low = driver_read(d, 4, 4);
    driver_write(d, 0, 4, 1);
    return low | driver_read(d, 4, 4) << 32;
}

/* ---- starting it ---- */

void driver_use_msix(struct driver *d) {
    unsigned count = (config(d, d->msix_cap + 2, 2) & 0x7ff) + 1;

    for (unsigned i = 0; i < count; i++) {
        gpa entry = d->msix_table + 16 * i;

        io_write(&d->b->mmio, entry, 4, MSI_ADDRESS);
        io_write(&d->b->mmio, entry + 4, 4, 0);
        io_write(&d->b->mmio, entry + 8, 4, DRIVER_VECTOR_BASE + i);
        io_write(&d->b->mmio, entry + 12, 4, 0);
    }
    pci_config_write(d->b->bus, d->devfn, d->msix_cap + 2, 2, 0x8000);
}

static bool msix_on(struct driver *d) { return config(d, d->msix_cap + 2, 2) & 0x8000; }

bool driver_negotiate(struct driver *d, uint64_t features) {
    driver_write(d, 0x14, 1, 0);
    driver_write(d, 0x14, 1, 1);
    driver_write(d, 0x14, 1, 3);
    d->features = features;
    driver_write(d, 8, 4, 0);
    driver_write(d, 12, 4, (uint32_t)features);
    driver_write(d, 8, 4, 1);
    driver_write(d, 12, 4, (uint32_t)(features >> 32));
    driver_write(d, 0x14, 1, 11);
    if (msix_on(d))
        driver_write(d, 0x10, 2, 0);
    return driver_status(d) & 8;
}

void driver_queue(struct driver *d, unsigned queue, uint16_t size) {
    struct driver_queue *q = &d->q[queue];

    driver_write(d, 0x16, 2, queue);
    if (size)
        driver_write(d, 0x18, 2, size);
    *q = (struct driver_queue){.size = (uint16_t)driver_read(d, 0x18, 2)};
    if (!q->size || (size && q->size != size))
        give_up("driver_queue", "the device does not take the queue's size");
    /* One descriptor more than there is, for tests that point past the end. */
    q->desc = board_alloc(d->b, 16 * ((uint64_t)q->size + 1), 16);
    q->avail = board_alloc(d->b, 6 + 2 * (uint64_t)q->size, 2);
    q->used = board_alloc(d->b, 6 + 8 * (uint64_t)q->size, 4);
    q->notify = d->notify + driver_read(d, 0x1e, 2) * d->stride;
    if (msix_on(d))
        driver_write(d, 0x1a, 2, queue + 1);
    driver_write(d, 0x20, 4, (uint32_t)q->desc);
    driver_write(d, 0x24, 4, q->desc >> 32);
    driver_write(d, 0x28, 4, (uint32_t)q->avail);
    driver_write(d, 0x2c, 4, q->avail >> 32);
    driver_write(d, 0x30, 4, (uint32_t)q->used);
    driver_write(d, 0x34, 4, q->used >> 32);
    driver_write(d, 0x1c, 2, 1);
}

void driver_ready(struct driver *d) { driver_write(d, 0x14, 1, 15); }

void driver_start(struct driver *d, struct board *b, unsigned devfn, uint64_t features,
                  unsigned queues, bool msix) {
    driver_find(d, b, devfn);
    if (msix)
        driver_use_msix(d);
    if (!driver_negotiate(d, features | VIRTIO_F_VERSION_1))
        give_up("driver_start", "the device refuses the features");
    for (unsigned i = 0; i < queues; i++)
        driver_queue(d, i, 0);
    driver_ready(d);
}

/* ---- using it ---- */

void driver_desc(struct driver *d, gpa table, unsigned i, gpa addr, uint32_t len, uint16_t flags,
                 uint16_t next) {
    gpa at = table + 16 * (gpa)i;

    board_store64(d->b, at, addr);
    board_store32(d->b, at + 8, len);
    board_store16(d->b, at + 12, flags);
    board_store16(d->b, at + 14, next);
}

void driver_avail(struct driver *d, unsigned queue, uint16_t head) {
    struct driver_queue *q = &d->q[queue];

    board_store16(d->b, q->avail + 4 + 2 * (gpa)(q->avail_idx % q->size), head);
    board_store16(d->b, q->avail + 2, ++q->avail_idx);
}

uint16_t driver_add(struct driver *d, unsigned queue, const struct driver_buf *buf,
                    unsigned count) {
    struct driver_queue *q = &d->q[queue];
    uint16_t head = q->next_desc;

    for (unsigned i = 0; i < count; i++) {
        uint16_t at = q->next_desc;

        q->next_desc = (uint16_t)((at + 1) % q->size);
        driver_desc(d, q->desc, at, buf[i].addr, buf[i].len,
                    (uint16_t)((buf[i].write ? WRITE : 0) | (i + 1 < count ? NEXT : 0)),
                    q->next_desc);
    }
    driver_avail(d, queue, head);
    return head;
}

uint16_t driver_add_indirect(struct driver *d, unsigned queue, const struct driver_buf *buf,
                             unsigned count) {
    struct driver_queue *q = &d->q[queue];
    uint16_t head = q->next_desc;
    gpa table = board_alloc(d->b, 16 * (uint64_t)count, 16);

    for (unsigned i = 0; i < count; i++)
        driver_desc(d, table, i, buf[i].addr, buf[i].len,
                    (uint16_t)((buf[i].write ? WRITE : 0) | (i + 1 < count ? NEXT : 0)),
                    (uint16_t)(i + 1));
    q->next_desc = (uint16_t)((head + 1) % q->size);
    driver_desc(d, q->desc, head, table, 16 * count, INDIRECT, 0);
    driver_avail(d, queue, head);
    return head;
}

void driver_kick(struct driver *d, unsigned queue) {
    io_write(&d->b->mmio, d->q[queue].notify, 2, queue);
}

bool driver_used(struct driver *d, unsigned queue, uint16_t *ret_head, uint32_t *ret_len) {
    struct driver_queue *q = &d->q[queue];
    gpa at = q->used + 4 + 8 * (gpa)(q->last_used % q->size);

    if (board_load16(d->b, q->used + 2) == q->last_used)
        return false;
    *ret_head = (uint16_t)board_load32(d->b, at);
    *ret_len = board_load32(d->b, at + 4);
    q->last_used++;
    return true;
}

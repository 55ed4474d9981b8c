/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: the input is a driver of a virtio device of any type. It fills rings, buffers and
 * registers as it likes, kicks, and the host answers; the device must not crash, hang, or touch a
 * byte outside of guest memory.
 *
 * Guest memory is small and lies in the heap, so that the sanitizer sees each byte beyond its end.
 * The devices live on from input to input and are reset before each.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "devices/rig.h"
#include "devices/virtio/virtio.h"

enum { RAM = 64 << 10, OTHER = 8 << 10, RANGES = 3, TYPES_MAX = 16, STEPS_MAX = 400 };
enum { RING = 0x1000, AVAIL = 0x400, USED = 0x600, BUFFERS = 0x8000, QUEUE_SIZE = 16 };
enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };

static struct machine {
    struct rig rig;
    uint64_t common, notify;
    uint8_t *ram[RANGES];
    uint16_t avail_idx[VIRTIO_MAX_QUEUES];
} machines[TYPES_MAX];
static unsigned types;

static struct machine *m;
static struct choices input;

static uint64_t draw(unsigned bytes) { return choices_draw(&input, bytes); }

/* ---- making ---- */

/* The mapped memory is left to mem_done, which never comes: the machines live as long as we. */
static void move_ram_to_heap(struct machine *machine) {
    struct mem *mem = &machine->rig.mem;

    if (mem->count != RANGES)
        abort();
    for (unsigned i = 0; i < RANGES; i++) {
        size_t n = i ? OTHER : RAM;

        machine->ram[i] = aligned_alloc(MEM_PAGE_SIZE, n);
        if (!machine->ram[i])
            abort();
        mem->range[i].host = machine->ram[i];
        mem->range[i].size = n;
    }
}

static void find_areas(struct machine *machine) {
    struct rig *r = &machine->rig;
    uint64_t base = ((struct pci_device *)r->dev)->bar[0].region.base;

    for (unsigned at = pci_config_read(r->bus, r->devfn, PCI_CAP_PTR, 1); at;
         at = pci_config_read(r->bus, r->devfn, at + 1, 1)) {
        unsigned type = pci_config_read(r->bus, r->devfn, at + 3, 1);
        uint64_t area = base + pci_config_read(r->bus, r->devfn, at + 8, 4);

        if (pci_config_read(r->bus, r->devfn, at, 1) != PCI_CAP_VENDOR)
            continue;
        if (type == 1)
            machine->common = area;
        if (type == 2)
            machine->notify = area;
    }
}

static void make_machines(void) {
    for (unsigned i = 0; device_classes[i] && types < TYPES_MAX; i++) {
        if (strncmp(device_classes[i]->name, "virtio_", 7))
            continue;
        m = &machines[types++];
        rig_open(&m->rig, device_classes[i], 1000, true);
        move_ram_to_heap(m);
        find_areas(m);
    }
    if (!types)
        abort();
}

static void make_new(void) {
    const struct rig_act reset = {.kind = RIG_RESET};

    rig_do(&m->rig, &reset);
    for (unsigned i = 0; i < RANGES; i++)
        memset(m->ram[i], 0, i ? OTHER : RAM);
    memset(m->avail_idx, 0, sizeof(m->avail_idx));
    m->rig.backend_full = false;
    if (m->rig.disk)
        memset(m->rig.disk, 0, RIG_DISK_SIZE);
}

/* ---- the driver ---- */

static void write_common(unsigned offset, unsigned size, uint64_t value) {
    io_write(&m->rig.mmio, m->common + offset, size, value);
}

static void store_guest(uint64_t addr, uint64_t value, unsigned size) {
    uint8_t bytes[8];

    store_le64(bytes, value);
    mem_write(&m->rig.mem, addr, bytes, size);
}

/* Mostly places where there is memory, often its ends. */
static uint64_t draw_addr(void) {
    unsigned how = (unsigned)draw(1);
    const struct mem_range *range = &m->rig.mem.range[how / 8 % RANGES];

    switch (how % 8) {
    case 0:
        return draw(8);
    case 1:
        return range->base + range->size - draw(1);
    case 2:
        return range->base + draw(1);
    default:
        return draw(2);
    }
}

/* By the book up to DRIVER_OK, but for what the input says. */
static void start(void) {
    unsigned how = (unsigned)draw(1), queues;
    uint64_t features = draw(3) & 0xffffff;
    struct virtio *v = (struct virtio *)m->rig.dev;

    if (how & 1) /* MSI-X */
        pci_config_write(m->rig.bus, m->rig.devfn, v->pci.msix_cap + 2u, 2, 0x8000);
    pci_config_write(m->rig.bus, m->rig.devfn, PCI_COMMAND, 2,
                     PCI_COMMAND_MEM | PCI_COMMAND_MASTER);
    features |= VIRTIO_F_VERSION_1 | (how & 2 ? VIRTIO_F_INDIRECT_DESC : 0) |
                (how & 4 ? VIRTIO_F_EVENT_IDX : 0);
    features &= v->offered;
    write_common(0x14, 1, 0);
    write_common(0x14, 1, 3);
    for (unsigned i = 0; i < 2; i++) {
        write_common(8, 4, i);
        write_common(12, 4, features >> (32 * i));
    }
    write_common(0x14, 1, 11);
    queues = (unsigned)io_read(&m->rig.mmio, m->common + 0x12, 2);
    for (unsigned i = 0; i < queues && i < VIRTIO_MAX_QUEUES; i++) {
        write_common(0x16, 2, i);
        write_common(0x18, 2, how & 8 ? 1u << draw(1) % 9 : QUEUE_SIZE);
        write_common(0x1a, 2, i + 1);
        write_common(0x20, 8, how & 16 ? draw_addr() & ~15ull : RING * i);
        write_common(0x28, 8, how & 32 ? draw_addr() & ~1ull : RING * i + AVAIL);
        write_common(0x30, 8, how & 64 ? draw_addr() & ~3ull : RING * i + USED);
        write_common(0x1c, 2, 1);
    }
    write_common(0x14, 1, 15);
}

static void put_desc(uint64_t table, unsigned i) {
    static const uint16_t flags[8] = {0, NEXT, WRITE, WRITE | NEXT, 0, NEXT, WRITE, INDIRECT};
    unsigned how = (unsigned)draw(1);
    uint64_t at = table + 16 * i, len = how & 8 ? draw(4) : draw(how & 16 ? 2 : 1);

    store_guest(at, draw_addr(), 8);
    store_guest(at + 8, len, 4);
    store_guest(at + 12, how >= 240 ? draw(2) : flags[how % 8], 2);
    store_guest(at + 14, how & 32 ? draw(1) : i + 1, 2);
}

static void put_chain(unsigned queue) {
    unsigned head = (unsigned)draw(1) % QUEUE_SIZE, n = (unsigned)draw(1) % 6;
    uint64_t base = RING * queue;

    for (unsigned i = 0; i < n; i++)
        put_desc(base, (head + i) % QUEUE_SIZE);
    store_guest(base + AVAIL + 4 + 2 * (m->avail_idx[queue] % QUEUE_SIZE), head, 2);
    store_guest(base + AVAIL + 2, ++m->avail_idx[queue], 2);
}

static void fill_guest(void) {
    uint64_t addr = draw_addr();

    for (unsigned n = (unsigned)draw(1) % 64; n; n--)
        store_guest(addr++, draw(1), 1);
}

static void touch_bar(bool write) {
    uint64_t base = m->common & ~0xfffull, offset = draw(2) & 0x7fff;
    unsigned size = 1u << (offset % 4);

    offset = draw(1) & 1 ? offset & 0x303f : offset; /* the areas begin at thousands */
    if (write)
        io_write(&m->rig.mmio, base + offset, size, draw(size));
    else
        io_read(&m->rig.mmio, base + offset, size);
}

static void touch_config(void) {
    unsigned offset = (unsigned)draw(1), size = 1u << (draw(1) % 3);

    pci_config_read(m->rig.bus, m->rig.devfn, offset, size);
    pci_config_write(m->rig.bus, m->rig.devfn, offset, size, (uint32_t)draw(size));
}

static void act(void) {
    unsigned what = (unsigned)draw(1), queue = what / 16 % 4;
    struct rig_act host = {.kind = what & 16 ? RIG_STEP : RIG_POKE, .offset = what / 16};

    switch (what % 16) {
    case 0:
    case 1:
    case 2:
    case 3:
        put_chain(queue);
        break;
    case 4:
    case 5:
    case 6:
        io_write(&m->rig.mmio, m->notify + 4 * queue, 2, queue);
        break;
    case 7:
        put_desc(what & 64 ? BUFFERS : RING * queue, (unsigned)draw(1) % QUEUE_SIZE);
        break;
    case 8:
        m->avail_idx[queue] = (uint16_t)(m->avail_idx[queue] + draw(1) - 8);
        store_guest(RING * queue + AVAIL + 2, m->avail_idx[queue], 2);
        break;
    case 9:
        fill_guest();
        break;
    case 10:
        write_common((unsigned)draw(1) % 0x38, 1u << (what / 16 % 4), draw(4));
        break;
    case 11:
        touch_bar(what & 16);
        break;
    case 12:
        touch_config();
        break;
    case 13:
        if (what >= 0xe0)
            start();
        break;
    default: /* the host's side, or time goes by */
        host.value = draw(2);
        rig_do(&m->rig, &host);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const struct rig_act step = {.kind = RIG_STEP, .value = 1000000};

    if (!types)
        make_machines();
    input = (struct choices){.p = data, .left = size};
    m = &machines[draw(1) % types];
    make_new();
    start();
    for (unsigned i = 0; i < STEPS_MAX && input.left; i++)
        act();
    rig_do(&m->rig, &step);
    /* A snapshot of whatever came of it must load. */
    if (size % 8 == 0) {
        struct buf saved = {0};

        state_save(m->rig.cls->state, m->rig.dev, &saved);
        if (state_load(m->rig.cls->state, m->rig.dev, saved.data, saved.len, NULL) < 0)
            abort();
        buf_done(&saved);
        rig_do(&m->rig, &step);
    }
    return 0;
}

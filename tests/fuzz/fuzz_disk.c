/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: the input is a driver of a disk controller that is no virtio device: AHCI, IDE,
 * NVMe. It fills memory, queues and registers as it likes, beginning with good ones, and the host
 * answers; the device must not crash, hang, or touch a byte outside of guest memory.
 *
 * Guest memory is small and lies in the heap, so that the sanitizer sees each byte beyond its end.
 * The devices live on from input to input and are reset before each.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "devices/rig.h"

enum { RAM = 256 << 10, OTHER = 8 << 10, RANGES = 3, CLASSES = 3, STEPS_MAX = 300 };

static const char *const names[CLASSES] = {"ahci", "ide", "nvme"};

static struct machine {
    struct rig rig;
    uint8_t *ram[RANGES];
} machines[CLASSES];

static struct machine *m;
static struct choices input;

static uint64_t draw(unsigned bytes) { return choices_draw(&input, bytes); }

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

static void make_machines(void) {
    for (unsigned i = 0; i < CLASSES; i++) {
        rig_open(&machines[i].rig, device_class_find(names[i]), 1000, true);
        move_ram_to_heap(&machines[i]);
    }
}

static void make_new(void) {
    const struct rig_act reset = {.kind = RIG_RESET}, drive = {.kind = RIG_DRIVE, .value = draw(1)};

    rig_do(&m->rig, &reset);
    for (unsigned i = 0; i < RANGES; i++)
        memset(m->ram[i], 0, i ? OTHER : RAM);
    memset(m->rig.disk, 0, RIG_DISK_SIZE);
    rig_do(&m->rig, &drive); /* good queues with good commands */
}

/* Where drivers have their lists and tables: low, at multiples of 64, or near an end of memory. */
static void fill_guest(void) {
    unsigned how = (unsigned)draw(1);
    const struct mem_range *range = &m->rig.mem.range[how / 8 % RANGES];
    uint64_t addr = how % 8 == 0 ? range->base + range->size - draw(1) : 64 * draw(2);

    for (unsigned n = (unsigned)draw(1) % 64; n; n--) {
        uint8_t byte = (uint8_t)draw(1);

        mem_write(&m->rig.mem, addr++, &byte, 1);
    }
}

static void act(void) {
    struct rig_act a;

    switch (draw(1) % 4) {
    case 0:
        fill_guest();
        break;
    case 1:
        a = (struct rig_act){.kind = RIG_DRIVE, .value = draw(1)};
        rig_do(&m->rig, &a);
        break;
    default:
        a = rig_draw(&m->rig, &input);
        rig_do(&m->rig, &a);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const struct rig_act step = {.kind = RIG_STEP, .value = 1000000};

    if (!machines[0].ram[0])
        make_machines();
    input = (struct choices){.p = data, .left = size};
    m = &machines[draw(1) % CLASSES];
    make_new();
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

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The stub machine: see rig.h. Backends and side doors that a class needs stand in one table,
 * `kits`. */
#include "devices/rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/loop.h"
#include "base/trace.h"
#include "devices/rig_internal.h"
#include "support/test.h"

enum { RAM = 1 << 20, HIGH_RAM = 64 << 10, ROM = 64 << 10, DEVFN = 8 };
#define RAM_END   ((gpa)RAM)
#define ROM_BASE  0xffff0000ull
#define HIGH_BASE 0x100000000ull

/* ------------------------------------------------------------------ choices */

uint64_t choices_draw(struct choices *c, unsigned bytes) {
    uint64_t v = 0;

    if (c->rng)
        return rng_next(c->rng) >> (64 - 8 * bytes);
    for (unsigned i = 0; i < bytes && c->left; i++, c->left--)
        v |= (uint64_t)*c->p++ << (8 * i);
    return v;
}

/* Values at which registers change their mind, one time in two. */
static uint64_t draw_value(struct choices *c) {
    uint64_t how = choices_draw(c, 1);

    switch (how % 8) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    case 2:
        return 1ull << (how / 8 + 32 * (choices_draw(c, 1) & 1));
    case 3:
        return ~(1ull << how / 8);
    case 4:
        return choices_draw(c, 8);
    default:
        return choices_draw(c, 1 + how / 8 % 4);
    }
}

/* ------------------------------------------------------------------ wires */

static void note_irq(void *opaque, unsigned n, bool level) {
    struct rig *r = opaque;

    r->irq_changes += (r->irq_levels >> n & 1) != level;
    r->irq_levels = (r->irq_levels & ~(1u << n)) | (uint32_t)level << n;
}

static void note_message(void *opaque, uint64_t addr, uint32_t data) {
    struct rig *r = opaque;

    r->messages++;
}

static void note_power(void *opaque, enum power_event event, unsigned code) {
    struct rig *r = opaque;

    r->power_requests++;
}

/* ------------------------------------------------------------------ making */

static void must(bool ok, const struct error *err) {
    if (ok)
        return;
    fprintf(stderr, "rig: %s\n", err->text);
    abort();
}

static void add_window(struct rig *r, enum rig_space space, uint64_t base, uint64_t size) {
    if (r->windows == RIG_WINDOWS)
        abort();
    r->window[r->windows++] = (struct rig_window){space, base, size};
}

static void mount_fixed_regions(struct rig *r) {
    uint64_t port = 0x100, addr = 0xd0000000;
    struct error err = {0};

    for (unsigned i = 0; r->cls->regions && r->cls->regions[i].name; i++) {
        const struct device_region *region = &r->cls->regions[i];
        bool pio = region->space == DEVICE_PIO;
        uint64_t *at = pio ? &port : &addr;

        must(device_mount(r->dev, i, pio ? &r->pio : &r->mmio, *at, &err) == 0, &err);
        add_window(r, pio ? RIG_PIO : RIG_MMIO, *at, region->size);
        *at += ((uint64_t)region->size + 31) & ~15ull;
    }
}

static void assign(struct rig *r) {
    struct error err = {0};

    if (r->bus)
        must(pci_bus_assign(r->bus, 0xe0000000, 0xf0000000, 0xc000, &err) == 0, &err);
}

static void attach(struct rig *r, bool wired) {
    struct pci_device *d = (struct pci_device *)r->dev;
    struct error err = {0};
    struct irq wires[4];

    r->bus = pci_bus_new(&r->pio, &r->mmio);
    must(r->bus, &err);
    for (unsigned i = 0; i < 4; i++)
        wires[i] = (struct irq){wired ? note_irq : NULL, r, 28 + i};
    pci_bus_set_intx(r->bus, wires);
    r->devfn = DEVFN;
    must(pci_bus_attach(r->bus, d, r->devfn, &err) == 0, &err);
    assign(r);
    for (unsigned i = 0; i < PCI_BARS; i++)
        if (d->bar[i].size)
            add_window(r, d->bar[i].io ? RIG_PIO : RIG_MMIO, d->bar[i].region.base, d->bar[i].size);
    add_window(r, RIG_CONFIG, 0, PCI_CONFIG_SIZE);
}

static const struct rig_kit *find_kit(const struct device_class *cls) {
    const struct rig_kit *k = rig_kits;

    while (k->name && strcmp(k->name, cls->name))
        k++;
    return k;
}

static void make_world(struct rig *r, uint64_t now) {
    struct error err = {0};

    must(mem_init(&r->mem, &err) == 0, &err);
    must(mem_add(&r->mem, 0, RAM, false, &err) == 0, &err);
    must(mem_add(&r->mem, HIGH_BASE, HIGH_RAM, false, &err) == 0, &err);
    must(mem_add(&r->mem, ROM_BASE, ROM, true, &err) == 0, &err);
    r->loop = loop_new(NULL, &err);
    must(r->loop, &err);
    r->clock = clock_new_stepped();
    clock_step(r->clock, now);
}

void rig_open(struct rig *r, const struct device_class *cls, uint64_t now, bool config) {
    struct device_env env = {.mem = &r->mem};
    struct error err = {0};

    *r = (struct rig){.cls = cls, .entropy = 88172645463325252ull};
    make_world(r, now);
    env.clock = r->clock;
    if (config) {
        for (unsigned i = 0; i < DEVICE_MAX_IRQS; i++)
            env.irq[i] = (struct irq){note_irq, r, i};
        env.msi = (struct msi_sink){note_message, r};
        env.power = (struct power_sink){note_power, r};
        if (find_kit(cls)->config)
            env.config = find_kit(cls)->config(r);
    }
    r->dev = device_new(cls, "dut", &env, &err);
    must(r->dev, &err);
    mount_fixed_regions(r);
    if (cls->pci)
        attach(r, config);
}

void rig_close(struct rig *r) {
    struct error err = {0};

    for (unsigned i = 0; i < DEVICE_MAX_REGIONS; i++)
        if (r->cls->regions && r->cls->regions[i].name)
            io_unmap(r->cls->regions[i].space == DEVICE_PIO ? &r->pio : &r->mmio,
                     &r->dev->region[i]);
        else
            break;
    device_free(r->dev);
    pci_bus_free(r->bus);
    clock_step(r->clock, 1000000000ull); /* a timer left armed would run on freed memory */
    if (r->pio.count || r->mmio.count) {
        error_set(&err, -1, "class '%s' has left a region mapped", r->cls->name);
        must(false, &err);
    }
    if (find_kit(r->cls)->done)
        find_kit(r->cls)->done(r);
    clock_free(r->clock);
    loop_free(r->loop);
    io_space_done(&r->pio);
    io_space_done(&r->mmio);
    mem_done(&r->mem);
}

/* ------------------------------------------------------------------ acts */

static uint64_t draw_address(struct choices *c) {
    switch (choices_draw(c, 1) % 8) {
    case 0:
        return draw_value(c);
    case 1:
        return HIGH_BASE + choices_draw(c, 3) % HIGH_RAM;
    default:
        return choices_draw(c, 3) % RAM;
    }
}

static uint64_t draw_offset(const struct rig_window *w, struct choices *c) {
    uint64_t how = choices_draw(c, 1);

    if (how < 16) /* around the ends */
        return w->size - 8 + how;
    if (how < 24)
        return (uint64_t)0 - 24 + how;
    if (how < 128 || w->size <= 256)
        return (how & 127) % w->size;
    if (how < 192) /* registers a paragraph apart, as the APICs have them */
        return (how & 63) * 16;
    if (how < 224) /* and the first registers of pages */
        return (how & 7) << 12 | (choices_draw(c, 1) & 0x7f);
    return choices_draw(c, 2) % w->size;
}

struct rig_act rig_draw(const struct rig *r, struct choices *c) {
    uint64_t how = choices_draw(c, 1);
    struct rig_act a = {.kind = RIG_READ};

    if (how < 210 && r->windows) {
        a.kind = how < 80 ? RIG_READ : RIG_WRITE;
        a.window = (unsigned)choices_draw(c, 1) % r->windows;
        a.offset = draw_offset(&r->window[a.window], c);
        a.size = 1u << (how / 2 % (r->window[a.window].space == RIG_MMIO ? 4 : 3));
        a.value = a.kind == RIG_WRITE ? draw_value(c) : 0;
    } else if (how < 222) {
        static const uint32_t most[] = {100, 10000, 1000000, 1000000, 1000000, 30000000};

        a.kind = RIG_STEP;
        a.value = choices_draw(c, 4) % most[how % 6];
    } else if (how < 226) {
        a.kind = RIG_GUEST;
        a.offset = draw_address(c);
        a.size = (unsigned)choices_draw(c, 1);
        a.value = draw_value(c);
    } else if (how < 244) {
        a.kind = RIG_POKE;
        a.offset = choices_draw(c, 1);
        a.value = draw_value(c);
    } else if (how < 254) {
        a.kind = how < 247 ? RIG_DRIVE : RIG_KICK;
        a.value = choices_draw(c, 4);
    } else {
        a.kind = how == 254 ? RIG_ASSIGN : RIG_RESET;
    }
    return a;
}

static uint64_t read_window(struct rig *r, const struct rig_act *a) {
    const struct rig_window *w = &r->window[a->window];

    if (w->space == RIG_CONFIG)
        return pci_config_read(r->bus, r->devfn, (unsigned)a->offset & 0xfff, a->size);
    return io_read(w->space == RIG_PIO ? &r->pio : &r->mmio, w->base + a->offset, a->size);
}

static void write_window(struct rig *r, const struct rig_act *a) {
    const struct rig_window *w = &r->window[a->window];

    if (w->space == RIG_CONFIG)
        pci_config_write(r->bus, r->devfn, (unsigned)a->offset & 0xfff, a->size,
                         (uint32_t)a->value);
    else
        io_write(w->space == RIG_PIO ? &r->pio : &r->mmio, w->base + a->offset, a->size, a->value);
}

static void step(struct rig *r, uint64_t ns) {
    uint64_t before = stat_counts[STAT_clock_fired];

    clock_step(r->clock, ns);
    for (int i = 0; i < 100 && loop_step(r->loop, 0); i++)
        ;
    if (stat_counts[STAT_clock_fired] - before > 1000 + ns / 1000)
        r->flooded = true;
}

static void write_guest(struct rig *r, const struct rig_act *a) {
    uint8_t bytes[256];

    for (unsigned i = 0; i < a->size; i++)
        bytes[i] = (uint8_t)(a->value >> (8 * (i % 8)));
    mem_write(&r->mem, a->offset, bytes, a->size);
}

uint64_t rig_do(struct rig *r, const struct rig_act *a) {
    switch (a->kind) {
    case RIG_READ:
        return read_window(r, a);
    case RIG_WRITE:
        write_window(r, a);
        break;
    case RIG_STEP:
        step(r, a->value);
        break;
    case RIG_GUEST:
        write_guest(r, a);
        break;
    case RIG_POKE:
        if (a->offset % 8 == 0)
            r->backend_full = a->value & 1;
        if (find_kit(r->cls)->poke)
            return find_kit(r->cls)->poke(r, (unsigned)a->offset, a->value);
        break;
    case RIG_DRIVE:
        if (find_kit(r->cls)->drive)
            find_kit(r->cls)->drive(r, a->value);
        else
            rig_drive(r, a->value);
        break;
    case RIG_KICK:
        rig_kick(r, a->value);
        break;
    case RIG_ASSIGN:
        assign(r);
        break;
    case RIG_RESET:
        device_reset(r->dev);
        assign(r);
        break;
    }
    return 0;
}

void rig_print_act(const struct rig *r, const struct rig_act *a) {
    static const char *const names[] = {"read",  "write", "step",   "guest", "poke",
                                        "drive", "kick",  "assign", "reset"};

    fprintf(stderr, "%s: %s window=%u offset=0x%llx size=%u value=0x%llx\n", r->cls->name,
            names[a->kind], a->window, (unsigned long long)a->offset, a->size,
            (unsigned long long)a->value);
}

/* ------------------------------------------------------------------ copies and changes */

void rig_copy_world(struct rig *to, const struct rig *from) {
    for (unsigned i = 0; i < from->mem.count; i++)
        memcpy(to->mem.range[i].host, from->mem.range[i].host, from->mem.range[i].size);
    clock_set(to->clock, clock_now(from->clock));
    to->entropy = from->entropy;
    to->backend_full = from->backend_full;
    to->irq_levels = from->irq_levels; /* whoever listens has loaded them as well */
    if (from->disk)
        memcpy(to->disk, from->disk, RIG_DISK_SIZE);
    if (find_kit(to->cls)->copy)
        find_kit(to->cls)->copy(to, from);
}

bool rig_same_memory(const struct rig *a, const struct rig *b) {
    for (unsigned i = 0; i < a->mem.count; i++)
        if (memcmp(a->mem.range[i].host, b->mem.range[i].host, a->mem.range[i].size))
            return false;
    return true;
}

void rig_disturb(const struct state_desc *d, void *obj, struct rng *rng) {
    const struct state_field *f = d->fields;
    struct state_field one[2] = {{0}};
    struct state_desc only = {.name = "one", .version = UINT16_MAX, .fields = one};
    unsigned count = 0;

    while (f[count].type != STATE_TYPE_END)
        count++;
    if (!count)
        return;
    f += rng_below(rng, count);
    one[0] = *f;
    one[0].count = 1;
    one[0].offset += (uint32_t)rng_below(rng, f->count) * f->size;
    if (f->type == STATE_TYPE_SUB)
        rig_disturb(f->sub, (uint8_t *)obj + one[0].offset, rng);
    else
        state_random(&only, obj, rng_next, rng);
}

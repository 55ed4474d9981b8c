/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Registers by which PCI slots are plugged and unplugged; see acpi_plug.h. */
#include "devices/acpi_plug.h"

#include "base/trace.h"

enum { SIZE = 20, SLOTS = 32 };
enum {
    EVENT_EJECT = 3
}; /* low byte of what _OST is told, by the board or a user (ACPI 6.5, 6.3.5) */
enum { STATUS_DONE = 0, STATUS_IN_PROGRESS = 0x84 };

struct acpi_plug {
    struct device dev;
    struct acpi_plug_config to;
    uint32_t up, down; /* not yet read */
    uint32_t asked;    /* for, and not answered */
    uint32_t present;
};

static void update(struct acpi_plug *a) { irq_set(&a->dev.env.irq[0], a->up | a->down); }

void acpi_plug_add(struct device *dev, unsigned slot) {
    struct acpi_plug *a = (struct acpi_plug *)dev;

    trace(acpi_plug_add, slot);
    a->up |= 1u << slot;
    a->present |= 1u << slot;
    update(a);
}

void acpi_plug_ask(struct device *dev, unsigned slot) {
    struct acpi_plug *a = (struct acpi_plug *)dev;

    trace(acpi_plug_ask, slot);
    a->down |= 1u << slot;
    a->asked |= 1u << slot;
    update(a);
}

void acpi_plug_unask(struct device *dev, unsigned slot) {
    struct acpi_plug *a = (struct acpi_plug *)dev;

    a->down &= ~(1u << slot);
    a->asked &= ~(1u << slot);
    update(a);
}

void acpi_plug_gone(struct device *dev, unsigned slot) {
    struct acpi_plug *a = (struct acpi_plug *)dev;
    uint32_t others = ~(1u << slot);

    a->up &= others;
    a->down &= others;
    a->asked &= others;
    a->present &= others;
    update(a);
}

uint32_t acpi_plug_asked(const struct device *dev) {
    return ((const struct acpi_plug *)dev)->asked;
}

uint32_t acpi_plug_present(const struct device *dev) {
    return ((const struct acpi_plug *)dev)->present;
}

/* A request that is refused may be made again. That something new was looked at is told, too, and
 * is nobody's concern here. */
static void outcome(struct acpi_plug *a, uint32_t value) {
    unsigned slot = value & 0xff, event = value >> 8 & 0xff, status = value >> 16 & 0xff;

    trace(acpi_plug_outcome, slot, event, status);
    if (slot >= SLOTS || event != EVENT_EJECT || !(a->asked & 1u << slot) ||
        status == STATUS_DONE || status == STATUS_IN_PROGRESS)
        return;
    a->asked &= ~(1u << slot);
    if (a->to.refused)
        a->to.refused(a->to.opaque, slot);
}

static void eject(struct acpi_plug *a, uint32_t slots) {
    for (; slots; slots &= slots - 1) {
        unsigned slot = (unsigned)__builtin_ctz(slots);

        trace(acpi_plug_eject, slot);
        if (a->to.ejected)
            a->to.ejected(a->to.opaque, slot);
    }
}

static uint64_t plug_read(void *dev, uint64_t offset, unsigned size) {
    struct acpi_plug *a = dev;
    uint32_t value = 0;

    if (offset == ACPI_PLUG_UP) {
        value = a->up;
        a->up = 0;
    } else if (offset == ACPI_PLUG_DOWN) {
        value = a->down;
        a->down = 0;
    } else if (offset == ACPI_PLUG_PRESENT) {
        value = a->present;
    }
    update(a);
    return value;
}

static void plug_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    if (offset == ACPI_PLUG_EJECT)
        eject(dev, (uint32_t)value);
    else if (offset == ACPI_PLUG_OUTCOME)
        outcome(dev, (uint32_t)value);
}

static int init(struct device *dev, struct error *err) {
    const struct acpi_plug_config *config = dev->env.config;

    if (config) {
        ((struct acpi_plug *)dev)->to = *config;
        ((struct acpi_plug *)dev)->present = config->present;
    }
    return 0;
}

/* The board finishes what was asked for before it resets us (board_reset). */
static void reset(struct device *dev) {
    struct acpi_plug *a = (struct acpi_plug *)dev;

    a->up = a->down = a->asked = 0;
    update(a);
}

static void post_load(void *obj) { update(obj); }

static const struct state_desc state = {
    .name = "acpi_plug",
    .version = 2,
    .struct_size = sizeof(struct acpi_plug),
    .post_load = post_load,
    .fields =
        (const struct state_field[]){STATE(struct acpi_plug, up), STATE(struct acpi_plug, down),
                                     STATE(struct acpi_plug, asked),
                                     STATE_SINCE(struct acpi_plug, present, 2), STATE_END},
};

static const struct io_ops ops = {plug_read, plug_write, 4, 4};

static const struct device_region regions[] = {{"acpi-plug", DEVICE_PIO, SIZE, &ops}, {0}};

const struct device_class acpi_plug_class = {
    .name = "acpi_plug",
    .help = "hot-plug of PCI slots",
    .size = sizeof(struct acpi_plug),
    .state = &state,
    .regions = regions,
    .init = init,
    .reset = reset,
    .newer = true,
};

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * I/O APIC. Source: Intel 82093AA datasheet (order 290566); the EOI register is that of the ICH9
 * (datasheet 13.5.6), whose version 0x20 it reports.
 *
 *   0x00 IOREGSEL  0x10 IOWIN  0x40 EOI (write the vector)
 *   index 0 ID (31:24 -> 27:24)  1 version  2 arbitration  0x10+2n, 0x11+2n redirection entry n
 *
 * Redirection entry: 7:0 vector, 10:8 delivery mode, 11 logical, 12 delivery status (always 0:
 * messages arrive at once), 13 polarity, 14 remote IRR, 15 level, 16 masked, 63:56 destination.
 *
 * An edge on a masked pin is ignored, as the datasheet says; a level on one is found when it is
 * unmasked.
 */
#include "devices/ioapic.h"

#include "base/trace.h"

#define RTE_REMOTE_IRR (1u << 14)
#define RTE_LEVEL      (1u << 15)
#define RTE_MASKED     (1u << 16)
#define RTE_WRITABLE   0xff0000000001afffull

struct ioapic {
    struct device dev;
    uint8_t start_id;
    uint8_t id, select;
    uint32_t lines; /* levels of the pins */
    uint64_t entry[IOAPIC_PINS];
};

/* The message of an entry, in the layout of an MSI (SDM vol. 3, 11.11). */
static void send(struct ioapic *s, unsigned pin) {
    uint64_t e = s->entry[pin];
    uint32_t addr = 0xfee00000u | (uint32_t)(e >> 56) << 12 | (e >> 11 & 1) << 2;
    uint32_t data = (uint32_t)(e & 0x7ff) | (uint32_t)(e & RTE_LEVEL) | 1u << 14;

    trace(ioapic_send, pin, addr, data);
    stat_inc(ioapic_messages);
    msi_send(&s->dev.env.msi, addr, data);
}

/* Sends a level that waits for it: asserted, unmasked, not yet sent. */
static void serve_level(struct ioapic *s, unsigned pin) {
    uint64_t e = s->entry[pin];
    unsigned mode = e >> 8 & 7;

    if (!(e & RTE_LEVEL) || (e & (RTE_MASKED | RTE_REMOTE_IRR)) || !(s->lines >> pin & 1))
        return;
    /* Only fixed and lowest-priority messages are ended by an EOI; the others are edges by nature.
     */
    if (mode <= 1)
        s->entry[pin] |= RTE_REMOTE_IRR;
    send(s, pin);
}

static void pin_set(void *opaque, unsigned pin, bool level) {
    struct ioapic *s = opaque;
    bool was = s->lines >> pin & 1;

    if (level == was)
        return;
    s->lines ^= 1u << pin;
    if (!level)
        return;
    if (s->entry[pin] & RTE_LEVEL)
        serve_level(s, pin);
    else if (!(s->entry[pin] & RTE_MASKED))
        send(s, pin);
}

struct irq ioapic_irq_wire(struct device *dev, unsigned pin) {
    if (pin >= IOAPIC_PINS)
        return (struct irq){0};
    return (struct irq){.fn = pin_set, .opaque = dev, .n = pin};
}

void ioapic_eoi(struct device *dev, uint8_t vector) {
    struct ioapic *s = (struct ioapic *)dev;

    trace(ioapic_eoi, vector);
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        uint64_t e = s->entry[pin];

        if (!(e & RTE_LEVEL) || !(e & RTE_REMOTE_IRR) || (uint8_t)e != vector)
            continue;
        s->entry[pin] &= ~(uint64_t)RTE_REMOTE_IRR;
        serve_level(s, pin);
    }
}

static uint32_t register_read(struct ioapic *s) {
    unsigned n = (s->select - 0x10u) / 2;

    switch (s->select) {
    case 0:
    case 2:
        return (uint32_t)s->id << 24;
    case 1:
        return (IOAPIC_PINS - 1) << 16 | 0x20;
    default:
        if (s->select < 0x10 || n >= IOAPIC_PINS)
            return 0xffffffff;
        return (uint32_t)(s->select & 1 ? s->entry[n] >> 32 : s->entry[n]);
    }
}

static void register_write(struct ioapic *s, uint32_t value) {
    unsigned n = (s->select - 0x10u) / 2, shift = s->select & 1 ? 32 : 0;
    uint64_t mask = RTE_WRITABLE & 0xffffffffull << shift;

    trace(ioapic_write, s->select, value);
    if (s->select == 0)
        s->id = value >> 24 & 15;
    if (s->select < 0x10 || n >= IOAPIC_PINS)
        return;
    s->entry[n] = (s->entry[n] & ~mask) | ((uint64_t)value << shift & mask);
    /* Turning an entry to edge and back is how software without the EOI register clears remote IRR.
     */
    if (!(s->entry[n] & RTE_LEVEL))
        s->entry[n] &= ~(uint64_t)RTE_REMOTE_IRR;
    serve_level(s, n);
}

static uint64_t ioapic_read(void *dev, uint64_t offset, unsigned size) {
    struct ioapic *s = dev;

    if (offset == 0)
        return s->select;
    return offset == 0x10 ? register_read(s) : 0;
}

static void ioapic_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct ioapic *s = dev;

    if (offset == 0)
        s->select = (uint8_t)value;
    else if (offset == 0x10)
        register_write(s, (uint32_t)value);
    else if (offset == 0x40)
        ioapic_eoi(&s->dev, (uint8_t)value);
}

static int ioapic_init(struct device *dev, struct error *err) {
    const struct ioapic_config *config = dev->env.config;

    ((struct ioapic *)dev)->start_id = config ? config->id & 15 : 0;
    return 0;
}

static void ioapic_reset(struct device *dev) {
    struct ioapic *s = (struct ioapic *)dev;

    s->id = s->start_id;
    s->select = 0;
    for (unsigned i = 0; i < IOAPIC_PINS; i++)
        s->entry[i] = RTE_MASKED;
}

static const struct state_desc ioapic_state = {
    .name = "ioapic",
    .version = 1,
    .struct_size = sizeof(struct ioapic),
    .fields =
        (const struct state_field[]){STATE_MAX(struct ioapic, id, 15), STATE(struct ioapic, select),
                                     STATE_MAX(struct ioapic, lines, (1u << IOAPIC_PINS) - 1),
                                     STATE_ARRAY(struct ioapic, entry), STATE_END},
};

static const struct io_ops ioapic_ops = {ioapic_read, ioapic_write, 1, 4};

static const struct device_region ioapic_regions[] = {{"ioapic", DEVICE_MMIO, 4096, &ioapic_ops},
                                                      {0}};

const struct device_class ioapic_class = {
    .name = "ioapic",
    .help = "I/O APIC with 24 pins",
    .size = sizeof(struct ioapic),
    .state = &ioapic_state,
    .regions = ioapic_regions,
    .init = ioapic_init,
    .reset = ioapic_reset,
};

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two cascaded 8259A interrupt controllers with edge/level control registers.
 * Source: Intel 8259A datasheet (order 231468), Intel ICH9 datasheet 13.4 (ELCR).
 *
 * Theory of operation: a request (IRR) whose priority is above everything in service (ISR) raises
 * INT; the INTA cycle moves it from IRR to ISR, an EOI removes it from there. `lowest` is the pin
 * of lowest priority, which rotation moves.
 *
 * Departures: (1) an edge stays latched in IRR although the pin falls before INTA. The real chip
 * then answers with the spurious vector; a virtual CPU may be late by a time slice of the host, and
 * a timer tick must not get lost by that. A level request does vanish with its line and gives the
 * spurious vector. (2) ICW1.LTIM, ICW3 and the 8080 mode are ignored, as in every PC chipset. (3)
 * IMR is all ones after power-on, so that a guest started without firmware is left alone until it
 * writes ICW1.
 */
#include "devices/pic.h"

#include "base/trace.h"

enum { PIC_CASCADE = 2, PIC_NONE = -1 };

enum { /* init_step: which ICW the data port expects */
       PIC_READY,
       PIC_ICW2,
       PIC_ICW3,
       PIC_ICW4
};

struct pic_chip {
    uint8_t lines, irr, imr, isr, elcr;
    uint8_t base; /* ICW2: vector of pin 0 */
    uint8_t init_step;
    uint8_t lowest; /* pin of lowest priority */
    bool single, need_icw4;
    bool auto_eoi, rotate_auto_eoi, special_mask, special_nested;
    bool read_isr, poll;
};

struct pic {
    struct device dev;
    struct pic_chip chip[2];
};

static const uint8_t elcr_mask[2] = {0xf8, 0xde}; /* pins 0, 1, 2, 8, 13 are edge-only */

/* How far pin n stands below the top priority. */
static unsigned rank_of(const struct pic_chip *c, unsigned n) { return (n - c->lowest - 1) & 7; }

static int best_of(const struct pic_chip *c, uint8_t mask) {
    for (unsigned i = 0; i < 8; i++) {
        unsigned n = (c->lowest + 1 + i) & 7;

        if (mask & (1 << n))
            return (int)n;
    }
    return PIC_NONE;
}

/* The pin that asks for an interrupt, or PIC_NONE. */
static int requested(const struct pic_chip *c) {
    int want = best_of(c, c->irr & ~c->imr);
    uint8_t busy = c->isr;
    int serving;

    if (want < 0)
        return PIC_NONE;
    if (c->special_mask)
        busy &= (uint8_t)~c->imr;
    if (c->special_nested)
        busy &= (uint8_t) ~(1 << PIC_CASCADE); /* the slave sorts its own requests out */
    serving = best_of(c, busy);
    if (serving >= 0 && rank_of(c, (unsigned)serving) <= rank_of(c, (unsigned)want))
        return PIC_NONE;
    return want;
}

static void set_line(struct pic_chip *c, unsigned n, bool level) {
    uint8_t bit = (uint8_t)(1 << n);

    if (level && (!(c->lines & bit) || (c->elcr & bit)))
        c->irr |= bit;
    if (!level && (c->elcr & bit))
        c->irr &= (uint8_t)~bit;
    c->lines = level ? c->lines | bit : c->lines & (uint8_t)~bit;
}

static void update(struct pic *p) {
    struct pic_chip *master = &p->chip[0];

    /* INT of the slave drops at its INTA and rises again for the next request, so that the master's
     * latch follows it as if it were a level. */
    if (requested(&p->chip[1]) >= 0)
        master->irr |= 1 << PIC_CASCADE;
    else
        master->irr &= (uint8_t) ~(1 << PIC_CASCADE);
    irq_set(&p->dev.env.irq[0], requested(master) >= 0);
}

static void pin(void *opaque, unsigned n, bool level) {
    struct pic *p = opaque;

    set_line(&p->chip[n >> 3], n & 7, level);
    update(p);
}

struct irq pic_irq_wire(struct device *dev, unsigned n) {
    if (n > 15 || n == PIC_CASCADE)
        return (struct irq){0};
    return (struct irq){.fn = pin, .opaque = dev, .n = n};
}

bool pic_pending(const struct device *dev) {
    return requested(&((const struct pic *)dev)->chip[0]) >= 0;
}

/* One chip's part of the INTA cycle, also done by a poll. */
static void acknowledge(struct pic_chip *c, unsigned n) {
    uint8_t bit = (uint8_t)(1 << n);

    if (!(c->elcr & bit))
        c->irr &= (uint8_t)~bit;
    if (!c->auto_eoi)
        c->isr |= bit;
    else if (c->rotate_auto_eoi)
        c->lowest = (uint8_t)n;
}

int pic_ack(struct device *dev) {
    struct pic *p = (struct pic *)dev;
    int n = requested(&p->chip[0]), m, vector;

    if (n < 0) {
        trace(pic_spurious, 7);
        vector = p->chip[0].base + 7;
    } else {
        acknowledge(&p->chip[0], (unsigned)n);
        vector = p->chip[0].base + n;
    }
    if (n == PIC_CASCADE) {
        m = requested(&p->chip[1]);
        if (m < 0)
            trace(pic_spurious, 15);
        else
            acknowledge(&p->chip[1], (unsigned)m);
        vector = p->chip[1].base + (m < 0 ? 7 : m);
    }
    /* INT drops during INTA: whoever listens for edges sees the next request. */
    irq_lower(&dev->env.irq[0]);
    update(p);
    trace(pic_ack, vector);
    return vector;
}

static void write_icw1(struct pic_chip *c, uint8_t value) {
    c->irr = c->lines & c->elcr;
    c->imr = c->isr = 0;
    c->lowest = 7;
    c->auto_eoi = c->rotate_auto_eoi = c->special_mask = c->special_nested = false;
    c->read_isr = c->poll = false;
    c->single = value & 2;
    c->need_icw4 = value & 1;
    c->init_step = PIC_ICW2;
}

static void write_ocw2(struct pic_chip *c, uint8_t value) {
    unsigned n = value & 7;
    int top = best_of(c, c->special_mask ? c->isr & ~c->imr : c->isr);

    switch (value >> 5) {
    case 0: /* clear, 4: set: rotation in automatic EOI mode */
    case 4:
        c->rotate_auto_eoi = value >> 7;
        break;
    case 1: /* non-specific EOI, 5: with rotation */
    case 5:
        if (top < 0)
            break;
        c->isr &= (uint8_t) ~(1 << top);
        if (value & 0x80)
            c->lowest = (uint8_t)top;
        break;
    case 3: /* specific EOI, 7: with rotation */
    case 7:
        c->isr &= (uint8_t) ~(1 << n);
        if (value & 0x80)
            c->lowest = (uint8_t)n;
        break;
    case 6:
        c->lowest = (uint8_t)n;
        break;
    default: /* 2: no operation */
        break;
    }
}

static void write_ocw3(struct pic_chip *c, uint8_t value) {
    if (value & 4)
        c->poll = true;
    if (value & 2)
        c->read_isr = value & 1;
    if (value & 0x40)
        c->special_mask = value & 0x20;
}

static void write_data(struct pic_chip *c, uint8_t value) {
    switch (c->init_step) {
    case PIC_READY:
        c->imr = value;
        break;
    case PIC_ICW2:
        c->base = value & 0xf8;
        c->init_step = !c->single ? PIC_ICW3 : c->need_icw4 ? PIC_ICW4 : PIC_READY;
        break;
    case PIC_ICW3: /* the cascade is wired, there is nothing to choose */
        c->init_step = c->need_icw4 ? PIC_ICW4 : PIC_READY;
        break;
    case PIC_ICW4:
        c->auto_eoi = value & 2;
        c->special_nested = value & 0x10;
        c->init_step = PIC_READY;
        break;
    }
}

static void chip_write(struct pic *p, unsigned which, uint64_t offset, uint64_t value) {
    struct pic_chip *c = &p->chip[which];
    uint8_t v = (uint8_t)value;

    trace(pic_write, which, (unsigned)offset, v);
    if (offset & 1)
        write_data(c, v);
    else if (v & 0x10)
        write_icw1(c, v);
    else if (v & 8)
        write_ocw3(c, v);
    else
        write_ocw2(c, v);
    if (which == 1)
        c->special_nested = false; /* a slave has no cascade input to leave out */
    update(p);
}

static uint64_t chip_read(struct pic *p, unsigned which, uint64_t offset) {
    struct pic_chip *c = &p->chip[which];
    int n;

    if (c->poll) {
        c->poll = false;
        n = requested(c);
        if (n < 0)
            return 0;
        acknowledge(c, (unsigned)n);
        update(p);
        return 0x80 | (unsigned)n;
    }
    if (offset & 1)
        return c->imr;
    return c->read_isr ? c->isr : c->irr;
}

static uint64_t master_read(void *dev, uint64_t offset, unsigned size) {
    return chip_read(dev, 0, offset);
}
static void master_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    chip_write(dev, 0, offset, value);
}
static uint64_t slave_read(void *dev, uint64_t offset, unsigned size) {
    return chip_read(dev, 1, offset);
}
static void slave_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    chip_write(dev, 1, offset, value);
}

static uint64_t elcr_read(void *dev, uint64_t offset, unsigned size) {
    return ((struct pic *)dev)->chip[offset & 1].elcr;
}

static void elcr_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct pic *p = dev;
    struct pic_chip *c = &p->chip[offset & 1];
    uint8_t was = c->elcr;

    c->elcr = (uint8_t)value & elcr_mask[offset & 1];
    c->irr |= c->lines & c->elcr & (uint8_t)~was;        /* now seen as levels */
    c->irr &= (uint8_t) ~(c->elcr & (uint8_t)~c->lines); /* levels that are low */
    update(p);
}

static void pic_reset(struct device *dev) {
    struct pic *p = (struct pic *)dev;

    for (unsigned i = 0; i < 2; i++) /* the wires keep their levels: they are driven by others */
        p->chip[i] = (struct pic_chip){.lines = p->chip[i].lines, .imr = 0xff, .lowest = 7};
    update(p);
}

static const struct state_desc pic_chip_state = {
    .name = "pic_chip",
    .version = 1,
    .struct_size = sizeof(struct pic_chip),
    .fields =
        (const struct state_field[]){
            STATE(struct pic_chip, lines), STATE(struct pic_chip, irr), STATE(struct pic_chip, imr),
            STATE(struct pic_chip, isr), STATE(struct pic_chip, elcr), STATE(struct pic_chip, base),
            STATE_MAX(struct pic_chip, init_step, PIC_ICW4), STATE_MAX(struct pic_chip, lowest, 7),
            STATE(struct pic_chip, single), STATE(struct pic_chip, need_icw4),
            STATE(struct pic_chip, auto_eoi), STATE(struct pic_chip, rotate_auto_eoi),
            STATE(struct pic_chip, special_mask), STATE(struct pic_chip, special_nested),
            STATE(struct pic_chip, read_isr), STATE(struct pic_chip, poll), STATE_END},
};

static const struct state_desc pic_state = {
    .name = "pic",
    .version = 1,
    .struct_size = sizeof(struct pic),
    .fields =
        (const struct state_field[]){STATE_SUB_ARRAY(struct pic, chip, &pic_chip_state), STATE_END},
};

static const struct io_ops master_ops = {master_read, master_write, 1, 1};
static const struct io_ops slave_ops = {slave_read, slave_write, 1, 1};
static const struct io_ops elcr_ops = {elcr_read, elcr_write, 1, 1};

static const struct device_region pic_regions[] = {{"pic-master", DEVICE_PIO, 2, &master_ops},
                                                   {"pic-slave", DEVICE_PIO, 2, &slave_ops},
                                                   {"elcr", DEVICE_PIO, 2, &elcr_ops},
                                                   {0}};

const struct device_class pic_class = {
    .name = "pic",
    .help = "pair of 8259A interrupt controllers",
    .size = sizeof(struct pic),
    .state = &pic_state,
    .regions = pic_regions,
    .reset = pic_reset,
};

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * High precision event timers: three comparators on a 64-bit counter of 14.318180 MHz. Source:
 * IA-PC HPET Specification 1.0a.
 *
 * Theory of operation: as in the PIT nothing counts. The counter is the number of ticks of the
 * machine's clock since it was enabled plus what it held then; a comparator that may interrupt has
 * the tick of its next match, for which the clock wakes us.
 *
 * Departures: no FSB (MSI) delivery. Periods that passed while the host was late are not caught up:
 * one interrupt stands for all of them. Interrupts of a comparator are at least 20 us apart.
 */
#include "devices/hpet.h"

#include <string.h>

#include "bus/clock.h"
#include "devices/ticks.h"

enum { TIMERS = 3, HZ = 14318180, PERIOD_FS = 69841279, SPACING = 286 /* ticks: 20 us */ };
// clang-format off
enum { R_ID = 0, R_CONFIG = 0x10, R_STATUS = 0x20, R_COUNTER = 0xf0, R_TIMER = 0x100, TIMER_STEP = 0x20, T_CONFIG = 0, T_COMPARE = 8 };
enum { CONFIG_ENABLE = 1, CONFIG_LEGACY = 2 };
enum { T_LEVEL = 1 << 1, T_ENABLE = 1 << 2, T_PERIODIC = 1 << 3, T_PERIODIC_CAP = 1 << 4, T_64 = 1 << 5, T_SET = 1 << 6, T_32 = 1 << 8,
       T_ROUTE_SHIFT = 9, T_ROUTE = 31 << T_ROUTE_SHIFT, T_WRITABLE = T_LEVEL | T_ENABLE | T_PERIODIC | T_32 | T_ROUTE };
// clang-format on
#define PINS_MASK ((uint64_t)((1u << HPET_PINS) - 1) << HPET_FIRST_PIN)

struct hpet_timer {
    uint32_t config; /* the writable bits */
    uint64_t compare, period;
    bool set_next; /* T_SET: the next write of the comparator is its value, not only the period */
    uint64_t due;  /* tick of the clock at which it matches, 0: never */
};

struct hpet {
    struct device dev;
    struct clock_timer timer[TIMERS];
    struct hpet_timer t[TIMERS];
    uint64_t config, status;
    uint64_t base;    /* the counter when it was enabled, or now if it is not */
    uint64_t enabled; /* the clock's tick then */
};

bool hpet_is_legacy(const struct device *dev) {
    const struct hpet *h = (const struct hpet *)dev;

    return h->config & CONFIG_LEGACY;
}

static uint64_t ticks_now(const struct hpet *h) {
    return ticks_from_ns(clock_now(h->dev.env.clock), HZ);
}

static uint64_t counter(const struct hpet *h) {
    return h->config & CONFIG_ENABLE ? h->base + (ticks_now(h) - h->enabled) : h->base;
}

static uint64_t width(const struct hpet_timer *t) {
    return t->config & T_32 ? UINT32_MAX : UINT64_MAX;
}

/* ---- interrupts ---- */

/* The wire of a comparator, NULL: none. */
static struct irq *wire(struct hpet *h, unsigned n) {
    unsigned pin = (h->t[n].config & T_ROUTE) >> T_ROUTE_SHIFT;

    if (hpet_is_legacy(&h->dev) && n < 2)
        return &h->dev.env.irq[n ? HPET_IRQ_8 : HPET_IRQ_0];
    if (pin < HPET_FIRST_PIN || pin >= HPET_FIRST_PIN + HPET_PINS)
        return NULL;
    return &h->dev.env.irq[HPET_IRQ_PINS + pin - HPET_FIRST_PIN];
}

/* Level-triggered pins follow the status bits; several comparators may share one. */
static void update_levels(struct hpet *h) {
    bool level[HPET_IRQ_PINS + HPET_PINS] = {false};

    for (unsigned n = 0; n < TIMERS; n++) {
        struct irq *w = wire(h, n);
        uint32_t both = T_LEVEL | T_ENABLE;

        if (w && (h->t[n].config & both) == both && h->status >> n & 1)
            level[w - h->dev.env.irq] = true;
    }
    for (unsigned i = hpet_is_legacy(&h->dev) ? 0 : HPET_IRQ_PINS; i < HPET_IRQ_PINS + HPET_PINS;
         i++)
        irq_set(&h->dev.env.irq[i], level[i]);
}

static void interrupt(struct hpet *h, unsigned n) {
    struct hpet_timer *t = &h->t[n];
    struct irq *w = wire(h, n);

    if (t->config & T_LEVEL)
        h->status |= 1u << n;
    if (!(t->config & T_ENABLE))
        return;
    if (t->config & T_LEVEL) {
        update_levels(h);
    } else if (w) {
        irq_set(w, true);
        irq_set(w, false);
    }
}

/* ---- matches ---- */

static void arm_timer(struct hpet *h, unsigned n) {
    if (h->t[n].due)
        clock_timer_arm(&h->timer[n], ticks_to_ns(h->t[n].due, HZ));
    else
        clock_timer_disarm(&h->timer[n]);
}

/* The next match behind the counter as it is. */
static void arm(struct hpet *h, unsigned n) {
    struct hpet_timer *t = &h->t[n];
    uint64_t away = (t->compare - counter(h) - 1) & width(t), due;

    t->due = 0;
    if (h->config & CONFIG_ENABLE && t->config & (T_ENABLE | T_LEVEL) &&
        !__builtin_add_overflow(ticks_now(h), away, &due) && due < UINT64_MAX - 1)
        t->due = due + 1;
    arm_timer(h, n);
}

static void arm_all(struct hpet *h) {
    for (unsigned n = 0; n < TIMERS; n++)
        arm(h, n);
}

static void matched(struct hpet *h, unsigned n) {
    struct hpet_timer *t = &h->t[n];
    uint64_t late = (counter(h) - t->compare) & width(t);

    if (t->config & T_PERIODIC && t->period)
        t->compare = (t->compare + (late / t->period + 1) * t->period) & width(t);
    arm(h, n);
    if (t->due && t->due < ticks_now(h) + SPACING) {
        t->due = ticks_now(h) + SPACING;
        arm_timer(h, n);
    }
    interrupt(h, n);
}

static void matched_0(void *opaque) { matched(opaque, 0); }
static void matched_1(void *opaque) { matched(opaque, 1); }
static void matched_2(void *opaque) { matched(opaque, 2); }

/* ---- registers: 64 bits wide, also by halves ---- */

static uint64_t timer_config(const struct hpet *h, unsigned n) {
    return h->t[n].config | T_PERIODIC_CAP | T_64 | PINS_MASK << 32;
}

static uint64_t read_wide(struct hpet *h, unsigned at) {
    unsigned n = (at - R_TIMER) / TIMER_STEP;

    switch (at) {
    case R_ID:
        return (uint64_t)PERIOD_FS << 32 | HPET_BLOCK_ID;
    case R_CONFIG:
        return h->config;
    case R_STATUS:
        return h->status;
    case R_COUNTER:
        return counter(h);
    }
    if (at < R_TIMER || n >= TIMERS)
        return 0;
    switch (at % TIMER_STEP) {
    case T_CONFIG:
        return timer_config(h, n);
    case T_COMPARE:
        return h->t[n].compare;
    }
    return 0;
}

static uint64_t hpet_read(void *dev, uint64_t offset, unsigned size) {
    uint64_t value = read_wide(dev, (unsigned)offset & ~7u);

    return size == 8 ? value : value >> (offset & 4) * 8 & UINT32_MAX;
}

static void write_config(struct hpet *h, uint64_t value) {
    uint64_t before = h->config, now = counter(h);

    h->config = value & (CONFIG_ENABLE | CONFIG_LEGACY);
    h->base = now;
    h->enabled = ticks_now(h);
    if (~before & h->config & CONFIG_LEGACY) { /* whatever PIT and RTC held up */
        irq_set(&h->dev.env.irq[HPET_IRQ_0], false);
        irq_set(&h->dev.env.irq[HPET_IRQ_8], false);
    }
    update_levels(h);
    arm_all(h);
}

static void write_timer_config(struct hpet *h, unsigned n, uint64_t value) {
    struct hpet_timer *t = &h->t[n];

    t->config = (uint32_t)value & T_WRITABLE;
    t->set_next = value & T_SET && value & T_PERIODIC;
    if (!(t->config & T_LEVEL))
        h->status &= ~(1ull << n);
    t->compare &= width(t);
    update_levels(h);
    arm(h, n);
}

/* Of a periodic comparator a write is the period, and its first value as well after T_SET
 * (2.3.9.2.2).
 */
static void write_compare(struct hpet *h, unsigned n, uint64_t value, bool low) {
    struct hpet_timer *t = &h->t[n];

    value &= width(t);
    if (!(t->config & T_PERIODIC) || t->set_next)
        t->compare = value;
    if (t->config & T_PERIODIC)
        t->period = value;
    if (low)
        t->set_next = false;
    arm(h, n);
}

static void write_wide(struct hpet *h, unsigned at, uint64_t value, bool low) {
    unsigned n = (at - R_TIMER) / TIMER_STEP;

    switch (at) {
    case R_CONFIG:
        write_config(h, value);
        return;
    case R_STATUS:
        h->status &= ~value;
        update_levels(h);
        return;
    case R_COUNTER: /* to be written while it stands */
        h->base = value;
        h->enabled = ticks_now(h);
        arm_all(h);
        return;
    }
    if (at < R_TIMER || n >= TIMERS)
        return;
    if (at % TIMER_STEP == T_CONFIG)
        write_timer_config(h, n, value);
    else if (at % TIMER_STEP == T_COMPARE)
        write_compare(h, n, value, low);
}

static void hpet_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct hpet *h = dev;
    unsigned at = (unsigned)offset & ~7u;
    uint64_t old;

    if (size == 4) { /* the other half stays; of the status it must not be written back */
        old = at == R_STATUS ? 0 : read_wide(h, at);
        value = offset & 4 ? (old & UINT32_MAX) | value << 32
                           : (old & ~(uint64_t)UINT32_MAX) | (value & UINT32_MAX);
    }
    if (at >= R_TIMER && at % TIMER_STEP == T_CONFIG && offset & 4)
        return; /* capabilities */
    write_wide(h, at, value, !(offset & 4));
}

static const struct io_ops hpet_ops = {hpet_read, hpet_write, 4, 8};

/* ---- life ---- */

static int hpet_init(struct device *dev, struct error *err) {
    static void (*const fn[TIMERS])(void *) = {matched_0, matched_1, matched_2};
    struct hpet *h = (struct hpet *)dev;

    for (unsigned n = 0; n < TIMERS; n++)
        clock_timer_init(&h->timer[n], dev->env.clock, fn[n], h);
    return 0;
}

static void hpet_reset(struct device *dev) {
    struct hpet *h = (struct hpet *)dev;

    h->config = h->status = h->base = h->enabled = 0;
    for (unsigned n = 0; n < TIMERS; n++)
        h->t[n] = (struct hpet_timer){.compare = UINT64_MAX};
    update_levels(h);
    arm_all(h);
}

static void hpet_done(struct device *dev) {
    struct hpet *h = (struct hpet *)dev;

    for (unsigned n = 0; n < TIMERS; n++)
        clock_timer_disarm(&h->timer[n]);
}

static void post_load(void *obj) {
    struct hpet *h = obj;

    for (unsigned n = 0; n < TIMERS; n++)
        arm_timer(h, n);
    update_levels(h);
}

static const struct state_desc timer_state = {
    .name = "hpet_timer",
    .version = 1,
    .struct_size = sizeof(struct hpet_timer),
    .fields = (const struct state_field[]){STATE_MAX(struct hpet_timer, config, T_WRITABLE),
                                           STATE(struct hpet_timer, compare),
                                           STATE(struct hpet_timer, period),
                                           STATE(struct hpet_timer, set_next),
                                           STATE(struct hpet_timer, due), STATE_END},
};

static const struct state_desc hpet_state = {
    .name = "hpet",
    .version = 1,
    .struct_size = sizeof(struct hpet),
    .post_load = post_load,
    .fields =
        (const struct state_field[]){STATE_SUB_ARRAY(struct hpet, t, &timer_state),
                                     STATE_MAX(struct hpet, config, 3),
                                     STATE_MAX(struct hpet, status, 7), STATE(struct hpet, base),
                                     STATE(struct hpet, enabled), STATE_END},
};

static const struct device_region hpet_regions[] = {{"hpet", DEVICE_MMIO, HPET_SIZE, &hpet_ops},
                                                    {0}};

const struct device_class hpet_class = {
    .name = "hpet",
    .help = "high precision event timers, three comparators",
    .size = sizeof(struct hpet),
    .state = &hpet_state,
    .regions = hpet_regions,
    .init = hpet_init,
    .reset = hpet_reset,
    .done = hpet_done,
};

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One chip on a bench, for tests by the datasheet: its registers, stepped time, and a note of what
 * it does with its wires. Every suite runs twice: the second time (chip_reload) the chip is reset
 * and loaded from its saved state after every access, and nobody may notice.
 */
#ifndef TESTS_DEVICES_CHIP_H
#define TESTS_DEVICES_CHIP_H

#include "devices/device.h"
#include "support/test.h"

struct chip {
    struct device *dev;
    struct clock *clock;
    bool muted; /* while it is reloaded */
    bool level[DEVICE_MAX_IRQS];
    unsigned rises[DEVICE_MAX_IRQS], falls[DEVICE_MAX_IRQS];
    unsigned messages, requests;
    uint64_t addr; /* of the last message */
    uint32_t data;
    enum power_event event; /* of the last request */
    unsigned code;
};

static bool chip_reload;

static inline void chip_irq(void *opaque, unsigned n, bool level) {
    struct chip *c = opaque;

    if (c->muted)
        return;
    c->rises[n] += level && !c->level[n];
    c->falls[n] += !level && c->level[n];
    c->level[n] = level;
}

static inline void chip_message(void *opaque, uint64_t addr, uint32_t data) {
    struct chip *c = opaque;

    c->messages++;
    c->addr = addr;
    c->data = data;
}

static inline void chip_power(void *opaque, enum power_event event, unsigned code) {
    struct chip *c = opaque;

    c->requests++;
    c->event = event;
    c->code = code;
}

static inline void chip_open(struct chip *c, const struct device_class *cls, const void *config) {
    struct device_env env = {.config = config};
    struct error err = {0};

    *c = (struct chip){.clock = clock_new_stepped()};
    env.clock = c->clock;
    env.msi = (struct msi_sink){chip_message, c};
    env.power = (struct power_sink){chip_power, c};
    for (unsigned i = 0; i < DEVICE_MAX_IRQS; i++)
        env.irq[i] = (struct irq){chip_irq, c, i};
    c->dev = device_new(cls, "chip", &env, &err);
    if (!c->dev)
        fail_msg("%s", err.text);
}

static inline void chip_close(struct chip *c) {
    device_free(c->dev);
    clock_free(c->clock);
}

/* Time passes. */
static inline void chip_step(struct chip *c, uint64_t ns) { clock_step(c->clock, ns); }

/* Resets the chip behind the guest's back and loads what it was. */
static inline void chip_refresh(struct chip *c) {
    struct buf saved = {0};
    struct error err = {0};

    if (!chip_reload)
        return;
    state_save(c->dev->cls->state, c->dev, &saved);
    c->muted = true;
    device_reset(c->dev);
    c->muted = false;
    if (state_load(c->dev->cls->state, c->dev, saved.data, saved.len, &err) < 0)
        fail_msg("%s", err.text);
    buf_done(&saved);
}

static inline void chip_write(struct chip *c, unsigned region, uint64_t offset, unsigned size,
                              uint64_t value) {
    c->dev->region[region].ops->write(c->dev, offset, size, value);
    chip_refresh(c);
}

static inline uint64_t chip_read(struct chip *c, unsigned region, uint64_t offset, unsigned size) {
    uint64_t value = c->dev->region[region].ops->read(c->dev, offset, size);

    chip_refresh(c);
    return value;
}

static inline void chip_out(struct chip *c, unsigned region, unsigned port, uint8_t value) {
    chip_write(c, region, port, 1, value);
}

static inline uint8_t chip_in(struct chip *c, unsigned region, unsigned port) {
    return (uint8_t)chip_read(c, region, port, 1);
}

/* Both rounds of a suite. */
#define chip_run(tests)                                                                            \
    (cmocka_run_group_tests_name("as it is", tests, NULL, NULL) +                                  \
     (chip_reload = true,                                                                          \
      cmocka_run_group_tests_name("reloaded after every access", tests, NULL, NULL)))

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Debug exit port: class `debug_exit`. Region 0 = 4 ports (0xf4). Writing v of any size ends the
 * process with exit code (v << 1) | 1, the convention of test kernels; reads give 0.
 */
#include "devices/device.h"

#include "base/trace.h"

struct debug_exit {
    struct device dev;
    uint32_t value;
};

static uint64_t debug_exit_read(void *dev, uint64_t offset, unsigned size) { return 0; }

static void debug_exit_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct debug_exit *d = dev;

    d->value = (uint32_t)value;
    trace(debug_exit, d->value);
    if (d->dev.env.power.request)
        d->dev.env.power.request(d->dev.env.power.opaque, POWER_EXIT, d->value << 1 | 1);
}

static void debug_exit_reset(struct device *dev) { ((struct debug_exit *)dev)->value = 0; }

static const struct state_desc debug_exit_state = {
    .name = "debug_exit",
    .version = 1,
    .struct_size = sizeof(struct debug_exit),
    .fields = (const struct state_field[]){STATE(struct debug_exit, value), STATE_END},
};

static const struct io_ops debug_exit_ops = {debug_exit_read, debug_exit_write, 1, 4};

static const struct device_region debug_exit_regions[] = {
    {"debug-exit", DEVICE_PIO, 4, &debug_exit_ops}, {0}};

const struct device_class debug_exit_class = {
    .name = "debug_exit",
    .help = "port that ends the process (0xf4)",
    .size = sizeof(struct debug_exit),
    .state = &debug_exit_state,
    .regions = debug_exit_regions,
    .reset = debug_exit_reset,
};

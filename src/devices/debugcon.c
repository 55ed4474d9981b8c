/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Firmware debug console, a convention of Bochs and SeaBIOS: a read of 0xe9 says that it is there.
 */
#include "devices/debugcon.h"

#include "base/trace.h"

struct debugcon {
    struct device dev;
    struct debugcon_config sink;
    uint8_t last;
};

static uint64_t debugcon_read(void *dev, uint64_t offset, unsigned size) { return 0xe9; }

static void debugcon_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct debugcon *d = dev;

    d->last = (uint8_t)value;
    trace(debugcon, d->last);
    if (d->sink.write)
        d->sink.write(d->sink.opaque, d->last);
}

static int debugcon_init(struct device *dev, struct error *err) {
    if (dev->env.config)
        ((struct debugcon *)dev)->sink = *(const struct debugcon_config *)dev->env.config;
    return 0;
}

static void debugcon_reset(struct device *dev) { ((struct debugcon *)dev)->last = 0; }

static const struct state_desc debugcon_state = {
    .name = "debugcon",
    .version = 1,
    .struct_size = sizeof(struct debugcon),
    .fields = (const struct state_field[]){STATE(struct debugcon, last), STATE_END},
};

static const struct io_ops debugcon_ops = {debugcon_read, debugcon_write, 1, 1};

static const struct device_region debugcon_regions[] = {{"debugcon", DEVICE_PIO, 1, &debugcon_ops},
                                                        {0}};

const struct device_class debugcon_class = {
    .name = "debugcon",
    .help = "firmware debug console (port 0x402)",
    .size = sizeof(struct debugcon),
    .state = &debugcon_state,
    .regions = debugcon_regions,
    .init = debugcon_init,
    .reset = debugcon_reset,
};

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * POST code port: class `postcode`. Region 0 = 1 port (0x80). Keeps the last byte written, which
 * firmware uses to say how far it came; kernels write here only to wait a microsecond.
 */
#include "devices/device.h"

#include "base/trace.h"

struct postcode {
    struct device dev;
    uint8_t code;
};

static uint64_t postcode_read(void *dev, uint64_t offset, unsigned size) {
    return ((struct postcode *)dev)->code;
}

static void postcode_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    ((struct postcode *)dev)->code = (uint8_t)value;
    trace(postcode, (unsigned)value);
}

static void postcode_reset(struct device *dev) { ((struct postcode *)dev)->code = 0; }

static const struct state_desc postcode_state = {
    .name = "postcode",
    .version = 1,
    .struct_size = sizeof(struct postcode),
    .fields = (const struct state_field[]){STATE(struct postcode, code), STATE_END},
};

static const struct io_ops postcode_ops = {postcode_read, postcode_write, 1, 1};

static const struct device_region postcode_regions[] = {{"postcode", DEVICE_PIO, 1, &postcode_ops},
                                                        {0}};

const struct device_class postcode_class = {
    .name = "postcode",
    .help = "POST code port (0x80)",
    .size = sizeof(struct postcode),
    .state = &postcode_state,
    .regions = postcode_regions,
    .reset = postcode_reset,
};

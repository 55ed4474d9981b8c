/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pvpanic: class `pvpanic`. Source: QEMU docs/specs/pvpanic. Region 0 = 1 port (0x505, in the DSDT
 * as QEMU0001). Reads give the events that are understood; writing bit 0 says that the guest
 * crashed, bit 1 that its crash kernel takes over (then it is not stopped).
 */
#include "devices/device.h"

#include "base/trace.h"

enum { PVPANIC_PANICKED = 1, PVPANIC_CRASH_LOADED = 2 };

struct pvpanic {
    struct device dev;
    uint8_t event;
};

static uint64_t pvpanic_read(void *dev, uint64_t offset, unsigned size) {
    return PVPANIC_PANICKED | PVPANIC_CRASH_LOADED;
}

static void pvpanic_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct pvpanic *p = dev;

    p->event = value & (PVPANIC_PANICKED | PVPANIC_CRASH_LOADED);
    trace(pvpanic, (unsigned)value);
    if ((value & PVPANIC_PANICKED) && p->dev.env.power.request)
        p->dev.env.power.request(p->dev.env.power.opaque, POWER_PANIC, 0);
}

static void pvpanic_reset(struct device *dev) { ((struct pvpanic *)dev)->event = 0; }

static const struct state_desc pvpanic_state = {
    .name = "pvpanic",
    .version = 1,
    .struct_size = sizeof(struct pvpanic),
    .fields = (const struct state_field[]){STATE_MAX(struct pvpanic, event, 3), STATE_END},
};

static const struct io_ops pvpanic_ops = {pvpanic_read, pvpanic_write, 1, 1};

static const struct device_region pvpanic_regions[] = {{"pvpanic", DEVICE_PIO, 1, &pvpanic_ops},
                                                       {0}};

const struct device_class pvpanic_class = {
    .name = "pvpanic",
    .help = "port through which a guest says that it crashed",
    .size = sizeof(struct pvpanic),
    .state = &pvpanic_state,
    .regions = pvpanic_regions,
    .reset = pvpanic_reset,
};

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reset control register. Source: Intel ICH9 datasheet 13.7.5 (RST_CNT).
 * Bit 1 SYS_RST (hard), bit 2 RST_CPU: its rising edge resets; bit 3 FULL_RST.
 * A soft reset (INIT of the CPUs alone) is done as a full one: software asks for either to reboot.
 */
#include "devices/reset_ctl.h"

#include "base/trace.h"

enum { RST_CPU = 4, RST_KEPT = 0x0e };

struct reset_ctl {
    struct device dev;
    uint8_t value;
};

uint8_t reset_ctl_read(struct device *dev) { return ((struct reset_ctl *)dev)->value; }

void reset_ctl_write(struct device *dev, uint8_t value) {
    struct reset_ctl *r = (struct reset_ctl *)dev;
    bool rising = (value & RST_CPU) && !(r->value & RST_CPU);

    r->value = value & RST_KEPT;
    if (!rising)
        return;
    trace(reset_request, dev->name, value);
    if (dev->env.power.request)
        dev->env.power.request(dev->env.power.opaque, POWER_RESET, 0);
}

static uint64_t port_read(void *dev, uint64_t offset, unsigned size) { return reset_ctl_read(dev); }

static void port_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    reset_ctl_write(dev, (uint8_t)value);
}

static void reset_ctl_reset(struct device *dev) { ((struct reset_ctl *)dev)->value = 0; }

static const struct state_desc reset_ctl_state = {
    .name = "reset_ctl",
    .version = 1,
    .struct_size = sizeof(struct reset_ctl),
    .fields = (const struct state_field[]){STATE_MAX(struct reset_ctl, value, RST_KEPT), STATE_END},
};

static const struct io_ops reset_ctl_ops = {port_read, port_write, 1, 1};

static const struct device_region reset_ctl_regions[] = {
    {"reset-control", DEVICE_PIO, 1, &reset_ctl_ops}, {0}};

const struct device_class reset_ctl_class = {
    .name = "reset_ctl",
    .help = "reset control register (port 0xcf9)",
    .size = sizeof(struct reset_ctl),
    .state = &reset_ctl_state,
    .regions = reset_ctl_regions,
    .reset = reset_ctl_reset,
};

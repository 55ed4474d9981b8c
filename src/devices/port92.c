/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * System control port A (0x92): class `port92`. Source: Intel ICH9 datasheet 13.7.3.
 * Bit 0 INIT_NOW: its rising edge resets the CPU, done as a reset of the machine; bit 1 A20 gate.
 * Region 0 = 1 port (0x92). Output: irq[0] = A20 level (may be left unconnected: A20 is then always
 * on, as on machines of this century, while the bit still reads as written).
 */
#include "devices/device.h"

#include "base/trace.h"

enum { PORT92_INIT = 1, PORT92_A20 = 2 };

struct port92 {
    struct device dev;
    uint8_t value;
};

static uint64_t port92_read(void *dev, uint64_t offset, unsigned size) {
    return ((struct port92 *)dev)->value;
}

static void port92_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct port92 *p = dev;
    bool rising = (value & PORT92_INIT) && !(p->value & PORT92_INIT);

    p->value = (uint8_t)value;
    irq_set(&p->dev.env.irq[0], value & PORT92_A20);
    if (!rising)
        return;
    trace(reset_request, p->dev.name, (unsigned)value);
    if (p->dev.env.power.request)
        p->dev.env.power.request(p->dev.env.power.opaque, POWER_RESET, 0);
}

static void port92_reset(struct device *dev) {
    struct port92 *p = (struct port92 *)dev;

    p->value = PORT92_A20; /* firmware finds A20 on */
    irq_raise(&dev->env.irq[0]);
}

static const struct state_desc port92_state = {
    .name = "port92",
    .version = 1,
    .struct_size = sizeof(struct port92),
    .fields = (const struct state_field[]){STATE(struct port92, value), STATE_END},
};

static const struct io_ops port92_ops = {port92_read, port92_write, 1, 1};

static const struct device_region port92_regions[] = {{"port92", DEVICE_PIO, 1, &port92_ops}, {0}};

const struct device_class port92_class = {
    .name = "port92",
    .help = "system control port A: A20 gate and fast reset",
    .size = sizeof(struct port92),
    .state = &port92_state,
    .regions = port92_regions,
    .reset = port92_reset,
};

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 8042 keyboard controller with a PS/2 keyboard, and a PS/2 mouse if the config says so: class
 * `i8042`.
 *
 * Regions: 0 = port 0x60, 1 = port 0x64. Outputs: irq[0] = IRQ1, irq[1] = IRQ12, irq[2] = A20 gate
 * (may be left unconnected). env.power gets POWER_RESET when the guest pulses the reset line.
 */
#ifndef DEVICES_I8042_H
#define DEVICES_I8042_H

#include "devices/device.h"

struct i8042_config { /* NULL: no mouse */
    bool mouse;
};

/* A key by its Linux code (display/keys.h) goes down or up; false: no room, try again later. Codes
 * that no keyboard has are taken and forgotten. */
bool i8042_key(struct device *dev, unsigned code, bool down);
/* Bytes of scan-code set 2 from the host: returns how many fit. */
size_t i8042_keys(struct device *dev, const uint8_t *codes, size_t n);
/* That the guest has lit: 1 Scroll Lock, 2 Num Lock, 4 Caps Lock. */
unsigned i8042_leds(const struct device *dev);

/* The mouse moves (down and right are positive), its wheel turns (up is positive); `buttons` are
 * those that are down, enum input_button. */
void i8042_mouse(struct device *dev, int dx, int dy, int wheel, unsigned buttons);
bool i8042_mouse_ready(const struct device *dev); /* the guest has enabled it */

#endif

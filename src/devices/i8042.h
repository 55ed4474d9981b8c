/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 8042 keyboard controller with a PS/2 keyboard and no mouse: class `i8042`.
 *
 * Regions: 0 = port 0x60, 1 = port 0x64. Outputs: irq[0] = IRQ1, irq[1] = IRQ12, irq[2] = A20 gate
 * (may be left unconnected). env.power gets POWER_RESET when the guest pulses the reset line.
 */
#ifndef DEVICES_I8042_H
#define DEVICES_I8042_H

#include "devices/device.h"

/* Key strokes as scan-code set 2 bytes from the host: returns how many fit. */
/* A key by its Linux code goes down or up; false: no room, try again later. Codes that no keyboard
 * has are taken and forgotten. */
bool i8042_key(struct device *dev, unsigned code, bool down);
size_t i8042_keys(struct device *dev, const uint8_t *codes, size_t n);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 8254 interval timer with the speaker port: class `pit`.
 *
 * Regions: 0 = 4 ports (0x40), 1 = port 0x61 (system control port B).
 * Output: irq[0] = OUT0, to IRQ0 (PIC pin 0, IOAPIC pin 2). Nothing else to call.
 */
#ifndef DEVICES_PIT_H
#define DEVICES_PIT_H

#include "devices/device.h"

enum { PIT_HZ = 1193182 };

#endif

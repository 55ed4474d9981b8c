/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * High precision event timers: class `hpet`, region 0 = registers (1 KiB of MMIO).
 *
 * Wires: HPET_IRQ_0 and HPET_IRQ_8 in place of the PIT's and the RTC's interrupt while legacy
 * replacement is on, HPET_IRQ_PINS and following for pins HPET_FIRST_PIN and following of the I/O
 * APIC.
 */
#ifndef DEVICES_HPET_H
#define DEVICES_HPET_H

#include "devices/device.h"

enum { HPET_IRQ_0, HPET_IRQ_8, HPET_IRQ_PINS, HPET_PINS = 4, HPET_FIRST_PIN = 20 };
enum {
    HPET_BLOCK_ID = 0x8086a201,
    HPET_SIZE = 1024
}; /* for the ACPI table: the low half of the
      capabilities */

/* True while PIT and RTC are cut off from their interrupts. */
bool hpet_is_legacy(const struct device *dev);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The I/O APIC (82093AA, with the EOI register of version 0x20): class `ioapic`, 24 pins.
 *
 * Regions: 0 = 4 KiB of MMIO (0xfec00000). Output: env.msi; a redirection entry becomes the same
 * message as an MSI (address fee00000 | destination, data with vector, delivery and trigger mode).
 */
#ifndef DEVICES_IOAPIC_H
#define DEVICES_IOAPIC_H

#include "devices/device.h"

enum { IOAPIC_PINS = 24 };

struct ioapic_config { /* NULL = id 0 */
    uint8_t id;        /* power-on value of the ID register, what the MADT says */
};

/* Input wire of a pin. Levels are active high whatever the entry's polarity bit says: wires on our
 * boards carry "asserted", not volts. */
struct irq ioapic_irq_wire(struct device *dev, unsigned pin);

/* A LAPIC ended a level-triggered interrupt (apic_bus_sinks.eoi): clears remote IRR of the entries
 * with that vector and sends again where the line is still asserted. */
void ioapic_eoi(struct device *dev, uint8_t vector);

#endif

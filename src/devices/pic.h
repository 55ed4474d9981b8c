/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pair of 8259A interrupt controllers of a PC: class `pic`.
 *
 * Regions: 0 = master (2 ports, 0x20), 1 = slave (2 ports, 0xa0), 2 = ELCR (2 ports, 0x4d0).
 * Output: irq[0] = INTR of the master, a level: to LINT0 of the boot CPU's LAPIC (lapic_lint_wire)
 * and, if the board likes, to IOAPIC pin 0.
 */
#ifndef DEVICES_PIC_H
#define DEVICES_PIC_H

#include "devices/device.h"

/* Input wire IR0..IR15 (8..15 are the slave's). Pin 2 is the cascade: its wire goes nowhere. */
struct irq pic_irq_wire(struct device *dev, unsigned n);

/* The INTA cycle: returns the vector and moves the request into service. Always answers: with the
 * spurious vector (base + 7) if the request has gone away. */
int pic_ack(struct device *dev);

/* True while INTR is asserted. */
bool pic_pending(const struct device *dev);

#endif

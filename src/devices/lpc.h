/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ICH9's LPC bridge, 8086:2918: class `lpc`, a PCI function (devfn 1f.0 by convention).
 *
 * Registers of the ISA side (PMBASE, decode ranges, RCBA) are storage: the board's devices stand at
 * fixed places. The PIRQ routing registers work: the eight inputs PIRQA-PIRQH drive irq[0..15]  ISA
 * interrupts (inputs of the PIC; leave 0, 1, 2, 8, 13 open, they cannot be chosen), irq[16..23]
 * pins 16-23 of the IOAPIC, always, whatever the routing.
 */
#ifndef DEVICES_LPC_H
#define DEVICES_LPC_H

#include "devices/pci.h"

enum { LPC_PIRQS = 8 };

/* Input wire of PIRQ A (0) to H (7), active high: what pci_bus_set_intx takes. */
struct irq lpc_pirq_wire(struct device *dev, unsigned pirq);

/* GEN_PMCON_1's SMI_LOCK is set: global SMI enabling stays as it is until the next reset. */
bool lpc_smi_locked(const struct device *dev);

#endif

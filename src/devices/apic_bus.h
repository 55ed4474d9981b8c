/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the LAPICs and the bus between them know of each other; nobody else includes this. */
#ifndef DEVICES_APIC_BUS_H
#define DEVICES_APIC_BUS_H

#include "devices/lapic.h"

enum apic_mode { /* delivery modes, SDM vol. 3, 11.6.1 */
                 APIC_FIXED,
                 APIC_LOWEST,
                 APIC_SMI,
                 APIC_RESERVED,
                 APIC_NMI,
                 APIC_INIT,
                 APIC_SIPI,
                 APIC_EXTINT
};

enum { APIC_BROADCAST8 = 0xff };
#define APIC_BROADCAST32 0xffffffffu

struct apic_message {
    uint32_t dest;
    bool dest8; /* dest has 8 bits: from xAPIC ICRs, the IOAPIC and MSIs */
    bool logical, level;
    uint8_t mode; /* enum apic_mode */
    uint8_t vector;
};

struct lapic;

int apic_bus_attach(struct apic_bus *bus, struct lapic *lapic, uint32_t id, struct error *err);
void apic_bus_detach(struct apic_bus *bus, struct lapic *lapic);
void apic_bus_send(struct apic_bus *bus, const struct apic_message *m); /* by m->dest */
/* Shorthands: everyone but `except` (NULL: everyone). */
void apic_bus_send_all(struct apic_bus *bus, const struct apic_message *m,
                       const struct lapic *except);
void apic_bus_eoi(struct apic_bus *bus, uint8_t vector);
int apic_bus_ext_ack(struct apic_bus *bus); /* -1: no PIC */

/* The LAPIC's side. */
bool lapic_matches(const struct lapic *lapic, const struct apic_message *m);
void lapic_accept(struct lapic *lapic, const struct apic_message *m);
/* For lowest-priority arbitration: smaller is better; negative: cannot take it at all. */
int lapic_arbitration(const struct lapic *lapic, uint8_t vector);

#endif

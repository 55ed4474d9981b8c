/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bus between local APICs: routing of messages by destination.
 * Source: Intel SDM vol. 3, 11.6.2 (destinations), 11.11 (MSI layout), 11.12.9 (x2APIC).
 */
#include "devices/apic_bus.h"

#include <errno.h>
#include <stdlib.h>

#include "base/trace.h"

struct apic_bus {
    struct apic_bus_sinks sinks;
    struct lapic *lapic[LAPIC_MAX]; /* by initial APIC ID */
    unsigned end;                   /* above the largest ID */
};

struct apic_bus *apic_bus_new(const struct apic_bus_sinks *sinks) {
    struct apic_bus *bus = calloc(1, sizeof(*bus));

    if (!bus)
        abort(); /* 2 KiB while a machine is made */
    if (sinks)
        bus->sinks = *sinks;
    return bus;
}

void apic_bus_come_home(struct apic_bus *bus) { bus->sinks.message = NULL; }

void apic_bus_free(struct apic_bus *bus) { free(bus); }

int apic_bus_attach(struct apic_bus *bus, struct lapic *lapic, uint32_t id, struct error *err) {
    if (id >= LAPIC_MAX)
        return error_set(err, -EINVAL, "CPU with APIC ID %u: IDs go up to %u; use fewer CPUs", id,
                         LAPIC_MAX - 1);
    if (bus->lapic[id])
        return error_set(err, -EEXIST,
                         "CPU with APIC ID %u: there is one already; give each its own", id);
    bus->lapic[id] = lapic;
    if (id >= bus->end)
        bus->end = id + 1;
    return 0;
}

void apic_bus_detach(struct apic_bus *bus, struct lapic *lapic) {
    for (unsigned i = 0; i < bus->end; i++)
        if (bus->lapic[i] == lapic)
            bus->lapic[i] = NULL;
}

void apic_bus_send_all(struct apic_bus *bus, const struct apic_message *m,
                       const struct lapic *except) {
    for (unsigned i = 0; i < bus->end; i++)
        if (bus->lapic[i] && bus->lapic[i] != except)
            lapic_accept(bus->lapic[i], m);
}

static void send_lowest(struct apic_bus *bus, const struct apic_message *m) {
    struct lapic *best = NULL;
    int best_rank = 0;

    for (unsigned i = 0; i < bus->end; i++) {
        struct lapic *l = bus->lapic[i];
        int rank = l && lapic_matches(l, m) ? lapic_arbitration(l, m->vector) : -1;

        if (rank >= 0 && (!best || rank < best_rank)) {
            best = l;
            best_rank = rank;
        }
    }
    if (best)
        lapic_accept(best, m);
}

void apic_bus_send(struct apic_bus *bus, const struct apic_message *m) {
    if (m->mode == APIC_LOWEST) {
        send_lowest(bus, m);
        return;
    }
    for (unsigned i = 0; i < bus->end; i++)
        if (bus->lapic[i] && lapic_matches(bus->lapic[i], m))
            lapic_accept(bus->lapic[i], m);
}

void apic_bus_deliver_msi(void *opaque, uint64_t addr, uint32_t data) {
    const struct apic_bus *bus = opaque;
    struct apic_message m = {
        .dest = addr >> 12 & 0xff,
        .dest8 = true,
        .logical = addr >> 2 & 1,
        .level = data >> 15 & 1,
        .mode = data >> 8 & 7,
        .vector = (uint8_t)data,
    };

    /* A level-triggered message with the level bit clear says that the line fell: nobody listens.
     */
    if (addr >> 20 != 0xfee || m.mode == APIC_RESERVED || m.mode == APIC_SIPI ||
        (m.level && !(data >> 14 & 1))) {
        trace(apic_bus_dropped, addr, data);
        return;
    }
    if (!bus->sinks.message || !bus->sinks.message(bus->sinks.opaque, addr, data))
        apic_bus_send(opaque, &m);
}

void apic_bus_eoi(struct apic_bus *bus, uint8_t vector) {
    if (bus->sinks.eoi)
        bus->sinks.eoi(bus->sinks.opaque, vector);
}

int apic_bus_ext_ack(struct apic_bus *bus) {
    return bus->sinks.ext_ack ? bus->sinks.ext_ack(bus->sinks.opaque) : -1;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The root bus: functions by devfn, configuration cycles, shared INTx wires, address assignment.
 * Source: PCI Local Bus Specification 3.0, 3.2.2.3 (configuration cycles), 2.2.6 (INTx wiring);
 * PCI-to-PCI Bridge 1.2, 9.1 (swizzle).
 */
#include "devices/pci.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/trace.h"
#include "devices/pci_internal.h"

enum { HEADER_MULTI_FUNCTION = 0x80, ASSIGN_ALIGN_MIN = 4096 };

struct pci_bus *pci_bus_new(struct io_space *pio, struct io_space *mmio) {
    struct pci_bus *bus = calloc(1, sizeof(*bus));

    if (bus) {
        bus->pio = pio;
        bus->mmio = mmio;
    }
    return bus;
}

void pci_bus_free(struct pci_bus *bus) {
    if (!bus)
        return;
    for (unsigned i = 0; i < PCI_MAX_DEVFN; i++)
        if (bus->fn[i])
            pci_bus_detach(bus->fn[i]);
    free(bus);
}

void pci_bus_set_intx(struct pci_bus *bus, const struct irq wires[4]) {
    for (unsigned i = 0; i < 4; i++) {
        bus->wire[i] = wires[i];
        if (bus->wire_users[i])
            irq_raise(&bus->wire[i]);
    }
}

void pci_bus_set_wires(struct pci_bus *bus, struct wires *wires) { bus->wires = wires; }

struct wires *pci_bus_wires(struct pci_bus *bus) {
    return bus->wires;
}

void pci_bus_set_windows(struct pci_bus *bus, struct windows *windows) { bus->windows = windows; }

struct windows *pci_bus_windows(struct pci_bus *bus) {
    return bus->windows;
}

struct io_space *pci_bus_mmio(struct pci_bus *bus) {
    return bus->mmio;
}

void pci_bus_drive(struct pci_device *d, bool level) {
    unsigned pin = d->fixed[PCI_INT_PIN], n;
    unsigned *users;

    if (!pin)
        return;
    n = ((unsigned)(d->devfn >> 3) + pin - 1) % 4;
    users = &d->bus->wire_users[n];
    *users += level ? 1 : -1u;
    if (*users == (level ? 1 : 0))
        irq_set(&d->bus->wire[n], level);
}

void pci_bus_retry(struct pci_bus *bus) {
    for (unsigned i = 0; i < PCI_MAX_DEVFN && bus->refused; i++) {
        struct pci_device *d = bus->fn[i];

        for (unsigned j = 0; d && j < PCI_DECODERS; j++)
            if (d->bar[j].refused) {
                pci_update_bars(d);
                break;
            }
    }
}

/* Software looks at functions 1-7 of a slot only if function 0 says that there are some. */
static void mark_multi_function(struct pci_bus *bus, unsigned slot) {
    struct pci_device *first = bus->fn[slot * 8];
    bool more = false;

    for (unsigned i = 1; i < 8; i++)
        more |= bus->fn[slot * 8 + i] != NULL;
    if (!first || !more)
        return;
    first->config[PCI_HEADER_TYPE] |= HEADER_MULTI_FUNCTION;
    first->fixed[PCI_HEADER_TYPE] |= HEADER_MULTI_FUNCTION;
}

int pci_bus_attach(struct pci_bus *bus, struct pci_device *d, unsigned devfn, struct error *err) {
    if (devfn >= PCI_MAX_DEVFN)
        return error_set(err, -EINVAL, "device '%s': PCI has no slot %u; choose one from 0 to 31",
                         d->dev.name, devfn / 8);
    if (bus->fn[devfn])
        return error_set(
            err, -EBUSY,
            "device '%s': PCI slot %u function %u is taken by '%s'; choose another one",
            d->dev.name, devfn / 8, devfn % 8, bus->fn[devfn]->dev.name);
    bus->fn[devfn] = d;
    d->bus = bus;
    d->devfn = (uint8_t)devfn;
    mark_multi_function(bus, devfn / 8);
    pci_update_bars(d);
    pci_update_intx(d);
    if (d->attached)
        d->attached(d, true);
    return 0;
}

void pci_bus_detach(struct pci_device *d) {
    struct pci_bus *bus = d->bus;

    if (!bus)
        return;
    if (d->attached)
        d->attached(d, false);
    pci_unmap_bars(d);
    pci_msix_unwire(d);
    if (d->intx_driven)
        pci_bus_drive(d, false);
    d->intx_driven = false;
    bus->fn[d->devfn] = NULL;
    d->bus = NULL;
    pci_bus_retry(bus);
}

struct pci_device *pci_bus_find(struct pci_bus *bus, unsigned devfn) {
    return devfn < PCI_MAX_DEVFN ? bus->fn[devfn] : NULL;
}

uint32_t pci_config_read(struct pci_bus *bus, unsigned bdf, unsigned offset, unsigned size) {
    struct pci_device *d = pci_bus_find(bus, bdf);

    if (!d) /* a master abort: Linux asks for 8192 functions that are not there */
        return size >= 4 ? ~0u : (1u << (8 * size)) - 1;
    return pci_function_read(d, offset, size);
}

void pci_config_write(struct pci_bus *bus, unsigned bdf, unsigned offset, unsigned size,
                      uint32_t value) {
    struct pci_device *d = pci_bus_find(bus, bdf);

    if (d)
        pci_function_write(d, offset, size, value);
}

struct free_space {
    uint64_t next, end;
};

struct spaces {
    struct free_space io, low, high;
};

void pci_bus_set_high(struct pci_bus *bus, uint64_t base, uint64_t end) {
    bus->high = base;
    bus->high_end = end;
}

static bool is_large(const struct pci_bar *b) { return b->is64 && b->size >= PCI_BAR_LARGE; }

uint64_t pci_bus_large(const struct pci_bus *bus) {
    uint64_t bytes = 0;

    for (unsigned i = 0; i < PCI_MAX_DEVFN; i++)
        for (unsigned j = 0; bus->fn[i] && j < PCI_BARS; j++)
            bytes += is_large(&bus->fn[i]->bar[j]) ? bus->fn[i]->bar[j].size : 0;
    return bytes;
}

/* False: it has no room. */
static bool take(struct free_space *s, uint64_t align, uint64_t *ret_base) {
    uint64_t base = (s->next + align - 1) & ~(align - 1);

    if (base < s->next || base > s->end || s->end - base < align)
        return false;
    s->next = base + align;
    *ret_base = base;
    return true;
}

/* What is small stays where every guest reaches it. */
static int assign_bar(struct pci_device *d, unsigned i, struct spaces *s, struct error *err) {
    const struct pci_bar *b = &d->bar[i];
    /* Whole pages, so that a guest can give a BAR to user space without its neighbour. */
    uint64_t align = b->io || b->size > ASSIGN_ALIGN_MIN ? b->size : ASSIGN_ALIGN_MIN, base = 0;

    if (!(is_large(b) && take(&s->high, align, &base)) &&
        !take(b->io ? &s->io : &s->low, align, &base))
        return error_set(
            err, -ENOSPC,
            "device '%s': the PCI %s window has no room for a BAR of %llu bytes; use fewer devices",
            d->dev.name, b->io ? "port" : "memory", (unsigned long long)b->size);
    pci_function_write(d, pci_bar_register(i), 4, (uint32_t)base);
    if (b->is64)
        pci_function_write(d, PCI_BAR0 + 4 * i + 4, 4, (uint32_t)(base >> 32));
    return 0;
}

int pci_bus_assign(struct pci_bus *bus, uint64_t mmio_base, uint64_t mmio_end, uint16_t io_base,
                   struct error *err) {
    struct spaces s = {
        .io = {io_base, 0x10000}, .low = {mmio_base, mmio_end}, .high = {bus->high, bus->high_end}};

    for (unsigned devfn = 0; devfn < PCI_MAX_DEVFN; devfn++) {
        struct pci_device *d = bus->fn[devfn];
        uint16_t decode = 0;

        for (unsigned i = 0; d && i < PCI_DECODERS; i++) {
            if (!d->bar[i].size)
                continue;
            if (assign_bar(d, i, &s, err) < 0)
                return -ENOSPC;
            if (i != PCI_ROM)
                decode |= d->bar[i].io ? PCI_COMMAND_IO : PCI_COMMAND_MEM;
        }
        if (decode)
            pci_function_write(d, PCI_COMMAND, 2, load_le16(d->config + PCI_COMMAND) | decode);
    }
    return 0;
}

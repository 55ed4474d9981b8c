/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What pci.c, pci_msix.c and pci_bus.c share: the bus struct and the effects of configuration
 * writes. */
#ifndef DEVICES_PCI_INTERNAL_H
#define DEVICES_PCI_INTERNAL_H

#include "devices/pci.h"

struct pci_bus {
    struct io_space *pio, *mmio;
    struct pci_device *fn[PCI_MAX_DEVFN];
    struct wires *wires;     /* NULL: none */
    struct windows *windows; /* NULL: none */
    uint64_t high, high_end; /* pci_bus_set_high */
    struct irq wire[4];
    unsigned wire_users[4]; /* functions that assert the wire now */
    unsigned refused;       /* BARs that found their place taken */
};

/* pci.c */
uint32_t pci_function_read(struct pci_device *d, unsigned offset, unsigned size);
void pci_function_write(struct pci_device *d, unsigned offset, unsigned size, uint32_t value);
unsigned pci_bar_register(unsigned bar); /* its offset in the header */
void pci_update_bars(struct pci_device *d);
void pci_unmap_bars(struct pci_device *d);
void pci_update_intx(struct pci_device *d);

/* pci_bus.c */
void pci_bus_drive(struct pci_device *d, bool level); /* this function's share of its wire */
void pci_bus_retry(struct pci_bus *bus);              /* a BAR moved away: refused ones try again */

/* pci_msix.c */
void pci_msix_reset(struct pci_device *d);
void pci_msix_deliver(struct pci_device *d); /* sends what is pending and no longer held back */
void pci_msix_unwire(struct pci_device *d);  /* its wires go */
extern const struct state_desc msix_entry_state;

/* True if [offset, offset+size) and [at, at+len) overlap. */
static inline bool pci_overlaps(unsigned offset, unsigned size, unsigned at, unsigned len) {
    return offset < at + len && at < offset + size;
}

#endif

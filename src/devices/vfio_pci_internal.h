/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of class vfio_pci share. */
#ifndef DEVICES_VFIO_PCI_INTERNAL_H
#define DEVICES_VFIO_PCI_INTERNAL_H

#include "devices/pci.h"
#include "vfio/function.h"

enum { VFIO_PCI_PENDING = VFIO_VECTORS / 64 };

struct vfio_msi { /* the capability; at 0: there is none */
    uint16_t at;
    uint8_t data, mask; /* offsets of these registers in it; mask 0: it has none */
    uint8_t most;       /* messages, as a power of two */
};

struct vfio_msix {
    uint16_t at, vectors;
    uint8_t table_bar, pba_bar;
    uint32_t table, pba; /* offsets in those BARs */
    struct msix_entry entry[VFIO_VECTORS];
    uint64_t pending[VFIO_PCI_PENDING];
};

struct vfio_pci {
    struct pci_device pci;         /* first */
    struct vfio_function *f;       /* NULL: none, nothing answers */
    bool through[PCI_CONFIG_SIZE]; /* bytes of the configuration that are the host's */
    uint16_t pm;                   /* offset of that capability, 0: none */
    struct vfio_msi msi;
    struct vfio_msix msix;
    bool listening, warned;
    enum vfio_interrupt kind; /* that it listens to */
    unsigned count;           /* and how many of them */
    bool intx_masked;         /* by the kernel, as it has fired and nobody has looked since */
};

/* vfio_pci_caps.c: from config[], which has the host's bytes, and `through`, what the guest sees.
 */
int vfio_caps_init(struct vfio_pci *v, struct error *err);

/* vfio_pci_irq.c */
void vfio_irq_reset(struct vfio_pci *v);  /* after that of config[] */
void vfio_irq_update(struct vfio_pci *v); /* after a write to config[]: listens, sends */
void vfio_irq_fired(void *opaque, enum vfio_interrupt kind, unsigned n);
void vfio_irq_looked(struct vfio_pci *v); /* the guest has accessed a BAR: INTx may fire again */
/* Accesses to the MSI-X table and the pending bits; false: that is no such place. */
bool vfio_msix_read(struct vfio_pci *v, unsigned bar, uint64_t offset, unsigned size,
                    uint64_t *ret);
bool vfio_msix_write(struct vfio_pci *v, unsigned bar, uint64_t offset, unsigned size,
                     uint64_t value);

#endif

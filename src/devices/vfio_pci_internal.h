/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of class vfio_pci share. */
#ifndef DEVICES_VFIO_PCI_INTERNAL_H
#define DEVICES_VFIO_PCI_INTERNAL_H

#include "devices/pci.h"
#include "vfio/function.h"

enum { VFIO_PCI_MESSAGES = 32 };           /* of MSI */
enum { VFIO_PCI_PIECES = 3 * VFIO_AREAS }; /* of a BAR: MSI-X cuts two pages out at most */

struct msi_wire;

struct vfio_msi { /* the capability; at 0: there is none */
    uint16_t at;
    uint8_t data, mask; /* offsets of these registers in it; mask 0: it has none */
    uint8_t most;       /* messages, as a power of two */
    struct msi_wire *wire[VFIO_PCI_MESSAGES]; /* of those that it listens to */
};

struct vfio_windows { /* of one BAR */
    bool open;
    unsigned count;
    int number[VFIO_PCI_PIECES];
};

struct vfio_pci {
    struct pci_device pci;         /* first */
    struct vfio_function *f;       /* NULL: none, nothing answers */
    bool through[PCI_CONFIG_SIZE]; /* bytes of the configuration that are the host's */
    uint16_t pm;                   /* offset of that capability, 0: none */
    struct vfio_msi msi;
    bool listening, warned;
    enum vfio_interrupt kind; /* that it listens to */
    unsigned count, given;    /* and how many of them, and how many of those there are */
    uint32_t signalled[VFIO_VECTORS / 32]; /* vectors of MSI-X that have a descriptor */
    bool intx_masked; /* by the kernel, as it has fired and nobody has looked since */
    bool intx_used;   /* it has fired since it is listened to: accesses are to be seen */
    bool decodes;     /* the device has been told to answer at its BARs */
    struct vfio_windows windows[PCI_BARS];
};

/* vfio_pci_caps.c: from config[], which has the host's bytes, and `through`, what the guest sees.
 */
int vfio_caps_init(struct vfio_pci *v, struct error *err);

/* vfio_pci_irq.c */
void vfio_irq_reset(struct vfio_pci *v);  /* after that of config[] */
void vfio_irq_update(struct vfio_pci *v); /* after a write to config[]: listens, sends */
void vfio_irq_quiet(struct vfio_pci *v);  /* there are none any more, until the next update */
void vfio_irq_reading(struct vfio_pci *v, unsigned offset, unsigned size); /* of config[] */
void vfio_irq_fired(void *opaque);
void vfio_irq_looked(struct vfio_pci *v); /* the guest has accessed a BAR: INTx may fire again */
/* Accesses to the MSI-X table and the pending bits; false: that is no such place. */
bool vfio_msix_read(struct vfio_pci *v, unsigned bar, uint64_t offset, unsigned size,
                    uint64_t *ret);
bool vfio_msix_write(struct vfio_pci *v, unsigned bar, uint64_t offset, unsigned size,
                     uint64_t value);

/* vfio_pci_windows.c: opens and closes windows to BARs, as things are now. */
void vfio_windows_update(struct vfio_pci *v);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MSI of a PCI function: the capability, with one message and an address of 64 bits.
 * Source: PCI Local Bus Specification 3.0, section 6.8.1.
 *
 * Capability: 0 id, 2 control (bit 0 enabled, 7 address of 64 bits), 4 address low, 8 address high,
 * 12 data. There are no masks, so nothing is pending: a message that may not be sent, as bus
 * mastering is off, is lost.
 */
#include "devices/pci.h"

#include "base/bytes.h"
#include "base/trace.h"
#include "devices/pci_internal.h"

enum { CONTROL = 2, ADDRESS = 4, ADDRESS_HIGH = 8, DATA = 12, LENGTH = 14, HEAD = 2 };
enum { CONTROL_ENABLE = 1, CONTROL_64 = 0x80 };

void pci_init_msi(struct pci_device *d) {
    uint8_t body[LENGTH - HEAD] = {0}, wmask[LENGTH - HEAD] = {0};

    store_le16(body + CONTROL - HEAD, CONTROL_64);
    store_le16(wmask + CONTROL - HEAD, CONTROL_ENABLE);
    store_le32(wmask + ADDRESS - HEAD, ~3u);
    store_le32(wmask + ADDRESS_HIGH - HEAD, ~0u);
    store_le16(wmask + DATA - HEAD, 0xffff);
    d->msi_cap = (uint16_t)pci_add_cap(d, PCI_CAP_MSI, body, sizeof(body), wmask);
}

bool pci_msi_enabled(const struct pci_device *d) {
    return d->msi_cap && load_le16(d->config + d->msi_cap + CONTROL) & CONTROL_ENABLE;
}

void pci_msi_notify(struct pci_device *d) {
    const uint8_t *cap = d->config + d->msi_cap;
    uint64_t address;

    if (!pci_msi_enabled(d) || !(load_le16(d->config + PCI_COMMAND) & PCI_COMMAND_MASTER))
        return;
    address = (uint64_t)load_le32(cap + ADDRESS_HIGH) << 32 | load_le32(cap + ADDRESS);
    trace(pci_msix_send, d->dev.name, 0, address, load_le16(cap + DATA));
    msi_send(&d->dev.env.msi, address, load_le16(cap + DATA));
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which capabilities of a device of the host the guest sees, and what of them is ours.
 * Source: PCI Local Bus Specification 3.0, 6.7 and 6.8; PCIe 3.0, 7.8 and 7.9.
 *
 * The lists are walked once. They are the device's word, so a link that leads nowhere or round in
 * circles ends them. Links are ours: what is hidden is left out of the chain.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "devices/vfio_pci_internal.h"

enum {
    CAP_PCIE = 0x10,
    CAP_PM = 0x01,
    CAP_SLOT = 0x04,
    CAP_HOTSWAP = 0x06,
    CAP_SHPC = 0x0c,
    CAP_BRIDGE = 0x0d,
    CAP_EA = 0x14,
    CAPS_BEGIN = 0x40,
    CAPS_MOST = 48,
    EXT_BEGIN = 0x100,
    EXT_MOST = 240,
};
enum { /* the PCIe capability */
       PCIE_FLAGS = 2,
       PCIE_LINK = 0x0c,
       PCIE_LINK_2 = 0x2c,
       PCIE_LINK_BYTES = 8,
       PCIE_SLOT = 0x14,
       PCIE_SLOT_BYTES = 12,
       PCIE_SLOT_2 = 0x34,
       PCIE_KIND = 0x01f0,
       PCIE_INTEGRATED = 0x0090,
       PCIE_END_1 = 0x14,
       PCIE_END_2 = 0x3c
};
enum {
    MSI_CONTROL = 2,
    MSI_ADDRESS = 4,
    MSI_64 = 0x80,
    MSI_MASKS = 0x100,
    MSI_WRITABLE = 0x71,
    MSIX_CONTROL = 2,
    MSIX_TABLE = 4,
    MSIX_PBA = 8,
    MSIX_SIZE = 12,
    MSIX_COUNT = 0x7ff,
    ENTRY_SIZE = 16
};

static void ours(struct vfio_pci *v, unsigned at, unsigned size) {
    for (unsigned i = 0; i < size && at + i < PCI_CONFIG_SIZE; i++)
        v->through[at + i] = false;
}

static void zero(struct vfio_pci *v, unsigned at, unsigned size) {
    if (at + size <= PCI_CONFIG_SIZE)
        memset(v->pci.config + at, 0, size);
    ours(v, at, size);
}

static bool fits(unsigned at, unsigned size) { return at + size <= PCI_HEADER_SIZE; }

/* An endpoint on the root bus is one of the root complex, and has no link. */
static bool take_pcie(struct vfio_pci *v, unsigned at) {
    uint8_t *c = v->pci.config + at;
    unsigned version;

    if (!fits(at, PCIE_END_1))
        return false;
    version = c[PCIE_FLAGS] & 15;
    store_le16(c + PCIE_FLAGS,
               (uint16_t)((load_le16(c + PCIE_FLAGS) & ~PCIE_KIND) | PCIE_INTEGRATED));
    ours(v, at + PCIE_FLAGS, 2);
    zero(v, at + PCIE_LINK, PCIE_LINK_BYTES);
    if (version >= 2 && fits(at, PCIE_END_2)) {
        zero(v, at + PCIE_SLOT, PCIE_SLOT_BYTES);
        zero(v, at + PCIE_LINK_2, PCIE_LINK_BYTES);
        zero(v, at + PCIE_SLOT_2, PCIE_LINK_BYTES);
    }
    return true;
}

static bool take_msi(struct vfio_pci *v, unsigned at) {
    struct pci_device *d = &v->pci;
    uint8_t *c = d->config + at, *w = d->wmask + at;
    uint16_t control = fits(at, 4) ? load_le16(c + MSI_CONTROL) : 0;
    unsigned data = control & MSI_64 ? 12 : 8, size = control & MSI_MASKS ? data + 12 : data + 2;
    unsigned most = control >> 1 & 7;

    if (!v->f->interrupts[VFIO_MSI] || v->msi.at || !fits(at, size))
        return false;
    while (most > 5 || 1u << most > v->f->interrupts[VFIO_MSI])
        most--;
    control = (uint16_t)((control & (MSI_64 | MSI_MASKS)) | most << 1);
    memset(c + MSI_CONTROL, 0, size - MSI_CONTROL);
    store_le16(c + MSI_CONTROL, control);
    store_le16(w + MSI_CONTROL, MSI_WRITABLE);
    store_le32(w + MSI_ADDRESS, ~3u);
    if (control & MSI_64)
        store_le32(w + MSI_ADDRESS + 4, ~0u);
    store_le16(w + data, 0xffff);
    if (control & MSI_MASKS)
        store_le32(w + data + 4, (uint32_t)((1ull << (1u << most)) - 1));
    ours(v, at, size);
    v->msi = (struct vfio_msi){.at = (uint16_t)at,
                               .data = (uint8_t)data,
                               .mask = (uint8_t)(control & MSI_MASKS ? data + 4 : 0),
                               .most = (uint8_t)most};
    return true;
}

/* `bytes` at `where`, offset and BAR in one, lie in that BAR. */
static bool in_bar(const struct vfio_pci *v, uint32_t where, uint32_t bytes) {
    unsigned bar = where & 7;

    return bar < PCI_BARS && v->pci.bar[bar].size && !v->pci.bar[bar].io &&
           (uint64_t)(where & ~7u) + bytes <= v->pci.bar[bar].size;
}

static bool take_msix(struct vfio_pci *v, unsigned at) {
    const uint8_t *c = v->pci.config + at;
    unsigned vectors = v->f->interrupts[VFIO_MSIX], has;

    if (!vectors || v->pci.msix_cap || !fits(at, MSIX_SIZE))
        return false;
    has = (load_le16(c + MSIX_CONTROL) & MSIX_COUNT) + 1u;
    vectors = vectors < has ? vectors : has;
    if (!in_bar(v, load_le32(c + MSIX_TABLE), vectors * ENTRY_SIZE) ||
        !in_bar(v, load_le32(c + MSIX_PBA), (vectors + 63) / 64 * 8))
        return false;
    if (pci_take_msix(&v->pci, at, vectors) < 0)
        return false;
    ours(v, at, MSIX_SIZE);
    return true;
}

/* False: the guest does not see it. */
static bool take(struct vfio_pci *v, unsigned at) {
    switch (v->pci.config[at]) {
    case CAP_PCIE:
        return take_pcie(v, at);
    case CAP_PM:
        v->pm = fits(at, 8) ? (uint16_t)at : 0;
        return v->pm;
    case PCI_CAP_MSI:
        return take_msi(v, at);
    case PCI_CAP_MSIX:
        return take_msix(v, at);
    case CAP_SLOT:
    case CAP_HOTSWAP:
    case CAP_SHPC:
    case CAP_BRIDGE:
    case CAP_EA: /* BARs at fixed places */
        return false;
    default:
        return true;
    }
}

static void walk(struct vfio_pci *v) {
    uint8_t *c = v->pci.config;
    unsigned link = PCI_CAP_PTR, at = c[PCI_STATUS] & PCI_STATUS_CAPS ? c[link] & ~3u : 0;
    bool seen[PCI_HEADER_SIZE] = {false};

    c[link] = 0;
    for (unsigned n = 0; at >= CAPS_BEGIN && n < CAPS_MOST && !seen[at]; n++) {
        unsigned next = c[at + 1] & ~3u;

        seen[at] = true;
        if (take(v, at)) {
            c[link] = (uint8_t)at;
            link = at + 1;
            c[link] = 0;
            ours(v, at, 2);
        }
        at = next;
    }
}

/* What a guest can do with, and cannot harm others by: errors, serial number, power budget, what
 * the vendor made. Not what is about links, address translation, or functions of it. */
static bool is_harmless(unsigned id) {
    static const uint8_t ids[] = {0x01, 0x03, 0x04, 0x0b, 0x16, 0x23};

    return id <= 0xff && memchr(ids, (int)id, sizeof(ids));
}

static void put_ext(struct vfio_pci *v, unsigned at, uint32_t header) {
    store_le32(v->pci.config + at, header);
    ours(v, at, 4);
}

/* The first one cannot be left out, so it then is one that nobody knows. */
static void walk_extended(struct vfio_pci *v) {
    uint8_t *c = v->pci.config;
    bool seen[PCI_CONFIG_SIZE / 4] = {false};
    unsigned link = EXT_BEGIN, at = EXT_BEGIN;
    uint32_t header = load_le32(c + at), kept = 0;

    if (!header || header == ~0u) {
        zero(v, EXT_BEGIN, 4);
        return;
    }
    for (unsigned n = 0; at >= EXT_BEGIN && n < EXT_MOST && !seen[at / 4]; n++) {
        header = load_le32(c + at);
        seen[at / 4] = true;
        if (is_harmless(header & 0xffff)) {
            if (at != link)
                put_ext(v, link, (kept & 0xfffff) | at << 20);
            kept = header;
            link = at;
        } else if (at == EXT_BEGIN) {
            kept = 0xffff;
        }
        put_ext(v, link, kept & 0xfffff);
        at = header >> 20 & ~3u;
    }
    if (load_le32(c + EXT_BEGIN) == 0xffff)
        zero(v, EXT_BEGIN, 4); /* none is left */
}

int vfio_caps_init(struct vfio_pci *v, struct error *err) {
    walk(v);
    if (v->f->region[VFIO_CONFIG].size >= PCI_CONFIG_SIZE)
        walk_extended(v);
    if (v->f->interrupts[VFIO_MSIX] && !v->pci.msix_cap && !v->msi.at &&
        !v->pci.config[PCI_INT_PIN])
        return error_set(err, -ENOTSUP,
                         "device %s: its table of interrupts (MSI-X) lies in no BAR of it, and it "
                         "has no other interrupt: it cannot be given to a machine",
                         v->f->name);
    return 0;
}

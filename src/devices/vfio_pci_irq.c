/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interrupts of a device of the host: INTx, MSI and MSI-X as the guest has set them up.
 * Source: PCI Local Bus Specification 3.0, 6.8 (MSI, MSI-X), 2.2.6 (INTx).
 *
 * The host has a vector for each of the guest's, on from when the guest switches the kind on; masks
 * of single vectors are ours: what fires meanwhile is pending.
 *
 * INTx is a level that the kernel tells as an edge, masking it. The guest's handler looks into the
 * device, so with the next access to a BAR the level is lowered and the kernel told to look again:
 * if the device still wants it, it fires once more.
 */
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/trace.h"
#include "devices/vfio_pci_internal.h"

enum {
    CONTROL = 2,
    MSI_ENABLE = 1,
    MSI_HIGH = 8,
    MSI_64 = 0x80,
    MSI_PENDING = 4, /* behind the mask */
    MSIX_ENABLE = 0x8000,
    MSIX_MASKED = 0x4000,
    VECTOR_MASKED = 1,
    ENTRY_SIZE = 16,
};

static uint16_t control(const struct vfio_pci *v, unsigned cap) {
    return cap ? load_le16(v->pci.config + cap + CONTROL) : 0;
}

static bool is_master(const struct vfio_pci *v) {
    return load_le16(v->pci.config + PCI_COMMAND) & PCI_COMMAND_MASTER;
}

static bool msi_on(const struct vfio_pci *v) { return control(v, v->msi.at) & MSI_ENABLE; }

static bool msix_on(const struct vfio_pci *v) { return control(v, v->msix.at) & MSIX_ENABLE; }

/* ------------------------------------------------------------------ MSI */

static unsigned msi_count(const struct vfio_pci *v) {
    unsigned power = control(v, v->msi.at) >> 4 & 7;

    return 1u << (power < v->msi.most ? power : v->msi.most);
}

static void send_msi(struct vfio_pci *v, unsigned n) {
    const uint8_t *cap = v->pci.config + v->msi.at;
    uint64_t address = load_le32(cap + 4);
    unsigned data = load_le16(cap + v->msi.data);

    if (control(v, v->msi.at) & MSI_64)
        address |= (uint64_t)load_le32(cap + MSI_HIGH) << 32;
    data = (data & ~(msi_count(v) - 1)) | n;
    trace(vfio_pci_send, v->pci.dev.name, n, address, data);
    msi_send(&v->pci.dev.env.msi, address, data);
}

static uint8_t *msi_pending(struct vfio_pci *v) {
    return v->pci.config + v->msi.at + v->msi.mask + MSI_PENDING;
}

static uint32_t msi_masked(struct vfio_pci *v) {
    return v->msi.mask ? load_le32(v->pci.config + v->msi.at + v->msi.mask) : 0;
}

static void fire_msi(struct vfio_pci *v, unsigned n) {
    if (!msi_on(v) || n >= msi_count(v))
        return;
    if (msi_masked(v) >> n & 1)
        store_le32(msi_pending(v), load_le32(msi_pending(v)) | 1u << n);
    else if (is_master(v))
        send_msi(v, n);
}

static void deliver_msi(struct vfio_pci *v) {
    uint32_t due;

    if (!v->msi.mask || !msi_on(v) || !is_master(v))
        return;
    due = load_le32(msi_pending(v)) & ~msi_masked(v);
    store_le32(msi_pending(v), load_le32(msi_pending(v)) & ~due);
    for (; due; due &= due - 1)
        send_msi(v, (unsigned)__builtin_ctz(due));
}

/* ------------------------------------------------------------------ MSI-X */

static bool may_send_msix(const struct vfio_pci *v) {
    return msix_on(v) && !(control(v, v->msix.at) & MSIX_MASKED) && is_master(v);
}

static void send_msix(struct vfio_pci *v, unsigned n) {
    const struct msix_entry *e = &v->msix.entry[n];
    uint64_t address = (uint64_t)e->addr_hi << 32 | e->addr_lo;

    trace(vfio_pci_send, v->pci.dev.name, n, address, e->data);
    msi_send(&v->pci.dev.env.msi, address, e->data);
}

static void fire_msix(struct vfio_pci *v, unsigned n) {
    if (!msix_on(v) || n >= v->msix.vectors)
        return;
    if (may_send_msix(v) && !(v->msix.entry[n].control & VECTOR_MASKED))
        send_msix(v, n);
    else
        v->msix.pending[n / 64] |= 1ull << n % 64;
}

static void deliver_msix(struct vfio_pci *v) {
    if (!may_send_msix(v))
        return;
    for (unsigned word = 0; word < VFIO_PCI_PENDING; word++)
        for (uint64_t left = v->msix.pending[word]; left; left &= left - 1) {
            unsigned n = word * 64 + (unsigned)__builtin_ctzll(left);

            if (v->msix.entry[n].control & VECTOR_MASKED)
                continue;
            v->msix.pending[word] &= ~(1ull << n % 64);
            send_msix(v, n);
        }
}

static uint32_t *entry_word(struct vfio_pci *v, unsigned at) {
    struct msix_entry *e = &v->msix.entry[at / ENTRY_SIZE];
    uint32_t *const word[4] = {&e->addr_lo, &e->addr_hi, &e->data, &e->control};

    return word[at / 4 % 4];
}

static bool in_table(const struct vfio_pci *v, unsigned bar, uint64_t offset) {
    return v->msix.at && bar == v->msix.table_bar && offset >= v->msix.table &&
           offset - v->msix.table < (uint64_t)v->msix.vectors * ENTRY_SIZE;
}

static bool in_pba(const struct vfio_pci *v, unsigned bar, uint64_t offset) {
    return v->msix.at && bar == v->msix.pba_bar && offset >= v->msix.pba &&
           offset - v->msix.pba < (v->msix.vectors + 63u) / 64 * 8;
}

static uint8_t read_byte(struct vfio_pci *v, unsigned bar, uint64_t offset) {
    unsigned at;

    if (in_table(v, bar, offset)) {
        at = (unsigned)(offset - v->msix.table);
        return (uint8_t)(*entry_word(v, at) >> 8 * (at % 4));
    }
    if (!in_pba(v, bar, offset))
        return 0;
    at = (unsigned)(offset - v->msix.pba);
    return (uint8_t)(v->msix.pending[at / 8] >> 8 * (at % 8));
}

bool vfio_msix_read(struct vfio_pci *v, unsigned bar, uint64_t offset, unsigned size,
                    uint64_t *ret) {
    uint64_t value = 0;

    if (!in_table(v, bar, offset) && !in_pba(v, bar, offset))
        return false;
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)read_byte(v, bar, offset + i) << 8 * i;
    *ret = value;
    return true;
}

/* Reserved bits stay 0: the two low address bits and all of control but the mask. */
static void write_byte(struct vfio_pci *v, unsigned at, uint8_t byte) {
    static const uint32_t writable[4] = {~3u, ~0u, ~0u, VECTOR_MASKED};
    unsigned shift = 8 * (at % 4);
    uint32_t *word = entry_word(v, at);

    *word = ((*word & ~(0xffu << shift)) | (uint32_t)byte << shift) & writable[at / 4 % 4];
}

bool vfio_msix_write(struct vfio_pci *v, unsigned bar, uint64_t offset, unsigned size,
                     uint64_t value) {
    if (!in_table(v, bar, offset) && !in_pba(v, bar, offset))
        return false;
    for (unsigned i = 0; i < size; i++)
        if (in_table(v, bar, offset + i)) /* the pending bits are read-only */
            write_byte(v, (unsigned)(offset + i - v->msix.table), (uint8_t)(value >> 8 * i));
    deliver_msix(v);
    return true;
}

/* ------------------------------------------------------------------ INTx, and which of them */

void vfio_irq_fired(void *opaque, enum vfio_interrupt kind, unsigned n) {
    struct vfio_pci *v = opaque;

    if (!v->listening || kind != v->kind || n >= v->count)
        return; /* it comes from before the guest changed its mind */
    if (kind == VFIO_MSIX) {
        fire_msix(v, n);
    } else if (kind == VFIO_MSI) {
        fire_msi(v, n);
    } else {
        v->intx_masked = true;
        pci_set_intx(&v->pci, true);
    }
}

void vfio_irq_looked(struct vfio_pci *v) {
    if (!v->intx_masked)
        return;
    v->intx_masked = false;
    pci_set_intx(&v->pci, false);
    v->f->ops->unmask(v->f);
}

static void listen_to(struct vfio_pci *v, enum vfio_interrupt kind, unsigned count) {
    int r;

    if (v->listening && v->kind == kind && v->count == count)
        return;
    pci_set_intx(&v->pci, false);
    v->intx_masked = false;
    r = v->f->ops->listen(v->f, kind, count);
    if ((r < 0 || (unsigned)r < count) && !v->warned) {
        log_warning("device %s: the guest wants %u interrupts of it, of which the host gives %d: "
                    "%s",
                    v->f->name, count, r < 0 ? 0 : r,
                    r < 0 ? strerror(-r) : "it may wait for the others in vain");
        v->warned = true;
    }
    v->listening = true;
    v->kind = kind;
    v->count = count;
}

void vfio_irq_update(struct vfio_pci *v) {
    if (msix_on(v))
        listen_to(v, VFIO_MSIX, v->msix.vectors);
    else if (msi_on(v))
        listen_to(v, VFIO_MSI, msi_count(v));
    else
        listen_to(v, VFIO_INTX, v->pci.config[PCI_INT_PIN] ? 1 : 0);
    deliver_msi(v);
    deliver_msix(v);
}

void vfio_irq_reset(struct vfio_pci *v) {
    if (v->msi.mask)
        store_le32(msi_pending(v), 0);
    memset(v->msix.pending, 0, sizeof(v->msix.pending));
    for (unsigned i = 0; i < VFIO_VECTORS; i++)
        v->msix.entry[i] = (struct msix_entry){.control = VECTOR_MASKED};
    if (v->f)
        vfio_irq_update(v);
}

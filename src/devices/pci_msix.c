/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MSI-X of a PCI function: the capability, the vector table, the pending bits.
 * Source: PCI Local Bus Specification 3.0, section 6.8.2 and 6.8.3.
 *
 * Entry (16 bytes): 0 address low, 4 address high, 8 data, 12 control (bit 0 masked). Control word
 * of the capability: 10:0 table size - 1, 14 function masked, 15 enabled.
 *
 * A message is a memory write by the function, so it waits as a pending bit while bus mastering is
 * off.
 */
#include "devices/pci.h"

#include <assert.h>
#include <string.h>

#include "base/bytes.h"
#include "base/trace.h"
#include "bus/wires.h"
#include "devices/pci_internal.h"

enum { ENTRY_SIZE = 16, CONTROL_ENABLE = 0x8000, CONTROL_MASKED = 0x4000, VECTOR_MASKED = 1 };

int pci_init_msix(struct pci_device *d, unsigned vectors, unsigned bar, uint32_t table_offset,
                  uint32_t pba_offset) {
    uint8_t body[10], wmask[10] = {0};

    assert(vectors && vectors <= PCI_MAX_VECTORS && bar < PCI_BARS);
    assert(!(table_offset & 7) && !(pba_offset & 7));
    store_le16(body, (uint16_t)(vectors - 1));
    store_le32(body + 2, table_offset | bar);
    store_le32(body + 6, pba_offset | bar);
    store_le16(wmask, CONTROL_ENABLE | CONTROL_MASKED);
    d->msix_cap = (uint16_t)pci_add_cap(d, PCI_CAP_MSIX, body, sizeof(body), wmask);
    d->vectors = (uint16_t)vectors;
    d->msix_bar = (uint8_t)bar;
    d->msix_table = table_offset;
    d->msix_pba = pba_offset;
    return 0;
}

static uint16_t control(const struct pci_device *d) {
    return d->msix_cap ? load_le16(d->config + d->msix_cap + 2) : 0;
}

bool pci_msix_enabled(const struct pci_device *d) { return control(d) & CONTROL_ENABLE; }

/* Whether messages may leave the function at all. */
static bool may_send(const struct pci_device *d) {
    return (control(d) & (CONTROL_ENABLE | CONTROL_MASKED)) == CONTROL_ENABLE &&
           (load_le16(d->config + PCI_COMMAND) & PCI_COMMAND_MASTER);
}

static struct msi_wire *make_wire(struct pci_device *d, unsigned vector) {
    if (!d->wire[vector] && !d->unwired)
        d->wire[vector] = msi_wire_new(d->bus->wires, &d->dev.env.msi);
    d->unwired |= !d->wire[vector];
    return d->wire[vector];
}

/* Where the kernel raises interrupts by itself, a vector has a wire as soon as it is used. */
static bool send_by_wire(struct pci_device *d, unsigned vector, uint64_t addr, uint32_t data) {
    if (!d->bus || !wires_direct(d->bus->wires) || !make_wire(d, vector))
        return false;
    msi_wire_set(d->wire[vector], true, addr, data);
    return msi_wire_raise(d->wire[vector]);
}

static void send(struct pci_device *d, unsigned vector) {
    const struct msix_entry *e = &d->msix[vector];
    uint64_t addr = (uint64_t)e->addr_hi << 32 | e->addr_lo;

    trace(pci_msix_send, d->dev.name, vector, addr, e->data);
    if (!send_by_wire(d, vector, addr, e->data))
        msi_send(&d->dev.env.msi, addr, e->data);
}

void pci_msix_notify(struct pci_device *d, unsigned vector) {
    if (vector >= d->vectors || !pci_msix_enabled(d))
        return;
    if (may_send(d) && !(d->msix[vector].control & VECTOR_MASKED))
        send(d, vector);
    else
        d->msix_pending |= 1u << vector;
}

/* What somebody else raises goes as the guest says now. */
static void set_outside(struct pci_device *d) {
    for (unsigned i = 0; i < d->vectors; i++) {
        const struct msix_entry *e = &d->msix[i];

        if (d->outside >> i & 1)
            msi_wire_set(d->wire[i], may_send(d) && !(e->control & VECTOR_MASKED),
                         (uint64_t)e->addr_hi << 32 | e->addr_lo, e->data);
    }
}

int pci_msix_fd(struct pci_device *d, unsigned vector) {
    if (vector >= d->vectors || !d->bus || !d->bus->wires || !make_wire(d, vector))
        return -1;
    d->outside |= 1u << vector;
    set_outside(d);
    return msi_wire_fd(d->wire[vector]);
}

void pci_msix_unwire(struct pci_device *d) {
    for (unsigned i = 0; i < PCI_MAX_VECTORS; i++) {
        msi_wire_free(d->wire[i]);
        d->wire[i] = NULL;
    }
    d->outside = 0;
    d->unwired = false;
}

void pci_msix_deliver(struct pci_device *d) {
    if (d->outside)
        set_outside(d);
    if (!d->msix_pending || !may_send(d))
        return;
    for (unsigned i = 0; i < d->vectors; i++) {
        if (!(d->msix_pending & 1u << i) || d->msix[i].control & VECTOR_MASKED)
            continue;
        d->msix_pending &= ~(1u << i);
        send(d, i);
    }
}

void pci_msix_reset(struct pci_device *d) {
    d->msix_pending = 0;
    for (unsigned i = 0; i < PCI_MAX_VECTORS; i++)
        d->msix[i] = (struct msix_entry){.control = VECTOR_MASKED};
    set_outside(d);
}

static uint32_t *entry_word(struct msix_entry *e, unsigned n) {
    uint32_t *const word[4] = {&e->addr_lo, &e->addr_hi, &e->data, &e->control};

    return word[n];
}

static bool in_table(const struct pci_device *d, uint64_t offset) {
    return offset >= d->msix_table && offset - d->msix_table < (uint64_t)d->vectors * ENTRY_SIZE;
}

static bool in_pba(const struct pci_device *d, uint64_t offset) {
    return offset >= d->msix_pba && offset - d->msix_pba < 8;
}

static uint32_t pending(const struct pci_device *d) {
    uint32_t bits = d->msix_pending;

    for (unsigned i = 0; d->outside && i < d->vectors; i++)
        if ((d->outside >> i & 1) && msi_wire_pending(d->wire[i]))
            bits |= 1u << i;
    return bits;
}

static uint8_t read_byte(struct pci_device *d, uint64_t offset) {
    if (in_table(d, offset)) {
        unsigned at = (unsigned)(offset - d->msix_table);

        return (uint8_t)(*entry_word(&d->msix[at / ENTRY_SIZE], at / 4 % 4) >> (8 * (at % 4)));
    }
    if (in_pba(d, offset) && offset - d->msix_pba < 4)
        return (uint8_t)(pending(d) >> (8 * (offset - d->msix_pba)));
    return 0;
}

bool pci_msix_read(struct pci_device *d, unsigned bar, uint64_t offset, unsigned size,
                   uint64_t *ret_value) {
    uint64_t value = 0;

    if (!d->msix_cap || bar != d->msix_bar || !(in_table(d, offset) || in_pba(d, offset)))
        return false;
    for (unsigned i = 0; i < size && i < 8; i++)
        value |= (uint64_t)read_byte(d, offset + i) << (8 * i);
    *ret_value = value;
    return true;
}

/* Reserved bits stay 0: the two low address bits and all of control but the mask. */
static const uint32_t writable[4] = {~3u, ~0u, ~0u, VECTOR_MASKED};

static void write_byte(struct pci_device *d, uint64_t offset, uint8_t byte) {
    unsigned at = (unsigned)(offset - d->msix_table), n = at / 4 % 4, shift = 8 * (at % 4);
    uint32_t *word = entry_word(&d->msix[at / ENTRY_SIZE], n);

    *word = ((*word & ~(0xffu << shift)) | (uint32_t)byte << shift) & writable[n];
}

bool pci_msix_write(struct pci_device *d, unsigned bar, uint64_t offset, unsigned size,
                    uint64_t value) {
    if (!d->msix_cap || bar != d->msix_bar || !(in_table(d, offset) || in_pba(d, offset)))
        return false;
    for (unsigned i = 0; i < size && i < 8; i++)
        if (in_table(d, offset + i)) /* the PBA is read-only */
            write_byte(d, offset + i, (uint8_t)(value >> (8 * i)));
    pci_msix_deliver(d);
    return true;
}

// clang-format off
const struct state_desc msix_entry_state = {
    .name = "msix_entry",
    .version = 1,
    .struct_size = sizeof(struct msix_entry),
    .fields = (const struct state_field[]){
        STATE(struct msix_entry, addr_lo),
        STATE(struct msix_entry, addr_hi),
        STATE(struct msix_entry, data),
        STATE(struct msix_entry, control),
        STATE_END,
    },
};
// clang-format on

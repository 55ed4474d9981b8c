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
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/trace.h"
#include "bus/wires.h"
#include "devices/pci_internal.h"

enum {
    ENTRY_SIZE = 16,
    CONTROL_ENABLE = 0x8000,
    CONTROL_MASKED = 0x4000,
    VECTOR_MASKED = 1,
    CONTROL = 2, /* offsets in the capability */
    TABLE = 4,
    PBA = 8,
    IN_BAR = 7, /* bits of those two that say in which */
};

/* ------------------------------------------------------------------ making */

static void place(struct pci_device *d, unsigned cap, unsigned vectors) {
    const uint8_t *c = d->config + cap;

    d->msix_cap = (uint16_t)cap;
    d->vectors = (uint16_t)vectors;
    d->msix_bar = c[TABLE] & IN_BAR;
    d->pba_bar = c[PBA] & IN_BAR;
    d->msix_table = load_le32(c + TABLE) & ~(uint32_t)IN_BAR;
    d->msix_pba = load_le32(c + PBA) & ~(uint32_t)IN_BAR;
    d->vector = (struct pci_vectors){
        .entry = d->msix, .pending = &d->msix_pending, .outside = &d->outside, .wire = d->wire};
}

int pci_init_msix(struct pci_device *d, unsigned vectors, unsigned bar, uint32_t table_offset,
                  uint32_t pba_offset) {
    uint8_t body[10], wmask[10] = {0};

    assert(vectors && vectors <= PCI_MAX_VECTORS && bar < PCI_BARS);
    assert(!(table_offset & 7) && !(pba_offset & 7));
    store_le16(body, (uint16_t)(vectors - 1));
    store_le32(body + 2, table_offset | bar);
    store_le32(body + 6, pba_offset | bar);
    store_le16(wmask, CONTROL_ENABLE | CONTROL_MASKED);
    place(d, pci_add_cap(d, PCI_CAP_MSIX, body, sizeof(body), wmask), vectors);
    return 0;
}

static unsigned words(unsigned vectors) { return (vectors + 31) / 32; }

static bool set_apart(struct pci_vectors *v, unsigned vectors) {
    size_t wires = vectors * sizeof(*v->wire), entries = vectors * sizeof(*v->entry);
    uint8_t *memory = calloc(1, wires + entries + 2 * words(vectors) * sizeof(*v->pending));

    if (!memory)
        return false;
    v->memory = memory;
    v->wire = (struct msi_wire **)memory;
    v->entry = (struct msix_entry *)(memory + wires);
    v->pending = (uint32_t *)(memory + wires + entries);
    v->outside = v->pending + words(vectors);
    return true;
}

int pci_take_msix(struct pci_device *d, unsigned cap, unsigned vectors) {
    assert(vectors && vectors <= PCI_MSIX_MOST);
    store_le16(d->config + cap + CONTROL, (uint16_t)(vectors - 1));
    store_le16(d->wmask + cap + CONTROL, CONTROL_ENABLE | CONTROL_MASKED);
    place(d, cap, vectors);
    if (vectors <= PCI_MAX_VECTORS || set_apart(&d->vector, vectors))
        return 0;
    d->msix_cap = d->vectors = 0;
    return -ENOMEM;
}

void pci_done_msix(struct pci_device *d) {
    free(d->vector.memory);
    d->vector = (struct pci_vectors){0};
    d->msix_cap = d->vectors = 0;
}

/* ------------------------------------------------------------------ sending */

static bool bit(const uint32_t *bits, unsigned n) { return bits[n / 32] >> n % 32 & 1; }

static void set_bit(uint32_t *bits, unsigned n) { bits[n / 32] |= 1u << n % 32; }

static uint16_t control(const struct pci_device *d) {
    return d->msix_cap ? load_le16(d->config + d->msix_cap + CONTROL) : 0;
}

bool pci_msix_enabled(const struct pci_device *d) { return control(d) & CONTROL_ENABLE; }

/* Whether messages may leave the function at all. */
static bool may_send(const struct pci_device *d) {
    return (control(d) & (CONTROL_ENABLE | CONTROL_MASKED)) == CONTROL_ENABLE &&
           (load_le16(d->config + PCI_COMMAND) & PCI_COMMAND_MASTER);
}

static bool is_masked(const struct pci_device *d, unsigned vector) {
    return d->vector.entry[vector].control & VECTOR_MASKED;
}

bool pci_msix_open(const struct pci_device *d, unsigned vector) {
    return vector < d->vectors && may_send(d) && !is_masked(d, vector);
}

static struct msi_wire *make_wire(struct pci_device *d, unsigned vector) {
    struct msi_wire **w = &d->vector.wire[vector];

    if (!*w && !d->unwired)
        *w = msi_wire_new(d->bus->wires, &d->dev.env.msi);
    d->unwired |= !*w;
    return *w;
}

/* Where the kernel raises interrupts by itself, a vector has a wire as soon as it is used. */
static bool send_by_wire(struct pci_device *d, unsigned vector, uint64_t addr, uint32_t data) {
    if (!d->bus || !wires_direct(d->bus->wires) || !make_wire(d, vector))
        return false;
    msi_wire_set(d->vector.wire[vector], true, addr, data);
    return msi_wire_raise(d->vector.wire[vector]);
}

static void send(struct pci_device *d, unsigned vector) {
    const struct msix_entry *e = &d->vector.entry[vector];
    uint64_t addr = (uint64_t)e->addr_hi << 32 | e->addr_lo;

    trace(pci_msix_send, d->dev.name, vector, addr, e->data);
    if (!send_by_wire(d, vector, addr, e->data))
        msi_send(&d->dev.env.msi, addr, e->data);
}

void pci_msix_notify(struct pci_device *d, unsigned vector) {
    if (vector >= d->vectors || !pci_msix_enabled(d))
        return;
    if (may_send(d) && !is_masked(d, vector))
        send(d, vector);
    else
        set_bit(d->vector.pending, vector);
}

/* What somebody else raises goes as the guest says now. */
static void set_outside(struct pci_device *d) {
    for (unsigned i = 0; d->any_outside && i < d->vectors; i++) {
        const struct msix_entry *e = &d->vector.entry[i];

        if (bit(d->vector.outside, i))
            msi_wire_set(d->vector.wire[i], may_send(d) && !is_masked(d, i),
                         (uint64_t)e->addr_hi << 32 | e->addr_lo, e->data);
    }
}

int pci_msix_fd(struct pci_device *d, unsigned vector) {
    if (vector >= d->vectors || !d->bus || !d->bus->wires || !make_wire(d, vector))
        return -1;
    set_bit(d->vector.outside, vector);
    d->any_outside = true;
    set_outside(d);
    return msi_wire_fd(d->vector.wire[vector]);
}

void pci_msix_unwire(struct pci_device *d) {
    for (unsigned i = 0; i < d->vectors; i++) {
        msi_wire_free(d->vector.wire[i]);
        d->vector.wire[i] = NULL;
        d->vector.outside[i / 32] = 0;
    }
    d->any_outside = d->unwired = false;
}

void pci_msix_deliver(struct pci_device *d) {
    set_outside(d);
    if (!may_send(d))
        return;
    for (unsigned word = 0; word < words(d->vectors); word++)
        for (uint32_t left = d->vector.pending[word]; left; left &= left - 1) {
            unsigned n = word * 32 + (unsigned)__builtin_ctz(left);

            if (n >= d->vectors || is_masked(d, n))
                continue;
            d->vector.pending[word] &= ~(1u << n % 32);
            send(d, n);
        }
}

void pci_msix_reset(struct pci_device *d) {
    d->msix_pending = 0;
    for (unsigned i = 0; i < PCI_MAX_VECTORS; i++)
        d->msix[i] = (struct msix_entry){.control = VECTOR_MASKED};
    for (unsigned i = 0; i < d->vectors; i++) {
        d->vector.entry[i] = (struct msix_entry){.control = VECTOR_MASKED};
        d->vector.pending[i / 32] = 0;
    }
    set_outside(d);
}

/* ------------------------------------------------------------------ table and pending bits */

static uint32_t *entry_word(struct msix_entry *e, unsigned n) {
    uint32_t *const word[4] = {&e->addr_lo, &e->addr_hi, &e->data, &e->control};

    return word[n];
}

static bool in_table(const struct pci_device *d, unsigned bar, uint64_t offset) {
    return d->msix_cap && bar == d->msix_bar && offset >= d->msix_table &&
           offset - d->msix_table < (uint64_t)d->vectors * ENTRY_SIZE;
}

static bool in_pba(const struct pci_device *d, unsigned bar, uint64_t offset) {
    return d->msix_cap && bar == d->pba_bar && offset >= d->msix_pba &&
           offset - d->msix_pba < (d->vectors + 63u) / 64 * 8;
}

static bool is_pending(const struct pci_device *d, unsigned vector) {
    return bit(d->vector.pending, vector) ||
           (bit(d->vector.outside, vector) && msi_wire_pending(d->vector.wire[vector]));
}

static uint8_t read_byte(struct pci_device *d, unsigned bar, uint64_t offset) {
    unsigned at;
    uint8_t bits = 0;

    if (in_table(d, bar, offset)) {
        at = (unsigned)(offset - d->msix_table);
        return (uint8_t)(*entry_word(&d->vector.entry[at / ENTRY_SIZE], at / 4 % 4) >>
                         8 * (at % 4));
    }
    if (!in_pba(d, bar, offset))
        return 0;
    at = (unsigned)(offset - d->msix_pba) * 8;
    for (unsigned i = 0; i < 8 && at + i < d->vectors; i++)
        bits |= (uint8_t)(is_pending(d, at + i) << i);
    return bits;
}

bool pci_msix_read(struct pci_device *d, unsigned bar, uint64_t offset, unsigned size,
                   uint64_t *ret_value) {
    uint64_t value = 0;

    if (!in_table(d, bar, offset) && !in_pba(d, bar, offset))
        return false;
    for (unsigned i = 0; i < size && i < 8; i++)
        value |= (uint64_t)read_byte(d, bar, offset + i) << (8 * i);
    *ret_value = value;
    return true;
}

/* Reserved bits stay 0: the two low address bits and all of control but the mask. */
static const uint32_t writable[4] = {~3u, ~0u, ~0u, VECTOR_MASKED};

static void write_byte(struct pci_device *d, uint64_t offset, uint8_t byte) {
    unsigned at = (unsigned)(offset - d->msix_table), n = at / 4 % 4, shift = 8 * (at % 4);
    uint32_t *word = entry_word(&d->vector.entry[at / ENTRY_SIZE], n);

    *word = ((*word & ~(0xffu << shift)) | (uint32_t)byte << shift) & writable[n];
}

bool pci_msix_write(struct pci_device *d, unsigned bar, uint64_t offset, unsigned size,
                    uint64_t value) {
    if (!in_table(d, bar, offset) && !in_pba(d, bar, offset))
        return false;
    for (unsigned i = 0; i < size && i < 8; i++)
        if (in_table(d, bar, offset + i)) /* the PBA is read-only */
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

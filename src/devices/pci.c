/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One PCI function: configuration space, BARs, capabilities, INTx.
 * Source: PCI Local Bus Specification 3.0, sections 6.1 (header), 6.2.2/6.2.3 (command, status),
 * 6.2.5 (BARs), 6.7 (capabilities); 2.2.6 (INTx).
 *
 * Theory of operation. config[] holds the bytes, wmask[] says which bits the guest can write. What
 * a register is for (where a BAR is, whether INTx is held back) is computed from config[] after
 * each write and after a load, never stored a second time. The interrupt status bit is put in on
 * reads.
 *
 * Departures: a BAR at address 0 is not decoded (a BAR that nobody programmed reads 0, and RAM is
 * there). Where a BAR overlaps another region it is not decoded until the other one moves away; the
 * specification leaves the case undefined.
 */
#include "devices/pci.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/trace.h"
#include "devices/pci_internal.h"

enum {
    COMMAND_WMASK = 0x0547, /* I/O, memory, master, parity, SERR, INTx off */
    CAP_BASE = 0x40,
};

void pci_init_header(struct pci_device *d, uint16_t vendor, uint16_t device, uint32_t class_rev,
                     uint16_t subsys_vendor, uint16_t subsys) {
    uint8_t *c = d->config;

    store_le16(c + PCI_VENDOR, vendor);
    store_le16(c + PCI_DEVICE, device);
    store_le32(c + PCI_CLASS_REV, class_rev);
    store_le16(c + PCI_SUBSYS_VENDOR, subsys_vendor);
    store_le16(c + PCI_SUBSYS, subsys);
    store_le16(d->wmask + PCI_COMMAND, COMMAND_WMASK);
    d->wmask[PCI_CACHE_LINE] = 0xff;
    d->wmask[PCI_LATENCY] = 0xff;
    d->wmask[PCI_INT_LINE] = 0xff;
    d->cap_end = CAP_BASE;
}

unsigned pci_bar_register(unsigned bar) {
    return bar == PCI_ROM ? PCI_ROM_BASE : PCI_BAR0 + 4 * bar;
}

void pci_init_bar(struct pci_device *d, unsigned bar, uint64_t size, bool io, bool is64,
                  const struct io_ops *ops, const char *name) {
    unsigned reg = PCI_BAR0 + 4 * bar;

    assert(bar < PCI_BARS && (!is64 || (bar + 1 < PCI_BARS && !io)));
    assert(size >= (io ? 4 : 16) && !(size & (size - 1)) && (!io || size <= 256));
    assert(is64 || size <= 1ull << 31);
    d->bar[bar] = (struct pci_bar){
        .size = size,
        .io = io,
        .is64 = is64,
        .region = {.size = size, .ops = ops, .dev = d, .name = name},
    };
    store_le32(d->config + reg, io ? 1 : is64 ? 4 : 0);
    store_le32(d->wmask + reg, (uint32_t) ~(size - 1));
    if (is64)
        store_le32(d->wmask + reg + 4, (uint32_t)(~(size - 1) >> 32));
}

void pci_init_rom(struct pci_device *d, uint32_t size, const struct io_ops *ops, const char *name) {
    assert(size >= 2048 && !(size & (size - 1)));
    d->bar[PCI_ROM] = (struct pci_bar){
        .size = size,
        .region = {.size = size, .ops = ops, .dev = d, .name = name},
    };
    store_le32(d->wmask + PCI_ROM_BASE, ~(size - 1) | PCI_ROM_ENABLE);
}

unsigned pci_add_cap(struct pci_device *d, uint8_t id, const void *body, unsigned len,
                     const void *wmask) {
    unsigned at = d->cap_end, total = len + 2;

    assert(at >= CAP_BASE && at + total <= PCI_HEADER_SIZE);
    d->config[at] = id;
    d->config[at + 1] = d->config[PCI_CAP_PTR]; /* new ones go to the head of the list */
    memcpy(d->config + at + 2, body, len);
    if (wmask)
        memcpy(d->wmask + at + 2, wmask, len);
    d->config[PCI_CAP_PTR] = (uint8_t)at;
    d->config[PCI_STATUS] |= PCI_STATUS_CAPS;
    d->cap_end = (uint16_t)((at + total + 3) & ~3u);
    return at;
}

static uint16_t command(const struct pci_device *d) { return load_le16(d->config + PCI_COMMAND); }

/* Where the guest wants the BAR; false if it is not to be decoded. */
static bool bar_wanted(const struct pci_device *d, unsigned i, uint64_t *ret_base) {
    const struct pci_bar *b = &d->bar[i];
    const uint8_t *reg = d->config + pci_bar_register(i);
    /* Only writable bits are address bits, whatever a loaded snapshot says. */
    uint64_t base = load_le32(reg);

    if (!b->size || !(command(d) & (b->io ? PCI_COMMAND_IO : PCI_COMMAND_MEM)))
        return false;
    if (i == PCI_ROM && !(*reg & PCI_ROM_ENABLE))
        return false;
    if (b->is64)
        base |= (uint64_t)load_le32(reg + 4) << 32;
    base &= ~(b->size - 1);
    if (!base || base + b->size < base || (b->io && base + b->size > 0x10000))
        return false;
    *ret_base = base;
    return true;
}

static void tell_moved(struct pci_device *d, const struct pci_bar *b) {
    if (d->bar_moved)
        d->bar_moved(d, (unsigned)(b - d->bar));
}

static void unmap_bar(struct pci_device *d, struct pci_bar *b) {
    if (b->refused)
        d->bus->refused--;
    b->refused = false;
    if (!b->mapped)
        return;
    trace(pci_bar_unmap, d->dev.name, b->region.name, b->region.base);
    io_unmap(b->io ? d->bus->pio : d->bus->mmio, &b->region);
    b->mapped = false;
    tell_moved(d, b);
}

static void map_bar(struct pci_device *d, struct pci_bar *b, uint64_t base) {
    struct error err = {0};

    b->region.base = base;
    if (io_map(b->io ? d->bus->pio : d->bus->mmio, &b->region, &err) < 0) {
        trace(pci_bar_refused, d->dev.name, b->region.name, base, err.text);
        b->refused = true;
        d->bus->refused++;
        return;
    }
    b->mapped = true;
    tell_moved(d, b);
    trace(pci_bar_map, d->dev.name, b->region.name, base);
}

void pci_update_bars(struct pci_device *d) {
    struct pci_bus *bus = d->bus;
    bool freed = false;

    for (unsigned i = 0; bus && i < PCI_DECODERS; i++) {
        struct pci_bar *b = &d->bar[i];
        uint64_t base;
        bool wanted = bar_wanted(d, i, &base);

        if (wanted && b->mapped && b->region.base == base)
            continue;
        freed |= b->mapped;
        unmap_bar(d, b);
        if (wanted)
            map_bar(d, b, base);
    }
    if (freed && bus->refused)
        pci_bus_retry(bus);
}

void pci_unmap_bars(struct pci_device *d) {
    for (unsigned i = 0; d->bus && i < PCI_DECODERS; i++)
        unmap_bar(d, &d->bar[i]);
}

void pci_update_intx(struct pci_device *d) {
    bool level = d->intx && !(command(d) & PCI_COMMAND_INTX_OFF) && !pci_msix_enabled(d) &&
                 !pci_msi_enabled(d);

    if (!d->bus || level == d->intx_driven)
        return;
    d->intx_driven = level;
    pci_bus_drive(d, level);
}

void pci_set_intx(struct pci_device *d, bool level) {
    d->intx = level;
    pci_update_intx(d);
}

static uint32_t ones(unsigned size) { return size >= 4 ? ~0u : (1u << (8 * size)) - 1; }

uint32_t pci_function_read(struct pci_device *d, unsigned offset, unsigned size) {
    uint32_t value = 0;

    if (size > 4 || offset + size > PCI_CONFIG_SIZE)
        return ones(size);
    if (d->config_reading)
        d->config_reading(d, offset, size);
    for (unsigned i = 0; i < size; i++) {
        uint8_t byte = d->config[offset + i];

        if (offset + i == PCI_STATUS && d->intx)
            byte |= PCI_STATUS_INTX;
        value |= (uint32_t)byte << (8 * i);
    }
    trace(pci_config_read, d->dev.name, offset, size, value);
    return value;
}

void pci_function_write(struct pci_device *d, unsigned offset, unsigned size, uint32_t value) {
    trace(pci_config_write, d->dev.name, offset, size, value);
    if (size > 4 || offset + size > PCI_CONFIG_SIZE)
        return;
    for (unsigned i = 0; i < size; i++) {
        unsigned at = offset + i;
        uint8_t byte = (uint8_t)(value >> (8 * i)), mask = d->wmask[at];

        d->config[at] = (uint8_t)((d->config[at] & ~mask) | (byte & mask));
        d->config[at] &= (uint8_t) ~(byte & d->w1cmask[at]);
    }
    if (pci_overlaps(offset, size, PCI_BAR0, 4 * PCI_BARS) ||
        pci_overlaps(offset, size, PCI_ROM_BASE, 4) || pci_overlaps(offset, size, PCI_COMMAND, 2))
        pci_update_bars(d);
    /* The command register and the MSI-X control word decide what may be sent. */
    pci_update_intx(d);
    pci_msix_deliver(d);
    if (d->config_written)
        d->config_written(d, offset, size);
}

/* The first reset comes right after init: what read-only bits hold then is what they always hold.
 */
static void seal(struct pci_device *d) {
    if (d->sealed)
        return;
    for (unsigned i = 0; i < PCI_HEADER_SIZE; i++) {
        d->fixed[i] = d->config[i];
        d->fixed_mask[i] = (uint8_t) ~(d->wmask[i] | d->w1cmask[i]);
    }
    d->sealed = true;
}

void pci_reset(struct pci_device *d) {
    seal(d);
    for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++)
        d->config[i] &= (uint8_t) ~(d->wmask[i] | d->w1cmask[i]);
    pci_msix_reset(d);
    d->intx = false;
    pci_update_bars(d);
    pci_update_intx(d);
}

void pci_post_load(struct pci_device *d) {
    pci_update_bars(d);
    pci_update_intx(d);
}

static int validate(const void *obj, struct error *err) {
    const struct pci_device *d = obj;

    for (unsigned i = 0; i < PCI_HEADER_SIZE; i++)
        if ((d->config[i] ^ d->fixed[i]) & d->fixed_mask[i])
            return error_set(
                err, -EINVAL,
                "device '%s': the saved PCI configuration differs at offset 0x%x, where it is "
                "read-only; load the state into a machine with the same devices",
                d->dev.name, i);
    if (d->vectors < 32 && d->msix_pending >> d->vectors)
        return error_set(
            err, -EINVAL,
            "device '%s': the saved state has MSI-X vectors that the device lacks; load it "
            "into a machine with the same devices",
            d->dev.name);
    return 0;
}

// clang-format off
const struct state_desc pci_device_state = {
    .name = "pci_device",
    .version = 1,
    .struct_size = sizeof(struct pci_device),
    .validate = validate,
    .fields = (const struct state_field[]){
        /* Conventional space: nothing is writable in the extended one yet. */
        {"config", STATE_TYPE_BYTES, 1, offsetof(struct pci_device, config), PCI_HEADER_SIZE, 1,
         NULL, 0},
        STATE_SUB_ARRAY(struct pci_device, msix, &msix_entry_state),
        STATE(struct pci_device, msix_pending),
        STATE(struct pci_device, intx),
        STATE_END,
    },
};
// clang-format on

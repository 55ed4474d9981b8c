/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Host bridge of the board: configuration ports, ECAM window, memory control registers.
 * Source: Intel 3 Series Express Chipset Family datasheet (316966), 5.1 (D0:F0 registers), 3.3 (I/O
 * mapped registers); PCI Local Bus 3.0, 3.2.2.3.2 (configuration mechanism); PCI Express 3.0, 7.2.2
 * (ECAM).
 *
 *   50 EXT_TSEG  2 bytes, of virtual q35 boards only: once it was written to, the MiB of TSEG size
 * 3 52 GGC       2 bytes, storage 60 PCIEXBAR  8 bytes: 0 enable, 2:1 length (256, 128, 64 MiB),
 * 35:26 base 90 PAM0-PAM6 7 bytes: who answers reads and writes of c0000-fffff 9d SMRAM     6 open,
 * 5 closed, 4 locked (then all read-only until reset), 3 enabled, 2:0 = 2 9e ESMRAMC   7 high, 2:1
 * TSEG size, 0 TSEG enabled a4 GBSM, a8 BGSM, ac TSEGMB  31:20 addresses that firmware computes, b0
 * TOLUD  15:4; storage, and read-only once SMRAM is locked: TSEG ends where the memory below 4 GiB
 * does
 */
#include "devices/pci_host.h"

#include "base/bytes.h"
#include "base/trace.h"
#include "devices/pci_internal.h"
#include "devices/reset_ctl.h"

// clang-format off
enum {
    VENDOR_INTEL = 0x8086, DEVICE_MCH = 0x29c0, CLASS_HOST_BRIDGE = 0x06000002, SUBSYS = 0x1100,
    EXT_TSEG = 0x50, PCIEXBAR = 0x60, PAM0 = 0x90, PAM6 = 0x96, SMRAM = 0x9d, ESMRAMC = 0x9e,
    GGC = 0x52, GBSM = 0xa4, BGSM = 0xa8, TSEGMB = 0xac, TOLUD = 0xb0,
    PCIEXBAR_ENABLE = 1,
    SMRAM_OPEN = 0x40, SMRAM_CLOSED = 0x20, SMRAM_LOCKED = 0x10, SMRAM_ENABLED = 8,
    SMRAM_SEGMENT = 2,
    ESMRAMC_WMASK = 0x87, ESMRAMC_CACHE = 0x38, TSEG_ENABLED = 1,
    EXT_TSEG_MIB = 16,
    CONFIG_ENABLE = 0x80000000,
    OFFSET_RESET = 1,
};
// clang-format on

struct pci_host {
    struct pci_device pci; /* first */
    uint32_t address;      /* port 0xcf8 */
    struct io_region ecam;
    bool ecam_mapped;
    struct pci_host_config to;
};

static uint64_t ones(unsigned size) { return size >= 8 ? ~0ull : (1ull << (8 * size)) - 1; }

/* Only whole dwords are the address register; bytes pass to what lies behind (PCI 3.0 3.2.2.3.2).
 */
static uint64_t address_read(void *opaque, uint64_t offset, unsigned size) {
    struct pci_host *h = opaque;

    if (!offset && size == 4)
        return h->address;
    if (offset == OFFSET_RESET && size == 1 && h->to.reset_ctl)
        return reset_ctl_read(h->to.reset_ctl);
    return ones(size);
}

static void address_write(void *opaque, uint64_t offset, unsigned size, uint64_t value) {
    struct pci_host *h = opaque;

    if (!offset && size == 4)
        h->address = (uint32_t)value & 0x80fffffc;
    else if (offset == OFFSET_RESET && size == 1 && h->to.reset_ctl)
        reset_ctl_write(h->to.reset_ctl, (uint8_t)value);
}

static unsigned port_bdf(const struct pci_host *h) { return h->address >> 8 & 0xffff; }

static unsigned port_offset(const struct pci_host *h, uint64_t offset) {
    return (h->address & 0xfc) + (unsigned)offset;
}

static uint64_t data_read(void *opaque, uint64_t offset, unsigned size) {
    struct pci_host *h = opaque;

    if (!(h->address & CONFIG_ENABLE) || !h->pci.bus || offset + size > 4)
        return ones(size);
    return pci_config_read(h->pci.bus, port_bdf(h), port_offset(h, offset), size);
}

static void data_write(void *opaque, uint64_t offset, unsigned size, uint64_t value) {
    struct pci_host *h = opaque;

    if ((h->address & CONFIG_ENABLE) && h->pci.bus && offset + size <= 4)
        pci_config_write(h->pci.bus, port_bdf(h), port_offset(h, offset), size, (uint32_t)value);
}

/* The offset into the window is bus 27:20, device 19:15, function 14:12, register 11:0. */
static uint64_t ecam_read(void *opaque, uint64_t offset, unsigned size) {
    struct pci_host *h = opaque;

    return pci_config_read(h->pci.bus, (unsigned)(offset >> 12), (unsigned)offset & 0xfff, size);
}

static void ecam_write(void *opaque, uint64_t offset, unsigned size, uint64_t value) {
    struct pci_host *h = opaque;

    pci_config_write(h->pci.bus, (unsigned)(offset >> 12), (unsigned)offset & 0xfff, size,
                     (uint32_t)value);
}

static const struct io_ops address_ops = {address_read, address_write, 1, 4};
static const struct io_ops data_ops = {data_read, data_write, 1, 4};
static const struct io_ops ecam_ops = {ecam_read, ecam_write, 1, 4};

static const struct device_region regions[] = {
    {"pci-config-address", DEVICE_PIO, 4, &address_ops},
    {"pci-config-data", DEVICE_PIO, 4, &data_ops},
    {NULL, DEVICE_PIO, 0, NULL},
};

/* Where the window is to be; false: nowhere. */
static bool ecam_wanted(const struct pci_host *h, uint64_t *ret_base, uint64_t *ret_size) {
    uint64_t reg = load_le64(h->pci.config + PCIEXBAR);
    unsigned length = reg >> 1 & 3;

    if (!h->pci.bus || !(reg & PCIEXBAR_ENABLE) || length == 3)
        return false;
    *ret_size = PCI_HOST_ECAM_SIZE >> length;
    *ret_base = reg & 0xfffffffffull & ~(*ret_size - 1);
    return *ret_base != 0;
}

static void unmap_ecam(struct pci_host *h) {
    if (!h->ecam_mapped)
        return;
    io_unmap(pci_bus_mmio(h->pci.bus), &h->ecam);
    h->ecam_mapped = false;
    pci_bus_retry(h->pci.bus);
}

static void update_ecam(struct pci_host *h) {
    uint64_t base = 0, size = 0;
    bool wanted = ecam_wanted(h, &base, &size);
    struct error err = {0};

    if (wanted && h->ecam_mapped && h->ecam.base == base && h->ecam.size == size)
        return;
    unmap_ecam(h);
    if (!wanted)
        return;
    h->ecam =
        (struct io_region){.base = base, .size = size, .ops = &ecam_ops, .dev = h, .name = "ecam"};
    h->ecam_mapped = io_map(pci_bus_mmio(h->pci.bus), &h->ecam, &err) == 0;
    if (!h->ecam_mapped)
        trace(pci_bar_refused, h->pci.dev.name, h->ecam.name, base, err.text);
}

static void set_lockable(struct pci_host *h, bool locked) {
    uint8_t *wmask = h->pci.wmask;
    uint32_t address = locked ? 0 : 0xfff00000;

    wmask[SMRAM] = locked ? 0 : SMRAM_OPEN | SMRAM_CLOSED | SMRAM_LOCKED | SMRAM_ENABLED;
    wmask[ESMRAMC] = locked ? 0 : ESMRAMC_WMASK;
    store_le32(wmask + GBSM, address);
    store_le32(wmask + BGSM, address);
    store_le32(wmask + TSEGMB, address);
    store_le16(wmask + TOLUD, locked ? 0 : 0xfff0);
}

static void tell_smram(struct pci_host *h) {
    static const unsigned mib[] = {1, 2, 8, EXT_TSEG_MIB};
    uint8_t smram = h->pci.config[SMRAM], esmramc = h->pci.config[ESMRAMC];
    struct pci_host_smram now = {.legacy = smram & SMRAM_ENABLED, .open = smram & SMRAM_OPEN};

    if (!h->to.smram)
        return;
    if (now.legacy && (esmramc & TSEG_ENABLED))
        now.tseg = (uint64_t)mib[esmramc >> 1 & 3] << 20;
    trace(pci_host_smram, now.legacy, now.open, now.tseg);
    h->to.smram(h->to.opaque, &now);
}

/* A locked SMRAM register forgets "open" and takes no write until the next reset. */
static void update_smram(struct pci_host *h) {
    bool locked = h->pci.config[SMRAM] & SMRAM_LOCKED;

    if (locked)
        h->pci.config[SMRAM] &= (uint8_t)~SMRAM_OPEN;
    set_lockable(h, locked);
    tell_smram(h);
}

/* Firmware learns by it that there is such a register. */
static void update_ext_tseg(struct pci_host *h) {
    if (h->to.smram)
        store_le16(h->pci.config + EXT_TSEG, EXT_TSEG_MIB);
}

static void config_written(struct pci_device *d, unsigned offset, unsigned size) {
    struct pci_host *h = (struct pci_host *)d;

    if (pci_overlaps(offset, size, SMRAM, 2))
        update_smram(h);
    if (pci_overlaps(offset, size, EXT_TSEG, 2))
        update_ext_tseg(h);
    if (pci_overlaps(offset, size, PCIEXBAR, 8))
        update_ecam(h);
}

static void attached(struct pci_device *d, bool yes) {
    struct pci_host *h = (struct pci_host *)d;

    if (yes)
        update_ecam(h);
    else
        unmap_ecam(h);
}

static void set_masks(struct pci_device *d) {
    store_le64(d->wmask + PCIEXBAR, 0xffc000007ull);
    store_le16(d->wmask + GGC, 0xffff);
    d->wmask[PAM0] = 0x30; /* only its high segment (f0000) exists */
    for (unsigned i = PAM0 + 1; i <= PAM6; i++)
        d->wmask[i] = 0x33;
    d->config[SMRAM] = SMRAM_SEGMENT;
    d->config[ESMRAMC] = ESMRAMC_CACHE;
}

static int init(struct device *dev, struct error *err) {
    struct pci_host *h = (struct pci_host *)dev;
    const struct pci_host_config *config = dev->env.config;

    pci_init_header(&h->pci, VENDOR_INTEL, DEVICE_MCH, CLASS_HOST_BRIDGE, VENDOR_INTEL, SUBSYS);
    set_masks(&h->pci);
    set_lockable(h, false);
    h->pci.config_written = config_written;
    h->pci.attached = attached;
    if (config)
        h->to = *config;
    if (h->to.smram)
        store_le16(h->pci.wmask + EXT_TSEG, 0xffff);
    return 0;
}

static void reset(struct device *dev) {
    struct pci_host *h = (struct pci_host *)dev;

    /* A lock bit ends with the reset: make it clearable first. */
    h->pci.config[SMRAM] &= (uint8_t)~SMRAM_LOCKED;
    set_lockable(h, false);
    pci_reset(&h->pci);
    h->address = 0;
    store_le64(h->pci.config + PCIEXBAR, PCI_HOST_ECAM_BASE | PCIEXBAR_ENABLE);
    update_smram(h);
    update_ecam(h);
}

static void done(struct device *dev) { pci_bus_detach((struct pci_device *)dev); }

static void post_load(void *obj) {
    struct pci_host *h = obj;

    pci_post_load(&h->pci);
    update_smram(h);
    update_ecam(h);
}

// clang-format off
static const struct state_desc state = {
    .name = "pci_host",
    .version = 1,
    .struct_size = sizeof(struct pci_host),
    .post_load = post_load,
    .fields = (const struct state_field[]){
        STATE_SUB(struct pci_host, pci, &pci_device_state),
        STATE(struct pci_host, address),
        STATE_END,
    },
};
// clang-format on

const struct device_class pci_host_class = {
    .name = "pci_host",
    .help = "PCI host bridge 8086:29c0 with configuration ports and ECAM",
    .size = sizeof(struct pci_host),
    .state = &state,
    .regions = regions,
    .init = init,
    .reset = reset,
    .done = done,
    .pci = true,
};

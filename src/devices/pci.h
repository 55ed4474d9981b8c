/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PCI functions and the bus they sit on.
 * Source: PCI Local Bus 3.0 (configuration header, BARs, MSI-X capability), PCIe 3.0 7.2 (ECAM).
 *
 * Contract: machine lock held. A function declares its header, BARs and capabilities in its init;
 * the core does configuration accesses, BAR decoding (mapping and unmapping regions as the guest
 * moves them), the MSI-X table and PBA, and INTx. Configuration space is little-endian bytes.
 */
#ifndef DEVICES_PCI_H
#define DEVICES_PCI_H

#include "devices/device.h"

enum {
    PCI_CONFIG_SIZE = 4096,
    PCI_HEADER_SIZE = 256,
    PCI_BARS = 6,
    PCI_ROM = 6, /* the expansion ROM among what a function decodes */
    PCI_DECODERS,
    PCI_MAX_VECTORS = 32, /* of devices that are saved */
    PCI_MSIX_MOST = 2048, /* of any */
    PCI_MAX_DEVFN = 256,
    PCI_BAR_LARGE = 64 << 20
};

// clang-format off
enum { /* offsets in the configuration header (PCI 3.0 6.1) */
    PCI_VENDOR = 0x00, PCI_DEVICE = 0x02, PCI_COMMAND = 0x04, PCI_STATUS = 0x06,
    PCI_CLASS_REV = 0x08,
    PCI_CACHE_LINE = 0x0c, PCI_LATENCY = 0x0d, PCI_HEADER_TYPE = 0x0e, PCI_BAR0 = 0x10,
    PCI_SUBSYS_VENDOR = 0x2c, PCI_SUBSYS = 0x2e, PCI_ROM_BASE = 0x30,
    PCI_CAP_PTR = 0x34, PCI_INT_LINE = 0x3c,
    PCI_INT_PIN = 0x3d,
};
enum {
    PCI_COMMAND_IO = 0x1, PCI_COMMAND_MEM = 0x2, PCI_COMMAND_MASTER = 0x4,
    PCI_COMMAND_INTX_OFF = 0x400, PCI_ROM_ENABLE = 1,
    PCI_STATUS_INTX = 0x8, PCI_STATUS_CAPS = 0x10, PCI_CAP_MSI = 0x05, PCI_CAP_VENDOR = 0x09, PCI_CAP_MSIX = 0x11,
};
// clang-format on

struct msi_wire;
struct pci_bus;
struct windows;
struct wires;

struct pci_bar {
    uint64_t size; /* power of two, 0 = absent */
    bool io;       /* else memory; 64-bit memory BARs occupy two slots */
    bool is64;
    bool mapped;  /* the region is in the bus's space */
    bool refused; /* the place is taken: tried again when a BAR moves away */
    struct io_region region;
};

struct msix_entry {                           /* one row of the MSI-X table */
    uint32_t addr_lo, addr_hi, data, control; /* control bit 0: masked */
};

struct pci_vectors { /* MSI-X: the function's own, or of more vectors in memory of their own */
    struct msix_entry *entry;
    uint32_t *pending;      /* PBA, one bit a vector */
    uint32_t *outside;      /* one bit each: somebody else raises it, by its wire */
    struct msi_wire **wire; /* NULL: none yet */
    void *memory;           /* NULL: the function's own */
};

struct pci_device {
    struct device dev; /* first */
    struct pci_bus *bus;
    uint8_t devfn;
    uint8_t config[PCI_CONFIG_SIZE];
    uint8_t wmask[PCI_CONFIG_SIZE];   /* writable bits */
    uint8_t w1cmask[PCI_CONFIG_SIZE]; /* write-one-to-clear bits */
    /* Read-only bits as they were after init; `sealed` once they are taken. */
    uint8_t fixed[PCI_HEADER_SIZE], fixed_mask[PCI_HEADER_SIZE];
    bool sealed;
    struct pci_bar bar[PCI_DECODERS];
    const uint8_t *rom; /* of pci_use_rom */
    uint32_t rom_size;
    uint16_t cap_end;  /* next free offset for capabilities */
    uint16_t msi_cap;  /* offset, 0 = none */
    uint16_t msix_cap; /* the same */
    uint16_t vectors;
    uint8_t msix_bar, pba_bar;
    uint32_t msix_table, msix_pba; /* offsets in those BARs */
    struct pci_vectors vector;     /* by which all is done */
    struct msix_entry msix[PCI_MAX_VECTORS];
    uint32_t msix_pending, outside;
    struct msi_wire *wire[PCI_MAX_VECTORS];
    bool any_outside;
    bool unwired;     /* the host gives no more descriptors */
    bool intx;        /* the function asks for INTx */
    bool intx_driven; /* what it drives now: not while INTX_OFF, MSI or MSI-X is set */
    void (*config_written)(struct pci_device *d, unsigned offset,
                           unsigned size); /* optional hook */
    void (*config_reading)(struct pci_device *d, unsigned offset,
                           unsigned size); /* optional: before a read */
    /* Optional: BAR `bar` is decoded at its region's base now, or no longer (`mapped`). */
    void (*bar_moved)(struct pci_device *d, unsigned bar);
    void (*attached)(struct pci_device *d,
                     bool yes); /* optional: after attaching, before detaching */
};

extern const struct state_desc pci_device_state; /* for STATE_SUB in the tables of functions */

/* In init: header fields, then BARs and capabilities. */
void pci_init_header(struct pci_device *d, uint16_t vendor, uint16_t device, uint32_t class_rev,
                     uint16_t subsys_vendor, uint16_t subsys);
void pci_init_bar(struct pci_device *d, unsigned bar, uint64_t size, bool io, bool is64,
                  const struct io_ops *ops, const char *name); /* ops get the device struct */
/* The expansion ROM: 2 KiB or more, a power of two. Decoded while its enable bit is set. */
void pci_init_rom(struct pci_device *d, uint32_t size, const struct io_ops *ops, const char *name);
/* The same for bytes that only are there; they stay the caller's and outlive the device. Size 0:
 * none. */
void pci_use_rom(struct pci_device *d, const uint8_t *rom, uint32_t size);
bool pci_rom_valid(const uint8_t *rom, size_t size); /* looks like one */
unsigned pci_add_cap(struct pci_device *d, uint8_t id, const void *body, unsigned len,
                     const void *wmask);
int pci_init_msix(struct pci_device *d, unsigned vectors, unsigned bar, uint32_t table_offset,
                  uint32_t pba_offset);
/* The same for a capability that is in config[] already, at `cap`, and says where table and pending
 * bits are; up to PCI_MSIX_MOST vectors, of which more than PCI_MAX_VECTORS are not saved. 0, or
 * -ENOMEM; pci_done_msix, after pci_bus_detach, gives back what it took. */
int pci_take_msix(struct pci_device *d, unsigned cap, unsigned vectors);
void pci_done_msix(struct pci_device *d);
/* Accesses inside of a BAR with the table or PBA that hit one of them: the BAR's own ops call these
 * first. */
bool pci_msix_read(struct pci_device *d, unsigned bar, uint64_t offset, unsigned size,
                   uint64_t *ret_value);
bool pci_msix_write(struct pci_device *d, unsigned bar, uint64_t offset, unsigned size,
                    uint64_t value);

/* One message. A function has MSI or MSI-X. */
void pci_init_msi(struct pci_device *d);

/* Called by the function's reset first: every writable bit becomes 0, BARs unmapped, MSI-X masked.
 * Functions with other reset values store them into config[] afterwards. */
void pci_reset(struct pci_device *d);
/* Called by the post_load of the function's own table: maps BARs again, drives INTx. */
void pci_post_load(struct pci_device *d);

/* Interrupts: the message of MSI, MSI-X vector v if the guest enabled MSI-X, else the level of
 * INTx. */
bool pci_msi_enabled(const struct pci_device *d);
void pci_msi_notify(struct pci_device *d); /* MSI off: nothing */
bool pci_msix_enabled(const struct pci_device *d);
bool pci_msix_open(const struct pci_device *d, unsigned vector); /* nothing holds it back */
void pci_msix_notify(struct pci_device *d,
                     unsigned vector); /* unknown vectors, MSI-X off: nothing */
void pci_set_intx(struct pci_device *d, bool level);
/* A descriptor (eventfd) whose signals raise MSI-X vector v from any thread, process or kernel, as
 * pci_msix_notify does: held back, and pending, while the guest masks it (bus/wires.h). For
 * functions that are attached; it goes when they are detached. Negative: there are no more
 * descriptors, or no wires. */
int pci_msix_fd(struct pci_device *d, unsigned vector);

/* The bus: one root bus, functions at devfn, configuration by port cf8/cfc and by ECAM. */
struct pci_bus *pci_bus_new(struct io_space *pio, struct io_space *mmio);
void pci_bus_free(struct pci_bus *bus); /* accepts NULL; detaches what is still attached */
/* Eventfds for its functions (bus/wires.h); they outlive it. NULL, as at first: none. */
void pci_bus_set_wires(struct pci_bus *bus, struct wires *wires);
struct wires *pci_bus_wires(struct pci_bus *bus);
/* The same for memory that processors reach by themselves (bus/windows.h). */
void pci_bus_set_windows(struct pci_bus *bus, struct windows *windows);
struct windows *pci_bus_windows(struct pci_bus *bus);
/* INTx wires A..D (index 0..3) as swizzled by slot: wire = (slot + pin) % 4, pin A = 0; shared
 * lines are counted. */
void pci_bus_set_intx(struct pci_bus *bus, const struct irq wires[4]);
int pci_bus_attach(struct pci_bus *bus, struct pci_device *d, unsigned devfn, struct error *err);
void pci_bus_detach(struct pci_device *d); /* no-op if not attached */
struct io_space *pci_bus_mmio(struct pci_bus *bus);
struct pci_device *pci_bus_find(struct pci_bus *bus, unsigned devfn);
uint32_t pci_config_read(struct pci_bus *bus, unsigned bdf, unsigned offset, unsigned size);
void pci_config_write(struct pci_bus *bus, unsigned bdf, unsigned offset, unsigned size,
                      uint32_t value);
/* Addresses above 4 GiB, for 64-bit BARs of PCI_BAR_LARGE and more; as at first: none. */
void pci_bus_set_high(struct pci_bus *bus, uint64_t base, uint64_t end);
uint64_t pci_bus_large(const struct pci_bus *bus); /* bytes of such BARs */
/* Gives every attached function addresses inside the windows and switches decoding on, as firmware
 * would (direct boot has none). A machine reset takes both away: the board calls it again. */
int pci_bus_assign(struct pci_bus *bus, uint64_t mmio_base, uint64_t mmio_end, uint16_t io_base,
                   struct error *err);

/* Host bridge 8086:29c0 (class pci_host, pci_host.h) and LPC 8086:2918 (class lpc, lpc.h) are
 * devices of their own. */

#endif

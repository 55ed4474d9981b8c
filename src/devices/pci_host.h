/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host bridge, 8086:29c0: class `pci_host`, a PCI function for devfn 0 of the bus.
 *
 * Regions: 0 = configuration address, 4 ports (0xcf8), 1 = configuration data, 4 ports (0xcfc).
 * They work once the function is attached to its bus. The ECAM window stands where PCIEXBAR says,
 * from reset on at PCI_HOST_ECAM_BASE, 256 MiB, because a directly booted kernel has no firmware
 * that would program it. Port 0xcf9 lies inside region 0: byte accesses to it go to
 * config->reset_ctl (reset_ctl.h).
 *
 * PAM registers are stored, and the RAM below 1 MiB is always RAM. Changes of SMRAM and TSEG are
 * told to config->smram; without it their registers are storage.
 */
#ifndef DEVICES_PCI_HOST_H
#define DEVICES_PCI_HOST_H

#include "devices/pci.h"

#define PCI_HOST_ECAM_BASE 0xb0000000ull
#define PCI_HOST_ECAM_SIZE 0x10000000ull

struct pci_host_smram { /* memory for system management mode */
    bool legacy;        /* at a0000: RAM instead of what is on the bus there */
    bool open;          /* all of it is there for everybody */
    uint64_t tseg;      /* bytes at the end of the memory below 4 GiB, 0: none */
};

struct pci_host_config {      /* NULL: 0xcf9 reads all ones and does nothing */
    struct device *reset_ctl; /* must outlive the host bridge */
    void (*smram)(void *opaque, const struct pci_host_smram *now); /* NULL: none */
    void *opaque;
};

#endif

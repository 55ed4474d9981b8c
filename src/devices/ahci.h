/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SATA host adapter 8086:2922 of the ICH9 with six ports, each with a disk, an optical drive or
 * nothing: class `ahci`. Source: Serial ATA AHCI 1.3.1, ATA/ATAPI Command Set 3, Serial ATA 3.0
 * (frames), SFF-8020i (packet commands; the commands themselves: scsi.h).
 *
 * BAR 5 = the registers. Interrupts by MSI or INTx, pin A.
 */
#ifndef DEVICES_AHCI_H
#define DEVICES_AHCI_H

#include "devices/pci.h"

struct block;

enum { AHCI_PORTS = 6, AHCI_SERIAL = 20 };

struct ahci_port_config {
    bool present, cdrom;
    struct block *block; /* the caller's, outlives the device; NULL: a drive without a medium */
    char serial[AHCI_SERIAL + 1];
};

struct ahci_config { /* NULL: nothing is connected */
    bool no_msi;     /* of snapshots from before there was MSI */
    struct ahci_port_config port[AHCI_PORTS];
    /* The guest opened the tray of the drive at this port. NULL allowed. */
    void (*ejected)(void *opaque, unsigned port);
    void *opaque;
};

/* While the machine runs: a disk comes to a port that is free, or is pulled out, which the guest is
 * told by its link. What is on its way to the image is waited for, and the block no longer used. */
void ahci_add(struct device *dev, unsigned port, const struct ahci_port_config *c);
void ahci_remove(struct device *dev, unsigned port);
bool ahci_is_used(const struct device *dev, unsigned port);

/* Another medium into the drive at the port, NULL: none. The old one is no longer used afterwards.
 */
void ahci_change_medium(struct device *dev, unsigned port, struct block *block);
bool ahci_medium_locked(const struct device *dev, unsigned port); /* by the guest */

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * IDE function 8086:7010 of the PIIX3 with two channels of two disks or optical drives each: class
 * `ide`. Source: 82371SB (PIIX3) datasheet, 2.3; Programming Interface for Bus Master IDE 1.0;
 * ATA/ATAPI-6 (host transfer); SFF-8020i.
 *
 * Regions: 0 and 2 are the command blocks (1f0, 170), 1 and 3 the control registers (3f6, 376). BAR
 * 4: bus master registers. Wires 0 and 1: the interrupts of the channels (14, 15).
 */
#ifndef DEVICES_IDE_H
#define DEVICES_IDE_H

#include "devices/ata.h"

struct device;

enum { IDE_CHANNELS = 2, IDE_DRIVES = 4 /* 0, 1: first channel */ };

struct ide_drive_config {
    bool present, cdrom;
    struct block *block; /* the caller's, outlives the device; NULL: a drive without a medium */
    char serial[ATA_SERIAL + 1];
};

struct ide_config { /* NULL: nothing is connected */
    struct ide_drive_config drive[IDE_DRIVES];
    /* The guest opened the tray of this drive. NULL allowed. */
    void (*ejected)(void *opaque, unsigned drive);
    void *opaque;
};

/* Another medium into the drive, NULL: none. The old one is no longer used afterwards. */
void ide_change_medium(struct device *dev, unsigned drive, struct block *block);
bool ide_medium_locked(const struct device *dev, unsigned drive); /* by the guest */

#endif

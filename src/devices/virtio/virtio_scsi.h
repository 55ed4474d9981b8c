/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio SCSI host: one adapter, disks and optical drives at targets and logical units. Source:
 * VIRTIO 1.2, 5.6; the commands: devices/scsi.h.
 */
#ifndef DEVICES_VIRTIO_VIRTIO_SCSI_H
#define DEVICES_VIRTIO_VIRTIO_SCSI_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct block;
struct device;

enum {
    VIRTIO_SCSI_UNITS = 20,
    VIRTIO_SCSI_MAX_QUEUES = 6, /* of requests */
    VIRTIO_SCSI_TARGETS = 32,
    VIRTIO_SCSI_LUNS = 8, /* of a target: as many as OVMF looks at */
    VIRTIO_SCSI_SERIAL = 20,
};

struct virtio_scsi_unit_config {
    bool present, cdrom;
    uint8_t target, lun;
    struct block *block; /* the caller's, outlives the device; NULL: a drive without a medium */
    char serial[VIRTIO_SCSI_SERIAL + 1];
};

struct virtio_scsi_config { /* NULL: nothing is connected */
    unsigned queues;        /* 1 .. VIRTIO_SCSI_MAX_QUEUES; 0 = 1 */
    struct virtio_scsi_unit_config unit[VIRTIO_SCSI_UNITS];
    /* The guest opened the tray of this unit. NULL allowed. */
    void (*ejected)(void *opaque, unsigned unit);
    void *opaque;
};

/* While the machine runs: a unit comes (its place in the table in *ret_unit) or goes; the driver is
 * told. What is on its way to the image is waited for; the block is no longer used afterwards. */
int virtio_scsi_add(struct device *dev, const struct virtio_scsi_unit_config *c, unsigned *ret_unit,
                    struct error *err);
void virtio_scsi_remove(struct device *dev, unsigned unit);

/* Another medium into the drive, NULL: none. The old one is no longer used afterwards. */
void virtio_scsi_change_medium(struct device *dev, unsigned unit, struct block *block);
bool virtio_scsi_medium_locked(const struct device *dev, unsigned unit); /* by the guest */

#endif

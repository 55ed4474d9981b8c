/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory that is plugged and unplugged by blocks of 2 MiB: class `virtio_mem`.
 *
 * Contract: machine lock held; reset by the machine only while processors rest. The range at `base`
 * is the board's (mem_add_room), and belongs to the device: as much of it is mapped as the driver
 * may use, and blocks that are not plugged have no memory of the host and read as zeros.
 */
#ifndef DEVICES_VIRTIO_VIRTIO_MEM_H
#define DEVICES_VIRTIO_VIRTIO_MEM_H

#include "devices/device.h"

#define VIRTIO_MEM_BLOCK (2ull << 20)
#define VIRTIO_MEM_MAX   (128ull << 30)

struct virtio_mem_config { /* NULL: no memory at all */
    gpa base;              /* both whole blocks; of more than VIRTIO_MEM_MAX the rest is not used */
    uint64_t size;
    void (*show)(void *opaque, uint64_t bytes); /* as much of it is to be mapped. NULL allowed */
    void *opaque;
};

struct virtio_mem_status {
    bool driver;                     /* the guest has one, and it works */
    uint64_t wanted, plugged, limit; /* bytes */
};

/* How much the guest is to have of it: rounded up to blocks, at most all. The driver follows in
 * time. */
void virtio_mem_set(struct device *dev, uint64_t bytes);
void virtio_mem_status(struct device *dev, struct virtio_mem_status *ret);

#endif

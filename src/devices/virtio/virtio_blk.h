/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the board hands to a virtio block device. */
#ifndef DEVICES_VIRTIO_VIRTIO_BLK_H
#define DEVICES_VIRTIO_VIRTIO_BLK_H

struct block;

enum { VIRTIO_BLK_MAX_QUEUES = 8, VIRTIO_BLK_SERIAL = 20 /* characters of a serial number */ };

struct virtio_blk_config {
    struct block *block; /* stays the caller's, outlives the device; NULL = a disk of size 0 */
    unsigned queues;     /* 1 .. VIRTIO_BLK_MAX_QUEUES; 0 = 1 */
    char serial[VIRTIO_BLK_SERIAL + 1]; /* what GET_ID answers */
};

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory that the guest gives back: class `virtio_balloon`.
 *
 * Contract: machine lock held. What the guest puts into the balloon, and what it reports as free,
 * goes back to the host at once; the guest finds zeros there when it uses it again.
 */
#ifndef DEVICES_VIRTIO_VIRTIO_BALLOON_H
#define DEVICES_VIRTIO_VIRTIO_BALLOON_H

#include "devices/device.h"

enum { VIRTIO_BALLOON_STATS = 16 }; /* tags from 0 on; more are not kept */

struct virtio_balloon_status {
    bool driver;             /* the guest has one, and it works */
    uint64_t target, actual; /* bytes that are to be, and are, in the balloon */
    uint64_t returned;       /* bytes that went back to the host since the start, reports too */
    uint64_t stat[VIRTIO_BALLOON_STATS];
    uint32_t stats; /* a bit a tag that is known */
};

/* The words of the statistics, by tag; NULL: none. */
const char *virtio_balloon_stat_name(unsigned tag);
/* How much is to be in the balloon; whole pages. */
void virtio_balloon_set(struct device *dev, uint64_t bytes);
/* What is known, and asks the driver for new statistics, which come later. */
void virtio_balloon_status(struct device *dev, struct virtio_balloon_status *ret);

#endif

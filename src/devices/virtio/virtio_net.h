/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the board hands to a virtio network device. */
#ifndef DEVICES_VIRTIO_VIRTIO_NET_H
#define DEVICES_VIRTIO_VIRTIO_NET_H

#include <stdint.h>

struct device;
struct net_port;

struct virtio_net_config {
    struct net_port *port; /* stays the caller's, outlives the device; NULL = no cable plugged in */
    uint8_t mac[6];
    const uint8_t *rom; /* for firmware, the caller's; rom_size 0: none */
    uint32_t rom_size;
};

/* Pulls the cable out of this device; it comes back by itself, five seconds after the driver has
 * seen that, or after ten if no driver looks. Machine lock. */
void virtio_net_replug(struct device *dev);

#endif

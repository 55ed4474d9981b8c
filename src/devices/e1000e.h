/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Intel 82574L Gigabit Ethernet controller: class `e1000e`, function 8086:10d3.
 *
 * BARs: 0 = registers, 2 = the same by two ports (IOADDR, IODATA), 3 = MSI-X.
 */
#ifndef DEVICES_E1000E_H
#define DEVICES_E1000E_H

#include "devices/device.h"

struct net_port;

struct e1000e_config {
    struct net_port *port; /* stays the caller's, outlives the device; NULL: no cable plugged in */
    uint8_t mac[6];
    const uint8_t *rom; /* for firmware, the caller's; rom_size 0: none */
    uint32_t rom_size;
};

/* Pulls the cable out for two seconds: guests then ask for their addresses again. */
void e1000e_replug(struct device *dev);

#endif

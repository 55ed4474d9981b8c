/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a machine may not say in a network, beside sending from MAC addresses that are not its own
 * (switch.h): speak for the address of another machine or of the gateway (ARP, IPv4), give out
 * addresses (DHCP), and be a router (advertisements and redirects of ICMPv6). An address that is
 * nobody's it may use.
 */
#ifndef SWITCH_GUARD_H
#define SWITCH_GUARD_H

#include <stddef.h>

#include "switch/directory.h"

/* `self` has the MAC address `mac` in the directory; NULL: it is not there. */
bool guard_allows(const struct directory *d, const struct member *self, const uint8_t mac[6],
                  const uint8_t *frame, size_t len);

#endif

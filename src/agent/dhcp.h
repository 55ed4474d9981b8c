/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small DHCP client (RFC 2131) for the init of machines made of OCI images.
 *
 * Contract: dhcp_start forks a child that asks on the interface, sets address and default route,
 * and renews the lease as long as it lives. What it learned first can be read as one struct from
 * the descriptor, which ends without one if there is nobody to answer (20 s).
 */
#ifndef AGENT_DHCP_H
#define AGENT_DHCP_H

#include <stdint.h>

enum { DHCP_SERVERS = 3 };

struct dhcp_lease {
    uint32_t address, mask, router, server; /* in network order; 0: not told */
    uint32_t dns[DHCP_SERVERS];
    uint32_t seconds;
    char domain[128];
};

/* Negative: there is no such interface. */
int dhcp_start(const char *interface);
/* An answer of `n` bytes to the question with that number: its type (2 offer, 5 ack, 6 nak), or 0
 * if it is none. */
int dhcp_read(const uint8_t *p, unsigned n, uint32_t xid, struct dhcp_lease *ret);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * DHCP for the machines of a network. Sources: RFC 2131, RFC 2132, RFC 3397 (search list).
 *
 * Every machine has one address, by its MAC address, for ever; so nothing is kept of who asked.
 * Departures: BOOTP clients (without a message type) get no answer; a request for another address
 * than the machine's own is refused with a NAK also if it names another server.
 */
#ifndef SWITCH_DHCP_H
#define SWITCH_DHCP_H

#include <stddef.h>
#include <stdint.h>

#include "switch/directory.h"

enum { DHCP_SERVER_PORT = 67, DHCP_CLIENT_PORT = 68, DHCP_MAX = 600, DHCP_LEASE = 86400 };

struct dhcp_reply {
    uint8_t data[DHCP_MAX];
    size_t len;   /* 0: no answer */
    uint32_t to;  /* the address that it goes to; all ones: everybody */
    uint8_t type; /* of the message, for traces */
};

/* What there is to answer to the payload of a datagram for port 67, from the machine with that MAC
 * address. `route`: the gateway leads out. */
void dhcp_answer(const struct directory *d, bool route, const uint8_t mac[6], const uint8_t *data,
                 size_t len, struct dhcp_reply *ret);

#endif

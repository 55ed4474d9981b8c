/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How many connections to the outside machines may have through user-mode NAT: each costs the host
 * a socket, and a guest that opens them without end must not take all that there are.
 *
 * Theory of operation: what begins a connection (a SYN, a datagram or echo of a flow that was not
 * seen lately) is counted for the machine, by its MAC address; nothing tells when one ends. So when
 * a limit seems to be reached, libslirp's own list is counted, at most five times a second; what is
 * beyond it then is dropped, and the guest tries again or gives up, as with any full router.
 *
 * Contract: one thread.
 */
#ifndef NET_LIMIT_H
#define NET_LIMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct net_limit;

/* libslirp's list of its sockets (slirp_connection_info), for free. */
typedef char *net_limit_list(void *opaque);

/* `total` for all and `each` for one machine. Guests have addresses of network/mask. NULL: no
 * memory. */
struct net_limit *net_limit_new(unsigned total, unsigned each, uint32_t network, uint32_t mask,
                                net_limit_list *list, void *opaque);
void net_limit_free(struct net_limit *l); /* accepts NULL */
void net_limit_set_each(struct net_limit *l, unsigned each);
/* May a frame of a guest go on? */
bool net_limit_allows(struct net_limit *l, const uint8_t *frame, size_t len, int64_t now_ms);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * User-mode NAT through libslirp behind a frame port: a network without any right on the host.
 * Ignores SIGPIPE for the process if nobody handles it: libslirp writes to sockets whose peers may
 * have gone.
 *
 * Contract: as of every port (net.h). Addresses are numbers in the host's byte order.
 */
#ifndef NET_USER_H
#define NET_USER_H

#include "net/net.h"

struct net_user_config {
    uint32_t network;
    unsigned prefix; /* bits of the network's address */
    uint32_t host, nameserver, dhcp_start;
    bool ipv6;            /* fd00::/64 as well */
    bool isolated;        /* nothing gets out, and nothing in but by forwards */
    bool dhcp;            /* it gives the addresses */
    uint16_t mtu;         /* 0: the largest that there is */
    const char *bootfile; /* what DHCP tells machines to boot from; NULL: nothing */
    const char *tftp;     /* the folder that the gateway's TFTP server shows; NULL: none */
    unsigned connections; /* of one machine to the outside at most; 0: as many as of all */
};

enum {
    NET_USER_CONNECTIONS = 16384 /* of all machines; fewer if the process may not open so many */
};

extern const struct net_user_config net_user_standard; /* of net_user_open */

struct net_port *net_user_open_at(struct loop *loop, const struct net_user_config *c,
                                  struct error *err);

struct net_port *net_user_open_forwards(struct loop *loop, const struct net_user_config *c,
                                        const struct net_forward *fwd, unsigned count,
                                        struct error *err);

/* At any time. What goes through a forward lives on when it is removed. -ENOENT: there is none. */
int net_user_add_forward(struct net_port *p, const struct net_forward *f, struct error *err);
int net_user_remove_forward(struct net_port *p, const struct net_forward *f, struct error *err);

void net_user_set_connections(struct net_port *p, unsigned each);
/* Frames that would have begun a connection beyond the limit. */
uint64_t net_user_limited(const struct net_port *p);

#endif

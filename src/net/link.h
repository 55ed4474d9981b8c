/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A frame port that is a cable to a switch in another process (switch/): a unix socket of the kind
 * SOCK_SEQPACKET. Both ends know these words.
 *
 *   the machine connects and says   {"port": NAME, "mac": "02:...", "protocol": 1}
 *   the switch answers              {"protocol": 1}, or {"error": SENTENCE} and closes
 *   then each packet is a frame, both ways
 *
 * Contract: as of every port (net.h). The switch may go and come at any time: the port connects
 * again by itself. Frames that the switch does not take wait in a bounded queue, so that a switch
 * that was started anew misses little; frames that the guest does not take stay in the socket, and
 * the switch drops what does not fit.
 */
#ifndef NET_LINK_H
#define NET_LINK_H

#include "net/net.h"

enum {
    LINK_PROTOCOL = 1,
    LINK_HELLO_MAX = 1024, /* bytes of the first packet each way */
    LINK_NAME_MAX = 63,
    LINK_MTU_MIN = 576,
    LINK_MTU_MAX = 65520,
};

struct net_link_config {
    const char *path, *name;
    uint8_t mac[6];
    uint16_t mtu;
};

/* The switch need not be there yet. */
struct net_port *net_link_open(struct loop *loop, const struct net_link_config *c,
                               struct error *err);
/* Has a switch taken it? Else *ret_why says why not. */
bool net_link_up(const struct net_port *p, const char **ret_why);

enum { MAC_TEXT = 18 };
void mac_print(const uint8_t mac[6], char out[MAC_TEXT]);
/* Six pairs of hex digits; neither zero nor a group's address. */
int mac_parse(const char *s, uint8_t mac[6], struct error *err);

#endif

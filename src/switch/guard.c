/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a machine may not say in a network. RFC 4861 has the types of ICMPv6. */
#include "switch/guard.h"

#include <string.h>

#include "switch/dhcp.h"
#include "switch/packet.h"

enum { ROUTER_ADVERTISEMENT = 134, REDIRECT = 137 };

static bool may_speak_for(const struct directory *d, const struct member *self, uint32_t address) {
    const struct member *m;

    if (!address || (self && address == self->address)) /* nearly always */
        return true;
    if (address == directory_gateway(d) || address == directory_dns(d))
        return false;
    m = directory_by_address(d, address);
    return !m || m == self;
}

bool guard_allows(const struct directory *d, const struct member *self, const uint8_t mac[6],
                  const uint8_t *frame, size_t len) {
    struct packet_arp arp;
    struct packet_udp udp;
    uint32_t source;
    int type;

    switch (packet_type(frame, len)) {
    case PACKET_ARP:
        return !packet_arp(frame, len, &arp) ||
               (!memcmp(arp.sender_mac, mac, 6) && may_speak_for(d, self, arp.sender));
    case PACKET_IPV4:
        if (!packet_ipv4_source(frame, len, &source))
            return false; /* no IPv4 */
        return may_speak_for(d, self, source) &&
               !(packet_udp(frame, len, &udp) && udp.src_port == DHCP_SERVER_PORT);
    case PACKET_IPV6:
        type = packet_icmpv6_type(frame, len);
        return type != ROUTER_ADVERTISEMENT && type != REDIRECT;
    default:
        return true;
    }
}

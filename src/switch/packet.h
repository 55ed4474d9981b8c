/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Taking frames apart as far as a switch looks into them, and making answers. Sources: RFC 826
 * (ARP), 791 (IPv4), 768 (UDP), 8200 (IPv6).
 *
 * Contract: frames are hostile bytes of any length. Addresses are numbers in the host's byte order.
 */
#ifndef SWITCH_PACKET_H
#define SWITCH_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PACKET_ARP = 0x0806, PACKET_IPV4 = 0x0800, PACKET_IPV6 = 0x86dd };
enum { PACKET_UDP_HEADERS = 14 + 20 + 8 };

struct packet_arp {
    uint8_t sender_mac[6];
    uint32_t sender, target;
};

struct packet_udp {
    uint32_t src, dst;
    uint16_t src_port, dst_port;
    const uint8_t *data; /* into the frame */
    size_t len;
};

uint16_t packet_type(const uint8_t *frame, size_t len); /* 0 of what is too short */
bool packet_arp(const uint8_t *frame, size_t len, struct packet_arp *ret);
/* The source of an IPv4 packet. */
bool packet_ipv4_source(const uint8_t *frame, size_t len, uint32_t *ret);
/* A whole UDP datagram over IPv4; checksums are not looked at. */
bool packet_udp(const uint8_t *frame, size_t len, struct packet_udp *ret);
/* Type of an ICMPv6 message that is told to neighbours, or -1. */
int packet_icmpv6_type(const uint8_t *frame, size_t len);

/* Fills in the headers in front of `len` bytes that lie at frame + PACKET_UDP_HEADERS; returns the
 * length of the frame. */
size_t packet_make_udp(uint8_t *frame, const uint8_t dst_mac[6], const uint8_t src_mac[6],
                       const struct packet_udp *p);

#endif

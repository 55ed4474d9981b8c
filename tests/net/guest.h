/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest's network stack that fits on a page: it makes frames for the network of net_user_open and
 * takes answers apart. Sources: RFC 826, 791, 768, 793, 2131, 792.
 */
#ifndef TESTS_NET_GUEST_H
#define TESTS_NET_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GUEST_FRAME_MAX = 65536, PROTO_ICMP = 1, PROTO_TCP = 6, PROTO_UDP = 17 };
enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_PSH = 8, TCP_ACK = 16 };

#define GUEST_IP   0x0a00020fu /* 10.0.2.15 */
#define GATEWAY_IP 0x0a000202u

extern const uint8_t guest_mac[6];

struct packet { /* what a frame holds; pointers into it */
    uint16_t ethertype;
    uint8_t proto;
    uint32_t src, dst;
    uint16_t src_port, dst_port; /* UDP, TCP */
    uint32_t seq, ack;
    uint8_t flags;
    const uint8_t *data;
    size_t len;
};

struct tcp { /* one end of a connection */
    uint16_t port, peer_port;
    uint32_t seq, ack; /* next to send, next expected */
    uint16_t mss;      /* announced in the SYN */
};

/* Each writes a whole frame and returns its length. */
size_t guest_arp(uint8_t *frame, uint32_t ask_for);
size_t guest_ip(uint8_t *frame, uint8_t proto, uint32_t dst, const void *payload, size_t len);
size_t guest_udp(uint8_t *frame, uint32_t dst, uint16_t src_port, uint16_t dst_port,
                 const void *data, size_t len);
size_t guest_dhcp_discover(uint8_t *frame);
size_t guest_ping(uint8_t *frame, uint32_t dst, uint16_t seq);
size_t guest_tcp(uint8_t *frame, struct tcp *t, uint8_t flags, const void *data, size_t len);

/* False if the frame is no IPv4 or ARP, is cut short, or a checksum is wrong. */
bool guest_parse(const uint8_t *frame, size_t len, struct packet *ret);

/* Makes the checksums of an IPv4 frame right as far as its lengths make sense. */
void guest_fix(uint8_t *frame, size_t len);

uint16_t guest_checksum(uint32_t sum, const void *data, size_t len); /* RFC 1071, host order */

#endif

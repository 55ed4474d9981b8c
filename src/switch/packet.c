/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Frames: what a switch reads in them, and datagrams of its own. */
#include "switch/packet.h"

#include <string.h>

#include "base/bytes.h"
#include "net/checksum.h"

enum { ETH = 14, IPV4 = 20, IPV6 = 40, UDP = 8, ARP = 28 };
enum { PROTO_UDP = 17, PROTO_HOP_BY_HOP = 0, PROTO_ICMPV6 = 58, FRAGMENT = 0x3fff };

uint16_t packet_type(const uint8_t *frame, size_t len) {
    return len >= ETH ? load_be16(frame + 12) : 0;
}

bool packet_arp(const uint8_t *f, size_t len, struct packet_arp *ret) {
    const uint8_t *a = f + ETH;

    if (packet_type(f, len) != PACKET_ARP || len < ETH + ARP || load_be16(a) != 1 ||
        load_be16(a + 2) != PACKET_IPV4 || a[4] != 6 || a[5] != 4)
        return false;
    memcpy(ret->sender_mac, a + 8, 6);
    ret->sender = load_be32(a + 14);
    ret->target = load_be32(a + 24);
    return true;
}

bool packet_ipv4_source(const uint8_t *f, size_t len, uint32_t *ret) {
    if (packet_type(f, len) != PACKET_IPV4 || len < ETH + IPV4 || f[ETH] >> 4 != 4)
        return false;
    *ret = load_be32(f + ETH + 12);
    return true;
}

bool packet_udp(const uint8_t *f, size_t len, struct packet_udp *ret) {
    size_t header, total, udp;
    const uint8_t *u;

    if (!packet_ipv4_source(f, len, &ret->src) || f[ETH + 9] != PROTO_UDP)
        return false;
    header = (size_t)(f[ETH] & 15) * 4;
    total = load_be16(f + ETH + 2);
    if (header < IPV4 || total > len - ETH || total < header + UDP ||
        (load_be16(f + ETH + 6) & FRAGMENT))
        return false;
    u = f + ETH + header;
    udp = load_be16(u + 4);
    if (udp < UDP || udp > total - header)
        return false;
    ret->dst = load_be32(f + ETH + 16);
    ret->src_port = load_be16(u);
    ret->dst_port = load_be16(u + 2);
    ret->data = u + UDP;
    ret->len = udp - UDP;
    return true;
}

int packet_icmpv6_type(const uint8_t *f, size_t len) {
    size_t at = ETH + IPV6;
    uint8_t next;

    if (packet_type(f, len) != PACKET_IPV6 || len < at + 8)
        return -1;
    next = f[ETH + 6];
    /* Neighbours must drop advertisements behind any other header that hides them (RFC 6980), but
     * not behind options. */
    if (next == PROTO_HOP_BY_HOP || next == 60) {
        next = f[at];
        at += ((size_t)f[at + 1] + 1) * 8;
    }
    return next == PROTO_ICMPV6 && len > at ? f[at] : -1;
}

size_t packet_make_udp(uint8_t *f, const uint8_t dst_mac[6], const uint8_t src_mac[6],
                       const struct packet_udp *p) {
    uint8_t *ip = f + ETH, *u = ip + IPV4, tail[4] = {0, PROTO_UDP};
    uint64_t sum;
    uint16_t check;

    memcpy(f, dst_mac, 6);
    memcpy(f + 6, src_mac, 6);
    store_be16(f + 12, PACKET_IPV4);
    memset(ip, 0, IPV4 + UDP);
    ip[0] = 0x45;
    store_be16(ip + 2, (uint16_t)(IPV4 + UDP + p->len));
    ip[8] = 64; /* time to live */
    ip[9] = PROTO_UDP;
    store_be32(ip + 12, p->src);
    store_be32(ip + 16, p->dst);
    store_le16(ip + 10, checksum_end(checksum_add(0, ip, IPV4)));
    store_be16(u, p->src_port);
    store_be16(u + 2, p->dst_port);
    store_be16(u + 4, (uint16_t)(UDP + p->len));
    store_be16(tail + 2, (uint16_t)(UDP + p->len));
    sum = checksum_add(checksum_add(0, ip + 12, 8), tail, sizeof(tail));
    check = checksum_end(checksum_add(sum, u, UDP + p->len));
    store_le16(u + 6, check ? check : 0xffff); /* 0 means "none" */
    return PACKET_UDP_HEADERS + p->len;
}

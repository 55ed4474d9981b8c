/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A guest's network stack that fits on a page. */
#include "net/guest.h"

#include <string.h>

#include "base/bytes.h"

enum { ETH = 14, IP = 20, UDP = 8, TCP = 20, DHCP = 300 };

const uint8_t guest_mac[6] = {0x52, 0x54, 0x00, 0x01, 0x02, 0x03};

/* Byte by byte on purpose: the second opinion on the device's fast one. */
uint16_t guest_checksum(uint32_t sum, const void *data, size_t len) {
    const uint8_t *p = data;

    for (size_t i = 0; i < len; i++) {
        sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static uint32_t pseudo_sum(uint32_t src, uint32_t dst, uint8_t proto, size_t len) {
    return (src >> 16) + (src & 0xffff) + (dst >> 16) + (dst & 0xffff) + proto + (uint32_t)len;
}

static void ethernet(uint8_t *frame, uint16_t type) {
    memset(frame, 0xff, 6);
    memcpy(frame + 6, guest_mac, 6);
    store_be16(frame + 12, type);
}

size_t guest_arp(uint8_t *frame, uint32_t ask_for) {
    uint8_t *a = frame + ETH;

    ethernet(frame, 0x0806);
    memset(a, 0, 28);
    store_be16(a, 1);
    store_be16(a + 2, 0x0800);
    a[4] = 6;
    a[5] = 4;
    store_be16(a + 6, 1); /* request */
    memcpy(a + 8, guest_mac, 6);
    store_be32(a + 14, GUEST_IP);
    store_be32(a + 24, ask_for);
    return ETH + 28;
}

static size_t ip_header(uint8_t *frame, uint8_t proto, uint32_t src, uint32_t dst, size_t payload) {
    uint8_t *h = frame + ETH;

    ethernet(frame, 0x0800);
    memset(h, 0, IP);
    h[0] = 0x45;
    store_be16(h + 2, (uint16_t)(IP + payload));
    h[8] = 64;
    h[9] = proto;
    store_be32(h + 12, src);
    store_be32(h + 16, dst);
    store_be16(h + 10, guest_checksum(0, h, IP));
    return ETH + IP + payload;
}

size_t guest_ip(uint8_t *frame, uint8_t proto, uint32_t dst, const void *payload, size_t len) {
    memmove(frame + ETH + IP, payload, len);
    return ip_header(frame, proto, GUEST_IP, dst, len);
}

static size_t udp(uint8_t *frame, uint32_t src, uint32_t dst, uint16_t src_port, uint16_t dst_port,
                  const void *data, size_t len) {
    uint8_t *u = frame + ETH + IP;

    store_be16(u, src_port);
    store_be16(u + 2, dst_port);
    store_be16(u + 4, (uint16_t)(UDP + len));
    store_be16(u + 6, 0);
    memmove(u + UDP, data, len);
    store_be16(u + 6, guest_checksum(pseudo_sum(src, dst, PROTO_UDP, UDP + len), u, UDP + len));
    return ip_header(frame, PROTO_UDP, src, dst, UDP + len);
}

size_t guest_udp(uint8_t *frame, uint32_t dst, uint16_t src_port, uint16_t dst_port,
                 const void *data, size_t len) {
    return udp(frame, GUEST_IP, dst, src_port, dst_port, data, len);
}

size_t guest_dhcp_discover(uint8_t *frame) {
    static const uint8_t options[] = {0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255};
    uint8_t d[DHCP] = {1, 1, 6};

    store_be32(d + 4, 0x12345678);
    memcpy(d + 28, guest_mac, 6);
    memcpy(d + 236, options, sizeof(options));
    return udp(frame, 0, 0xffffffff, 68, 67, d, sizeof(d));
}

size_t guest_ping(uint8_t *frame, uint32_t dst, uint16_t seq) {
    uint8_t p[64] = {8};

    store_be16(p + 4, 0x7777);
    store_be16(p + 6, seq);
    store_be16(p + 2, guest_checksum(0, p, sizeof(p)));
    return guest_ip(frame, PROTO_ICMP, dst, p, sizeof(p));
}

size_t guest_tcp(uint8_t *frame, struct tcp *t, uint8_t flags, const void *data, size_t len) {
    uint8_t *h = frame + ETH + IP;
    size_t options = flags & TCP_SYN ? 4 : 0, total = TCP + options + len;

    memset(h, 0, TCP + options);
    store_be16(h, t->port);
    store_be16(h + 2, t->peer_port);
    store_be32(h + 4, t->seq);
    store_be32(h + 8, t->ack);
    h[12] = (uint8_t)((TCP + options) / 4 << 4);
    h[13] = flags;
    store_be16(h + 14, 0xffff);
    if (options) {
        h[20] = 2;
        h[21] = 4;
        store_be16(h + 22, t->mss ? t->mss : 1460);
    }
    if (len)
        memcpy(h + TCP + options, data, len);
    store_be16(h + 16,
               guest_checksum(pseudo_sum(GUEST_IP, GATEWAY_IP, PROTO_TCP, total), h, total));
    t->seq += (uint32_t)len + !!(flags & (TCP_SYN | TCP_FIN));
    return ip_header(frame, PROTO_TCP, GUEST_IP, GATEWAY_IP, total);
}

static bool parse_transport(const uint8_t *p, size_t len, struct packet *ret) {
    size_t header = ret->proto == PROTO_UDP ? UDP : ret->proto == PROTO_TCP ? TCP : 0;

    if (len < header)
        return false;
    if (ret->proto == PROTO_TCP)
        header = (size_t)(p[12] >> 4) * 4;
    if (header > len || (ret->proto == PROTO_TCP && header < TCP))
        return false;
    if (ret->proto == PROTO_ICMP && guest_checksum(0, p, len))
        return false;
    if (header) {
        bool unchecked = ret->proto == PROTO_UDP && !load_be16(p + 6);

        if (!unchecked && guest_checksum(pseudo_sum(ret->src, ret->dst, ret->proto, len), p, len))
            return false;
        ret->src_port = load_be16(p);
        ret->dst_port = load_be16(p + 2);
    }
    if (ret->proto == PROTO_TCP) {
        ret->seq = load_be32(p + 4);
        ret->ack = load_be32(p + 8);
        ret->flags = p[13];
    }
    ret->data = p + header;
    ret->len = len - header;
    return true;
}

bool guest_parse(const uint8_t *frame, size_t len, struct packet *ret) {
    size_t total;

    *ret = (struct packet){0};
    if (len < ETH)
        return false;
    ret->ethertype = load_be16(frame + 12);
    ret->data = frame + ETH;
    ret->len = len - ETH;
    if (ret->ethertype == 0x0806)
        return ret->len >= 28;
    if (ret->ethertype != 0x0800 || ret->len < IP || frame[ETH] != 0x45 ||
        guest_checksum(0, frame + ETH, IP))
        return false;
    total = load_be16(frame + ETH + 2);
    if (total < IP || total > ret->len)
        return false;
    ret->proto = frame[ETH + 9];
    ret->src = load_be32(frame + ETH + 12);
    ret->dst = load_be32(frame + ETH + 16);
    return parse_transport(frame + ETH + IP, total - IP, ret);
}

void guest_fix(uint8_t *frame, size_t len) {
    static const struct {
        uint8_t proto;
        size_t at, min;
    } kinds[] = {{PROTO_ICMP, 2, 8}, {PROTO_TCP, 16, TCP}, {PROTO_UDP, 6, UDP}};
    uint8_t *h = frame + ETH;
    size_t header, total;

    if (len < ETH + IP || load_be16(frame + 12) != 0x0800)
        return;
    header = (size_t)(h[0] & 15) * 4;
    total = load_be16(h + 2);
    if (header < IP || header > total || total > len - ETH)
        return;
    for (unsigned i = 0; i < 3; i++) {
        uint32_t sum = kinds[i].proto == PROTO_ICMP
                           ? 0
                           : pseudo_sum(load_be32(h + 12), load_be32(h + 16), h[9], total - header);

        if (h[9] != kinds[i].proto || total - header < kinds[i].min)
            continue;
        store_be16(h + header + kinds[i].at, 0);
        store_be16(h + header + kinds[i].at, guest_checksum(sum, h + header, total - header));
    }
    store_be16(h + 10, 0);
    store_be16(h + 10, guest_checksum(0, h, header));
}

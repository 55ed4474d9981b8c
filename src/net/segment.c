/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Cuts frames for a guest down to what it takes. */
#include "net/segment.h"

#include "base/bytes.h"
#include "net/checksum.h"

enum { ETH = 14, IPV4 = 20, IPV6 = 40, TCP = 20, TCP_OPTIONS_MAX = 40 };
enum { TYPE_IPV4 = 0x0800, TYPE_IPV6 = 0x86dd, PROTO_TCP = 6 };
enum { FIN = 0x01, SYN = 0x02, PSH = 0x08, URG = 0x20, CWR = 0x80 };
enum { OPTION_END = 0, OPTION_NOP = 1, OPTION_MSS = 2 };
enum { MSS_MIN = 64, FRAGMENT_MIN = 68, MORE_FRAGMENTS = 0x2000 };

struct view { /* where things lie in a frame */
    bool v6;
    uint8_t proto;
    size_t ip, addresses, address_len, l4, end;
    size_t data; /* TCP only */
    bool tcp;    /* a whole TCP header is there, and no fragment */
};

static bool look(const uint8_t *f, size_t len, struct view *v) {
    size_t header;

    if (len < ETH + IPV4)
        return false;
    *v = (struct view){.v6 = load_be16(f + 12) == TYPE_IPV6, .ip = ETH};
    if (v->v6) {
        if (len < ETH + IPV6)
            return false;
        v->proto = f[ETH + 6];
        v->l4 = ETH + IPV6;
        v->end = v->l4 + load_be16(f + ETH + 4);
        v->addresses = ETH + 8;
        v->address_len = 16;
    } else {
        header = (size_t)(f[ETH] & 15) * 4;
        v->proto = f[ETH + 9];
        v->l4 = ETH + header;
        v->end = ETH + load_be16(f + ETH + 2);
        v->addresses = ETH + 12;
        v->address_len = 4;
        if (load_be16(f + 12) != TYPE_IPV4 || f[ETH] >> 4 != 4 || header < IPV4)
            return false;
    }
    if (v->end > len || v->end < v->l4)
        return false;
    if (v->proto != PROTO_TCP || v->end - v->l4 < TCP ||
        (!v->v6 && (load_be16(f + ETH + 6) & 0x3fff)))
        return true;
    v->data = v->l4 + (size_t)(f[v->l4 + 12] >> 4) * 4;
    v->tcp = v->data >= v->l4 + TCP && v->data <= v->end;
    return true;
}

static uint32_t mix(uint32_t h, const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x01000193u; /* FNV-1a */
    return h;
}

/* The same for both directions: guest's port, peer's port, both addresses. */
static uint32_t flow_key(const uint8_t *f, const struct view *v, bool from_guest) {
    const uint8_t *guest = f + v->addresses + (from_guest ? 0 : v->address_len);
    const uint8_t *peer = f + v->addresses + (from_guest ? v->address_len : 0);
    uint32_t h = mix(0x811c9dc5u, f + v->l4 + (from_guest ? 0 : 2), 2);

    h = mix(h, f + v->l4 + (from_guest ? 2 : 0), 2);
    h = mix(mix(h, guest, v->address_len), peer, v->address_len);
    return h ? h : 1; /* 0 is an empty place */
}

/* What the options announce; 0 if they do not. */
static uint16_t mss_option(const uint8_t *p, const uint8_t *end) {
    while (p < end && *p != OPTION_END) {
        if (*p == OPTION_NOP) {
            p++;
            continue;
        }
        if (end - p < 2 || p[1] < 2 || p[1] > end - p)
            return 0;
        if (*p == OPTION_MSS && p[1] == 4)
            return load_be16(p + 2);
        p += p[1];
    }
    return 0;
}

void segment_learn(struct segment *s, const uint8_t *frame, size_t len) {
    struct view v;
    uint16_t mss;
    uint32_t key;

    if (!look(frame, len, &v) || !v.tcp || !(frame[v.l4 + 13] & SYN))
        return;
    mss = mss_option(frame + v.l4 + TCP, frame + v.data);
    if (!mss)
        mss = v.v6 ? 1220 : 536; /* RFC 9293 3.7.1 */
    key = flow_key(frame, &v, true);
    s->flow[key % SEGMENT_FLOWS].key = key;
    s->flow[key % SEGMENT_FLOWS].mss = mss < MSS_MIN ? MSS_MIN : mss;
}

static size_t segment_size(const struct segment *s, const uint8_t *frame, const struct view *v,
                           uint16_t mtu) {
    size_t options = v->data - v->l4 - TCP, headers = v->data - v->ip, size = MSS_MIN;
    uint32_t key = flow_key(frame, v, false);

    if (mtu > headers + MSS_MIN)
        size = mtu - headers;
    if (s->flow[key % SEGMENT_FLOWS].key == key &&
        size + options > s->flow[key % SEGMENT_FLOWS].mss)
        size = s->flow[key % SEGMENT_FLOWS].mss - options; /* the MSS counts options as data */
    return size < MSS_MIN ? MSS_MIN : size;
}

static void finish_ip(uint8_t *f, const struct view *v, size_t end) {
    if (v->v6) {
        store_be16(f + v->ip + 4, (uint16_t)(end - v->l4));
        return;
    }
    store_be16(f + v->ip + 2, (uint16_t)(end - v->ip));
    store_be16(f + v->ip + 10, 0);
    store_le16(f + v->ip + 10, checksum_end(checksum_add(0, f + v->ip, v->l4 - v->ip)));
}

static void finish_tcp(uint8_t *f, const struct view *v, size_t end) {
    uint8_t tail[4] = {0, PROTO_TCP};
    uint64_t sum;

    store_be16(tail + 2, (uint16_t)(end - v->l4));
    store_be16(f + v->l4 + 16, 0);
    sum = checksum_add(0, f + v->addresses, 2 * v->address_len);
    sum = checksum_add(sum, tail, sizeof(tail));
    store_le16(f + v->l4 + 16, checksum_end(checksum_add(sum, f + v->l4, end - v->l4)));
}

static void cut_tcp(uint8_t *piece, const uint8_t *frame, const struct view *v, size_t size,
                    segment_emit *emit, void *opaque) {
    uint32_t seq = load_be32(frame + v->l4 + 4);
    uint16_t id = load_be16(frame + v->ip + 4), urgent = load_be16(frame + v->l4 + 18);
    uint8_t flags = frame[v->l4 + 13];
    size_t total = v->end - v->data;

    memcpy(piece, frame, v->data);
    for (size_t at = 0, n = 0; at < total; at += size, n++) {
        size_t part = total - at < size ? total - at : size;
        uint8_t keep = flags;

        if (at + part < total)
            keep &= (uint8_t) ~(FIN | PSH);
        if (at)
            keep &= (uint8_t)~CWR;
        if (urgent <= at)
            keep &= (uint8_t)~URG;
        memcpy(piece + v->data, frame + v->data + at, part);
        piece[v->l4 + 13] = keep;
        store_be16(piece + v->l4 + 18, keep & URG ? (uint16_t)(urgent - at) : 0);
        store_be32(piece + v->l4 + 4, seq + (uint32_t)at);
        if (!v->v6)
            store_be16(piece + v->ip + 4, (uint16_t)(id + n));
        finish_ip(piece, v, v->data + part);
        finish_tcp(piece, v, v->data + part);
        emit(opaque, piece, v->data + part);
    }
}

static void cut_ipv4(uint8_t *piece, const uint8_t *frame, const struct view *v, uint16_t mtu,
                     segment_emit *emit, void *opaque) {
    size_t header = v->l4 - v->ip, total = v->end - v->l4;
    size_t size = ((mtu < FRAGMENT_MIN ? FRAGMENT_MIN : mtu) - header) & ~(size_t)7;
    uint16_t field = load_be16(frame + v->ip + 6);

    memcpy(piece, frame, v->l4);
    for (size_t at = 0; at < total; at += size) {
        size_t part = total - at < size ? total - at : size;
        bool more = at + part < total || (field & MORE_FRAGMENTS);

        store_be16(piece + v->ip + 6,
                   (uint16_t)((field & 0x1fff) + at / 8) | (more ? MORE_FRAGMENTS : 0));
        memcpy(piece + v->l4, frame + v->l4 + at, part);
        finish_ip(piece, v, v->l4 + part);
        emit(opaque, piece, v->l4 + part);
    }
}

void segment_cut(struct segment *s, const uint8_t *frame, size_t len, uint16_t mtu,
                 segment_emit *emit, void *opaque) {
    struct view v;
    size_t size;

    if (len <= ETH + IPV4 + TCP + MSS_MIN || !look(frame, len, &v)) {
        emit(opaque, frame, len);
        return;
    }
    if (v.tcp) {
        size = segment_size(s, frame, &v, mtu);
        if (v.end - v.data > size) {
            cut_tcp(s->piece, frame, &v, size, emit, opaque);
            return;
        }
    } else if (!v.v6 && v.end - v.ip > mtu && !(frame[v.ip + 6] & 0x80)) {
        cut_ipv4(s->piece, frame, &v, mtu, emit, opaque);
        return;
    }
    emit(opaque, frame, len); /* IPv6 that is too large is left to the guest, which may take it */
}

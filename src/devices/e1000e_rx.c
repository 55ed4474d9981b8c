/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Receiving with the 82574L: filters, descriptors of the three formats, what they say of a frame.
 * Source: 82574 datasheet 2.5, 7.1. */
#include <zlib.h>

#include "base/bytes.h"
#include "devices/e1000e_internal.h"
#include "net/net.h"

// clang-format off
enum { ADDRESSES = 16, ADDRESS_VALID = 1u << 31 >> 16, FRAME_MIN = 60, FRAME_USUAL = 1518, VLAN_TAG = 4, CRC = 4, SPLIT_BUFFERS = 4 };
enum { DONE = 1 << 0, END = 1 << 1, IGNORE_SUM = 1 << 2, VLAN = 1 << 3, UDP_SUM = 1 << 4, TCP_SUM = 1 << 5, IP_SUM = 1 << 6 };
// clang-format on

/* ---- filters ---- */

static bool in_hash(struct e1000e *d, const uint8_t *to) {
    static const uint8_t shift[4] = {4, 3, 2, 0};
    unsigned hash = load_le16(to + 4) >> shift[*e1000e_reg(d, R_RCTL) >> 12 & 3] & 0xfff;

    return *e1000e_reg(d, R_MTA + 4 * (hash >> 5)) >> (hash & 31) & 1;
}

static bool is_ours(struct e1000e *d, const uint8_t *to) {
    for (unsigned i = 0; i < ADDRESSES; i++) {
        uint8_t address[8];

        store_le32(address, *e1000e_reg(d, R_RAL + 8 * i));
        store_le32(address + 4, *e1000e_reg(d, R_RAL + 8 * i + 4));
        if (address[7] & 0x80 && !memcmp(address, to, 6))
            return true;
    }
    return false;
}

static bool is_tagged(struct e1000e *d, const uint8_t *frame, size_t len) {
    return len >= 18 && load_be16(frame + 12) == (uint16_t)*e1000e_reg(d, R_VET);
}

static bool wanted(struct e1000e *d, const uint8_t *frame, size_t len) {
    static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    uint32_t rctl = *e1000e_reg(d, R_RCTL);
    unsigned tag;

    if (rctl & RCTL_VFE && is_tagged(d, frame, len)) {
        tag = load_be16(frame + 14) & 0xfff;
        if (!(*e1000e_reg(d, R_VFTA + 4 * (tag >> 5)) >> (tag & 31) & 1))
            return false;
    }
    if (!memcmp(frame, broadcast, 6))
        return rctl & RCTL_BAM || rctl & RCTL_UPE;
    if (frame[0] & 1)
        return rctl & RCTL_MPE || is_ours(d, frame) || in_hash(d, frame);
    return rctl & RCTL_UPE || is_ours(d, frame);
}

/* ---- what is said of a frame ---- */

/* The network has looked at the sums of TCP and UDP already, or nobody has. */
static uint32_t sums(const struct e1000e *d, const uint8_t *frame, size_t len) {
    unsigned type = len >= 34 ? load_be16(frame + 12) : 0;

    if (!d->port->checked)
        return IGNORE_SUM;
    if (type == 0x0800) {
        if (load_be16(frame + 20) & 0x3fff) /* a fragment */
            return IP_SUM;
        return IP_SUM | (frame[23] == 6 ? TCP_SUM : frame[23] == 17 ? TCP_SUM | UDP_SUM : 0);
    }
    if (type == 0x86dd && len >= 54)
        return frame[20] == 6 ? TCP_SUM : frame[20] == 17 ? TCP_SUM | UDP_SUM : 0;
    return IGNORE_SUM;
}

/* ---- descriptors ---- */

struct ring {
    gpa base;
    uint32_t count, head, tail;
    unsigned size; /* of a descriptor */
};

static struct ring get_ring(struct e1000e *d) {
    bool split = *e1000e_reg(d, R_RFCTL) & RFCTL_EXTEN && *e1000e_reg(d, R_RCTL) & RCTL_SPLIT;
    struct ring r = {.size = split ? 32 : 16};

    r.base = (uint64_t)*e1000e_reg(d, R_RDBAH) << 32 | (*e1000e_reg(d, R_RDBAL) & ~15u);
    r.count = (*e1000e_reg(d, R_RDLEN) & 0xfff80) / r.size;
    r.head = *e1000e_reg(d, R_RDH) & 0xffff;
    r.tail = *e1000e_reg(d, R_RDT) & 0xffff;
    return r;
}

static uint32_t buffer_size(struct e1000e *d) {
    uint32_t rctl = *e1000e_reg(d, R_RCTL), size = 2048u >> (rctl >> 16 & 3);

    return rctl & RCTL_BSEX && size < 2048 ? size * 16 : size;
}

/* How much goes into buffer i of a split descriptor. */
static uint32_t split_size(struct e1000e *d, unsigned i) {
    uint32_t v = *e1000e_reg(d, R_PSRCTL);

    return i ? (v >> (8 * i) & 0x3f) << 10 : (v & 0x7f) << 7;
}

static uint32_t room(struct e1000e *d, const struct ring *r) {
    uint32_t size = 0;

    if (r->size == 16)
        return buffer_size(d);
    for (unsigned i = 0; i < SPLIT_BUFFERS; i++)
        size += split_size(d, i);
    return size;
}

static bool has_room(struct e1000e *d, const struct ring *r, uint32_t len) {
    uint32_t each = room(d, r), free;

    if (!r->count || r->head >= r->count || r->tail >= r->count || !each)
        return false;
    free = (r->tail + r->count - r->head) % r->count;
    return (uint64_t)free * each >= len;
}

static void write_legacy(struct e1000e *d, gpa at, const uint8_t *data, uint32_t n, uint32_t status,
                         uint16_t tag) {
    uint8_t desc[16];

    if (mem_read(d->pci.dev.env.mem, at, desc, sizeof(desc)) < 0)
        return;
    mem_write(d->pci.dev.env.mem, load_le64(desc), data, n);
    store_le16(desc + 8, (uint16_t)n);
    store_le16(desc + 10, 0);
    desc[12] = (uint8_t)status;
    desc[13] = 0;
    store_le16(desc + 14, tag);
    mem_write(d->pci.dev.env.mem, at, desc, sizeof(desc));
}

static void write_extended(struct e1000e *d, const struct ring *r, gpa at, const uint8_t *data,
                           uint32_t n, uint32_t status, uint16_t tag) {
    uint8_t desc[32] = {0}, back[32] = {0};
    uint32_t part = n;

    if (mem_read(d->pci.dev.env.mem, at, desc, r->size) < 0)
        return;
    for (unsigned i = 0; i < (r->size == 16 ? 1 : SPLIT_BUFFERS); i++) {
        if (r->size != 16)
            part = n < split_size(d, i) ? n : split_size(d, i);
        if (part)
            mem_write(d->pci.dev.env.mem, load_le64(desc + (size_t)8 * i), data, part);
        store_le16(back + (i ? 16 + 2 * i : 12), (uint16_t)part);
        data += part;
        n -= part;
    }
    store_le32(back + 8, status);
    store_le16(back + 14, tag);
    mem_write(d->pci.dev.env.mem, at, back, r->size);
}

static void write_frame(struct e1000e *d, const uint8_t *data, uint32_t len, uint32_t status,
                        uint16_t tag) {
    struct ring r = get_ring(d);
    bool extended = *e1000e_reg(d, R_RFCTL) & RFCTL_EXTEN;
    uint32_t each = room(d, &r);

    while (len) {
        uint32_t n = len < each ? len : each, said = status | DONE | (n == len ? END : 0);
        gpa at = r.base + (gpa)r.head * r.size;

        if (extended)
            write_extended(d, &r, at, data, n, said, tag);
        else
            write_legacy(d, at, data, n, said, tag);
        data += n;
        len -= n;
        r.head = (r.head + 1) % r.count;
    }
    *e1000e_reg(d, R_RDH) = r.head;
}

/* ---- a frame comes in ---- */

static void count(struct e1000e *d, const uint8_t *frame, uint32_t len) {
    e1000e_count(d, S_GPRC, 1);
    e1000e_count(d, S_TPR, 1);
    e1000e_count_bytes(d, S_GORC, len);
    e1000e_count_bytes(d, S_TOR, len);
    if (frame[0] & 1)
        e1000e_count(d, frame[0] == 0xff ? S_BPRC : S_MPRC, 1);
}

static bool too_long(struct e1000e *d, size_t len) {
    return len > NET_FRAME_MAX ||
           (!(*e1000e_reg(d, R_RCTL) & RCTL_LPE) && len > FRAME_USUAL - CRC + VLAN_TAG);
}

bool e1000e_receive(void *opaque, const uint8_t *frame, size_t len) {
    struct e1000e *d = opaque;
    uint32_t status, n = 0;
    struct ring r;
    uint16_t tag = 0;

    if (!clock_running(d->pci.dev.env.clock))
        return false; /* the machine is paused */
    if (!(*e1000e_reg(d, R_RCTL) & RCTL_EN) || !e1000e_link(d) || !e1000e_master(d) || len < 14)
        return true;
    if (too_long(d, len)) {
        e1000e_count(d, S_ROC, 1);
        return true;
    }
    if (!wanted(d, frame, len))
        return true;
    r = get_ring(d);
    if (!has_room(d, &r, (uint32_t)(len < FRAME_MIN ? FRAME_MIN : len) + CRC)) {
        if (!d->starved)
            e1000e_count(d, S_RNBC, 1);
        d->starved = true;
        return false;
    }
    status = sums(d, frame, len);
    if (*e1000e_reg(d, R_CTRL) & CTRL_VME && is_tagged(d, frame, len)) {
        tag = load_be16(frame + 14);
        status = VLAN | IGNORE_SUM;
        memcpy(d->frame, frame, n = 12);
        frame += 16;
        len -= 16;
    }
    memcpy(d->frame + n, frame, len);
    n += (uint32_t)len;
    if (n < FRAME_MIN) {
        memset(d->frame + n, 0, FRAME_MIN - n);
        n = FRAME_MIN;
    }
    count(d, d->frame, n + CRC);
    if (!(*e1000e_reg(d, R_RCTL) & RCTL_SECRC)) {
        store_le32(d->frame + n, (uint32_t)crc32(0, d->frame, n));
        n += CRC;
    }
    write_frame(d, d->frame, n, status, tag);
    d->got = true;
    return true;
}

void e1000e_received(void *opaque) {
    struct e1000e *d = opaque;

    if (d->got)
        e1000e_cause(d, INT_RXT0 | INT_RXQ0);
    d->got = false;
}

void e1000e_rx_kick(struct e1000e *d) {
    if (!d->starved || !d->port)
        return;
    d->starved = false;
    net_resume(d->port);
}

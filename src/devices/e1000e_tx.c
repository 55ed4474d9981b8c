/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sending with the 82574L: legacy, context and data descriptors, checksums, segmentation, VLAN
 * tags. Source: 82574 datasheet 2.5, 7.2 and 7.3.
 *
 * A packet to be segmented stays whole if the network takes large TCP segments; it then carries the
 * sums and lengths that all its parts together would have.
 */
#include "base/bytes.h"
#include "devices/e1000e_internal.h"
#include "net/checksum.h"
#include "net/net.h"

// clang-format off
enum { CMD_END = 1, CMD_LEGACY_SUM = 4, CMD_TSO = 4, CMD_REPORT = 8, CMD_EXTENDED = 0x20, CMD_VLAN = 0x40, DONE = 1 };
enum { CONTEXT_TCP = 1, CONTEXT_IP4 = 2, OPTION_IP = 1, OPTION_L4 = 2, TYPE_CONTEXT = 0, FIN_PSH = 9, PADDED = 60 };
// clang-format on

struct offloads { /* of a packet, out of the context descriptor */
    unsigned ip, ip_sum, ip_end, l4, l4_sum, l4_end, header, mss;
    bool tcp, v4;
};

static struct offloads get_offloads(const struct e1000e_tx *t) {
    const uint8_t *c = t->context;

    return (struct offloads){.ip = c[0],
                             .ip_sum = c[1],
                             .ip_end = load_le16(c + 2),
                             .l4 = c[4],
                             .l4_sum = c[5],
                             .l4_end = load_le16(c + 6),
                             .header = c[13],
                             .mss = load_le16(c + 14),
                             .tcp = c[11] & CONTEXT_TCP,
                             .v4 = c[11] & CONTEXT_IP4};
}

/* The sum over [from, last] into `at`; last 0 is the packet's end. What is outside is no business
 * of ours. */
static void put_sum(uint8_t *p, uint32_t len, unsigned from, unsigned last, unsigned at) {
    uint32_t end = last && last < len ? last + 1 : len;

    if (from < end && at + 2 <= len)
        store_le16(p + at, checksum_end(checksum_add(0, p + from, end - from)));
}

static void count(struct e1000e *d, const uint8_t *frame, uint32_t len) {
    e1000e_count(d, S_GPTC, 1);
    e1000e_count(d, S_TPT, 1);
    e1000e_count_bytes(d, S_GOTC, len);
    e1000e_count_bytes(d, S_TOT, len);
    if (frame[0] & 1)
        e1000e_count(d, frame[0] == 0xff ? S_BPTC : S_MPTC, 1);
}

static void send(struct e1000e *d, uint8_t *frame, uint32_t len) {
    struct iovec iov = {frame, len};

    if (len < 14 || len > NET_FRAME_MAX || !d->port || !e1000e_link(d))
        return;
    if (len < PADDED && *e1000e_reg(d, R_TCTL) & TCTL_PSP) {
        memset(frame + len, 0, PADDED - len);
        iov.iov_len = len = PADDED;
    }
    count(d, frame, len + 4);
    net_send(d->port, &iov, 1);
}

/* ---- segmentation ---- */

static void fix_ip(uint8_t *f, const struct offloads *o, uint32_t len, unsigned part) {
    if (o->v4) {
        store_be16(f + o->ip + 2, (uint16_t)(len - o->ip));
        store_be16(f + o->ip + 4, (uint16_t)(load_be16(f + o->ip + 4) + part));
        store_le16(f + o->ip_sum, 0);
        put_sum(f, len, o->ip, o->ip_end, o->ip_sum);
    } else {
        store_be16(f + o->ip + 4, (uint16_t)(len - o->ip - 40));
    }
}

/* The guest left the sum of the pseudo header without the length in the field. */
static void fix_l4(uint8_t *f, const struct offloads *o, uint32_t len, uint32_t done, bool last) {
    uint8_t length[2];
    uint64_t sum;

    if (o->tcp) {
        store_be32(f + o->l4 + 4, load_be32(f + o->l4 + 4) + done);
        if (!last)
            f[o->l4 + 13] &= (uint8_t)~FIN_PSH;
    } else {
        store_be16(f + o->l4 + 4, (uint16_t)(len - o->l4));
    }
    store_be16(length, (uint16_t)(len - o->l4));
    sum = checksum_add(0, length, 2);
    store_le16(f + o->l4_sum, checksum_end(checksum_add(sum, f + o->l4, len - o->l4)));
}

static bool sane(const struct offloads *o, uint32_t len) {
    unsigned ip_least = o->v4 ? 20 : 40, l4_least = o->tcp ? 20 : 8;

    return o->mss && o->header && len > o->header && o->ip >= 14 && o->l4 >= o->ip + ip_least &&
           o->header >= o->l4 + l4_least && o->l4_sum >= o->l4 && o->l4_sum + 2 <= o->header &&
           (!o->v4 || (o->ip_sum >= o->ip && o->ip_sum + 2u <= o->l4));
}

static void segment(struct e1000e *d, const uint8_t *packet, uint32_t len,
                    const struct offloads *o) {
    bool whole = o->tcp && d->port && d->port->big_tcp && len <= NET_FRAME_MAX;
    uint32_t payload = len - o->header, each = whole ? payload : o->mss;

    e1000e_count(d, S_TSCTC, 1);
    if (each > NET_FRAME_MAX - o->header)
        each = NET_FRAME_MAX - o->header;
    for (uint32_t done = 0, part = 0; done < payload; done += each, part++) {
        uint32_t n = payload - done < each ? payload - done : each, size = o->header + n;

        memcpy(d->frame, packet, o->header);
        memcpy(d->frame + o->header, packet + o->header + done, n);
        fix_ip(d->frame, o, size, part);
        fix_l4(d->frame, o, size, done, done + n == payload);
        send(d, d->frame, size);
    }
}

/* ---- packets ---- */

static uint32_t add_tag(struct e1000e *d, uint8_t *p, uint32_t len, uint16_t tag) {
    if (len < 14)
        return len;
    memmove(p + 16, p + 12, len - 12);
    store_be16(p + 12, (uint16_t)*e1000e_reg(d, R_VET));
    store_be16(p + 14, tag);
    return len + 4;
}

static void finish(struct e1000e *d, unsigned q, const uint8_t *desc, bool extended) {
    struct e1000e_tx *t = &d->tx[q];
    struct offloads o = get_offloads(t);
    uint8_t *p = d->packet[q];
    uint32_t len = t->length;
    bool tag = desc[11] & CMD_VLAN && *e1000e_reg(d, R_CTRL) & CTRL_VME;

    if (!extended && desc[11] & CMD_LEGACY_SUM)
        put_sum(p, len, desc[13], 0, desc[10]);
    if (extended && !t->tso && t->options & OPTION_IP)
        put_sum(p, len, o.ip, o.ip_end, o.ip_sum);
    if (extended && !t->tso && t->options & OPTION_L4)
        put_sum(p, len, o.l4, o.l4_end, o.l4_sum);
    if (tag) {
        len = add_tag(d, p, len, load_le16(desc + 14));
        o.ip += 4, o.ip_sum += 4, o.ip_end += o.ip_end ? 4 : 0;
        o.l4 += 4, o.l4_sum += 4, o.header += 4;
    }
    if (!extended || !t->tso)
        send(d, p, len);
    else if (sane(&o, len))
        segment(d, p, len, &o);
}

/* A descriptor of data: its bytes behind those before, and off with the packet if it is the last.
 */
static void take_data(struct e1000e *d, unsigned q, const uint8_t *desc, bool extended) {
    struct e1000e_tx *t = &d->tx[q];
    uint32_t n = extended ? load_le32(desc + 8) & 0xfffff : load_le16(desc + 8);

    if (!t->busy) {
        t->busy = true;
        t->skip = false;
        t->length = 0;
        t->options = desc[13];
        t->tso = extended && desc[11] & CMD_TSO;
    }
    /* Room stays for a tag and for padding. */
    if (n > E1000E_PACKET_MAX - E1000E_HEADER_MAX - t->length ||
        mem_read(d->pci.dev.env.mem, load_le64(desc), d->packet[q] + t->length, n) < 0)
        t->skip = true;
    else
        t->length += n;
    if (!(desc[11] & CMD_END))
        return;
    if (!t->skip)
        finish(d, q, desc, extended);
    t->busy = false;
}

static void take(struct e1000e *d, unsigned q, gpa at) {
    struct e1000e_tx *t = &d->tx[q];
    uint8_t desc[16];
    bool extended;

    if (mem_read(d->pci.dev.env.mem, at, desc, sizeof(desc)) < 0)
        return;
    extended = desc[11] & CMD_EXTENDED;
    if (extended && (desc[10] >> 4) == TYPE_CONTEXT)
        memcpy(t->context, desc, sizeof(desc));
    else
        take_data(d, q, desc, extended);
    if (desc[11] & CMD_REPORT) {
        desc[12] |= DONE;
        mem_write(d->pci.dev.env.mem, at + 12, desc + 12, 1);
    }
}

/* Of a packet that is not all there yet nothing is taken: so a saved machine has no half of one. */
void e1000e_tx_kick(struct e1000e *d, unsigned q) {
    unsigned at = QUEUE_STEP * q;
    uint32_t *head = e1000e_reg(d, R_TDH + at), tail = *e1000e_reg(d, R_TDT + at) & 0xffff;
    uint32_t count_all = (*e1000e_reg(d, R_TDLEN + at) & 0xfff80) / 16;
    gpa base = (uint64_t)*e1000e_reg(d, R_TDBAH + at) << 32 | (*e1000e_reg(d, R_TDBAL + at) & ~15u);
    bool some = false;

    if (!(*e1000e_reg(d, R_TCTL) & TCTL_EN) || !e1000e_master(d) || tail >= count_all)
        return;
    *head &= 0xffff;
    if (*head >= count_all)
        return;
    for (uint32_t i = *head; i != tail;) {
        take(d, q, base + (gpa)i * 16);
        i = (i + 1) % count_all;
        if (d->tx[q].busy)
            continue;
        *head = i;
        some = true;
    }
    d->tx[q].busy = false;
    if (!some)
        return;
    if (d->port)
        net_flush(d->port);
    e1000e_cause(d, INT_TXDW | INT_TXQE | (q ? INT_TXQ1 : INT_TXQ0));
}

void e1000e_tx_reset(struct e1000e *d) { memset(d->tx, 0, sizeof(d->tx)); }

const struct state_desc e1000e_tx_state = {
    .name = "e1000e_tx",
    .version = 1,
    .struct_size = sizeof(struct e1000e_tx),
    .fields = (const struct state_field[]){STATE_BYTES(struct e1000e_tx, context), STATE_END},
};

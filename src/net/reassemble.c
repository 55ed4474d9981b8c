/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Puts IPv4 fragments from a guest together. */
#include "net/reassemble.h"

#include <stdlib.h>

#include "base/bytes.h"
#include "net/checksum.h"

enum { ETH = 14, IPV4 = 20, TYPE_IPV4 = 0x0800 };
enum { RESERVED = 0x8000, MORE = 0x2000, OFFSET = 0x1fff };

void reassemble_done(struct reassemble *r) {
    for (unsigned i = 0; i < REASSEMBLE_SLOTS; i++)
        free(r->slot[i].frame);
}

/* Fragments of one datagram agree in id, protocol and addresses; the others' age decides who gives
 * way. */
static int find(const struct reassemble *r, const uint8_t *frame) {
    for (int i = 0; i < REASSEMBLE_SLOTS; i++) {
        const uint8_t *kept = r->slot[i].frame;

        if (r->slot[i].len && !memcmp(kept + ETH + 4, frame + ETH + 4, 2) &&
            kept[ETH + 9] == frame[ETH + 9] && !memcmp(kept + ETH + 12, frame + ETH + 12, 8))
            return i;
    }
    return -1;
}

static int oldest(const struct reassemble *r) {
    int best = 0;

    for (int i = 0; i < REASSEMBLE_SLOTS; i++) {
        if (!r->slot[i].len)
            return i;
        if (r->clock - r->slot[i].age > r->clock - r->slot[best].age)
            best = i;
    }
    return best;
}

/* A first fragment: header without options, then its data. */
static bool begin(struct reassemble *r, int i, const uint8_t *frame, const uint8_t *data,
                  size_t n) {
    if (!r->slot[i].frame && !(r->slot[i].frame = malloc(REASSEMBLE_MAX)))
        return false;
    memcpy(r->slot[i].frame, frame, ETH + IPV4);
    r->slot[i].frame[ETH] = 0x45;
    memcpy(r->slot[i].frame + ETH + IPV4, data, n);
    r->slot[i].len = ETH + IPV4 + n;
    return true;
}

static const uint8_t *whole(struct reassemble *r, int i, size_t *ret_len) {
    uint8_t *f = r->slot[i].frame;

    store_be16(f + ETH + 2, (uint16_t)(r->slot[i].len - ETH));
    store_be16(f + ETH + 6, 0);
    store_be16(f + ETH + 10, 0);
    store_le16(f + ETH + 10, checksum_end(checksum_add(0, f + ETH, IPV4)));
    *ret_len = r->slot[i].len;
    r->slot[i].len = 0;
    return f;
}

const uint8_t *reassemble_add(struct reassemble *r, const uint8_t *frame, size_t len,
                              size_t *ret_len) {
    size_t header, total, n, offset;
    uint16_t field;
    int i;

    *ret_len = len;
    if (len < ETH + IPV4 || load_be16(frame + 12) != TYPE_IPV4)
        return frame;
    field = load_be16(frame + ETH + 6);
    if (!(field & (RESERVED | MORE | OFFSET)))
        return frame;
    header = (size_t)(frame[ETH] & 15) * 4;
    total = load_be16(frame + ETH + 2);
    if ((field & RESERVED) || frame[ETH] >> 4 != 4 || header < IPV4 || total < header ||
        total > len - ETH || checksum_end(checksum_add(0, frame + ETH, header)))
        return NULL;
    n = total - header;
    offset = (size_t)(field & OFFSET) * 8;
    i = find(r, frame);
    r->clock++;
    if (!offset) {
        i = i < 0 ? oldest(r) : i;
        if (!begin(r, i, frame, frame + ETH + header, n))
            return NULL;
    } else {
        if (i < 0)
            return NULL;
        if (r->slot[i].len != ETH + IPV4 + offset || n > REASSEMBLE_MAX - r->slot[i].len) {
            r->slot[i].len = 0;
            return NULL;
        }
        memcpy(r->slot[i].frame + r->slot[i].len, frame + ETH + header, n);
        r->slot[i].len += n;
    }
    r->slot[i].age = r->clock;
    return field & MORE ? NULL : whole(r, i, ret_len);
}

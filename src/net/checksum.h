/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The Internet checksum (RFC 1071), over bytes in memory order: what it returns is stored as it is.
 */
#ifndef NET_CHECKSUM_H
#define NET_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Adds bytes to a sum; all but the last piece must have an even length, together at most 2^31
 * bytes. */
static inline uint64_t checksum_add(uint64_t sum, const void *data, size_t len) {
    const uint8_t *p = data;

    for (; len >= 8; p += 8, len -= 8) {
        uint64_t v;

        memcpy(&v, p, sizeof(v));
        sum += (v & 0xffffffff) + (v >> 32);
    }
    for (; len >= 2; p += 2, len -= 2) {
        uint16_t v;

        memcpy(&v, p, sizeof(v));
        sum += v;
    }
    return len ? sum + *p : sum; /* the low byte of a little-endian pair */
}

static inline uint16_t checksum_end(uint64_t sum) {
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

#endif

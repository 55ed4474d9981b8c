/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Puts IPv4 fragments from a guest together, so that libslirp never sees one: in Debian's build
 * of 4.7.0 a last fragment that comes without the first makes it take its own queue head for a
 * packet (the compiler moves a list access over the insertion, -fstrict-aliasing), which crashes
 * the process.
 *
 * Source: RFC 791 3.2. Departure: only fragments in order are put together, as every guest sends
 * them; a datagram with any other fragment is dropped, as a network may do.
 */
#ifndef NET_REASSEMBLE_H
#define NET_REASSEMBLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { REASSEMBLE_SLOTS = 4, REASSEMBLE_MAX = 14 + 65535 };

struct reassemble {
    struct {
        uint8_t *frame; /* REASSEMBLE_MAX bytes, made when first used */
        size_t len;     /* with Ethernet and IP header; 0 = free */
        uint32_t age;
    } slot[REASSEMBLE_SLOTS];
    uint32_t clock;
};

void reassemble_done(struct reassemble *r);

/* Takes a frame from the guest. Returns the frame to go on with: the same one if it is no fragment,
 * the whole datagram when this was its last (valid until the next call), NULL if there is nothing
 * to go on with. */
const uint8_t *reassemble_add(struct reassemble *r, const uint8_t *frame, size_t len,
                              size_t *ret_len);

#endif

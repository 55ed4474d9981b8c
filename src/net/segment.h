/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Cuts frames for a guest down to what it takes: TCP to the segment size that the guest announced
 * for the connection, other IPv4 into fragments of its MTU. libslirp with a large MTU needs it: it
 * forgets the segment size that a guest announces when it connects, and knows one MTU only.
 *
 * Sources: RFC 793 (TCP header, MSS option), RFC 791 (fragmentation), RFC 8200 (IPv6 header).
 * Contract: one thread at a time. Frames are hostile bytes; what is no TCP or IP passes unchanged.
 */
#ifndef NET_SEGMENT_H
#define NET_SEGMENT_H

#include "net/net.h"

enum { SEGMENT_FLOWS = 1024 };

struct segment {
    struct {
        uint32_t key;
        uint16_t mss;
    } flow[SEGMENT_FLOWS]; /* by hash; a newer connection may push out an older one */
    uint8_t piece[NET_FRAME_MAX];
};

typedef void segment_emit(void *opaque, const uint8_t *frame, size_t len);

/* Looks at a frame from the guest: an opening segment tells what the guest takes. */
void segment_learn(struct segment *s, const uint8_t *frame, size_t len);

/* Calls emit with the pieces of a frame for the guest, in order. `mtu` is the guest's. */
void segment_cut(struct segment *s, const uint8_t *frame, size_t len, uint16_t mtu,
                 segment_emit *emit, void *opaque);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Frames that wait for somebody to take them, in order and within bounds: what does not fit is the
 * caller's to drop and count. One thread at a time.
 */
#ifndef NET_QUEUE_H
#define NET_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct net_frame {
    struct net_frame *next;
    size_t len;
    uint8_t data[];
};

struct net_queue {
    struct net_frame *head, **tail; /* head NULL: empty */
    unsigned frames, max_frames;
    size_t bytes, max_bytes;
};

void net_queue_init(struct net_queue *q, unsigned max_frames, size_t max_bytes);
/* A copy of the frame; false: there is no room. */
bool net_queue_put(struct net_queue *q, const void *frame, size_t len);
bool net_queue_put_iov(struct net_queue *q, const struct iovec *iov, unsigned count);
void net_queue_pop(struct net_queue *q);  /* frees the first one */
void net_queue_done(struct net_queue *q); /* empties it */

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A bounded queue of frames. */
#include "net/queue.h"

#include <stdlib.h>
#include <string.h>

void net_queue_init(struct net_queue *q, unsigned max_frames, size_t max_bytes) {
    *q = (struct net_queue){.max_frames = max_frames, .max_bytes = max_bytes};
    q->tail = &q->head;
}

bool net_queue_put_iov(struct net_queue *q, const struct iovec *iov, unsigned count) {
    struct net_frame *f;
    size_t len = 0;

    for (unsigned i = 0; i < count; i++)
        len += iov[i].iov_len;
    if (q->frames >= q->max_frames || len > q->max_bytes - q->bytes)
        return false;
    f = malloc(sizeof(*f) + len);
    if (!f)
        return false;
    f->next = NULL;
    f->len = 0;
    for (unsigned i = 0; i < count; f->len += iov[i++].iov_len)
        memcpy(f->data + f->len, iov[i].iov_base, iov[i].iov_len);
    *q->tail = f;
    q->tail = &f->next;
    q->frames++;
    q->bytes += len;
    return true;
}

bool net_queue_put(struct net_queue *q, const void *frame, size_t len) {
    struct iovec iov = {(void *)frame, len};

    return net_queue_put_iov(q, &iov, 1);
}

void net_queue_pop(struct net_queue *q) {
    struct net_frame *f = q->head;

    q->head = f->next;
    if (!q->head)
        q->tail = &q->head;
    q->frames--;
    q->bytes -= f->len;
    free(f);
}

void net_queue_done(struct net_queue *q) {
    while (q->head)
        net_queue_pop(q);
}

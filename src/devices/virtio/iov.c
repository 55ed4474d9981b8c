/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copies between memory and the scattered buffers of a descriptor chain. */
#include <string.h>

#include "devices/virtio/virtio.h"

struct pieces {
    const struct iovec *iov;
    unsigned left;
    size_t skip; /* bytes of the buffers from `iov` on that are behind us */
};

/* The next piece, at most `max` bytes of it; NULL at the end. */
static uint8_t *next_piece(struct pieces *p, size_t max, size_t *ret_n) {
    uint8_t *at;
    size_t n;

    while (p->left && p->skip >= p->iov->iov_len) {
        p->skip -= p->iov->iov_len;
        p->iov++;
        p->left--;
    }
    if (!p->left || !max)
        return NULL;
    at = (uint8_t *)p->iov->iov_base + p->skip;
    n = p->iov->iov_len - p->skip;
    *ret_n = n < max ? n : max;
    p->skip += *ret_n;
    return at;
}

size_t iov_read(const struct iovec *iov, unsigned count, size_t skip, void *buf, size_t len) {
    struct pieces p = {iov, count, skip};
    size_t done = 0, n;
    uint8_t *at;

    for (; (at = next_piece(&p, len - done, &n)); done += n)
        memcpy((uint8_t *)buf + done, at, n);
    return done;
}

size_t iov_write(const struct iovec *iov, unsigned count, size_t skip, const void *buf,
                 size_t len) {
    struct pieces p = {iov, count, skip};
    size_t done = 0, n;
    uint8_t *at;

    for (; (at = next_piece(&p, len - done, &n)); done += n)
        memcpy(at, (const uint8_t *)buf + done, n);
    return done;
}

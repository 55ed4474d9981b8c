/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copies between memory and scattered buffers. */
#include "base/iov.h"

#include <stdint.h>
#include <string.h>

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

unsigned iov_slice(const struct iovec *iov, unsigned count, size_t skip, size_t len,
                   struct iovec *own, const struct iovec **ret) {
    struct pieces p = {iov, count, skip};
    unsigned n = 0, whole = 0;
    size_t left = len, part;
    uint8_t *at;

    while (count && skip >= iov->iov_len) {
        skip -= iov->iov_len;
        iov++;
        count--;
    }
    while (!skip && whole < count && left && iov[whole].iov_len <= left)
        left -= iov[whole++].iov_len;
    *ret = left ? own : iov;
    if (!left)
        return whole;
    for (left = len; (at = next_piece(&p, left, &part)); left -= part)
        own[n++] = (struct iovec){at, part};
    return n;
}

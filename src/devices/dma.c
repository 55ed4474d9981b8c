/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lists of a guest's buffers. */
#include "devices/dma.h"
#include "bus/dirty.h"

#include <assert.h>
#include <stdlib.h>

void dma_clear(struct dma *d) {
    d->count = 0;
    d->size = 0;
}

void dma_free(struct dma *d) {
    free(d->iov);
    free(d->addr);
    *d = (struct dma){0};
}

static bool grow(struct dma *d) {
    unsigned cap = d->cap ? 2 * d->cap : 64;
    struct iovec *iov = realloc(d->iov, cap * sizeof(*iov));
    gpa *addr;

    if (!iov)
        return false;
    d->iov = iov;
    addr = realloc(d->addr, cap * sizeof(*addr));
    if (!addr)
        return false;
    d->addr = addr;
    d->cap = cap;
    return true;
}

static bool append(struct dma *d, gpa at, uint8_t *host, uint64_t n) {
    struct iovec *last = d->count ? &d->iov[d->count - 1] : NULL;

    d->size += n;
    if (last && (uint8_t *)last->iov_base + last->iov_len == host &&
        d->addr[d->count - 1] + last->iov_len == at) {
        last->iov_len += n;
        return true;
    }
    if (d->count == d->cap && !grow(d)) {
        d->size -= n;
        return false;
    }
    assert(d->iov && d->addr);
    d->iov[d->count] = (struct iovec){host, n};
    d->addr[d->count++] = at;
    return true;
}

bool dma_add(struct dma *d, struct mem *mem, gpa at, uint64_t n, bool write) {
    while (n) {
        const struct mem_range *r = mem_find(mem, at);
        uint64_t part = r ? r->size - (at - r->base) : 0;

        if (!r || (r->readonly && write))
            return false;
        part = part < n ? part : n;
        if (!append(d, at, r->host + (at - r->base), part))
            return false;
        if (write) /* wherever the command ends */
            dirty_note(mem, at, part);
        at += part;
        n -= part;
    }
    return true;
}

bool dma_own(struct dma *d, void *host, uint64_t n) { return append(d, MEM_NOWHERE, host, n); }

bool dma_cut(struct dma *d, uint64_t length) {
    uint64_t left = length;

    if (d->size < length)
        return false;
    for (unsigned i = 0; i < d->count; i++) {
        if (d->iov[i].iov_len >= left) {
            d->iov[i].iov_len = left;
            d->count = left ? i + 1 : i;
            break;
        }
        left -= d->iov[i].iov_len;
    }
    d->size = length;
    return true;
}

void dma_written(const struct dma *d, struct mem *mem, uint64_t n) {
    for (unsigned i = 0; i < d->count && dirty_noted(mem);
         i++) /* failed: who knows what is in it */
        if (d->addr[i] != MEM_NOWHERE)
            dirty_note(mem, d->addr[i], d->iov[i].iov_len);
    for (unsigned i = 0; i < d->count && n; i++) {
        uint64_t part = d->iov[i].iov_len < n ? d->iov[i].iov_len : n;

        mem_written(mem, d->addr[i], part);
        n -= part;
    }
}

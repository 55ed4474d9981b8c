/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests to a qcow2 image that need no waiting: their L2 table is in memory, their clusters are
 * there, and the host has the data cached.
 *
 * The lock is held while the data are copied (some 100 microseconds a MiB), so nothing moves
 * meanwhile. A request that lies in several runs of clusters is done run by run; if one of them
 * cannot be done at once, all of it is done again by whoever may wait, which does no harm: the
 * guest has not been told that it is done.
 *
 * What only has to wait for the data themselves can be transferred by a ring: its clusters are held
 * as by a request on a thread, until the loop, which must not wait for the lock either, lets go.
 */
#include <stdlib.h>

#include "block/qcow2_internal.h"

enum { TRY_MAX = 1024 * 1024, TRY_PIECES = 258, TRY_RUNS = 32 };

/* What lies at offset, if it can be read, or written as it is. */
static bool find_run(struct qcow2 *q, bool write, uint64_t offset, uint64_t length,
                     struct qcow2_run *ret) {
    uint64_t entry = cluster_of(q, offset) >> q->l2_bits;
    uint64_t l2 = entry < q->l1_size ? q->l1[entry] & ENTRY_OFFSET : 0;

    if (!l2 || !table_find_locked(q, l2))
        return false;
    if (!write)
        return map_locked(q, offset, length, ret) == 0;
    *ret = (struct qcow2_run){.type = QCOW2_DATA};
    return map_in_place_locked(q, offset, length, &ret->host, &ret->length) == 0 && ret->length;
}

static bool try_run(struct qcow2 *q, bool write, const struct span *s,
                    const struct qcow2_run *run) {
    struct iovec iov[TRY_PIECES];
    uint64_t n;
    unsigned count = span_pieces(s, run->length, iov, TRY_PIECES, &n);

    return n == run->length &&
           q->file->ops->try_rw(q->file, write, iov, count, run->host, run->length);
}

static bool try_locked(struct qcow2 *q, bool write, const struct span *s, uint64_t offset,
                       uint64_t length) {
    struct span at = *s;

    if (write &&
        range_busy_locked(q, cluster_of(q, offset), cluster_of(q, offset + length - 1), false))
        return false;
    for (unsigned i = 0; length && i < TRY_RUNS; i++) {
        struct qcow2_run run;

        if (!find_run(q, write, offset, length, &run))
            return false;
        if (!write && run_is_zero(q, &run, offset))
            span_zero(&at, run.length);
        else if (run.type != QCOW2_DATA || !try_run(q, write, &at, &run))
            return false;
        at.skip += run.length;
        offset += run.length;
        length -= run.length;
    }
    return !length;
}

bool qcow2_try(struct qcow2 *q, bool write, const struct span *s, uint64_t offset,
               uint64_t length) {
    bool done;

    if (length > TRY_MAX || !length || offset > q->size || length > q->size - offset ||
        (write && (q->readonly || bitmaps_are_closed(q))) || !q->file->ops->try_rw ||
        pthread_mutex_trylock(&q->lock) != 0)
        return false;
    done = try_locked(q, write, s, offset, length);
    pthread_mutex_unlock(&q->lock);
    if (done && write)
        bitmaps_mark(q, offset, length);
    return done;
}

/* ------------------------------------------------------------------ by somebody else's hands */

struct range *qcow2_hold(struct qcow2 *q, bool write, uint64_t offset, uint64_t length,
                         uint64_t *ret_host) {
    struct range *held = NULL;
    struct qcow2_run run;

    if (!length || offset > q->size || length > q->size - offset ||
        (write && (q->readonly || bitmaps_are_closed(q))) || pthread_mutex_trylock(&q->lock) != 0)
        return NULL;
    if (!range_busy_locked(q, cluster_of(q, offset), cluster_of(q, offset + length - 1), false) &&
        find_run(q, write, offset, length, &run) && run.type == QCOW2_DATA && run.length == length)
        held = malloc(sizeof(*held));
    if (held) {
        range_lock_locked(q, held, cluster_of(q, offset), cluster_of(q, offset + length - 1),
                          false); /* at once: it is not busy */
        *ret_host = run.host;
    }
    pthread_mutex_unlock(&q->lock);
    return held;
}

bool qcow2_let_go(struct qcow2 *q, struct range *held, bool written, uint64_t offset,
                  uint64_t length, bool wait) {
    if (written)
        bitmaps_mark(q, offset, length);
    if (wait)
        pthread_mutex_lock(&q->lock);
    else if (pthread_mutex_trylock(&q->lock) != 0)
        return false;
    range_unlock_locked(q, held);
    pthread_mutex_unlock(&q->lock);
    free(held);
    return true;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading, writing, zeroing and discarding the disk in a qcow2 image.
 *
 * Theory of operation: a write goes to the cluster that holds the data already if nobody shares it.
 * Otherwise it takes new clusters, fills them (with what it does not write itself read from the old
 * place), and only then enters them into the L2 table in memory. Zeroes that are written where
 * zeroes are read take no cluster at all.
 */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/trace.h"
#include "block/qcow2_internal.h"

enum { EDGE_PIECES = 64, ZEROES = 64 * 1024, PULL = 512 * 1024 };

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* ------------------------------------------------------------------ read */

static int read_below(struct qcow2 *q, const struct span *s, uint64_t offset, uint64_t length) {
    uint64_t have = 0;
    struct span rest = *s;
    int r = 0;

    if (q->below && offset < q->below_size)
        have = least(length, q->below_size - offset);
    if (have)
        r = q->below(q->below_opaque, s, offset, have);
    rest.skip += have;
    span_zero(&rest, length - have);
    return r;
}

static int read_run(struct qcow2 *q, const struct qcow2_run *run, const struct span *s,
                    uint64_t offset) {
    switch (run->type) {
    case QCOW2_UNALLOCATED:
        return read_below(q, s, offset, run->length);
    case QCOW2_ZERO:
        span_zero(s, run->length);
        return 0;
    case QCOW2_DATA:
        return bytefile_transfer(q->file, false, s, run->length, run->host);
    case QCOW2_COMPRESSED:
        return compressed_read(q, run->entry, s, offset & (q->cluster_size - 1), run->length);
    }
    return -EINVAL;
}

/* The caller holds the clusters. */
static int read_held(struct qcow2 *q, const struct span *s, uint64_t offset, uint64_t length) {
    struct span at = *s;
    int r = 0;

    while (r == 0 && length) {
        struct qcow2_run run;

        pthread_mutex_lock(&q->lock);
        r = map_locked(q, offset, length, &run);
        pthread_mutex_unlock(&q->lock);
        if (r == 0)
            r = read_run(q, &run, &at, offset);
        if (r < 0)
            break;
        at.skip += run.length;
        offset += run.length;
        length -= run.length;
    }
    return r;
}

static bool in_disk(const struct qcow2 *q, uint64_t offset, uint64_t length) {
    return offset <= q->size && length <= q->size - offset;
}

int qcow2_read(struct qcow2 *q, const struct span *s, uint64_t offset, uint64_t length) {
    struct span at = *s;
    struct range range;
    int r = in_disk(q, offset, length) ? 0 : -EINVAL;

    while (r == 0 && length) {
        uint64_t n = least(length, QCOW2_PIECE);

        pthread_mutex_lock(&q->lock);
        range_lock_locked(q, &range, cluster_of(q, offset), cluster_of(q, offset + n - 1), false);
        pthread_mutex_unlock(&q->lock);
        r = read_held(q, &at, offset, n);
        pthread_mutex_lock(&q->lock);
        range_unlock_locked(q, &range);
        pthread_mutex_unlock(&q->lock);
        at.skip += n;
        offset += n;
        length -= n;
    }
    return r;
}

/* ------------------------------------------------------------------ write to new clusters */

struct fill { /* new clusters and what goes into them */
    uint64_t first, count;
    uint64_t offset, length; /* of the disk: the part that is written */
    bool copy;               /* the rest of the clusters is not zero already */
};

static int read_old(struct qcow2 *q, uint8_t *data, uint64_t offset, uint64_t length) {
    uint64_t have = offset < q->size ? least(length, q->size - offset) : 0;
    struct iovec v = {data, have};
    struct span s = {&v, 1, 0};

    assert(data);
    memset(data + have, 0, length - have);
    return read_held(q, &s, offset, have);
}

static int write_with_edges(struct qcow2 *q, const struct span *s, const struct fill *f,
                            uint64_t head, uint64_t tail) {
    uint64_t to = f->first << q->cluster_bits;
    uint8_t *edges = head + tail ? malloc(head + tail) : NULL;
    struct iovec iov[EDGE_PIECES + 2];
    unsigned count = 0;
    uint64_t n;
    int r = head + tail && !edges ? -ENOMEM : 0;

    if (r == 0 && head)
        r = read_old(q, edges, f->offset - head, head);
    if (r == 0 && tail)
        r = read_old(q, edges + head, f->offset + f->length, tail);
    if (r == 0) { /* in one call if there are few pieces */
        iov[0] = (struct iovec){edges, head};
        count = span_pieces(s, f->length, iov + 1, EDGE_PIECES, &n);
        iov[count + 1] = (struct iovec){edges + head, tail};
        if (n == f->length) {
            r = q->file->ops->writev(q->file, iov + !head, count + !!head + !!tail, to);
        } else {
            r = head ? bytefile_write(q->file, edges, head, to) : 0;
            if (r == 0)
                r = bytefile_transfer(q->file, true, s, f->length, to + head);
            if (r == 0 && tail)
                r = bytefile_write(q->file, edges + head, tail, to + head + f->length);
        }
    }
    free(edges);
    return r;
}

static int fill_clusters(struct qcow2 *q, const struct span *s, const struct fill *f) {
    uint64_t head = f->offset & (q->cluster_size - 1);
    uint64_t tail = -(f->offset + f->length) & (q->cluster_size - 1);

    if (f->copy)
        return write_with_edges(q, s, f, head, tail);
    return bytefile_transfer(q->file, true, s, f->length, (f->first << q->cluster_bits) + head);
}

static int enter_clusters(struct qcow2 *q, const struct fill *f) {
    uint64_t cluster = cluster_of(q, f->offset);
    struct table *t;
    int r = l2_get_locked(q, cluster, &t);

    if (r < 0)
        return r;
    for (uint64_t i = 0; i < f->count; i++) {
        uint64_t old = l2_load(q, t, cluster + i);

        l2_store_locked(q, t, cluster + i, (f->first + i) << q->cluster_bits | ENTRY_COPIED);
        entry_free_locked(q, old); /* failed: a leak */
    }
    return 0;
}

/* How much of the data can go to new clusters in one go: until the end of the run, of the L2 table,
 * or the next cluster that is written in place or is zero and reads as zero. */
static uint64_t new_length(struct qcow2 *q, const struct span *s, const struct qcow2_run *run,
                           uint64_t offset, uint64_t length) {
    bool zero = run_is_zero(q, run, offset);
    struct span at = *s;
    uint64_t done = 0;

    length = least(length, run->length);
    while (done < length) {
        uint64_t n =
            least(length - done, q->cluster_size - ((offset + done) & (q->cluster_size - 1)));
        uint64_t host, in_place = 0;

        if (done && run->type == QCOW2_DATA &&
            (map_in_place_locked(q, offset + done, n, &host, &in_place) < 0 || in_place))
            break;
        if (done && zero && span_is_zero(&at, n))
            break;
        done += n;
        at.skip += n;
    }
    return done;
}

/* The caller holds the cluster alone; *ret_done is what was written of length. */
static int write_new_locked(struct qcow2 *q, const struct span *s, uint64_t offset, uint64_t length,
                            uint64_t *ret_done) {
    uint64_t in = offset & (q->cluster_size - 1), first_part = least(length, q->cluster_size - in);
    struct fill f = {.offset = offset};
    struct qcow2_run run;
    bool virgin;
    int r = map_locked(q, offset, length, &run);

    if (r < 0)
        return r;
    if (run_is_zero(q, &run, offset) && span_is_zero(s, first_part)) {
        *ret_done = first_part;
        return 0;
    }
    f.length = new_length(q, s, &run, offset, length);
    r = alloc_locked(q, clusters_of(q, in + f.length), &f.first, &f.count, &virgin);
    if (r < 0)
        return r;
    f.length = least(f.length, (f.count << q->cluster_bits) - in);
    f.copy = !(virgin && run_is_zero(q, &run, offset) &&
               run_is_zero(q, &run, (offset & ~(q->cluster_size - 1))));
    stat_add(qcow2_allocated, f.count);
    pthread_mutex_unlock(&q->lock);
    r = fill_clusters(q, s, &f);
    pthread_mutex_lock(&q->lock);
    if (r == 0)
        r = enter_clusters(q, &f);
    if (r < 0)
        refcount_add_locked(q, f.first, f.count, -1);
    *ret_done = f.length;
    return r;
}

/* ------------------------------------------------------------------ write */

static int write_in_place(struct qcow2 *q, const struct span *s, uint64_t offset, uint64_t length,
                          uint64_t *ret_done) {
    uint64_t host, n;
    struct range range;
    int r;

    pthread_mutex_lock(&q->lock);
    range_lock_locked(q, &range, cluster_of(q, offset), cluster_of(q, offset + length - 1), false);
    r = map_in_place_locked(q, offset, length, &host, &n);
    pthread_mutex_unlock(&q->lock);
    if (r == 0 && n)
        r = bytefile_transfer(q->file, true, s, n, host);
    pthread_mutex_lock(&q->lock);
    range_unlock_locked(q, &range);
    pthread_mutex_unlock(&q->lock);
    *ret_done = n;
    return r;
}

static int write_alone(struct qcow2 *q, const struct span *s, uint64_t offset, uint64_t length,
                       uint64_t *ret_done) {
    struct range range;
    uint64_t host, n;
    int r;

    pthread_mutex_lock(&q->lock);
    r = make_room_locked(q);
    if (r == 0) {
        range_lock_locked(q, &range, cluster_of(q, offset), cluster_of(q, offset + length - 1),
                          true);
        r = map_in_place_locked(q, offset, length, &host, &n);
        *ret_done = 0; /* in place after all: another request has made the cluster */
        if (r == 0 && !n)
            r = write_new_locked(q, s, offset, length, ret_done);
        range_unlock_locked(q, &range);
    }
    pthread_mutex_unlock(&q->lock);
    return r;
}

int qcow2_write(struct qcow2 *q, const struct span *s, uint64_t offset, uint64_t length) {
    uint64_t from = offset, all = length;
    struct span at = *s;
    int r = q->readonly ? -EROFS : in_disk(q, offset, length) ? bitmaps_use(q) : -EINVAL;

    while (r == 0 && length) {
        uint64_t n = least(length, QCOW2_PIECE), done = 0;

        r = write_in_place(q, &at, offset, n, &done);
        if (r == 0 && !done)
            r = write_alone(q, &at, offset, n, &done);
        if (r < 0)
            break;
        at.skip += done;
        offset += done;
        length -= done;
    }
    bitmaps_mark(q, from, all);
    return r;
}

/* ------------------------------------------------------------------ zero and discard */

/* What becomes of one L2 entry. */
static uint64_t dropped(const struct qcow2 *q, uint64_t entry, enum drop how, bool below) {
    bool used = entry & (ENTRY_OFFSET | ENTRY_COMPRESSED);
    uint64_t zero = below ? ENTRY_ZERO : 0;

    switch (how) {
    case DROP_EMPTY:
        return 0;
    case DROP_DISCARD:
        if (!used || (below && q->version < 3))
            return entry;
        return zero;
    case DROP_ZERO_KEEP:
        if (q->version >= 3 && used && !(entry & ENTRY_COMPRESSED) && entry & ENTRY_COPIED)
            return entry | ENTRY_ZERO;
        break;
    case DROP_ZERO:
        break;
    }
    return zero;
}

static int drop_in_table(struct qcow2 *q, uint64_t cluster, uint64_t count, enum drop how) {
    uint64_t at = cluster << q->cluster_bits;
    bool below = q->below && at < q->below_size;
    struct table *t;
    int r = l2_find_locked(q, cluster, &t);

    if (r < 0 || (!t && (!below || how == DROP_DISCARD || how == DROP_EMPTY)))
        return r;
    r = l2_get_locked(q, cluster, &t);
    for (uint64_t c = cluster; r == 0 && c < cluster + count; c++) {
        uint64_t old = l2_load(q, t, c), now;

        below = q->below && (c << q->cluster_bits) < q->below_size;
        now = dropped(q, old, how, below);
        if (now == old)
            continue;
        l2_store_locked(q, t, c, now);
        if ((now & ENTRY_OFFSET) != (old & ENTRY_OFFSET) || old & ENTRY_COMPRESSED)
            entry_free_locked(q, old);
    }
    return r;
}

/* Offset and length are whole clusters. */
int drop_clusters(struct qcow2 *q, uint64_t offset, uint64_t length, enum drop how) {
    uint64_t c = cluster_of(q, offset), end = clusters_of(q, offset + length);
    struct range range;
    int r = 0;

    pthread_mutex_lock(&q->lock);
    while (r == 0 && c < end) {
        uint64_t n = least(end, ((c >> q->l2_bits) + 1) << q->l2_bits) - c;

        r = make_room_locked(q);
        if (r < 0)
            break;
        range_lock_locked(q, &range, c, c + n - 1, true);
        r = drop_in_table(q, c, n, how);
        range_unlock_locked(q, &range);
        c += n;
    }
    pthread_mutex_unlock(&q->lock);
    return r;
}

static int write_zeroes(struct qcow2 *q, uint64_t offset, uint64_t length) {
    static const uint8_t zeroes[ZEROES];
    struct iovec v = {(void *)(uintptr_t)zeroes, ZEROES};
    struct span s = {&v, 1, 0};
    int r = 0;

    while (r == 0 && length) {
        uint64_t n = least(length, ZEROES);

        r = qcow2_write(q, &s, offset, n);
        offset += n;
        length -= n;
    }
    return r;
}

/* The whole clusters in a range; the end of the disk ends a cluster. */
static void whole_clusters(const struct qcow2 *q, uint64_t offset, uint64_t length,
                           uint64_t *ret_from, uint64_t *ret_to) {
    uint64_t end = offset + length;

    *ret_from = clusters_of(q, offset) << q->cluster_bits;
    *ret_to = end == q->size ? end : end & ~(q->cluster_size - 1);
    if (*ret_to < *ret_from)
        *ret_to = *ret_from;
}

int qcow2_zero(struct qcow2 *q, uint64_t offset, uint64_t length, bool unmap) {
    uint64_t from, to, end = offset + length;
    int r = q->readonly ? -EROFS : in_disk(q, offset, length) ? bitmaps_use(q) : -EINVAL;

    if (r < 0 || !length)
        return r;
    whole_clusters(q, offset, length, &from, &to);
    if (from == to || (q->version < 3 && (q->below || !unmap)))
        return write_zeroes(q, offset, length);
    r = write_zeroes(q, offset, from - offset);
    if (r == 0)
        r = drop_clusters(q, from, to - from, unmap ? DROP_ZERO : DROP_ZERO_KEEP);
    bitmaps_mark(q, from, to - from);
    return r < 0 ? r : write_zeroes(q, to, end - to);
}

int qcow2_discard(struct qcow2 *q, uint64_t offset, uint64_t length) {
    uint64_t from, to;
    int r = 0;

    if (q->readonly || !in_disk(q, offset, length))
        return q->readonly ? -EROFS : -EINVAL;
    whole_clusters(q, offset, length, &from, &to);
    if (to > from)
        r = bitmaps_use(q);
    if (to > from && r == 0) {
        r = drop_clusters(q, from, to - from, DROP_DISCARD);
        bitmaps_mark(q, from, to - from);
    }
    return r;
}

/* ------------------------------------------------------------------ pull */

/* The caller holds the clusters alone; all of them are the layer's below. */
static int pull_data_locked(struct qcow2 *q, const uint8_t *data, uint64_t offset,
                            uint64_t length) {
    uint64_t done = 0;
    int r = 0;

    while (r == 0 && done < length) {
        uint64_t n = 0, part = 0;
        bool zero = bytes_are_zero(data + done, least(q->cluster_size, length - done));

        do {
            n += part;
            part = least(q->cluster_size, length - done - n);
        } while (part && bytes_are_zero(data + done + n, part) == zero);
        if (zero && q->version >= 3) {
            r = drop_in_table(q, cluster_of(q, offset + done), clusters_of(q, n), DROP_ZERO);
        } else {
            struct iovec v = {(void *)(uintptr_t)(data + done), n};
            struct span s = {&v, 1, 0};
            uint64_t written;

            for (uint64_t at = 0; r == 0 && at < n; at += written, s.skip += written)
                r = write_new_locked(q, &s, offset + done + at, n - at, &written);
        }
        done += n;
    }
    return r;
}

static int pull_held(struct qcow2 *q, uint8_t *buf, uint64_t offset, uint64_t length,
                     uint64_t *ret_done) {
    struct iovec v = {buf, length};
    struct span s = {&v, 1, 0};
    struct qcow2_run run;
    int r = map_locked(q, offset, length, &run);

    if (r < 0)
        return r;
    *ret_done = run.length;
    if (run.type != QCOW2_UNALLOCATED || !q->below || offset >= q->below_size)
        return 0;
    pthread_mutex_unlock(&q->lock);
    r = read_below(q, &s, offset, run.length);
    pthread_mutex_lock(&q->lock);
    return r < 0 ? r : pull_data_locked(q, buf, offset, run.length);
}

int qcow2_pull(struct qcow2 *q, uint64_t offset, uint64_t length) {
    uint64_t piece = q->cluster_size > PULL ? q->cluster_size : PULL;
    uint8_t *buf = malloc(piece);
    struct range range;
    int r = !buf ? -ENOMEM : q->readonly ? -EROFS : in_disk(q, offset, length) ? 0 : -EINVAL;

    while (r == 0 && length) {
        uint64_t n = least(length, piece), done = n;

        pthread_mutex_lock(&q->lock);
        r = make_room_locked(q);
        if (r == 0) {
            range_lock_locked(q, &range, cluster_of(q, offset), cluster_of(q, offset + n - 1),
                              true);
            r = pull_held(q, buf, offset, n, &done);
            range_unlock_locked(q, &range);
        }
        pthread_mutex_unlock(&q->lock);
        offset += done;
        length -= done;
    }
    free(buf);
    return r;
}

int qcow2_settle(struct qcow2 *q) {
    int r;

    if (q->readonly)
        return 0;
    pthread_mutex_lock(&q->lock);
    r = flush_all_locked(q);
    if (r == 0)
        bitmaps_end_locked(q);
    pthread_mutex_unlock(&q->lock);
    return r;
}

int qcow2_flush(struct qcow2 *q) {
    int r;

    if (q->readonly)
        return 0;
    pthread_mutex_lock(&q->lock);
    r = flush_locked(q);
    pthread_mutex_unlock(&q->lock);
    return r;
}

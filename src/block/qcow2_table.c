/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tables of a qcow2 image in memory, and the order in which they reach the file.
 *
 * Theory of operation: nothing is written when a table changes. A flush copies everything that is
 * dirty at one instant, then writes it in an order in which every prefix is safe, with a sync
 * between what depends on what:
 *
 *   refcount blocks (and the data that requests have written meanwhile)
 *   | refcount table, if blocks are new
 *   | L2 tables
 *   | L1 table, if L2 tables are new
 *   | then clusters that lost their last reference become free in memory
 *
 * So a reference is in the file only when its refcount and its target are, and a refcount falls
 * only when its reference is gone: after a crash refcounts are too high (leaks) but never too low.
 * Each step may be torn: entries are whole within a sector, and each entry is safe by itself.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/trace.h"
#include "block/qcow2_internal.h"

struct piece { /* bytes on their way to the file */
    struct table *table;
    uint8_t *data;
    uint64_t offset;
    uint32_t lo, hi; /* bytes, or entries of L1 or the refcount table */
};

struct batch {
    struct piece *refblocks, *l2, l1, reftable;
    unsigned refblock_count, l2_count;
    struct run *frees;
    unsigned free_count;
};

/* ------------------------------------------------------------------ cache */

static struct table **bucket(struct qcow2 *q, uint64_t offset) {
    return &q->hash[(offset >> q->cluster_bits) * 0x9e3779b97f4a7c15ull >> 32 & (q->hash_size - 1)];
}

static void list_remove(struct qcow2 *q, struct table *t) {
    *(t->newer ? &t->newer->older : &q->newest) = t->older;
    *(t->older ? &t->older->newer : &q->oldest) = t->newer;
}

static void list_add(struct qcow2 *q, struct table *t) {
    t->newer = NULL;
    t->older = q->newest;
    *(q->newest ? &q->newest->newer : &q->oldest) = t;
    q->newest = t;
}

static void drop(struct qcow2 *q, struct table *t) {
    struct table **p = bucket(q, t->offset);

    while (*p != t)
        p = &(*p)->next_hash;
    *p = t->next_hash;
    list_remove(q, t);
    q->tables--;
    if (t->dirty_lo != t->dirty_hi)
        q->dirty_tables--;
    free(t);
}

void table_drop_all_locked(struct qcow2 *q) {
    while (q->oldest)
        drop(q, q->oldest);
}

struct table *table_find_locked(struct qcow2 *q, uint64_t offset) {
    struct table *t = *bucket(q, offset);

    while (t && t->offset != offset)
        t = t->next_hash;
    return t;
}

/* Dirty tables stay beyond the limit; make_room_locked keeps them few. */
static void evict(struct qcow2 *q) {
    struct table *t = q->oldest;

    while (t && (t->writing || t->dirty_lo != t->dirty_hi))
        t = t->newer;
    if (t)
        drop(q, t);
}

static struct table *add(struct qcow2 *q, uint64_t offset, bool l2) {
    struct table *t;

    if (q->tables >= q->max_tables)
        evict(q);
    t = malloc(sizeof(*t) + q->cluster_size);
    if (!t)
        return NULL;
    memset(t, 0, sizeof(*t));
    t->offset = offset;
    t->l2 = l2;
    t->next_hash = *bucket(q, offset);
    *bucket(q, offset) = t;
    list_add(q, t);
    q->tables++;
    return t;
}

int table_get_locked(struct qcow2 *q, uint64_t offset, bool l2, struct table **ret) {
    struct table *t = table_find_locked(q, offset);
    int r;

    if (t && t->l2 != l2)
        return corrupt(q, "an L2 table and a refcount block lie both at 0x%llx",
                       (unsigned long long)offset);
    if (t) {
        if (t != q->newest) {
            list_remove(q, t);
            list_add(q, t);
        }
        *ret = t;
        return 0;
    }
    t = add(q, offset, l2);
    if (!t)
        return -ENOMEM;
    stat_inc(qcow2_tables_read);
    r = bytefile_read(q->file, t->data, q->cluster_size, offset);
    if (r < 0) {
        drop(q, t);
        return r;
    }
    *ret = t;
    return 0;
}

int table_new_locked(struct qcow2 *q, uint64_t offset, bool l2, struct table **ret) {
    struct table *t = table_find_locked(q, offset);

    if (t)
        return corrupt(q, "the free cluster at 0x%llx is a table", (unsigned long long)offset);
    t = add(q, offset, l2);
    if (!t)
        return -ENOMEM;
    memset(t->data, 0, q->cluster_size);
    table_dirty_locked(q, t, 0, (uint32_t)q->cluster_size);
    *ret = t;
    return 0;
}

static void widen(uint32_t *lo, uint32_t *hi, uint32_t from, uint32_t to) {
    bool clean = *lo == *hi;

    *lo = clean || from < *lo ? from : *lo;
    *hi = clean || to > *hi ? to : *hi;
}

void table_dirty_locked(struct qcow2 *q, struct table *t, uint32_t at, uint32_t length) {
    if (t->dirty_lo == t->dirty_hi)
        q->dirty_tables++;
    widen(&t->dirty_lo, &t->dirty_hi, at, at + length);
}

void l1_dirty_locked(struct qcow2 *q, uint32_t index) {
    widen(&q->l1_lo, &q->l1_hi, index, index + 1);
}

void reftable_dirty_locked(struct qcow2 *q, uint32_t index) {
    widen(&q->reftable_lo, &q->reftable_hi, index, index + 1);
}

/* ------------------------------------------------------------------ a flush: what goes */

static void batch_done(struct batch *b) {
    for (unsigned i = 0; i < b->refblock_count; i++)
        free(b->refblocks[i].data);
    for (unsigned i = 0; i < b->l2_count; i++)
        free(b->l2[i].data);
    free(b->refblocks);
    free(b->l2);
    free(b->l1.data);
    free(b->reftable.data);
    free(b->frees);
}

static int copy_entries(struct piece *p, const uint64_t *entries, uint64_t table, uint32_t lo,
                        uint32_t hi) {
    if (lo == hi)
        return 0;
    p->data = malloc((hi - lo) * 8ull);
    if (!p->data)
        return -ENOMEM;
    for (uint32_t i = lo; i < hi; i++)
        store_be64(p->data + (i - lo) * 8ull, entries[i]);
    p->offset = table + lo * 8ull;
    p->lo = lo;
    p->hi = hi;
    return 0;
}

static int copy_table(struct batch *b, struct table *t) {
    struct piece *p = t->l2 ? &b->l2[b->l2_count] : &b->refblocks[b->refblock_count];

    p->data = malloc(t->dirty_hi - t->dirty_lo);
    if (!p->data)
        return -ENOMEM;
    memcpy(p->data, t->data + t->dirty_lo, t->dirty_hi - t->dirty_lo);
    p->table = t;
    p->offset = t->offset + t->dirty_lo;
    p->lo = t->dirty_lo;
    p->hi = t->dirty_hi;
    if (t->l2)
        b->l2_count++;
    else
        b->refblock_count++;
    return 0;
}

static void mark_clean(struct qcow2 *q, struct batch *b) {
    for (unsigned i = 0; i < b->refblock_count + b->l2_count; i++) {
        struct piece *p = i < b->l2_count ? &b->l2[i] : &b->refblocks[i - b->l2_count];

        p->table->dirty_lo = p->table->dirty_hi = 0;
        p->table->writing = true;
    }
    q->dirty_tables -= b->refblock_count + b->l2_count;
    q->l1_lo = q->l1_hi = q->reftable_lo = q->reftable_hi = 0;
    b->frees = q->frees;
    b->free_count = q->free_count;
    q->frees = NULL;
    q->free_count = q->free_cap = 0;
}

/* Nothing has changed if it fails. */
static int collect(struct qcow2 *q, struct batch *b) {
    unsigned n = q->dirty_tables;
    int r = 0;

    if (n) {
        b->refblocks = calloc(n, sizeof(*b->refblocks));
        b->l2 = calloc(n, sizeof(*b->l2));
        r = b->refblocks && b->l2 ? 0 : -ENOMEM;
    }
    for (struct table *t = q->oldest; r == 0 && n && t; t = t->newer)
        if (t->dirty_lo != t->dirty_hi) {
            r = copy_table(b, t);
            n--;
        }
    if (r == 0)
        r = copy_entries(&b->l1, q->l1, q->l1_offset, q->l1_lo, q->l1_hi);
    if (r == 0)
        r = copy_entries(&b->reftable, q->reftable, q->reftable_offset, q->reftable_lo,
                         q->reftable_hi);
    if (r == 0)
        mark_clean(q, b);
    return r;
}

/* ------------------------------------------------------------------ a flush: how it goes */

static int write_piece(struct qcow2 *q, const struct piece *p) {
    uint64_t length = p->table ? p->hi - p->lo : (p->hi - p->lo) * 8ull;

    stat_inc(qcow2_tables_written);
    return bytefile_write(q->file, p->data, length, p->offset);
}

static int write_pieces(struct qcow2 *q, const struct piece *p, unsigned count) {
    int r = 0;

    for (unsigned i = 0; r == 0 && i < count; i++)
        r = write_piece(q, &p[i]);
    return r;
}

static int sync_then(struct qcow2 *q, const struct piece *p, unsigned count) {
    int r = q->file->ops->sync(q->file);

    return r < 0 ? r : write_pieces(q, p, count);
}

static int write_batch(struct qcow2 *q, const struct batch *b) {
    int r = write_pieces(q, b->refblocks, b->refblock_count);

    if (r == 0 && b->reftable.data)
        r = sync_then(q, &b->reftable, 1);
    if (r == 0 && b->l2_count)
        r = sync_then(q, b->l2, b->l2_count);
    if (r == 0 && b->l1.data)
        r = sync_then(q, &b->l1, 1);
    return r < 0 ? r : q->file->ops->sync(q->file);
}

static bool last_reference(struct qcow2 *q, uint64_t cluster) {
    uint64_t count;

    return refcount_get_locked(q, cluster, &count) == 0 && count == 1;
}

/* Holes for the clusters that become free; the lock is let go meanwhile. Nobody finds these
 * clusters: no reference to them is left, and their refcounts are not 0 yet. */
static void punch_frees(struct qcow2 *q, const struct batch *b) {
    for (unsigned i = 0; i < b->free_count; i++) {
        uint64_t c = b->frees[i].first, end = c + b->frees[i].count;

        while (c < end) {
            uint64_t from = c;

            while (c < end && last_reference(q, c))
                c++;
            if (c > from) {
                pthread_mutex_unlock(&q->lock);
                q->file->ops->punch(q->file, from << q->cluster_bits,
                                    (c - from) << q->cluster_bits);
                pthread_mutex_lock(&q->lock);
            } else {
                c++;
            }
        }
    }
}

static void redirty(struct qcow2 *q, struct batch *b, int result) {
    for (unsigned i = 0; i < b->refblock_count + b->l2_count; i++) {
        struct piece *p = i < b->l2_count ? &b->l2[i] : &b->refblocks[i - b->l2_count];

        p->table->writing = false;
        if (result < 0)
            table_dirty_locked(q, p->table, p->lo, p->hi - p->lo);
    }
    if (result < 0 && b->l1.data)
        widen(&q->l1_lo, &q->l1_hi, b->l1.lo, b->l1.hi);
    if (result < 0 && b->reftable.data)
        widen(&q->reftable_lo, &q->reftable_hi, b->reftable.lo, b->reftable.hi);
    for (unsigned i = 0; result < 0 && i < b->free_count; i++)
        free_later_locked(q, b->frees[i].first, b->frees[i].count);
}

static int flush_once(struct qcow2 *q) {
    struct batch b = {0};
    int r = collect(q, &b);

    if (r == 0) {
        pthread_mutex_unlock(&q->lock);
        r = write_batch(q, &b);
        pthread_mutex_lock(&q->lock);
        redirty(q, &b, r);
    }
    if (r == 0) {
        punch_frees(q, &b);
        for (unsigned i = 0; i < b.free_count; i++)
            refcount_add_locked(q, b.frees[i].first, b.frees[i].count, -1); /* failed: a leak */
    }
    batch_done(&b);
    return r;
}

int flush_locked(struct qcow2 *q) {
    uint64_t need = q->flush_started + 1;

    while (q->flushing)
        pthread_cond_wait(&q->changed, &q->lock);
    if (q->flush_done >= need)
        return q->flush_result; /* another one began after we came */
    q->flushing = true;
    need = ++q->flush_started;
    q->flush_result = flush_once(q);
    q->flush_done = need;
    q->flushing = false;
    pthread_cond_broadcast(&q->changed);
    return q->flush_result;
}

int flush_all_locked(struct qcow2 *q) {
    int r;

    do
        r = flush_locked(q);
    while (r == 0 && (q->dirty_tables || q->free_count || q->l1_lo != q->l1_hi ||
                      q->reftable_lo != q->reftable_hi));
    return r;
}

int make_room_locked(struct qcow2 *q) {
    if (q->dirty_tables <= q->max_tables / 2 && q->free_count < 65536)
        return 0;
    return flush_locked(q);
}

/* The flag `flushing` keeps others out: an older copy must not follow what is written here. */
int write_refblocks_locked(struct qcow2 *q) {
    int r = 0;

    assert(!q->flushing);
    for (struct table *t = q->oldest; r == 0 && t; t = t->newer) {
        if (t->l2 || t->dirty_lo == t->dirty_hi)
            continue;
        r = bytefile_write(q->file, t->data + t->dirty_lo, t->dirty_hi - t->dirty_lo,
                           t->offset + t->dirty_lo);
        if (r == 0) {
            t->dirty_lo = t->dirty_hi = 0;
            q->dirty_tables--;
        }
    }
    return r < 0 ? r : q->file->ops->sync(q->file);
}

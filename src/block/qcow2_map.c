/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From the disk's clusters to the file's: L1 and L2 tables of a qcow2 image, and who works on which
 * clusters ("QCOW2 image format", sections L1/L2 mapping, Extended L2 entries).
 *
 * Requests hold the clusters they work on: those that only move data share them, those that change
 * the mapping have them alone. So the lock is never held while data moves, and no cluster is freed
 * under a reader.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2_internal.h"

enum { SUBCLUSTERS = 32 };

/* ------------------------------------------------------------------ ranges */

bool range_busy_locked(const struct qcow2 *q, uint64_t first, uint64_t last, bool exclusive) {
    for (const struct range *r = q->ranges; r; r = r->next)
        if (first <= r->last && r->first <= last && (exclusive || r->exclusive))
            return true;
    return false;
}

void range_lock_locked(struct qcow2 *q, struct range *r, uint64_t first, uint64_t last,
                       bool exclusive) {
    while (range_busy_locked(q, first, last, exclusive))
        pthread_cond_wait(&q->changed, &q->lock);
    *r = (struct range){first, last, exclusive, q->ranges};
    q->ranges = r;
}

void range_unlock_locked(struct qcow2 *q, struct range *r) {
    struct range **p = &q->ranges;

    while (*p != r)
        p = &(*p)->next;
    *p = r->next;
    pthread_cond_broadcast(&q->changed);
}

/* ------------------------------------------------------------------ L2 tables */

static uint64_t slot(const struct qcow2 *q, uint64_t cluster) {
    return (cluster & ((1ull << q->l2_bits) - 1)) * q->entry_bytes;
}

uint64_t l2_load(const struct qcow2 *q, const struct table *t, uint64_t cluster) {
    return load_be64(t->data + slot(q, cluster));
}

void l2_store_locked(struct qcow2 *q, struct table *t, uint64_t cluster, uint64_t entry) {
    store_be64(t->data + slot(q, cluster), entry);
    table_dirty_locked(q, t, (uint32_t)slot(q, cluster), 8);
}

int l2_find_locked(struct qcow2 *q, uint64_t cluster, struct table **ret) {
    uint64_t index = cluster >> q->l2_bits, offset;

    *ret = NULL;
    if (index >= q->l1_size)
        return -EINVAL;
    offset = q->l1[index] & ENTRY_OFFSET;
    if (!offset)
        return 0;
    if (offset & (q->cluster_size - 1) || offset >= q->file_end)
        return corrupt(q, "the L2 table at 0x%llx is not aligned or past the end of the file",
                       (unsigned long long)offset);
    return table_get_locked(q, offset, true, ret);
}

/* A table of its own instead of none, or of one that a snapshot shares. */
static int make_l2(struct qcow2 *q, uint64_t index, uint64_t old) {
    struct table *t, *from = NULL;
    uint64_t first, count;
    bool virgin;
    int r = alloc_locked(q, 1, &first, &count, &virgin);

    if (r < 0)
        return r;
    if (q->l1[index] != old) { /* another request was faster */
        refcount_add_locked(q, first, 1, -1);
        return 0;
    }
    r = table_new_locked(q, first << q->cluster_bits, true, &t);
    if (r == 0 && old & ENTRY_OFFSET) {
        r = table_get_locked(q, old & ENTRY_OFFSET, true, &from);
        /* The new one is dirty, so it is still there. */
        if (r == 0)
            memcpy(t->data, from->data, q->cluster_size);
    }
    if (r < 0) {
        refcount_add_locked(q, first, 1, -1);
        return r;
    }
    q->l1[index] = first << q->cluster_bits | ENTRY_COPIED;
    l1_dirty_locked(q, (uint32_t)index);
    if (old & ENTRY_OFFSET)
        free_later_locked(q, cluster_of(q, old & ENTRY_OFFSET), 1);
    return 0;
}

int l2_get_locked(struct qcow2 *q, uint64_t cluster, struct table **ret) {
    uint64_t index = cluster >> q->l2_bits;
    int r = 0;

    if (index >= q->l1_size)
        return -EINVAL;
    while (r == 0 && !(q->l1[index] & ENTRY_OFFSET && q->l1[index] & ENTRY_COPIED))
        r = make_l2(q, index, q->l1[index]);
    return r < 0 ? r : l2_find_locked(q, cluster, ret);
}

void compressed_place(const struct qcow2 *q, uint64_t entry, uint64_t *ret_offset,
                      uint64_t *ret_length) {
    unsigned x = 62 - (q->cluster_bits - 8);
    uint64_t sectors = (entry >> x & ((1ull << (q->cluster_bits - 8)) - 1)) + 1;

    *ret_offset = entry & ((1ull << x) - 1);
    *ret_length = sectors * 512 - (*ret_offset & 511);
}

int entry_free_locked(struct qcow2 *q, uint64_t entry) {
    uint64_t offset, length;

    if (entry & ENTRY_COMPRESSED) {
        compressed_place(q, entry, &offset, &length);
        return free_later_locked(q, cluster_of(q, offset),
                                 cluster_of(q, offset + length - 1) - cluster_of(q, offset) + 1);
    }
    offset = entry & ENTRY_OFFSET;
    return offset ? free_later_locked(q, cluster_of(q, offset), 1) : 0;
}

/* ------------------------------------------------------------------ what lies where */

/* The same from `offset` up to *ret_end: to the end of the cluster, or of its part. */
static int classify(struct qcow2 *q, const struct table *t, uint64_t offset, struct qcow2_run *ret,
                    uint64_t *ret_end) {
    uint64_t cluster = cluster_of(q, offset), in = offset & (q->cluster_size - 1);
    uint64_t entry = l2_load(q, t, cluster), host = entry & ENTRY_OFFSET;
    bool zero = q->version >= 3 && entry & ENTRY_ZERO, used = host != 0;

    *ret_end = (cluster + 1) << q->cluster_bits;
    *ret = (struct qcow2_run){.type = QCOW2_UNALLOCATED};
    if (entry & ENTRY_COMPRESSED) {
        ret->type = QCOW2_COMPRESSED;
        ret->entry = entry;
        return 0;
    }
    if (host & (q->cluster_size - 1))
        return corrupt(q, "the data of 0x%llx lie at 0x%llx, which is not aligned",
                       (unsigned long long)offset, (unsigned long long)host);
    if (q->entry_bytes == 16) {
        uint64_t bits = load_be64(t->data + slot(q, cluster) + 8), part = q->cluster_size >> 5;
        unsigned k = (unsigned)(in / part);

        *ret_end = (cluster << q->cluster_bits) + (k + 1) * part;
        zero = bits >> (SUBCLUSTERS + k) & 1;
        used = bits >> k & 1;
        if (used && (zero || !host))
            return corrupt(q, "the extended L2 entry of 0x%llx contradicts itself",
                           (unsigned long long)offset);
    }
    if (zero || used)
        ret->type = zero ? QCOW2_ZERO : QCOW2_DATA;
    if (host && (zero || used))
        ret->host = host + in;
    return 0;
}

static bool follows(const struct qcow2_run *run, const struct qcow2_run *next) {
    return next->type == run->type && next->type != QCOW2_COMPRESSED &&
           (run->host ? next->host == run->host + run->length : !next->host);
}

int map_locked(struct qcow2 *q, uint64_t offset, uint64_t length, struct qcow2_run *ret) {
    uint64_t table_end = ((cluster_of(q, offset) >> q->l2_bits) + 1)
                         << q->l2_bits << q->cluster_bits;
    uint64_t end = offset + length < table_end ? offset + length : table_end, at;
    struct table *t;
    struct qcow2_run next;
    int r = l2_find_locked(q, cluster_of(q, offset), &t);

    if (r < 0)
        return r;
    if (!t) {
        *ret = (struct qcow2_run){.type = QCOW2_UNALLOCATED, .length = end - offset};
        return 0;
    }
    r = classify(q, t, offset, ret, &at);
    if (r < 0)
        return r;
    ret->length = at - offset;
    while (at < end) {
        uint64_t next_end;

        if (classify(q, t, at, &next, &next_end) < 0 || !follows(ret, &next))
            break;
        ret->length = next_end - offset;
        at = next_end;
    }
    if (ret->length > end - offset)
        ret->length = end - offset;
    return 0;
}

int map_in_place_locked(struct qcow2 *q, uint64_t offset, uint64_t length, uint64_t *ret_host,
                        uint64_t *ret_length) {
    struct table *t;
    uint64_t at = offset, end = offset + length, host = 0;
    int r = l2_find_locked(q, cluster_of(q, offset), &t);

    *ret_length = 0;
    if (r < 0 || !t)
        return r;
    while (at < end && cluster_of(q, at) >> q->l2_bits == cluster_of(q, offset) >> q->l2_bits) {
        uint64_t entry = l2_load(q, t, cluster_of(q, at)), to = entry & ENTRY_OFFSET;

        if (!to || !(entry & ENTRY_COPIED) || entry & ENTRY_COMPRESSED ||
            (entry & ENTRY_ZERO && q->version >= 3))
            break;
        if (to & (q->cluster_size - 1) || to >= q->file_end || metadata_hit(q, cluster_of(q, to)))
            return corrupt(q, "the data of 0x%llx lie at 0x%llx, where they cannot be",
                           (unsigned long long)at, (unsigned long long)to);
        to += at & (q->cluster_size - 1);
        if (at != offset && to != host + (at - offset))
            break;
        if (at == offset)
            host = to;
        at = (at | (q->cluster_size - 1)) + 1;
    }
    *ret_host = host;
    *ret_length = (at < end ? at : end) - offset;
    return 0;
}

bool run_is_zero(const struct qcow2 *q, const struct qcow2_run *run, uint64_t offset) {
    return run->type == QCOW2_ZERO ||
           (run->type == QCOW2_UNALLOCATED && (!q->below || offset >= q->below_size));
}

int qcow2_map(struct qcow2 *q, uint64_t offset, uint64_t length, struct qcow2_run *ret_run) {
    int r;

    if (offset >= q->size || length > q->size - offset || !length)
        return -EINVAL;
    pthread_mutex_lock(&q->lock);
    r = map_locked(q, offset, length, ret_run);
    pthread_mutex_unlock(&q->lock);
    return r;
}

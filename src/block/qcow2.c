/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2 images as a whole: opening, closing, resizing.
 *
 * Departures from QEMU: external data files, encryption and writing to images with extended L2
 * entries are refused; lazy refcounts are never used, though the flag stays.
 */
#include "block/qcow2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2_internal.h"

enum { CACHE = 32 << 20, MIN_TABLES = 16, MAX_TABLES = 8192 };

static void destroy(struct qcow2 *q) {
    table_drop_all_locked(q);
    bitmaps_free(q);
    bytefile_close(q->file);
    pthread_mutex_destroy(&q->lock);
    pthread_mutex_destroy(&q->inflate_lock);
    pthread_mutex_destroy(&q->bitmap_lock);
    pthread_cond_destroy(&q->changed);
    free(q->l1);
    free(q->reftable);
    free(q->hash);
    free(q->metadata);
    free(q->checked);
    free(q->frees);
    free(q->inflated);
    free(q->deflated);
    free(q->path);
    free(q);
}

static int make_cache(struct qcow2 *q, uint64_t bytes) {
    uint64_t n = (bytes ? bytes : CACHE) >> q->cluster_bits;

    n = n < MIN_TABLES ? MIN_TABLES : n > MAX_TABLES ? MAX_TABLES : n;
    q->max_tables = (unsigned)n;
    for (q->hash_size = 16; q->hash_size < n; q->hash_size *= 2)
        ;
    q->hash = calloc(q->hash_size, sizeof(struct table *));
    return q->hash ? 0 : -ENOMEM;
}

static int load_tables(struct qcow2 *q, const struct qcow2_open *o, struct error *err) {
    int r = make_cache(q, o->cache);

    if (r == 0)
        r = load_entries(q, q->l1_offset, q->l1_size, &q->l1);
    if (r == 0)
        r = load_entries(q, q->reftable_offset, q->reftable_size, &q->reftable);
    return r < 0 ? error_set(err, r,
                             "disk image '%s': its tables cannot be read: %s; check the "
                             "storage",
                             q->path, strerror(-r))
                 : 0;
}

static int may_write(struct qcow2 *q, struct error *err) {
    if (q->entry_bytes == 16)
        return error_set(err, -ENOTSUP,
                         "disk image '%s' has extended L2 entries, which can only be read; open it "
                         "with ',readonly', put an overlay on it (viv-img create -b), or convert "
                         "it: viv-img convert -O qcow2",
                         q->path);
    if (q->incompatible & INCOMPAT_CORRUPT)
        return error_set(err, -EUCLEAN,
                         "disk image '%s' is marked as damaged and can only be read; repair it: "
                         "viv-img check -r all '%s'",
                         q->path, q->path);
    return 0;
}

/* After a crash of a program that counts lazily the refcounts are anything. */
static int repair_dirty(struct qcow2 *q, struct error *err) {
    struct qcow2_check c;
    int r;

    if (!(q->incompatible & INCOMPAT_DIRTY))
        return 0;
    r = qcow2_check(q, QCOW2_REPAIR_ALL, NULL, &c, err);
    if (r == 0 && (c.corruptions || c.errors))
        r = error_set(err, -EUCLEAN,
                      "disk image '%s' was not closed, and its refcounts cannot be repaired; see "
                      "what viv-img check says",
                      q->path);
    return r;
}

static int prepare_writing(struct qcow2 *q, const struct qcow2_open *o, struct error *err) {
    uint64_t autoclear = 0;
    int r;

    if (q->readonly || o->no_repair)
        bitmaps_open(q);
    if (q->readonly)
        return 0;
    if (o->no_repair)
        return metadata_collect_damaged(q);
    r = may_write(q, err);
    if (r == 0 && !q->metadata)
        r = metadata_collect(q, err);
    if (r == 0)
        r = repair_dirty(q, err);
    if (r == 0)
        autoclear = bitmaps_begin(q) ? AUTOCLEAR_BITMAPS : 0;
    if (r == 0 && (r = header_set_flags(q, q->incompatible, autoclear)) < 0)
        error_set(err, r, "disk image '%s': its header cannot be written: %s", q->path,
                  strerror(-r));
    return r;
}

struct qcow2 *qcow2_open(struct bytefile *f, const struct qcow2_open *o, struct error *err) {
    struct qcow2 *q = calloc(1, sizeof(*q));
    int r;

    if (!q || !(q->path = strdup(o->path))) {
        free(q);
        bytefile_close(f);
        error_set(err, -ENOMEM, "disk image '%s': out of memory", o->path);
        return NULL;
    }
    q->file = f;
    q->readonly = o->readonly;
    pthread_mutex_init(&q->lock, NULL);
    pthread_mutex_init(&q->inflate_lock, NULL);
    pthread_mutex_init(&q->bitmap_lock, NULL);
    pthread_cond_init(&q->changed, NULL);
    r = f->ops->size(f, &q->file_end);
    if (r < 0)
        error_set(err, r, "disk image '%s' tells no size: %s", q->path, strerror(-r));
    if (r == 0)
        r = header_read(q, false, err);
    if (r == 0) { /* a table may end with the file, in the middle of a cluster */
        q->file_end = clusters_of(q, q->file_end) << q->cluster_bits;
        r = header_read(q, true, err);
    }
    if (r == 0)
        r = load_tables(q, o, err);
    if (r == 0)
        r = prepare_writing(q, o, err);
    if (r == 0)
        return q;
    destroy(q);
    return NULL;
}

int qcow2_close(struct qcow2 *q) {
    int r = 0;

    if (!q)
        return 0;
    r = qcow2_settle(q);
    destroy(q);
    return r;
}

int qcow2_set_writable(struct qcow2 *q, bool writable, struct error *err) {
    struct qcow2_open o = {.path = q->path};
    int r;

    if (writable) {
        q->readonly = false;
        r = prepare_writing(q, &o, err);
        q->readonly = r < 0;
        return r;
    }
    pthread_mutex_lock(&q->lock);
    r = flush_all_locked(q);
    if (r == 0) {
        bitmaps_end_locked(q);
        q->readonly = true;
        q->bitmaps_kept = false;
    }
    pthread_mutex_unlock(&q->lock);
    return r < 0 ? error_set(err, r, "disk image '%s' cannot be flushed: %s", q->path, strerror(-r))
                 : 0;
}

void qcow2_set_below(struct qcow2 *q, qcow2_below_fn *fn, void *opaque, uint64_t size) {
    pthread_mutex_lock(&q->lock);
    q->below = fn;
    q->below_opaque = opaque;
    q->below_size = size;
    pthread_mutex_unlock(&q->lock);
}

struct bytefile *qcow2_file(struct qcow2 *q) {
    return q->file;
}

void qcow2_info(struct qcow2 *q, struct qcow2_info *ret_info) {
    struct qcow2_info *i = ret_info;

    memset(i, 0, sizeof(*i));
    i->size = q->size;
    i->cluster_size = q->cluster_size;
    i->snapshots = q->snapshots;
    i->version = q->version;
    i->refcount_bits = 1u << q->refcount_order;
    i->dirty = q->incompatible & INCOMPAT_DIRTY;
    i->corrupt = q->incompatible & INCOMPAT_CORRUPT;
    i->lazy_refcounts = q->compatible & COMPAT_LAZY;
    i->extended_l2 = q->entry_bytes == 16;
    i->zstd = q->zstd;
    for (const struct bitmap *b = q->bitmap_list; b; b = b->next)
        i->bitmaps++;
    memcpy(i->backing, q->backing, sizeof(i->backing));
    memcpy(i->backing_format, q->backing_format, sizeof(i->backing_format));
}

int qcow2_make_empty(struct qcow2 *q) {
    int r = q->readonly ? -EROFS : drop_clusters(q, 0, q->size, DROP_EMPTY);

    if (r < 0)
        return r;
    pthread_mutex_lock(&q->lock);
    r = flush_all_locked(q);
    pthread_mutex_unlock(&q->lock);
    return r;
}

/* ------------------------------------------------------------------ size */

static int write_l1(struct qcow2 *q, const uint64_t *l1, uint32_t count, uint64_t offset) {
    uint64_t bytes = clusters_of(q, count * 8ull) << q->cluster_bits;
    uint8_t *raw = calloc(1, bytes ? bytes : 1);
    int r = raw ? 0 : -ENOMEM;

    for (uint32_t i = 0; r == 0 && i < count; i++)
        store_be64(raw + i * 8ull, l1[i]);
    if (r == 0)
        r = bytefile_write(q->file, raw, bytes, offset);
    free(raw);
    return r < 0 ? r : q->file->ops->sync(q->file);
}

/* A larger L1 table, known to the header together with the size. */
static int move_l1_locked(struct qcow2 *q, uint32_t count, uint64_t size) {
    uint64_t first = 0, old = q->l1_offset, old_clusters = clusters_of(q, q->l1_size * 8ull);
    uint64_t *l1 = calloc(count, sizeof(*l1));
    uint8_t field[24] = {0};
    int r = l1 ? alloc_area_locked(q, clusters_of(q, count * 8ull), &first) : -ENOMEM;

    if (r == 0)
        r = flush_all_locked(q);
    if (r == 0) {
        memcpy(l1, q->l1, q->l1_size * sizeof(*l1));
        r = write_l1(q, l1, count, first << q->cluster_bits);
    }
    if (r == 0) { /* size, encryption, L1 size and place lie side by side */
        store_be64(field, size);
        store_be32(field + (H_L1_SIZE - H_SIZE), count);
        store_be64(field + (H_L1_OFFSET - H_SIZE), first << q->cluster_bits);
        r = header_write_fields(q, H_SIZE, field, sizeof(field));
    }
    if (r < 0) {
        free(l1);
        return r;
    }
    free(q->l1);
    q->l1 = l1;
    q->l1_size = count;
    q->l1_offset = first << q->cluster_bits;
    metadata_forget(q, cluster_of(q, old), old_clusters);
    refcount_add_locked(q, cluster_of(q, old), old_clusters, -1);
    return 0;
}

static int set_size_locked(struct qcow2 *q, uint64_t size) {
    uint64_t per = 1ull << (q->l2_bits + q->cluster_bits);
    uint64_t count = size / per + (size % per != 0);
    uint8_t field[8];
    int r;

    if (count > QCOW2_MAX_L1_BYTES / 8)
        return -EFBIG;
    if (count > q->l1_size)
        return move_l1_locked(q, (uint32_t)count, size);
    r = flush_all_locked(q);
    store_be64(field, size);
    return r < 0 ? r : header_write_fields(q, H_SIZE, field, sizeof(field));
}

/* What a smaller disk left in its last cluster, and what a layer below shows behind the old end,
 * must not appear. */
static int clear_growth(struct qcow2 *q, uint64_t old, uint64_t size) {
    uint64_t end = clusters_of(q, old) << q->cluster_bits;
    uint64_t seen = q->below && q->below_size > end ? q->below_size : end;

    if (seen > size)
        seen = size;
    return seen > old ? qcow2_zero(q, old, seen - old, true) : 0;
}

int qcow2_resize(struct qcow2 *q, uint64_t size, struct error *err) {
    uint64_t old = q->size, from;
    struct range all;
    int r = 0;

    if (q->readonly)
        r = -EROFS;
    else if (q->snapshots && q->version < 3)
        r = -ENOTSUP;
    else if (size & 511 || size > INT64_MAX)
        r = -EINVAL;
    else
        r = bitmaps_use(q);
    from = clusters_of(q, size) << q->cluster_bits;
    if (r == 0 && from < old)
        r = drop_clusters(q, from, old - from, DROP_EMPTY);
    if (r == 0) {
        pthread_mutex_lock(&q->lock);
        range_lock_locked(q, &all, 0, UINT64_MAX, true);
        r = set_size_locked(q, size);
        if (r == 0)
            q->size = size;
        if (r == 0)
            r = bitmaps_resize(q, size);
        range_unlock_locked(q, &all);
        pthread_mutex_unlock(&q->lock);
    }
    if (r == 0 && size > old)
        r = clear_growth(q, old, size);
    if (r == 0)
        r = qcow2_flush(q);
    return r < 0 ? error_set(err, r, "disk image '%s' cannot be resized: %s", q->path, strerror(-r))
                 : 0;
}

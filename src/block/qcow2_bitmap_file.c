/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dirty bitmaps in the file ("QCOW2 image format", sections Bitmaps extension, Bitmaps).
 *
 *   directory   entries, each a multiple of 8 bytes: 0 offset of table u64, 8 its entries u32,
 *               12 flags u32, 16 type u8, 17 log2 of granularity u8, 18 length of name u16,
 *               20 length of extra data u32, 24 extra data, name
 *   table       u64 each: offset of a cluster of bits; or 0: all clear, 1: all set
 *
 * When an image is opened for writing its bitmaps are read, and marked as in use in the directory,
 * before anything else is written. When it is closed, they are written anew to free clusters, and
 * the header changes over to the new directory by one write; then the old clusters are free. So a
 * crash leaves either bitmaps in use, of which everybody knows that they are outdated, or right
 * ones.
 *
 * What is wrong with a directory drops its bitmaps (and the autoclear bit, so that nobody believes
 * them): they are worth less than the disk.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/trace.h"
#include "block/qcow2_bitmap.h"
#include "block/qcow2_internal.h"

enum { ENTRY = 24, FLAG_IN_USE = 1, FLAG_AUTO = 2, FLAG_EXTRA = 4, TYPE_DIRTY = 1 };
enum {
    MAX_DIRECTORY = 1 << 20,
    MAX_COUNT = 65535,
    MAX_BYTES = 64 << 20, /* of bits in memory, for all bitmaps of an image together 256 MiB */
};

bool bitmap_fits(uint64_t size, unsigned shift) { return size >> shift <= MAX_BYTES * 8ull; }

static uint64_t bits_of(uint64_t size, unsigned shift) {
    return (size >> shift) + ((size & ((1ull << shift) - 1)) != 0);
}

/* Entries of the table of a bitmap. */
static uint64_t table_entries(const struct qcow2 *q, unsigned shift) {
    return clusters_of(q, (bits_of(q->size, shift) + 7) / 8);
}

/* ------------------------------------------------------------------ reading */

static int wrong(struct qcow2 *q, const char *what) { return corrupt(q, "its bitmaps: %s", what); }

static bool place_good(const struct qcow2 *q, uint64_t offset, uint64_t bytes) {
    return offset && !(offset & (q->cluster_size - 1)) && offset < q->file_end &&
           bytes <= q->file_end - offset;
}

/* In the file, with what it is padded by; at least ENTRY bytes are there. */
static uint64_t entry_length(const uint8_t *p) {
    return (ENTRY + (uint64_t)load_be32(p + 20) + load_be16(p + 18) + 7) & ~7ull;
}

/* One entry of `room` bytes at most; *ret_length is its length. */
static int parse_entry(struct qcow2 *q, const uint8_t *p, uint64_t room, struct bitmap *b,
                       uint64_t *ret_length) {
    uint32_t flags, extra;
    uint16_t name;

    if (room < ENTRY)
        return wrong(q, "the directory ends in an entry");
    flags = load_be32(p + 12);
    name = load_be16(p + 18);
    extra = load_be32(p + 20);
    *ret_length = entry_length(p);
    if (!name || name > BITMAP_MAX_NAME || *ret_length > room)
        return wrong(q, "an entry is longer than the directory, or has no name");
    b->table_offset = load_be64(p);
    b->table_size = load_be32(p + 8);
    b->shift = p[17];
    b->enabled = flags & FLAG_AUTO;
    /* What else there may be we cannot keep up to date. */
    b->inconsistent = flags & FLAG_IN_USE || p[16] != TYPE_DIRTY ||
                      flags & ~(uint32_t)(FLAG_IN_USE | FLAG_AUTO | FLAG_EXTRA) ||
                      (extra && !(flags & FLAG_EXTRA));
    b->type = p[16];
    b->flags = flags;
    b->extra_size = extra;
    b->extra = malloc(extra + 1ull);
    b->name = strndup((const char *)p + ENTRY + extra, name);
    if (!b->extra || !b->name)
        return -ENOMEM;
    memcpy(b->extra, p + ENTRY, extra);
    if (b->shift < 9 || b->shift > 31 || strlen(b->name) != name)
        return wrong(q, "a granularity or a name is impossible");
    if (b->table_size && !place_good(q, b->table_offset, b->table_size * 8ull))
        return wrong(q, "a table lies past the end of the file or is not aligned");
    if (!b->inconsistent && (b->table_size != table_entries(q, b->shift)))
        return wrong(q, "a table has the wrong size");
    return 0;
}

static bool has_name(const struct qcow2 *q, const char *name) {
    for (const struct bitmap *b = q->bitmap_list; b; b = b->next)
        if (!strcmp(b->name, name))
            return true;
    return false;
}

static int parse_directory(struct qcow2 *q, const uint8_t *dir) {
    struct bitmap **end = &q->bitmap_list;
    uint64_t at = 0, n = 0;
    int r = 0;

    for (uint32_t i = 0; r == 0 && i < q->bitmaps; i++, at += n) {
        struct bitmap *b = calloc(1, sizeof(*b));

        r = b ? parse_entry(q, dir + at, q->bitmaps_size - at, b, &n) : -ENOMEM;
        if (r == 0 && has_name(q, b->name))
            r = wrong(q, "two have the same name");
        if (r < 0) {
            bitmap_free(b);
            break;
        }
        *end = b;
        end = &b->next;
    }
    return r == 0 && at != q->bitmaps_size ? wrong(q, "the directory is longer than its entries")
                                           : r;
}

/* The caller frees *ret, also after a failure. */
static int read_directory(struct qcow2 *q, uint64_t offset, uint64_t size, uint8_t **ret) {
    *ret = malloc(size + 1);
    return *ret ? bytefile_read(q->file, *ret, size, offset) : -ENOMEM;
}

static int load_directory(struct qcow2 *q) {
    uint8_t *dir;
    int r;

    if (q->bitmaps > MAX_COUNT || q->bitmaps_size > MAX_DIRECTORY ||
        !place_good(q, q->bitmaps_offset, q->bitmaps_size))
        return wrong(q, "the directory lies past the end of the file, is not aligned or too large");
    r = read_directory(q, q->bitmaps_offset, q->bitmaps_size, &dir);
    if (r == 0)
        r = parse_directory(q, dir);
    free(dir);
    return r;
}

static void put_bits(struct dirty *d, uint64_t first, const uint8_t *bytes, uint64_t count) {
    for (uint64_t i = 0; i < count; i++)
        for (unsigned k = 0; bytes[i] && k < 8; k++)
            if (bytes[i] >> k & 1)
                dirty_set(d, (first + i * 8 + k) << d->shift, 1);
}

static int load_bits(struct qcow2 *q, const struct bitmap *b, struct dirty *d) {
    uint64_t per = q->cluster_size * 8, *table = NULL;
    uint8_t *data = malloc(q->cluster_size);
    int r = data ? load_entries(q, b->table_offset, b->table_size, &table) : -ENOMEM;

    for (uint32_t i = 0; r == 0 && i < b->table_size; i++) {
        uint64_t at = table[i] & ENTRY_OFFSET;

        if (!at && table[i] & 1)
            dirty_set(d, i * per << b->shift, per << b->shift);
        if (!at)
            continue;
        if (!place_good(q, at, q->cluster_size) || metadata_hit(q, cluster_of(q, at)))
            r = wrong(q, "bits lie where they cannot be");
        if (r == 0)
            r = bytefile_read(q->file, data, q->cluster_size, at);
        if (r == 0)
            put_bits(d, i * per, data, q->cluster_size);
    }
    free(table);
    free(data);
    return r;
}

int bitmap_copy_bits(struct qcow2 *q, const struct bitmap *b, struct dirty *ret,
                     struct error *err) {
    int r = bitmap_fits(q->size, b->shift) ? dirty_init(ret, q->size, b->shift) : -EFBIG;

    if (r == 0 && b->dirty.words)
        dirty_merge(ret, &b->dirty);
    else if (r == 0)
        r = load_bits(q, b, ret);
    return r < 0 ? error_set(err, r, "the bitmap '%s' of disk image '%s' cannot be read: %s",
                             b->name, q->path, strerror(-r))
                 : 0;
}

static int load_all_bits(struct qcow2 *q) {
    uint64_t bytes = 0;
    int r = 0;

    for (struct bitmap *b = q->bitmap_list; r == 0 && b; b = b->next) {
        if (b->inconsistent)
            continue;
        bytes += bits_of(q->size, b->shift) / 8;
        if (!bitmap_fits(q->size, b->shift) || bytes > 4ull * MAX_BYTES)
            return wrong(q, "they take too much memory");
        r = dirty_init(&b->dirty, q->size, b->shift);
        if (r == 0)
            r = load_bits(q, b, &b->dirty);
    }
    return r;
}

/* ------------------------------------------------------------------ opening */

/* In place: an entry is whole in whatever sector, and each is safe by itself. */
static int mark_in_use(struct qcow2 *q) {
    uint64_t at = 0;
    uint8_t *dir;
    int r = read_directory(q, q->bitmaps_offset, q->bitmaps_size, &dir);

    for (uint32_t i = 0; r == 0 && i < q->bitmaps && at + ENTRY <= q->bitmaps_size; i++) {
        store_be32(dir + at + 12, load_be32(dir + at + 12) | FLAG_IN_USE);
        at += entry_length(dir + at);
    }
    if (r == 0)
        r = bytefile_write(q->file, dir, q->bitmaps_size, q->bitmaps_offset);
    free(dir);
    return r < 0 ? r : q->file->ops->sync(q->file);
}

int bitmaps_use(struct qcow2 *q) {
    int r = 0;

    if (!bitmaps_are_closed(q))
        return 0;
    pthread_mutex_lock(&q->lock);
    if (bitmaps_are_closed(q))
        r = mark_in_use(q);
    if (r == 0)
        bitmaps_set_closed(q, false);
    pthread_mutex_unlock(&q->lock);
    return r;
}

void bitmaps_open(struct qcow2 *q) {
    if (q->bitmaps && load_directory(q) < 0)
        bitmaps_free(q);
}

bool bitmaps_begin(struct qcow2 *q) {
    int r;

    bitmaps_free(q);
    q->bitmaps_kept = q->version >= 3;
    bitmaps_set_closed(q, false);
    if (!q->bitmaps)
        return false;
    r = load_directory(q);
    if (r == 0)
        r = load_all_bits(q);
    if (r == 0) {
        bitmaps_set_closed(q, true);
        return true;
    }
    trace(qcow2_bitmaps_dropped, q->path, strerror(-r));
    bitmaps_free(q);
    q->bitmaps = 0;
    return false;
}

/* ------------------------------------------------------------------ writing */

struct saved { /* where the new ones go */
    struct run *runs;
    unsigned count, cap;
};

static int take_area(struct qcow2 *q, struct saved *s, uint64_t clusters, uint64_t *ret_offset) {
    uint64_t first, count;
    bool virgin;
    int r = alloc_locked(q, clusters, &first, &count, &virgin);

    if (r == 0 && count < clusters) {
        refcount_add_locked(q, first, count, -1);
        r = alloc_area_locked(q, clusters, &first);
    }
    if (r < 0)
        return r;
    if (s->count == s->cap) {
        unsigned cap = s->cap ? s->cap * 2 : 16;
        struct run *grown = realloc(s->runs, cap * sizeof(*grown));

        if (!grown) {
            refcount_add_locked(q, first, clusters, -1);
            return -ENOMEM;
        }
        s->runs = grown;
        s->cap = cap;
    }
    s->runs[s->count++] = (struct run){first, clusters};
    *ret_offset = first << q->cluster_bits;
    return 0;
}

/* Bytes of the bits from `first` on; the rest of the cluster is zero. */
static void get_bits(const struct bitmap *b, uint64_t first, uint8_t *bytes, uint64_t count) {
    const struct dirty *all[2] = {&b->dirty, b->taken};

    memset(bytes, 0, count);
    for (unsigned k = 0; k < 2 && all[k]; k++)
        for (uint64_t i = 0; i < count && first + i * 8 < all[k]->parts; i++)
            bytes[i] |= (uint8_t)(all[k]->words[(first + i * 8) / 64] >> ((first + i * 8) % 64));
}

static int save_bits(struct qcow2 *q, struct saved *s, struct bitmap *b) {
    uint64_t entries = table_entries(q, b->shift), area = clusters_of(q, entries * 8);
    uint8_t *table = calloc(area, q->cluster_size), *data = malloc(q->cluster_size);
    uint64_t at;
    int r = table && data ? take_area(q, s, area, &b->table_offset) : -ENOMEM;

    b->table_size = (uint32_t)entries;
    for (uint64_t i = 0; r == 0 && i < entries; i++) {
        get_bits(b, i * q->cluster_size * 8, data, q->cluster_size);
        if (bytes_are_zero(data, q->cluster_size))
            continue;
        r = take_area(q, s, 1, &at);
        if (r == 0)
            r = bytefile_write(q->file, data, q->cluster_size, at);
        store_be64(table + i * 8, at);
    }
    if (r == 0)
        r = bytefile_write(q->file, table, area << q->cluster_bits, b->table_offset);
    free(table);
    free(data);
    return r;
}

static void put_entry(struct buf *dir, const struct bitmap *b) {
    uint32_t flags = (b->flags & FLAG_EXTRA) | (b->enabled ? FLAG_AUTO : 0);
    uint8_t p[ENTRY] = {0};

    if (b->inconsistent)
        flags = b->flags | FLAG_IN_USE;
    store_be64(p, b->table_offset);
    store_be32(p + 8, b->table_size);
    store_be32(p + 12, flags);
    p[16] = b->type ? b->type : TYPE_DIRTY;
    p[17] = (uint8_t)b->shift;
    store_be16(p + 18, (uint16_t)strlen(b->name));
    store_be32(p + 20, b->extra_size);
    buf_put(dir, p, sizeof(p));
    buf_put(dir, b->extra, b->extra_size);
    buf_put(dir, b->name, strlen(b->name));
    buf_put(dir, "\0\0\0\0\0\0\0", -dir->len & 7);
}

static int save_directory(struct qcow2 *q, struct saved *s, struct header_tail *t) {
    struct buf dir = {0};
    int r = 0;

    for (struct bitmap *b = q->bitmap_list; r == 0 && b; b = b->next, t->bitmaps++) {
        if (!b->inconsistent)
            r = save_bits(q, s, b);
        put_entry(&dir, b);
    }
    if (r == 0 && dir.len > MAX_DIRECTORY)
        r = -EFBIG;
    if (r == 0 && dir.len)
        r = take_area(q, s, clusters_of(q, dir.len), &t->bitmaps_offset);
    if (r == 0 && dir.len)
        r = bytefile_write(q->file, dir.data, dir.len, t->bitmaps_offset);
    t->bitmaps_size = dir.len;
    buf_done(&dir);
    return r;
}

static void forget_cluster(struct qcow2 *q, uint64_t offset) {
    uint64_t count;

    if (refcount_get_locked(q, cluster_of(q, offset), &count) == 0 && count == 1)
        free_later_locked(q, cluster_of(q, offset), 1); /* else the image is damaged: a leak */
}

static bool still_there(const struct qcow2 *q, uint64_t table) {
    for (const struct bitmap *b = q->bitmap_list; b; b = b->next)
        if (b->inconsistent && b->table_offset == table)
            return true;
    return false;
}

/* What the directory in the file refers to, but for those that are taken over as they are. */
static void forget_old(struct qcow2 *q, const struct header_tail *old) {
    uint64_t at = 0, *table;
    uint8_t *dir;
    int r = read_directory(q, old->bitmaps_offset, old->bitmaps_size, &dir);

    for (uint32_t i = 0; r == 0 && i < old->bitmaps && at + ENTRY <= old->bitmaps_size; i++) {
        uint64_t offset = load_be64(dir + at);
        uint32_t size = load_be32(dir + at + 8);

        at += entry_length(dir + at);
        if (still_there(q, offset) || !size || size > QCOW2_MAX_L1_BYTES / 8 ||
            !place_good(q, offset, size * 8ull) || load_entries(q, offset, size, &table) < 0)
            continue;
        for (uint32_t k = 0; k < size; k++)
            if (place_good(q, table[k] & ENTRY_OFFSET, q->cluster_size) &&
                !metadata_hit(q, cluster_of(q, table[k] & ENTRY_OFFSET)))
                forget_cluster(q, table[k] & ENTRY_OFFSET);
        free(table);
        for (uint64_t k = 0; k < clusters_of(q, size * 8ull); k++)
            forget_cluster(q, offset + (k << q->cluster_bits));
    }
    for (uint64_t k = 0; k < clusters_of(q, old->bitmaps_size); k++)
        forget_cluster(q, old->bitmaps_offset + (k << q->cluster_bits));
    free(dir);
}

static int save(struct qcow2 *q) {
    struct header_tail t = {.backing = q->backing, .format = q->backing_format};
    struct header_tail old = {NULL, NULL, q->bitmaps, q->bitmaps_size, q->bitmaps_offset};
    struct saved s = {0};
    int r = save_directory(q, &s, &t);

    if (r == 0)
        r = flush_all_locked(q); /* their refcounts, and what they say something about */
    if (r == 0)
        r = header_rewrite(q, &t);
    for (unsigned i = 0; r < 0 && i < s.count; i++)
        refcount_add_locked(q, s.runs[i].first, s.runs[i].count, -1);
    free(s.runs);
    if (r < 0)
        return r;
    q->autoclear = t.bitmaps ? AUTOCLEAR_BITMAPS : 0;
    q->bitmaps = t.bitmaps;
    q->bitmaps_size = t.bitmaps_size;
    q->bitmaps_offset = t.bitmaps_offset;
    if (old.bitmaps)
        forget_old(q, &old);
    return flush_all_locked(q);
}

void bitmaps_end_locked(struct qcow2 *q) {
    int r;

    if (!q->bitmaps_kept || bitmaps_are_closed(q) || (!q->bitmap_list && !q->bitmaps))
        return;
    r = save(q);
    if (r == 0)
        bitmaps_set_closed(q, q->bitmaps);
    if (r < 0) /* those in the file are marked as in use: nobody will believe them */
        trace(qcow2_bitmaps_dropped, q->path, strerror(-r));
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Refcounts of a qcow2 image: reading, counting, finding free clusters ("QCOW2 image format",
 * section Host cluster management).
 *
 * Theory of operation: a cluster is taken by setting its refcount in memory; qcow2_table.c sees to
 * it that the refcount is in the file before a reference is. A new refcount block lies in the first
 * cluster of the part of the file that it counts, so it counts itself. When a refcount block is
 * read for the first time, the tables that are known must be counted in it: otherwise the image is
 * damaged, and writing would overwrite them.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2_internal.h"

static uint64_t per_block(const struct qcow2 *q) {
    return q->cluster_size * 8 >> q->refcount_order;
}

/* Where a cluster begins, for a sentence. */
static unsigned long long named(const struct qcow2 *q, uint64_t cluster) {
    uint64_t at = cluster << q->cluster_bits;

    return at;
}

uint64_t refcount_load(const uint8_t *block, unsigned order, uint64_t i) {
    assert(block);
    switch (order) {
    case 0:
    case 1:
    case 2: {
        unsigned bits = 1u << order, per = 8 / bits;

        return block[i / per] >> (i % per * bits) & ((1u << bits) - 1);
    }
    case 3:
        return block[i];
    case 4:
        return load_be16(block + i * 2);
    case 5:
        return load_be32(block + i * 4);
    default:
        return load_be64(block + i * 8);
    }
}

/* False if the value does not fit. */
bool refcount_store(uint8_t *block, unsigned order, uint64_t i, uint64_t value) {
    unsigned bits = 1u << order;

    if (order < 6 && value >> bits)
        return false;
    if (order < 3) {
        unsigned per = 8 / bits, shift = (unsigned)(i % per) * bits;

        block[i / per] &= (uint8_t) ~(((1u << bits) - 1) << shift);
        block[i / per] |= (uint8_t)(value << shift);
    } else if (order == 3) {
        block[i] = (uint8_t)value;
    } else if (order == 4) {
        store_be16(block + i * 2, (uint16_t)value);
    } else if (order == 5) {
        store_be32(block + i * 4, (uint32_t)value);
    } else {
        store_be64(block + i * 8, value);
    }
    return true;
}

/* ------------------------------------------------------------------ tables known at open */

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* The first entry that names no place in the file makes an error; all others are added. */
static int add_tables(struct qcow2 *q, const uint64_t *entries, uint32_t count, const char *what,
                      struct error *err) {
    int r = 0;

    for (uint32_t i = 0; i < count; i++) {
        uint64_t offset = entries[i] & ENTRY_OFFSET;

        if (offset && !(offset & (q->cluster_size - 1)) && offset < q->file_end)
            q->metadata[q->metadata_count++] = cluster_of(q, offset);
        else if (offset && r == 0)
            r = error_set(err, -EUCLEAN,
                          "disk image '%s' is damaged: %s %u lies at 0x%llx, which is not "
                          "aligned or past the end of the file; see what viv-img check says",
                          q->path, what, i, (unsigned long long)offset);
    }
    return r;
}

static void add_clusters(struct qcow2 *q, uint64_t offset, uint64_t bytes) {
    for (uint64_t i = 0; i < clusters_of(q, bytes); i++)
        q->metadata[q->metadata_count++] = cluster_of(q, offset) + i;
}

int metadata_collect(struct qcow2 *q, struct error *err) {
    uint64_t most = 2 + (uint64_t)q->l1_size + q->reftable_size + clusters_of(q, q->l1_size * 8) +
                    clusters_of(q, q->reftable_size * 8ull);
    int r, r2;

    q->metadata = reallocarray(NULL, most, sizeof(*q->metadata)); /* few of them, mostly */
    q->checked = calloc(1, q->reftable_size / 8 + 1);
    if (!q->metadata || !q->checked)
        return error_set(err, -ENOMEM, "disk image '%s': out of memory", q->path);
    add_clusters(q, 0, 1);
    add_clusters(q, q->l1_offset, q->l1_size * 8ull);
    add_clusters(q, q->reftable_offset, q->reftable_size * 8ull);
    if (q->snapshots)
        add_clusters(q, q->snapshots_offset, 1);
    r = add_tables(q, q->l1, q->l1_size, "L2 table", err);
    r2 = add_tables(q, q->reftable, q->reftable_size, "refcount block", r < 0 ? NULL : err);
    qsort(q->metadata, q->metadata_count, sizeof(*q->metadata), compare);
    if (r < 0 || r2 < 0)
        return r < 0 ? r : r2;
    for (uint64_t i = 1; i < q->metadata_count; i++)
        if (q->metadata[i] == q->metadata[i - 1])
            return error_set(err, -EUCLEAN,
                             "disk image '%s' is damaged: two of its tables overlap at 0x%llx; see "
                             "what viv-img check says",
                             q->path, named(q, q->metadata[i]));
    return 0;
}

int metadata_collect_damaged(struct qcow2 *q) {
    metadata_collect(q, NULL);
    if (!q->metadata || !q->checked)
        return -ENOMEM;
    memset(q->checked, 0xff, q->reftable_size / 8 + 1);
    return 0;
}

/* The first of q->metadata that is not below the cluster. */
static uint64_t metadata_from(const struct qcow2 *q, uint64_t cluster) {
    uint64_t lo = 0, hi = q->metadata_count;

    while (lo < hi) {
        uint64_t mid = lo + (hi - lo) / 2;

        if (q->metadata[mid] < cluster)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

bool metadata_hit(const struct qcow2 *q, uint64_t cluster) {
    uint64_t i = metadata_from(q, cluster);

    return i < q->metadata_count && q->metadata[i] == cluster;
}

void metadata_forget(struct qcow2 *q, uint64_t first, uint64_t count) {
    uint64_t from = metadata_from(q, first), to = metadata_from(q, first + count);

    memmove(q->metadata + from, q->metadata + to, (q->metadata_count - to) * sizeof(*q->metadata));
    q->metadata_count -= to - from;
}

/* The tables that this block counts must be counted. */
static int check_block(struct qcow2 *q, uint64_t index, const struct table *t) {
    uint64_t first = index * per_block(q), i = metadata_from(q, first);

    if (q->checked[index / 8] >> (index % 8) & 1)
        return 0;
    for (; i < q->metadata_count && q->metadata[i] < first + per_block(q); i++)
        if (!refcount_load(t->data, q->refcount_order, q->metadata[i] - first))
            return corrupt(q, "the table at 0x%llx has refcount 0", named(q, q->metadata[i]));
    q->checked[index / 8] |= (uint8_t)(1u << (index % 8));
    return 0;
}

/* ------------------------------------------------------------------ counting */

int refcount_block_locked(struct qcow2 *q, uint64_t index, struct table **ret) {
    uint64_t offset = index < q->reftable_size ? q->reftable[index] & ENTRY_OFFSET : 0;
    int r;

    *ret = NULL;
    if (!offset)
        return 0;
    if (offset & (q->cluster_size - 1) || offset >= q->file_end)
        return corrupt(q, "the refcount block at 0x%llx lies past the end of the file",
                       (unsigned long long)offset);
    r = table_get_locked(q, offset, false, ret);
    return r == 0 && q->checked ? check_block(q, index, *ret) : r;
}

int refcount_get_locked(struct qcow2 *q, uint64_t cluster, uint64_t *ret) {
    struct table *t;
    int r = refcount_block_locked(q, cluster / per_block(q), &t);

    if (r == 0)
        *ret = t ? refcount_load(t->data, q->refcount_order, cluster % per_block(q)) : 0;
    return r;
}

static void dirty_counts(struct qcow2 *q, struct table *t, uint64_t index, uint64_t count) {
    uint64_t from = index << q->refcount_order >> 3;
    uint64_t to = ((index + count - 1) << q->refcount_order >> 3) + 1;

    if (q->refcount_order > 3)
        to += (1u << (q->refcount_order - 3)) - 1;
    table_dirty_locked(q, t, (uint32_t)from, (uint32_t)(to - from));
}

int refcount_add_locked(struct qcow2 *q, uint64_t cluster, uint64_t count, int delta) {
    int result = 0;

    for (uint64_t c = cluster; c < cluster + count; c++) {
        uint64_t i = c % per_block(q), old;
        struct table *t;
        int r = refcount_block_locked(q, c / per_block(q), &t);

        if (r == 0 && !t)
            r = corrupt(q, "the cluster at 0x%llx is used but not counted", named(q, c));
        if (r < 0) {
            result = r;
            continue;
        }
        old = refcount_load(t->data, q->refcount_order, i);
        if (delta < 0 && old < (uint64_t)-delta)
            result =
                corrupt(q, "the cluster at 0x%llx is used more often than counted", named(q, c));
        else if (!refcount_store(t->data, q->refcount_order, i, old + (uint64_t)(int64_t)delta))
            result = -EOVERFLOW;
        else
            dirty_counts(q, t, i, 1);
        if (delta < 0 && old == (uint64_t)-delta) {
            q->hint = c < q->hint ? c : q->hint;
            if (c == cluster_of(q, q->compressed_at))
                q->compressed_at = 0; /* it may be anything next */
        }
    }
    return result;
}

int free_later_locked(struct qcow2 *q, uint64_t first, uint64_t count) {
    struct run *last = q->free_count ? &q->frees[q->free_count - 1] : NULL;

    if (last && last->first + last->count == first) {
        last->count += count;
        return 0;
    }
    if (q->free_count == q->free_cap) {
        unsigned cap = q->free_cap ? q->free_cap * 2 : 64;
        struct run *grown = realloc(q->frees, cap * sizeof(*grown));

        if (!grown)
            return -ENOMEM; /* they leak */
        q->frees = grown;
        q->free_cap = cap;
    }
    assert(q->frees);
    q->frees[q->free_count++] = (struct run){first, count};
    return 0;
}

/* ------------------------------------------------------------------ growing the refcount table */

struct growth {
    uint64_t start, table_clusters, blocks, entries; /* table, then blocks, from cluster `start` */
};

static int plan_growth(const struct qcow2 *q, uint64_t min_entries, struct growth *g) {
    uint64_t per = per_block(q), uncovered = q->reftable_size * per;
    uint64_t before;

    g->start = clusters_of(q, q->file_end);
    if (g->start < uncovered)
        g->start = uncovered;
    g->entries = q->reftable_size + q->reftable_size / 2 + 1;
    g->entries = g->entries < min_entries ? min_entries : g->entries;
    g->blocks = 1;
    do {
        uint64_t last;

        before = g->blocks;
        g->table_clusters = clusters_of(q, g->entries * 8);
        last = (g->start + g->table_clusters + g->blocks - 1) / per;
        g->blocks = last - g->start / per + 1;
        if (g->entries <= last) {
            g->entries = last + 1;
            before = 0;
        }
        if (g->entries > QCOW2_MAX_REFTABLE_BYTES / 8)
            return -EFBIG;
    } while (before != g->blocks);
    g->entries = g->table_clusters * q->cluster_size / 8;
    return 0;
}

static int write_new_blocks(struct qcow2 *q, const struct growth *g, uint64_t *table) {
    uint64_t per = per_block(q), end = g->start + g->table_clusters + g->blocks;
    uint8_t *block = malloc(q->cluster_size);
    int r = block ? 0 : -ENOMEM;

    for (uint64_t k = 0; r == 0 && k < g->blocks; k++) {
        uint64_t index = g->start / per + k, at = g->start + g->table_clusters + k;

        memset(block, 0, q->cluster_size);
        for (uint64_t i = 0; i < per; i++)
            if (index * per + i >= g->start && index * per + i < end)
                refcount_store(block, q->refcount_order, i, 1);
        r = bytefile_write(q->file, block, q->cluster_size, at << q->cluster_bits);
        table[index] = at << q->cluster_bits;
    }
    free(block);
    return r;
}

static int write_new_table(struct qcow2 *q, const struct growth *g, const uint64_t *table) {
    uint64_t *raw = malloc(g->entries * 8);
    uint8_t field[12];
    int r = raw ? 0 : -ENOMEM;

    for (uint64_t i = 0; r == 0 && i < g->entries; i++)
        store_be64(&raw[i], table[i]);
    if (r == 0)
        r = bytefile_write(q->file, raw, g->entries * 8, g->start << q->cluster_bits);
    if (r == 0)
        r = q->file->ops->sync(q->file);
    store_be64(field, g->start << q->cluster_bits);
    store_be32(field + 8, (uint32_t)g->table_clusters);
    if (r == 0) /* one write in one sector: the old table or the new one */
        r = header_write_fields(q, H_REFTABLE_OFFSET, field, sizeof(field));
    free(raw);
    return r;
}

/* Everything that the table refers to is in the file before the new table is. May let go of the
 * lock, but only before it changes anything. */
static int grow_reftable_locked(struct qcow2 *q, uint64_t min_entries) {
    uint64_t old_offset = q->reftable_offset, old_clusters, *table;
    uint8_t *checked;
    struct growth g;
    int r;

    while (q->flushing)
        pthread_cond_wait(&q->changed, &q->lock);
    if (min_entries <= q->reftable_size)
        return 0;
    r = plan_growth(q, min_entries, &g);
    if (r < 0)
        return r;
    table = calloc(g.entries, sizeof(*table));
    checked = calloc(1, g.entries / 8 + 1);
    r = table && checked ? write_refblocks_locked(q) : -ENOMEM;
    if (r == 0) {
        memcpy(table, q->reftable, q->reftable_size * sizeof(*table));
        r = write_new_blocks(q, &g, table);
    }
    if (r == 0)
        r = write_new_table(q, &g, table);
    if (r < 0) {
        free(table);
        free(checked);
        return r;
    }
    old_clusters = clusters_of(q, q->reftable_size * 8ull);
    memcpy(checked, q->checked, q->reftable_size / 8 + 1);
    free(q->reftable);
    free(q->checked);
    q->reftable = table;
    q->checked = checked;
    q->reftable_lo = q->reftable_hi = 0;
    q->reftable_size = (uint32_t)g.entries;
    q->reftable_offset = g.start << q->cluster_bits;
    q->file_end = (g.start + g.table_clusters + g.blocks) << q->cluster_bits;
    metadata_forget(q, cluster_of(q, old_offset), old_clusters);
    return refcount_add_locked(q, cluster_of(q, old_offset), old_clusters, -1);
}

/* ------------------------------------------------------------------ finding free clusters */

static void extend_to(struct qcow2 *q, uint64_t cluster) {
    if (q->file_end < (cluster << q->cluster_bits))
        q->file_end = cluster << q->cluster_bits;
}

static int new_block_at(struct qcow2 *q, uint64_t index, uint64_t cluster) {
    struct table *t;
    int r = table_new_locked(q, cluster << q->cluster_bits, false, &t);

    if (r < 0)
        return r;
    q->reftable[index] = cluster << q->cluster_bits;
    q->checked[index / 8] |= (uint8_t)(1u << (index % 8));
    reftable_dirty_locked(q, (uint32_t)index);
    extend_to(q, cluster + 1);
    return 0;
}

/* May let go of the lock, but only if it returns with nothing changed or a larger table. */
static int block_to_write(struct qcow2 *q, uint64_t index, struct table **ret) {
    uint64_t first = index * per_block(q), i;
    int r = 0;

    if (index >= q->reftable_size)
        r = grow_reftable_locked(q, index + 1);
    if (r == 0)
        r = refcount_block_locked(q, index, ret);
    if (r < 0 || *ret)
        return r;
    i = metadata_from(q, first);
    if (i < q->metadata_count && q->metadata[i] < first + per_block(q))
        return corrupt(q, "the table at 0x%llx has no refcount", named(q, q->metadata[i]));
    r = new_block_at(q, index, first);
    if (r == 0)
        r = refcount_add_locked(q, first, 1, 1);
    return r == 0 ? refcount_block_locked(q, index, ret) : r;
}

/* The first run of free clusters in a block from `i` on, at most `want`; 0: none. */
static uint64_t find_free(const struct qcow2 *q, const struct table *t, uint64_t *i,
                          uint64_t want) {
    uint64_t per = per_block(q), n = 0;

    while (*i < per && refcount_load(t->data, q->refcount_order, *i))
        ++*i;
    while (*i + n < per && n < want && !refcount_load(t->data, q->refcount_order, *i + n))
        n++;
    return n;
}

int alloc_locked(struct qcow2 *q, uint64_t want, uint64_t *ret_first, uint64_t *ret_count,
                 bool *ret_virgin) {
    uint64_t per = per_block(q), i, n, end;
    struct table *t;

    for (;;) {
        uint64_t index = q->hint / per;
        int r = block_to_write(q, index, &t);

        if (r < 0)
            return r;
        if (index != q->hint / per)
            continue; /* somebody freed something meanwhile */
        i = q->hint % per;
        n = find_free(q, t, &i, want);
        q->hint = index * per + i;
        if (n)
            break;
    }
    end = clusters_of(q, q->file_end);
    if (q->hint < end && q->hint + n > end)
        n = end - q->hint; /* virgin or not, not both */
    for (uint64_t k = 0; k < n; k++)
        refcount_store(t->data, q->refcount_order, i + k, 1);
    dirty_counts(q, t, i, n);
    *ret_first = q->hint;
    *ret_count = n;
    *ret_virgin = q->file->grows && q->hint >= end;
    q->hint += n;
    extend_to(q, q->hint);
    return 0;
}

static int all_free(struct qcow2 *q, uint64_t first, uint64_t count, uint64_t *ret_used) {
    for (uint64_t c = first; c < first + count; c++) {
        uint64_t n;
        int r = refcount_get_locked(q, c, &n);

        if (r < 0)
            return r;
        if (n) {
            *ret_used = c;
            return 0;
        }
    }
    *ret_used = 0;
    return 0;
}

/* How many blocks are missing for `count` clusters from `first` on and for the blocks themselves,
 * which follow them. */
static uint64_t missing_blocks(const struct qcow2 *q, uint64_t first, uint64_t count) {
    uint64_t per = per_block(q), blocks = 0, before;

    do {
        before = blocks;
        blocks = 0;
        for (uint64_t i = first / per; i <= (first + count + before - 1) / per; i++)
            blocks += i >= q->reftable_size || !(q->reftable[i] & ENTRY_OFFSET);
    } while (before != blocks);
    return blocks;
}

int alloc_area_locked(struct qcow2 *q, uint64_t count, uint64_t *ret_first) {
    uint64_t per = per_block(q), first, blocks, used = 0, at;
    int r;

    for (;;) {
        first = clusters_of(q, q->file_end);
        blocks = missing_blocks(q, first, count);
        if ((first + count + blocks - 1) / per >= q->reftable_size) {
            r = grow_reftable_locked(q, (first + count + blocks - 1) / per + 1);
            if (r < 0)
                return r;
            continue;
        }
        r = all_free(q, first, count + blocks, &used);
        if (r < 0)
            return r;
        if (!used)
            break;
        extend_to(q, used + 1);
    }
    at = first + count;
    for (uint64_t i = first / per; r == 0 && i <= (first + count + blocks - 1) / per; i++)
        if (!(q->reftable[i] & ENTRY_OFFSET))
            r = new_block_at(q, i, at++);
    if (r == 0)
        r = refcount_add_locked(q, first, count + blocks, 1);
    extend_to(q, first + count + blocks);
    *ret_first = first;
    return r;
}

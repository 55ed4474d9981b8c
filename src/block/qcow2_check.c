/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checking and repairing qcow2 images: all references are counted and held against the refcounts.
 *
 * Repair never changes the contents of the disk. Too high refcounts are lowered in place. Too low
 * ones (or a damaged table of them) are written anew behind everything else, and the header changes
 * over to them by one write; then the flags in L1 and L2 are brought in line.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2_internal.h"

enum { MAX_REPORTS = 100, COUNT_MAX = UINT16_MAX };
#define MAX_CLUSTERS (1ull << 31)

struct checker {
    struct qcow2 *q;
    struct qcow2_check *found;
    FILE *out;
    unsigned reports;
    uint16_t *counts; /* references to each cluster of the file */
    uint64_t clusters;
    uint64_t next_data; /* where contiguous data would go on */
    bool flags_wrong, counts_low;
};

static void say(struct checker *c, const char *fmt, ...) {
    va_list ap;

    if (!c->out || c->reports++ > MAX_REPORTS)
        return;
    if (c->reports > MAX_REPORTS) {
        fprintf(c->out, "... and more\n");
        return;
    }
    va_start(ap, fmt);
    vfprintf(c->out, fmt, ap);
    va_end(ap);
    fputc('\n', c->out);
}

/* ------------------------------------------------------------------ counting references */

static bool count_range(struct checker *c, uint64_t offset, uint64_t length, const char *what) {
    uint64_t first = cluster_of(c->q, offset), last;

    if (!length)
        return true;
    if (offset + length < offset || offset + length > c->q->file_end) {
        say(c, "ERROR: %s at 0x%llx lies past the end of the file", what,
            (unsigned long long)offset);
        c->found->corruptions++;
        return false;
    }
    last = cluster_of(c->q, offset + length - 1);
    for (uint64_t i = first; i <= last && i < c->clusters; i++)
        if (c->counts[i] < COUNT_MAX)
            c->counts[i]++;
    return true;
}

static bool aligned(struct checker *c, uint64_t offset, const char *what) {
    if (!(offset & (c->q->cluster_size - 1)))
        return true;
    say(c, "ERROR: %s at 0x%llx is not aligned", what, (unsigned long long)offset);
    c->found->corruptions++;
    return false;
}

static void check_copied(struct checker *c, uint64_t entry, const char *what) {
    uint64_t offset = entry & ENTRY_OFFSET, n;

    if (refcount_get_locked(c->q, cluster_of(c->q, offset), &n) < 0)
        return;
    if ((n == 1) == !!(entry & ENTRY_COPIED))
        return;
    say(c, "ERROR: OFLAG_COPIED of %s at 0x%llx contradicts its refcount %llu", what,
        (unsigned long long)offset, (unsigned long long)n);
    c->found->corruptions++;
    c->flags_wrong = true;
}

static void count_statistics(struct checker *c, uint64_t entry, uint64_t host) {
    c->found->allocated++;
    if (entry & ENTRY_COMPRESSED) {
        c->found->compressed++;
        c->found->fragmented++; /* as QEMU counts them */
        return;
    }
    if (c->next_data && c->next_data != host)
        c->found->fragmented++;
    c->next_data = host + c->q->cluster_size;
}

static void count_entry(struct checker *c, uint64_t entry, bool active) {
    uint64_t host = entry & ENTRY_OFFSET, length;

    if (entry & ENTRY_COMPRESSED) {
        compressed_place(c->q, entry, &host, &length);
        if (host + length > c->q->file_end && host < c->q->file_end)
            length = c->q->file_end - host; /* the last sector need not be there */
        if (entry & ENTRY_COPIED) {
            say(c, "ERROR: the compressed cluster at 0x%llx has OFLAG_COPIED",
                (unsigned long long)host);
            c->found->corruptions++;
        }
        host &= ~511ull;
        count_range(c, host, length, "compressed data");
        if (active)
            count_statistics(c, entry, host);
        return;
    }
    if (!host || !aligned(c, host, "a data cluster"))
        return;
    if (!count_range(c, host, c->q->cluster_size, "a data cluster") || !active)
        return;
    check_copied(c, entry, "a data cluster");
    if (c->q->version < 3 || !(entry & ENTRY_ZERO))
        count_statistics(c, entry, host);
}

static int count_l1(struct checker *c, const uint64_t *l1, uint32_t size, bool active) {
    struct qcow2 *q = c->q;
    uint8_t *table = malloc(q->cluster_size);
    uint64_t tables = 0;
    int r = table ? 0 : -ENOMEM;

    for (uint32_t i = 0; r == 0 && i < size; i++) {
        uint64_t offset = l1[i] & ENTRY_OFFSET;

        if (offset && ++tables > c->clusters) {
            say(c, "ERROR: an L1 table names more L2 tables than the file has clusters");
            c->found->corruptions++;
            break;
        }
        if (!offset || !aligned(c, offset, "an L2 table") ||
            !count_range(c, offset, q->cluster_size, "an L2 table"))
            continue;
        if (active)
            check_copied(c, l1[i], "an L2 table");
        c->next_data = 0; /* as QEMU counts: what lies in different tables is not fragmented */
        if (bytefile_read(q->file, table, q->cluster_size, offset) < 0) {
            c->found->errors++;
            continue;
        }
        for (uint64_t k = 0; k < 1ull << q->l2_bits; k++)
            count_entry(c, load_be64(table + k * q->entry_bytes), active);
    }
    free(table);
    return r;
}

/* ------------------------------------------------------------------ snapshots and bitmaps */

static int count_snapshot(struct checker *c, const uint8_t *entry) {
    uint64_t offset = load_be64(entry), *l1;
    uint32_t size = load_be32(entry + 8);
    int r;

    if (size > QCOW2_MAX_L1_BYTES / 8 || !aligned(c, offset, "a snapshot's L1 table") ||
        !count_range(c, offset, size * 8ull, "a snapshot's L1 table")) {
        c->found->corruptions++;
        return 0;
    }
    r = load_entries(c->q, offset, size, &l1);
    if (r < 0)
        return r;
    r = count_l1(c, l1, size, false);
    free(l1);
    return r;
}

static int count_snapshots(struct checker *c) {
    uint64_t at = c->q->snapshots_offset;
    uint8_t entry[40];
    int r = 0;

    for (uint32_t i = 0; r == 0 && i < c->q->snapshots; i++) {
        if (at > c->q->file_end || bytefile_read(c->q->file, entry, sizeof(entry), at) < 0) {
            c->found->errors++;
            return 0;
        }
        r = count_snapshot(c, entry);
        at += sizeof(entry) + load_be16(entry + 12) + load_be16(entry + 14);
        at += load_be32(entry + 36);
        at = (at + 7) & ~7ull;
    }
    if (r == 0)
        count_range(c, c->q->snapshots_offset, at - c->q->snapshots_offset, "the snapshot table");
    return r;
}

static int count_bitmap(struct checker *c, const uint8_t *entry) {
    uint64_t offset = load_be64(entry), *table;
    uint32_t size = load_be32(entry + 8);
    int r;

    if (size > QCOW2_MAX_L1_BYTES / 8 || !aligned(c, offset, "a bitmap's table") ||
        !count_range(c, offset, size * 8ull, "a bitmap's table"))
        return 0;
    r = load_entries(c->q, offset, size, &table);
    for (uint32_t i = 0; r == 0 && i < size; i++)
        if (table[i] & ENTRY_OFFSET)
            count_range(c, table[i] & ENTRY_OFFSET, c->q->cluster_size, "a bitmap's data");
    if (r == 0)
        free(table);
    return r;
}

static int count_bitmaps(struct checker *c) {
    struct qcow2 *q = c->q;
    uint64_t at = 0;
    uint8_t *dir;
    int r = 0;

    if (!q->bitmaps || !count_range(c, q->bitmaps_offset, q->bitmaps_size, "the bitmap directory"))
        return 0;
    if (q->bitmaps_size > QCOW2_MAX_L1_BYTES || !(dir = malloc(q->bitmaps_size + 1)))
        return -ENOMEM;
    r = bytefile_read(q->file, dir, q->bitmaps_size, q->bitmaps_offset);
    for (uint32_t i = 0; r == 0 && i < q->bitmaps && at + 24 <= q->bitmaps_size; i++) {
        r = count_bitmap(c, dir + at);
        at += 24 + load_be16(dir + at + 18) + load_be32(dir + at + 20);
        at = (at + 7) & ~7ull;
    }
    free(dir);
    return r;
}

/* ------------------------------------------------------------------ everything */

static void count_refblocks(struct checker *c) {
    for (uint32_t i = 0; i < c->q->reftable_size; i++) {
        uint64_t offset = c->q->reftable[i] & ENTRY_OFFSET;

        if (offset && (!aligned(c, offset, "a refcount block") ||
                       !count_range(c, offset, c->q->cluster_size, "a refcount block")))
            c->counts_low = true;
    }
}

static int count_all(struct checker *c, bool refcounts_too) {
    struct qcow2 *q = c->q;
    int r;

    count_range(c, 0, q->cluster_size, "the header");
    count_range(c, q->l1_offset, q->l1_size * 8ull, "the L1 table");
    if (refcounts_too) {
        count_range(c, q->reftable_offset, q->reftable_size * 8ull, "the refcount table");
        count_refblocks(c);
    }
    r = count_l1(c, q->l1, q->l1_size, true);
    if (r == 0)
        r = count_snapshots(c);
    return r < 0 ? r : count_bitmaps(c);
}

/* True if it was changed. */
static bool compare_one(struct checker *c, uint64_t cluster, uint64_t have, bool fix) {
    uint64_t want = cluster < c->clusters ? c->counts[cluster] : 0;

    if (have == want || (want == COUNT_MAX && have > want))
        return false;
    if (have < want) {
        say(c, "ERROR: cluster %llu has refcount %llu, but %llu references",
            (unsigned long long)cluster, (unsigned long long)have, (unsigned long long)want);
        c->found->corruptions++;
        c->counts_low = true;
        return false;
    }
    say(c, "Leaked cluster %llu has refcount %llu, but %llu references",
        (unsigned long long)cluster, (unsigned long long)have, (unsigned long long)want);
    if (fix && have - want <= INT32_MAX &&
        refcount_add_locked(c->q, cluster, 1, -(int)(have - want)) == 0) {
        c->found->fixed_leaks++;
        return true;
    }
    c->found->leaks++;
    return false;
}

/* A block that is something else, too, counts nothing: it would be compared for every entry of the
 * table that leads to it. count_refblocks has told of those outside of the file. */
static bool can_compare(struct checker *c, uint64_t offset) {
    if (offset & (c->q->cluster_size - 1) || offset >= c->q->file_end)
        return false;
    if (c->counts[cluster_of(c->q, offset)] <= 1)
        return true;
    say(c, "ERROR: the refcount block at 0x%llx is used more than once",
        (unsigned long long)offset);
    c->found->corruptions++;
    c->counts_low = true;
    return false;
}

static void compare_block(struct checker *c, uint64_t index, uint64_t per, bool fix) {
    struct table *t = NULL;

    if (!can_compare(c, c->q->reftable[index] & ENTRY_OFFSET))
        return;
    for (uint64_t i = 0; i < per; i++) {
        if (!t && refcount_block_locked(c->q, index, &t) < 0) {
            c->found->errors++;
            c->counts_low = true;
            return;
        }
        if (compare_one(c, index * per + i, refcount_load(t->data, c->q->refcount_order, i), fix))
            t = NULL; /* the change may have moved it */
    }
}

static void compare_all(struct checker *c, bool fix) {
    uint64_t per = c->q->cluster_size * 8 >> c->q->refcount_order, i = 0;

    for (uint32_t b = 0; b < c->q->reftable_size; b++)
        if (c->q->reftable[b] & ENTRY_OFFSET)
            compare_block(c, b, per, fix);
    for (; i < c->clusters; i++) {
        if (i / per < c->q->reftable_size && c->q->reftable[i / per] & ENTRY_OFFSET)
            i += per - 1 - i % per; /* done above */
        else if (c->counts[i])
            compare_one(c, i, 0, false);
    }
}

static int start_counting(struct checker *c) {
    free(c->counts);
    c->clusters = cluster_of(c->q, c->q->file_end);
    c->counts = c->clusters < MAX_CLUSTERS ? calloc(c->clusters + 1, sizeof(*c->counts)) : NULL;
    c->flags_wrong = c->counts_low = false;
    return c->counts ? 0 : -ENOMEM;
}

static int check_once(struct checker *c, bool fix_leaks) {
    int r = start_counting(c);

    c->found->corruptions = c->found->leaks = c->found->errors = 0;
    c->found->allocated = c->found->compressed = c->found->fragmented = 0;
    c->found->total = clusters_of(c->q, c->q->size);
    if (r == 0)
        r = count_all(c, true);
    if (r == 0)
        compare_all(c, fix_leaks);
    for (uint64_t i = 0; r == 0 && i < c->clusters; i++)
        if (c->counts[i])
            c->found->end = (i + 1) << c->q->cluster_bits;
    return r;
}

/* ------------------------------------------------------------------ repair */

/* Blocks, then the table, behind the last cluster of the file. */
static int write_counts(struct checker *c, uint64_t start, uint64_t blocks, uint64_t entries) {
    struct qcow2 *q = c->q;
    uint64_t per = q->cluster_size * 8 >> q->refcount_order, at = start;
    uint64_t end = start + blocks + clusters_of(q, entries * 8);
    uint8_t *block = malloc(q->cluster_size), *table = calloc(entries, 8);
    int r = block && table ? 0 : -ENOMEM;

    for (uint64_t b = 0; r == 0 && b < entries; b++) {
        bool any = false;

        memset(block, 0, q->cluster_size);
        for (uint64_t i = 0; i < per; i++) {
            uint64_t k = b * per + i, n = k < c->clusters ? c->counts[k] : k >= start && k < end;

            any |= n != 0;
            if (!refcount_store(block, q->refcount_order, i, n))
                r = -EOVERFLOW;
        }
        if (!any || r < 0)
            continue;
        store_be64(table + b * 8, at << q->cluster_bits);
        r = bytefile_write(q->file, block, q->cluster_size, at++ << q->cluster_bits);
    }
    if (r == 0)
        r = bytefile_write(q->file, table, entries * 8, (start + blocks) << q->cluster_bits);
    free(block);
    free(table);
    return r < 0 ? r : q->file->ops->sync(q->file);
}

static int rebuild(struct checker *c) {
    struct qcow2 *q = c->q;
    uint64_t per = q->cluster_size * 8 >> q->refcount_order, start, blocks = 1, before, entries;
    FILE *out = c->out;
    uint8_t field[12];
    int r = start_counting(c);

    c->out = NULL;
    if (r == 0)
        r = count_all(c, false);
    c->out = out;
    start = c->clusters;
    do { /* at most as many blocks as the table has entries: some stay unused */
        before = blocks;
        entries = (start + blocks + clusters_of(q, blocks * 8) + per) / per;
        entries = clusters_of(q, entries * 8) * q->cluster_size / 8;
        blocks = (start + blocks + clusters_of(q, entries * 8) + per) / per;
    } while (blocks != before);
    if (r == 0 && entries * 8 > QCOW2_MAX_REFTABLE_BYTES)
        r = -EFBIG;
    if (r == 0)
        r = write_counts(c, start, blocks, entries);
    store_be64(field, (start + blocks) << q->cluster_bits);
    store_be32(field + 8, (uint32_t)clusters_of(q, entries * 8));
    if (r == 0)
        r = header_write_fields(q, H_REFTABLE_OFFSET, field, sizeof(field));
    if (r < 0)
        return r;
    table_drop_all_locked(q);
    free(q->reftable);
    free(q->metadata);
    free(q->checked);
    q->reftable = q->metadata = NULL;
    q->checked = NULL;
    q->metadata_count = q->hint = 0;
    q->reftable_offset = (start + blocks) << q->cluster_bits;
    q->reftable_size = (uint32_t)entries;
    q->file_end = (start + blocks + clusters_of(q, entries * 8)) << q->cluster_bits;
    r = load_entries(q, q->reftable_offset, q->reftable_size, &q->reftable);
    return r == 0 ? metadata_collect_damaged(q) : r;
}

static uint64_t right_flag(struct checker *c, uint64_t entry) {
    uint64_t n, offset = entry & ENTRY_OFFSET;

    if (!offset || entry & ENTRY_COMPRESSED || offset & (c->q->cluster_size - 1) ||
        refcount_get_locked(c->q, cluster_of(c->q, offset), &n) < 0)
        return entry;
    return n == 1 ? entry | ENTRY_COPIED : entry & ~ENTRY_COPIED;
}

static int fix_flags(struct checker *c) {
    struct qcow2 *q = c->q;

    for (uint32_t i = 0; i < q->l1_size; i++) {
        uint64_t now = right_flag(c, q->l1[i]), offset = now & ENTRY_OFFSET;

        if (now != q->l1[i]) {
            q->l1[i] = now;
            l1_dirty_locked(q, i);
        }
        if (!offset || offset & (q->cluster_size - 1) || offset >= q->file_end)
            continue;
        for (uint64_t k = 0; k < 1ull << q->l2_bits; k++) {
            uint64_t cluster = ((uint64_t)i << q->l2_bits) + k, entry, want;
            struct table *t;
            int r = table_get_locked(q, offset, true, &t);

            if (r < 0)
                return r;
            entry = l2_load(q, t, cluster);
            want = right_flag(c, entry); /* may read a block, and forget this table */
            if (want == entry)
                continue;
            r = table_get_locked(q, offset, true, &t);
            if (r < 0)
                return r;
            l2_store_locked(q, t, cluster, want);
        }
        if (q->dirty_tables > q->max_tables / 2) {
            int r = flush_all_locked(q);

            if (r < 0)
                return r;
        }
    }
    return flush_all_locked(q);
}

static int repair(struct checker *c, enum qcow2_repair how) {
    uint64_t corruptions = c->found->corruptions, leaks = c->found->leaks;
    bool low = c->counts_low, flags = c->flags_wrong;
    FILE *out = c->out;
    int r = 0;

    if (how == QCOW2_REPAIR_ALL && low)
        r = rebuild(c);
    c->out = NULL;
    if (r == 0)
        r = check_once(c, true);
    /* Flags last: a refcount that was lowered to 1 makes another one right. */
    if (r == 0 && (how == QCOW2_REPAIR_ALL ? low || flags || leaks : !low && !flags)) {
        r = fix_flags(c);
        if (r == 0)
            r = check_once(c, false);
    }
    if (r == 0)
        r = flush_all_locked(c->q);
    c->out = out;
    c->found->fixed_corruptions =
        corruptions > c->found->corruptions ? corruptions - c->found->corruptions : 0;
    c->found->fixed_leaks = leaks > c->found->leaks ? leaks - c->found->leaks : 0;
    if (r == 0 && how == QCOW2_REPAIR_ALL && !c->found->corruptions && !c->found->errors)
        r = header_set_flags(c->q,
                             c->q->incompatible & ~(uint64_t)(INCOMPAT_DIRTY | INCOMPAT_CORRUPT),
                             c->q->autoclear);
    return r;
}

int qcow2_check(struct qcow2 *q, enum qcow2_repair how, FILE *out, struct qcow2_check *ret,
                struct error *err) {
    struct checker c = {.q = q, .found = ret, .out = out};
    bool dirty = q->incompatible & (INCOMPAT_DIRTY | INCOMPAT_CORRUPT);
    int r = 0;

    memset(ret, 0, sizeof(*ret));
    if (how != QCOW2_REPAIR_NONE && q->readonly)
        return error_set(err, -EROFS, "disk image '%s' is open for reading only", q->path);
    pthread_mutex_lock(&q->lock);
    if (!q->readonly)
        r = flush_all_locked(q);
    if (r == 0)
        r = check_once(&c, false);
    if (r == 0 && how != QCOW2_REPAIR_NONE &&
        (ret->leaks || ret->corruptions || ret->errors || (dirty && how == QCOW2_REPAIR_ALL)))
        r = repair(&c, how);
    pthread_mutex_unlock(&q->lock);
    free(c.counts);
    return r < 0 ? error_set(err, r, "disk image '%s' cannot be checked: %s", q->path, strerror(-r))
                 : 0;
}

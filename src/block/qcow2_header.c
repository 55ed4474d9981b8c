/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The header of qcow2 images: reading, checking, creating, changing ("QCOW2 image format", sections
 * Header, Header extensions).
 *
 * All that ever changes while an image is in use lies in the first 512 bytes, and is written as one
 * piece of one sector.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/trace.h"
#include "block/qcow2_internal.h"

enum { HEADER_SECTOR = 512 };

static const char *const feature_names[] = {"dirty bit", "corrupt bit", "external data file",
                                            "compression type", "extended L2 entries"};

int corrupt(struct qcow2 *q, const char *fmt, ...) {
    char text[200];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    trace(qcow2_damaged, q->path, text);
    return -EUCLEAN;
}

static int bad(struct qcow2 *q, struct error *err, const char *what) {
    return error_set(
        err, -EUCLEAN,
        "disk image '%s' is damaged: %s; restore it from a backup, or see what viv-img "
        "check says",
        q->path, what);
}

int load_entries(struct qcow2 *q, uint64_t offset, uint32_t count, uint64_t **ret) {
    uint64_t *e = malloc(count ? count * sizeof(*e) : 1);
    int r;

    if (!e)
        return -ENOMEM;
    r = bytefile_read(q->file, e, count * sizeof(*e), offset);
    if (r < 0) {
        free(e);
        return r;
    }
    for (uint32_t i = 0; i < count; i++)
        e[i] = load_be64(&e[i]);
    *ret = e;
    return 0;
}

/* ------------------------------------------------------------------ features and extensions */

/* The name that the image itself gives to an incompatible feature. */
static void name_feature(const uint8_t *ext, uint32_t length, unsigned bit, char ret[47]) {
    for (uint32_t i = 0; i + 48 <= length; i += 48)
        if (ext[i] == 0 && ext[i + 1] == bit) {
            memcpy(ret, ext + i + 2, 46);
            ret[46] = 0;
            return;
        }
}

static int refuse_features(struct qcow2 *q, const uint8_t *names, uint32_t length,
                           struct error *err) {
    uint64_t unknown = q->incompatible & ~(uint64_t)(INCOMPAT_DIRTY | INCOMPAT_CORRUPT |
                                                     INCOMPAT_COMPRESSION | INCOMPAT_EXTENDED_L2);
    char name[47] = "";
    unsigned bit;

    if (!unknown)
        return 0;
    bit = (unsigned)__builtin_ctzll(unknown);
    if (names)
        name_feature(names, length, bit, name);
    if (!*name && bit < sizeof(feature_names) / sizeof(feature_names[0]))
        snprintf(name, sizeof(name), "%s", feature_names[bit]);
    if (bit == 2)
        return error_set(err, -ENOTSUP,
                         "disk image '%s' keeps its data in an external data file, which is not "
                         "supported; convert it: qemu-img convert -O qcow2 '%s' new.qcow2",
                         q->path, q->path);
    return error_set(err, -ENOTSUP,
                     "disk image '%s' needs the feature '%s' (incompatible bit %u), which is not "
                     "supported; convert it with the program that made it",
                     q->path, *name ? name : "unknown", bit);
}

static void read_bitmaps_extension(struct qcow2 *q, const uint8_t *p, uint32_t length) {
    if (length < 24 || !(q->autoclear & AUTOCLEAR_BITMAPS))
        return;
    q->bitmaps = load_be32(p);
    q->bitmaps_size = load_be64(p + 8);
    q->bitmaps_offset = load_be64(p + 16);
}

static int read_extensions(struct qcow2 *q, const uint8_t *head, uint64_t size, uint64_t end,
                           struct error *err) {
    const uint8_t *names = NULL;
    uint32_t names_length = 0;
    uint64_t at = q->header_length;

    if (end < at || end > size)
        end = size;
    while (at + 8 <= end) {
        uint32_t type = load_be32(head + at), length = load_be32(head + at + 4);

        at += 8;
        if (type == EXT_END)
            break;
        if (length > end - at)
            return bad(q, err, "a header extension lies past the end of the header");
        if (type == EXT_FORMAT && length < sizeof(q->backing_format)) {
            memcpy(q->backing_format, head + at, length);
            q->backing_format[length] = 0;
        } else if (type == EXT_NAMES) {
            names = head + at;
            names_length = length;
        } else if (type == EXT_BITMAPS) {
            read_bitmaps_extension(q, head + at, length);
        }
        at += (length + 7ull) & ~7ull;
    }
    return refuse_features(q, names, names_length, err);
}

/* ------------------------------------------------------------------ reading */

static int read_v3(struct qcow2 *q, const uint8_t *h, struct error *err) {
    q->incompatible = load_be64(h + H_INCOMPATIBLE);
    q->compatible = load_be64(h + H_COMPATIBLE);
    q->autoclear = load_be64(h + H_AUTOCLEAR);
    q->refcount_order = load_be32(h + H_REFCOUNT_ORDER);
    q->header_length = load_be32(h + H_LENGTH);
    if (q->header_length < QCOW2_HEADER_V3 || q->header_length > q->cluster_size)
        return bad(q, err, "the length of its header is impossible");
    if (q->refcount_order > 6)
        return bad(q, err, "its refcounts are wider than 64 bits");
    q->zstd = q->header_length > H_COMPRESSION && h[H_COMPRESSION] == 1;
    if (q->header_length > H_COMPRESSION && h[H_COMPRESSION] > 1)
        return error_set(err, -ENOTSUP,
                         "disk image '%s' is compressed by method %u, which is not known; convert "
                         "it with the program that made it",
                         q->path, h[H_COMPRESSION]);
    if (q->zstd != !!(q->incompatible & INCOMPAT_COMPRESSION))
        return bad(q, err, "its compression type contradicts its feature bits");
    return 0;
}

static int read_fixed(struct qcow2 *q, const uint8_t *h, struct error *err) {
    if (load_be32(h) != QCOW2_MAGIC)
        return error_set(err, -EINVAL,
                         "disk image '%s' is no qcow2 image (its first bytes say so); use "
                         "format=raw if it is a raw one",
                         q->path);
    q->version = load_be32(h + H_VERSION);
    if (q->version != 2 && q->version != 3)
        return error_set(err, -ENOTSUP,
                         "disk image '%s' is of qcow version %u, only 2 and 3 are supported; "
                         "convert it: qemu-img convert -O qcow2 '%s' new.qcow2",
                         q->path, q->version, q->path);
    q->cluster_bits = load_be32(h + H_CLUSTER_BITS);
    if (q->cluster_bits < QCOW2_MIN_BITS || q->cluster_bits > QCOW2_MAX_BITS)
        return bad(q, err, "its cluster size is not between 512 bytes and 2 MiB");
    q->cluster_size = 1ull << q->cluster_bits;
    q->size = load_be64(h + H_SIZE);
    if (q->size > INT64_MAX)
        return bad(q, err, "the size of the disk is impossible");
    q->size &= ~511ull; /* as QEMU does */
    q->l1_size = load_be32(h + H_L1_SIZE);
    q->l1_offset = load_be64(h + H_L1_OFFSET);
    q->reftable_offset = load_be64(h + H_REFTABLE_OFFSET);
    q->snapshots = load_be32(h + H_SNAPSHOTS);
    q->snapshots_offset = load_be64(h + H_SNAPSHOTS_OFFSET);
    q->header_length = QCOW2_HEADER_V2;
    q->refcount_order = 4;
    if (q->version >= 3 && read_v3(q, h, err) < 0)
        return -EUCLEAN;
    q->entry_bytes = q->incompatible & INCOMPAT_EXTENDED_L2 ? 16 : 8;
    q->l2_bits = q->cluster_bits - (q->entry_bytes == 16 ? 4 : 3);
    if (q->entry_bytes == 16 && q->cluster_bits < 14)
        return bad(q, err, "extended L2 entries need clusters of 16 KiB or more");
    return 0;
}

static int check_crypt(struct qcow2 *q, const uint8_t *h, struct error *err) {
    if (load_be32(h + H_CRYPT) == 0)
        return 0;
    return error_set(err, -ENOTSUP,
                     "disk image '%s' is encrypted, which is not supported; decrypt it: qemu-img "
                     "convert -O qcow2 with the secret, then use the copy",
                     q->path);
}

/* A table that the header names must be aligned and lie in the file. */
static bool place_ok(const struct qcow2 *q, uint64_t offset, uint64_t bytes) {
    return !(offset & (q->cluster_size - 1)) && offset <= q->file_end &&
           bytes <= q->file_end - offset;
}

static int check_places(struct qcow2 *q, const uint8_t *h, struct error *err) {
    uint64_t clusters = clusters_of(q, q->size);
    uint64_t needed = (clusters >> q->l2_bits) + ((clusters & ((1ull << q->l2_bits) - 1)) != 0);
    uint64_t reftable_bytes = (uint64_t)load_be32(h + H_REFTABLE_CLUSTERS) << q->cluster_bits;

    if (q->l1_size > QCOW2_MAX_L1_BYTES / 8)
        return bad(q, err, "its L1 table is larger than 32 MiB");
    if (q->l1_size < needed)
        return bad(q, err, "its L1 table is too small for the size of the disk");
    if (q->l1_size && !place_ok(q, q->l1_offset, q->l1_size * 8ull))
        return bad(q, err, "its L1 table lies past the end of the file or is not aligned");
    if (reftable_bytes > QCOW2_MAX_REFTABLE_BYTES || !reftable_bytes)
        return bad(q, err, "its refcount table is missing or larger than 8 MiB");
    if (!place_ok(q, q->reftable_offset, reftable_bytes))
        return bad(q, err, "its refcount table lies past the end of the file or is not aligned");
    if (q->snapshots > QCOW2_MAX_SNAPSHOTS)
        return bad(q, err, "it has more than 65536 internal snapshots");
    if (q->snapshots && !place_ok(q, q->snapshots_offset, q->snapshots * 40ull))
        return bad(q, err, "its snapshot table lies past the end of the file or is not aligned");
    q->reftable_size = (uint32_t)(reftable_bytes / 8);
    return 0;
}

static int read_backing(struct qcow2 *q, const uint8_t *head, uint64_t size, struct error *err) {
    uint64_t at = load_be64(head + H_BACKING_OFFSET);
    uint32_t length = load_be32(head + H_BACKING_SIZE);

    if (!at || !length)
        return 0;
    if (length > 1023 || at > size || length > size - at)
        return bad(q, err, "the name of its backing file lies past the end of the header");
    memcpy(q->backing, head + at, length);
    q->backing[length] = 0;
    return 0;
}

static int unreadable(const struct qcow2 *q, int r, struct error *err) {
    return error_set(err, r, "disk image '%s' cannot be read: %s; check the storage", q->path,
                     strerror(-r));
}

int header_read(struct qcow2 *q, bool check, struct error *err) {
    uint8_t first[HEADER_SECTOR], *head;
    int r = bytefile_read(q->file, first, sizeof(first), 0);

    if (r < 0)
        return unreadable(q, r, err);
    r = read_fixed(q, first, err);
    if (r == 0)
        r = check_crypt(q, first, err);
    if (r < 0)
        return r;
    head = malloc(q->cluster_size);
    if (!head)
        return unreadable(q, -ENOMEM, err);
    r = bytefile_read(q->file, head, q->cluster_size, 0);
    if (r < 0)
        unreadable(q, r, err);
    else
        r = read_extensions(q, head, q->cluster_size, load_be64(head + H_BACKING_OFFSET), err);
    if (r == 0)
        r = read_backing(q, head, q->cluster_size, err);
    if (r == 0 && check)
        r = check_places(q, head, err);
    free(head);
    return r;
}

/* ------------------------------------------------------------------ writing */

int header_write_fields(struct qcow2 *q, unsigned at, const void *data, unsigned length) {
    int r = bytefile_write(q->file, data, length, at);

    return r < 0 ? r : q->file->ops->sync(q->file);
}

int header_set_flags(struct qcow2 *q, uint64_t incompatible, uint64_t autoclear) {
    uint8_t f[24];
    int r;

    if (q->version < 3 || (incompatible == q->incompatible && autoclear == q->autoclear))
        return 0;
    store_be64(f, incompatible);
    store_be64(f + 8, q->compatible);
    store_be64(f + 16, autoclear);
    r = header_write_fields(q, H_INCOMPATIBLE, f, sizeof(f));
    if (r == 0) {
        q->incompatible = incompatible;
        q->autoclear = autoclear;
    }
    return r;
}

/* An extension behind `at`; the next place. What does not fit is told by the place. */
static uint64_t put_extension(uint8_t *head, uint64_t at, uint64_t size, uint32_t type,
                              const void *data, uint32_t length) {
    uint64_t end = at + 8 + ((length + 7ull) & ~7ull);

    if (end > size)
        return end;
    store_be32(head + at, type);
    store_be32(head + at + 4, length);
    memcpy(head + at + 8, data, length);
    return end;
}

/* The extensions that this program keeps, and their end mark; returns where they end, or 0. */
static uint64_t put_own_extensions(uint8_t *head, uint64_t at, uint64_t size,
                                   const struct header_tail *t) {
    uint8_t bitmaps[24] = {0};

    if (t->backing && *t->backing && t->format && *t->format)
        at = put_extension(head, at, size, EXT_FORMAT, t->format, (uint32_t)strlen(t->format));
    if (t->bitmaps) {
        store_be32(bitmaps, t->bitmaps);
        store_be64(bitmaps + 8, t->bitmaps_size);
        store_be64(bitmaps + 16, t->bitmaps_offset);
        at = put_extension(head, at, size, EXT_BITMAPS, bitmaps, sizeof(bitmaps));
    }
    at += 8; /* the end of extensions: zeroes */
    return at <= size ? at : 0;
}

static bool put_name(uint8_t *head, uint64_t at, uint64_t size, const char *name) {
    size_t n = name ? strlen(name) : 0;

    store_be64(head + H_BACKING_OFFSET, n ? at : 0);
    store_be32(head + H_BACKING_SIZE, (uint32_t)n);
    if (at + n > size || n > 1023)
        return false;
    if (n)
        memcpy(head + at, name, n);
    return true;
}

/* Copies extensions that others keep from one header to another; returns where they end. */
static uint64_t keep_extensions(const struct qcow2 *q, const uint8_t *old, uint8_t *head) {
    uint64_t at = q->header_length, to = q->header_length;

    while (at + 8 <= q->cluster_size && load_be32(old + at) != EXT_END) {
        uint64_t n = 8 + ((load_be32(old + at + 4) + 7ull) & ~7ull);
        uint32_t type = load_be32(old + at);

        if (n > q->cluster_size - at)
            break;
        if (type != EXT_FORMAT && type != EXT_NAMES && type != EXT_BITMAPS) {
            memmove(head + to, old + at, n);
            to += n;
        }
        at += n;
    }
    return to;
}

/* Where the name can be written while the old header still counts. */
static uint64_t place_name(const struct qcow2 *q, const uint8_t *old, uint64_t end, size_t length) {
    uint64_t at = load_be64(old + H_BACKING_OFFSET), size = load_be32(old + H_BACKING_SIZE);

    if (end + length <= HEADER_SECTOR)
        return end;
    if (end < HEADER_SECTOR)
        end = HEADER_SECTOR;
    if (at && size && end < at + size && at < end + length && at + size + length <= q->cluster_size)
        return at + size;
    return end;
}

/*
 * The name first, where neither the old header nor the old name lies; then the first sector, which
 * holds everything else, as one write. Departure: in clusters of less than 2 KiB, with long names
 * or with extensions of others that fill the sector, that is no longer one write.
 */
static int write_head(struct qcow2 *q, const uint8_t *head, uint64_t end) {
    int r = 0;

    if (end > HEADER_SECTOR) {
        r = bytefile_write(q->file, head + HEADER_SECTOR, end - HEADER_SECTOR, HEADER_SECTOR);
        if (r == 0)
            r = q->file->ops->sync(q->file);
    }
    if (r == 0)
        r = bytefile_write(q->file, head, HEADER_SECTOR, 0);
    return r < 0 ? r : q->file->ops->sync(q->file);
}

int header_rewrite(struct qcow2 *q, const struct header_tail *t) {
    uint8_t *old = malloc(q->cluster_size), *head = malloc(q->cluster_size);
    size_t n = t->backing ? strlen(t->backing) : 0;
    uint64_t end, at;
    int r = old && head ? bytefile_read(q->file, old, q->cluster_size, 0) : -ENOMEM;

    if (r == 0) {
        memcpy(head, old, q->cluster_size);
        memset(head + q->header_length, 0, HEADER_SECTOR - q->header_length);
        end = keep_extensions(q, old, head);
        memset(head + end, 0, end < HEADER_SECTOR ? HEADER_SECTOR - end : 0);
        end = put_own_extensions(head, end, q->cluster_size, t);
        if (q->version >= 3)
            store_be64(head + H_AUTOCLEAR, t->bitmaps ? AUTOCLEAR_BITMAPS : 0);
        at = end ? place_name(q, old, end, n) : 0;
        if (!at || !put_name(head, at, q->cluster_size, t->backing))
            r = -ENAMETOOLONG;
        else
            r = write_head(q, head, n ? at + n : end);
    }
    free(old);
    free(head);
    return r;
}

int qcow2_set_backing(struct qcow2 *q, const char *path, const char *format, struct error *err) {
    struct header_tail t = {path, format, q->bitmaps, q->bitmaps_size, q->bitmaps_offset};
    int r = qcow2_flush(q);

    if (r == 0)
        r = header_rewrite(q, &t);
    if (r == 0) {
        snprintf(q->backing, sizeof(q->backing), "%s", path ? path : "");
        snprintf(q->backing_format, sizeof(q->backing_format), "%s", path && format ? format : "");
    }
    if (r == -ENAMETOOLONG)
        return error_set(err, r,
                         "disk image '%s': the name of the backing file does not fit into its "
                         "header; use a shorter path",
                         q->path);
    return r < 0 ? error_set(err, r, "disk image '%s': its header cannot be changed: %s", q->path,
                             strerror(-r))
                 : 0;
}

/* ------------------------------------------------------------------ create */

struct layout {
    uint64_t cluster, l1_entries, l1_clusters, blocks, table_clusters, total;
};

/* Header, refcount table, refcount blocks, L1 in this order: how many of each. */
static void lay_out(const struct qcow2_create *c, struct layout *l) {
    uint64_t per_l1 = (1ull << c->cluster_bits) << (c->cluster_bits - 3);
    uint64_t per_block, before;

    l->cluster = 1ull << c->cluster_bits;
    per_block = l->cluster * 8 / c->refcount_bits;
    l->l1_entries = c->size / per_l1 + (c->size % per_l1 != 0);
    l->l1_clusters = (l->l1_entries * 8 + l->cluster - 1) / l->cluster;
    l->blocks = l->table_clusters = 1;
    do {
        before = l->blocks + l->table_clusters;
        l->total = 1 + l->table_clusters + l->blocks + l->l1_clusters;
        l->blocks = (l->total + per_block - 1) / per_block;
        l->table_clusters = (l->blocks * 8 + l->cluster - 1) / l->cluster;
    } while (before != l->blocks + l->table_clusters);
}

static int write_header(struct bytefile *f, const struct qcow2_create *c, const struct layout *l,
                        const char *path, struct error *err) {
    uint8_t *h = calloc(1, l->cluster);
    unsigned length = c->version == 2 ? QCOW2_HEADER_V2 : QCOW2_HEADER_V3 + 8;
    unsigned order = (unsigned)__builtin_ctz(c->refcount_bits);
    uint64_t end;
    int r;

    if (!h)
        return -ENOMEM;
    store_be32(h, QCOW2_MAGIC);
    store_be32(h + H_VERSION, c->version);
    store_be32(h + H_CLUSTER_BITS, c->cluster_bits);
    store_be64(h + H_SIZE, c->size);
    store_be32(h + H_L1_SIZE, (uint32_t)l->l1_entries);
    store_be64(h + H_L1_OFFSET, (1 + l->table_clusters + l->blocks) * l->cluster);
    store_be64(h + H_REFTABLE_OFFSET, l->cluster);
    store_be32(h + H_REFTABLE_CLUSTERS, (uint32_t)l->table_clusters);
    if (c->version >= 3) {
        store_be64(h + H_INCOMPATIBLE, c->zstd ? INCOMPAT_COMPRESSION : 0);
        store_be64(h + H_COMPATIBLE, c->lazy_refcounts ? COMPAT_LAZY : 0);
        store_be32(h + H_REFCOUNT_ORDER, order);
        store_be32(h + H_LENGTH, length);
        h[H_COMPRESSION] = c->zstd;
    }
    end = put_own_extensions(h, length, l->cluster,
                             &(struct header_tail){c->backing, c->backing_format, 0, 0, 0});
    if (!end || !put_name(h, end, l->cluster, c->backing))
        r = error_set(err, -ENAMETOOLONG,
                      "disk image '%s': the name of the backing file does not fit into its header; "
                      "use a shorter path",
                      path);
    else
        r = bytefile_write(f, h, l->cluster, 0);
    free(h);
    return r;
}

static int write_tables(struct bytefile *f, const struct qcow2_create *c, const struct layout *l) {
    unsigned order = (unsigned)__builtin_ctz(c->refcount_bits);
    uint64_t per_block = l->cluster * 8 / c->refcount_bits;
    uint8_t *t = malloc(l->cluster);
    int r = t ? 0 : -ENOMEM;

    for (uint64_t b = 0; r == 0 && b < l->blocks; b++) {
        memset(t, 0, l->cluster);
        for (uint64_t i = 0; i < per_block && b * per_block + i < l->total; i++)
            refcount_store(t, order, i, 1);
        r = bytefile_write(f, t, l->cluster, (1 + l->table_clusters + b) * l->cluster);
    }
    for (uint64_t k = 0; r == 0 && k < l->table_clusters; k++) {
        uint64_t per = l->cluster / 8;

        memset(t, 0, l->cluster);
        for (uint64_t i = 0; i < per && k * per + i < l->blocks; i++)
            store_be64(t + i * 8, (1 + l->table_clusters + k * per + i) * l->cluster);
        r = bytefile_write(f, t, l->cluster, (1 + k) * l->cluster);
    }
    memset(t ? t : (uint8_t[1]){0}, 0, t ? l->cluster : 1);
    for (uint64_t k = 0; r == 0 && k < l->l1_clusters; k++)
        r = bytefile_write(f, t, l->cluster, (1 + l->table_clusters + l->blocks + k) * l->cluster);
    free(t);
    return r;
}

static int check_create(const char *path, const struct qcow2_create *c, struct error *err) {
    struct layout l;

    if (c->cluster_bits < QCOW2_MIN_BITS || c->cluster_bits > QCOW2_MAX_BITS)
        return error_set(err, -EINVAL,
                         "disk image '%s': the cluster size must be a power of two between 512 and "
                         "2M",
                         path);
    if (c->refcount_bits > 64 || c->refcount_bits & (c->refcount_bits - 1) || !c->refcount_bits)
        return error_set(err, -EINVAL,
                         "disk image '%s': the refcount width must be a power of two up to 64 bits",
                         path);
    if (c->version == 2 && (c->refcount_bits != 16 || c->lazy_refcounts || c->zstd))
        return error_set(err, -EINVAL,
                         "disk image '%s': version 2 (compat=0.10) has 16-bit refcounts, zlib and "
                         "no lazy refcounts; use compat=1.1",
                         path);
    lay_out(c, &l);
    if (c->size > INT64_MAX || l.l1_entries * 8 > QCOW2_MAX_L1_BYTES)
        return error_set(err, -EFBIG,
                         "disk image '%s': the disk is too large for clusters of %llu bytes; use a "
                         "larger cluster_size",
                         path, 1ull << c->cluster_bits);
    return 0;
}

int qcow2_create(struct bytefile *f, const char *path, const struct qcow2_create *options,
                 struct error *err) {
    struct qcow2_create c = *options;
    struct layout l;
    int r;

    c.cluster_bits = c.cluster_bits ? c.cluster_bits : 16;
    c.refcount_bits = c.refcount_bits ? c.refcount_bits : 16;
    c.version = c.version ? c.version : 3;
    r = check_create(path, &c, err);
    if (r < 0)
        return r;
    lay_out(&c, &l);
    r = write_tables(f, &c, &l);
    if (r == 0)
        r = f->ops->sync(f);
    if (r == 0) /* last: a half-made image is none */
        r = write_header(f, &c, &l, path, err);
    if (r == 0)
        r = f->ops->sync(f);
    return r < 0 ? error_set(err, r,
                             "disk image '%s' cannot be written: %s; make room, or check "
                             "the storage",
                             path, strerror(-r))
                 : 0;
}

bool qcow2_has_magic(struct bytefile *f) {
    uint8_t m[4];

    return bytefile_read(f, m, sizeof(m), 0) == 0 && load_be32(m) == QCOW2_MAGIC;
}

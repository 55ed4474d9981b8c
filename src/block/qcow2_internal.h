/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of the qcow2 format share.
 *
 * q->lock guards everything below; functions named _locked expect it and may let go of it where
 * their comment says so. The order in which tables reach the file is the business of qcow2_table.c
 * alone; docs/qcow2.md says why it is safe.
 */
#ifndef BLOCK_QCOW2_INTERNAL_H
#define BLOCK_QCOW2_INTERNAL_H

#include <pthread.h>

#include "block/dirty.h"
#include "block/qcow2.h"

enum {
    QCOW2_MAGIC = 0x514649fb,
    QCOW2_HEADER_V2 = 72,
    QCOW2_HEADER_V3 = 104,
    QCOW2_MIN_BITS = 9,
    QCOW2_MAX_BITS = 21,
    QCOW2_MAX_L1_BYTES = 32 << 20,
    QCOW2_MAX_REFTABLE_BYTES = 8 << 20,
    QCOW2_MAX_SNAPSHOTS = 65536,
    QCOW2_PIECE = 4 << 20, /* a longer request is done in parts */
};

/* Offsets in the header. */
enum {
    H_VERSION = 4,
    H_BACKING_OFFSET = 8,
    H_BACKING_SIZE = 16,
    H_CLUSTER_BITS = 20,
    H_SIZE = 24,
    H_CRYPT = 32,
    H_L1_SIZE = 36,
    H_L1_OFFSET = 40,
    H_REFTABLE_OFFSET = 48,
    H_REFTABLE_CLUSTERS = 56,
    H_SNAPSHOTS = 60,
    H_SNAPSHOTS_OFFSET = 64,
    H_INCOMPATIBLE = 72,
    H_COMPATIBLE = 80,
    H_AUTOCLEAR = 88,
    H_REFCOUNT_ORDER = 96,
    H_LENGTH = 100,
    H_COMPRESSION = 104,
};

enum {
    INCOMPAT_DIRTY = 1,
    INCOMPAT_CORRUPT = 2,
    INCOMPAT_DATA_FILE = 4,
    INCOMPAT_COMPRESSION = 8,
    INCOMPAT_EXTENDED_L2 = 16,
    COMPAT_LAZY = 1,
    AUTOCLEAR_BITMAPS = 1,
};

enum { EXT_END = 0, EXT_FORMAT = 0xe2792aca, EXT_NAMES = 0x6803f857, EXT_BITMAPS = 0x23852875 };

#define ENTRY_COPIED     (1ull << 63)
#define ENTRY_COMPRESSED (1ull << 62)
#define ENTRY_ZERO       1ull
#define ENTRY_OFFSET     0x00fffffffffffe00ull
#define ENTRY_RESERVED   0x3f000000000001feull

/* A refcount block or L2 table in memory: one cluster, as in the file. */
struct table {
    uint64_t offset;
    bool l2;
    bool writing;                /* a flush has a copy on its way: stays in memory */
    uint32_t dirty_lo, dirty_hi; /* bytes; lo == hi: clean */
    struct table *next_hash, *newer, *older;
    uint8_t data[];
};

struct range { /* clusters of the disk that a request works on */
    uint64_t first, last;
    bool exclusive;
    struct range *next;
};

struct run { /* host clusters */
    uint64_t first, count;
};

enum { BITMAP_MAX_NAME = 1023 };

struct bitmap { /* qcow2_bitmap.c */
    struct bitmap *next;
    char *name;
    unsigned shift; /* log2 of the bytes of a bit */
    bool enabled, inconsistent;
    struct dirty dirty;  /* no words: the image is read only, or inconsistent */
    struct dirty *taken; /* what a backup copies */
    /* in the file */
    uint8_t type, *extra;
    uint32_t flags, extra_size, table_size;
    uint64_t table_offset;
};

struct qcow2 {
    struct bytefile *file;
    char *path;
    bool readonly;
    qcow2_below_fn *below;
    void *below_opaque;
    uint64_t below_size;

    pthread_mutex_t lock;
    pthread_cond_t changed; /* a range or the flush has ended */

    /* header */
    unsigned version, cluster_bits, refcount_order, header_length;
    unsigned l2_bits, entry_bytes; /* log2 of entries a table; 8 or 16 */
    uint64_t cluster_size, size;
    uint64_t incompatible, compatible, autoclear;
    bool zstd;
    uint64_t l1_offset, reftable_offset, snapshots_offset, bitmaps_offset, bitmaps_size;
    uint32_t l1_size, reftable_size, snapshots, bitmaps;
    char backing[1024], backing_format[16];

    /* L1 and refcount table, in the host's byte order; entries [lo, hi) differ from the file's */
    uint64_t *l1, *reftable;
    uint32_t l1_lo, l1_hi, reftable_lo, reftable_hi;

    /* tables */
    struct table **hash;
    struct table *newest, *oldest;
    unsigned hash_size, tables, max_tables, dirty_tables;

    /* allocation */
    uint64_t hint;      /* no free cluster below it */
    uint64_t file_end;  /* bytes; behind it nothing was ever written */
    uint64_t *metadata; /* clusters of all tables at open, sorted: data may not lie there */
    uint64_t metadata_count;
    uint8_t *checked;  /* bitmap of refcount blocks that agree with `metadata` */
    struct run *frees; /* their last reference goes with the next flush */
    unsigned free_count, free_cap;
    uint64_t compressed_at; /* where the next compressed cluster goes */

    pthread_mutex_t bitmap_lock; /* innermost */
    struct bitmap *bitmap_list;  /* bitmap_lock, but while the image is opened or closed */
    bool bitmaps_kept;           /* they are written when the image is closed */
    bool bitmaps_closed;         /* atomic: the file says what they say, and that it does */

    struct range *ranges;
    bool flushing;
    uint64_t flush_started, flush_done;
    int flush_result;
    bool corrupt_said;

    /* the last cluster that was decompressed */
    pthread_mutex_t inflate_lock;
    uint64_t inflated_entry; /* 0: none */
    uint8_t *inflated, *deflated;
};

static inline uint64_t cluster_of(const struct qcow2 *q, uint64_t offset) {
    return offset >> q->cluster_bits;
}
static inline uint64_t clusters_of(const struct qcow2 *q, uint64_t bytes) {
    return (bytes >> q->cluster_bits) + ((bytes & (q->cluster_size - 1)) != 0);
}

/* qcow2_header.c */
int header_read(struct qcow2 *q, bool check, struct error *err);
int header_write_fields(struct qcow2 *q, unsigned at, const void *data, unsigned length);
int header_set_flags(struct qcow2 *q, uint64_t incompatible, uint64_t autoclear);
/* What lies behind the fixed part of the header. */
struct header_tail {
    const char *backing, *format; /* NULL or empty: none */
    uint32_t bitmaps;             /* 0: no extension */
    uint64_t bitmaps_size, bitmaps_offset;
};
/* Changes over to it by one write; -ENAMETOOLONG: no room. */
int header_rewrite(struct qcow2 *q, const struct header_tail *t);
int corrupt(struct qcow2 *q, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int load_entries(struct qcow2 *q, uint64_t offset, uint32_t count, uint64_t **ret);

/* qcow2_table.c */
int table_get_locked(struct qcow2 *q, uint64_t offset, bool l2, struct table **ret);
struct table *table_find_locked(struct qcow2 *q, uint64_t offset);
/* A table of zeroes that is not in the file yet; all of it is dirty. */
int table_new_locked(struct qcow2 *q, uint64_t offset, bool l2, struct table **ret);
void table_dirty_locked(struct qcow2 *q, struct table *t, uint32_t at, uint32_t length);
void table_drop_all_locked(struct qcow2 *q);
void l1_dirty_locked(struct qcow2 *q, uint32_t index);
void reftable_dirty_locked(struct qcow2 *q, uint32_t index);
/* Waits for a flush of everything that is dirty now. Lets go of the lock. */
int flush_locked(struct qcow2 *q);
/* Flushes until nothing is left. Lets go of the lock. */
int flush_all_locked(struct qcow2 *q);
/* Flushes if too much is dirty. Lets go of the lock. */
int make_room_locked(struct qcow2 *q);
int write_refblocks_locked(struct qcow2 *q);

/* qcow2_refcount.c */
/* NULL if the block does not exist: all of its clusters are free. */
int refcount_block_locked(struct qcow2 *q, uint64_t index, struct table **ret);
int refcount_get_locked(struct qcow2 *q, uint64_t cluster, uint64_t *ret);
int refcount_add_locked(struct qcow2 *q, uint64_t cluster, uint64_t count, int delta);
uint64_t refcount_load(const uint8_t *block, unsigned order, uint64_t index);
bool refcount_store(uint8_t *block, unsigned order, uint64_t index, uint64_t value);
/* At least one cluster, up to `want` in a row. *ret_virgin: nothing was ever written there. */
int alloc_locked(struct qcow2 *q, uint64_t want, uint64_t *ret_first, uint64_t *ret_count,
                 bool *ret_virgin);
/* Exactly `count` in a row, at the end of the file. */
int alloc_area_locked(struct qcow2 *q, uint64_t count, uint64_t *ret_first);
/* The clusters are free as soon as what no longer refers to them is safe. */
int free_later_locked(struct qcow2 *q, uint64_t first, uint64_t count);
int metadata_collect(struct qcow2 *q, struct error *err);
/* The same of an image that is to be repaired: what is wrong is not told, and blocks are believed.
 */
int metadata_collect_damaged(struct qcow2 *q);
bool metadata_hit(const struct qcow2 *q, uint64_t cluster);
void metadata_forget(struct qcow2 *q, uint64_t first, uint64_t count);

/* qcow2_map.c */
void range_lock_locked(struct qcow2 *q, struct range *r, uint64_t first, uint64_t last,
                       bool exclusive);
bool range_busy_locked(const struct qcow2 *q, uint64_t first, uint64_t last, bool exclusive);
void range_unlock_locked(struct qcow2 *q, struct range *r);
/* The L2 table of a cluster of the disk: NULL if there is none. */
int l2_find_locked(struct qcow2 *q, uint64_t cluster, struct table **ret);
/* The same to write it: made, or copied if a snapshot shares it. */
int l2_get_locked(struct qcow2 *q, uint64_t cluster, struct table **ret);
uint64_t l2_load(const struct qcow2 *q, const struct table *t, uint64_t cluster);
void l2_store_locked(struct qcow2 *q, struct table *t, uint64_t cluster, uint64_t entry);
int map_locked(struct qcow2 *q, uint64_t offset, uint64_t length, struct qcow2_run *ret);
/* Where the disk's bytes can be written as they are, and how many; 0: nowhere. */
int map_in_place_locked(struct qcow2 *q, uint64_t offset, uint64_t length, uint64_t *ret_host,
                        uint64_t *ret_length);
bool run_is_zero(const struct qcow2 *q, const struct qcow2_run *run, uint64_t offset);
/* Gives up what an entry refers to. */
int entry_free_locked(struct qcow2 *q, uint64_t entry);
void compressed_place(const struct qcow2 *q, uint64_t entry, uint64_t *ret_offset,
                      uint64_t *ret_length);

/* qcow2_io.c */
enum drop { DROP_DISCARD, DROP_ZERO_KEEP, DROP_ZERO, DROP_EMPTY };
int drop_clusters(struct qcow2 *q, uint64_t offset, uint64_t length, enum drop how);

/* qcow2_bitmap.c */
void bitmap_free(struct bitmap *b); /* accepts NULL */
void bitmaps_free(struct qcow2 *q);
/* The range was written, or may have been. */
void bitmaps_mark(struct qcow2 *q, uint64_t offset, uint64_t length);
int bitmaps_resize(struct qcow2 *q, uint64_t size);

/* qcow2_bitmap_file.c */
bool bitmap_fits(uint64_t size, unsigned shift); /* into memory */
int bitmap_copy_bits(struct qcow2 *q, const struct bitmap *b, struct dirty *ret, struct error *err);
void bitmaps_open(struct qcow2 *q);       /* their names, for an image that is only read */
bool bitmaps_begin(struct qcow2 *q);      /* before anything is written; false: there are none */
void bitmaps_end_locked(struct qcow2 *q); /* they are in the file, until bitmaps_use */
/* Before anything is written or changed: from here on the file says of its bitmaps that they are of
 * no use, until they are written. Waits the first time. */
int bitmaps_use(struct qcow2 *q);
static inline bool bitmaps_are_closed(const struct qcow2 *q) {
    return __atomic_load_n(&q->bitmaps_closed, __ATOMIC_ACQUIRE);
}
static inline void bitmaps_set_closed(struct qcow2 *q, bool closed) {
    __atomic_store_n(&q->bitmaps_closed, closed, __ATOMIC_RELEASE);
}

/* qcow2_compress.c */
int compressed_read(struct qcow2 *q, uint64_t entry, const struct span *s, uint64_t at,
                    uint64_t length);

#endif

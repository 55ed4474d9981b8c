/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2 images, versions 2 and 3 ("QCOW2 image format", QEMU docs/interop/qcow2.txt).
 *
 * Contract: functions block, may be called from any thread at the same time, and return 0 or a
 * negative errno. What was written before a qcow2_flush that succeeded survives everything; what
 * was not may be lost, each sector by itself, but never damages anything else.
 */
#ifndef BLOCK_QCOW2_H
#define BLOCK_QCOW2_H

#include <stdio.h>

#include "block/bytefile.h"

struct qcow2;

/* Reads what the image does not hold itself, from the layer below. */
typedef int qcow2_below_fn(void *opaque, const struct span *s, uint64_t offset, uint64_t length);

struct qcow2_info {
    uint64_t size, cluster_size, snapshots;
    unsigned version, refcount_bits;
    bool dirty, corrupt, lazy_refcounts, extended_l2, zstd;
    uint64_t bitmaps;
    char backing[1024], backing_format[16]; /* empty: none */
};

struct qcow2_create {
    uint64_t size;
    unsigned cluster_bits;  /* 0: 16 */
    unsigned refcount_bits; /* 0: 16 */
    unsigned version;       /* 0: 3 */
    bool lazy_refcounts, zstd;
    const char *backing, *backing_format; /* may be NULL */
};

/* Writes an empty image over whatever the file holds. */
int qcow2_create(struct bytefile *f, const char *path, const struct qcow2_create *c,
                 struct error *err);
bool qcow2_has_magic(struct bytefile *f);

struct qcow2_open {
    const char *path; /* for sentences */
    bool readonly;
    bool no_repair; /* takes an image that is dirty or whose tables overlap: for check */
    uint64_t cache; /* bytes of tables kept in memory; 0: 32 MiB */
};

/* Takes f over, also when it fails. */
struct qcow2 *qcow2_open(struct bytefile *f, const struct qcow2_open *o, struct error *err);
/* Writes what is dirty; accepts NULL. The result tells whether everything is safe. */
int qcow2_close(struct qcow2 *q);
struct bytefile *qcow2_file(struct qcow2 *q); /* stays the image's */
void qcow2_info(struct qcow2 *q, struct qcow2_info *ret_info);
/* The layer below of that many bytes, behind which zeroes follow. NULL: none. Not while requests
 * are in flight. */
void qcow2_set_below(struct qcow2 *q, qcow2_below_fn *fn, void *opaque, uint64_t size);

int qcow2_read(struct qcow2 *q, const struct span *s, uint64_t offset, uint64_t length);
int qcow2_write(struct qcow2 *q, const struct span *s, uint64_t offset, uint64_t length);
int qcow2_zero(struct qcow2 *q, uint64_t offset, uint64_t length, bool unmap);
int qcow2_discard(struct qcow2 *q, uint64_t offset, uint64_t length);
int qcow2_flush(struct qcow2 *q);
/* And what a close would write; nobody writes to the image meanwhile. */
int qcow2_settle(struct qcow2 *q);
/* Where the image holds nothing it gets what the layer below shows. Whole clusters, or up to the
 * end of the disk. Writes that go on at the same time win. */
int qcow2_pull(struct qcow2 *q, uint64_t offset, uint64_t length);
/* What needs no waiting, for callers that must not wait: false when nothing has happened. */
bool qcow2_try(struct qcow2 *q, bool write, const struct span *s, uint64_t offset, uint64_t length);
/*
 * For callers that must not wait and transfer the data themselves: holds the clusters, so that they
 * stay where they are, if all of the range lies at one place, *ret_host, that is known already.
 * NULL: it does not. To be let go of after the transfer; false: not without waiting.
 */
struct range;
struct range *qcow2_hold(struct qcow2 *q, bool write, uint64_t offset, uint64_t length,
                         uint64_t *ret_host);
bool qcow2_let_go(struct qcow2 *q, struct range *held, bool written, uint64_t offset,
                  uint64_t length, bool wait);
/* A whole cluster (or the end of the disk), stored compressed if that saves space; for images that
 * nobody else uses. */
int qcow2_write_compressed(struct qcow2 *q, const void *data, uint64_t offset, uint64_t length);

enum qcow2_type { QCOW2_UNALLOCATED, QCOW2_ZERO, QCOW2_DATA, QCOW2_COMPRESSED };

struct qcow2_run {
    enum qcow2_type type;
    uint64_t length; /* at least 1, not beyond the wanted end */
    uint64_t host;   /* DATA, and ZERO if allocated: where in the file; else 0 */
    uint64_t entry;  /* COMPRESSED: its descriptor */
};

/* What lies at offset, and for how long the same follows. */
int qcow2_map(struct qcow2 *q, uint64_t offset, uint64_t length, struct qcow2_run *ret_run);

int qcow2_resize(struct qcow2 *q, uint64_t size, struct error *err);
/* path NULL: none. The disk's contents are the caller's matter. */
int qcow2_set_backing(struct qcow2 *q, const char *path, const char *format, struct error *err);
/* An image opened for reading is written from now on, or the other way round. Nobody uses it while
 * it changes; its file is the caller's matter. */
int qcow2_set_writable(struct qcow2 *q, bool writable, struct error *err);
/* The image loses everything that it holds itself. */
int qcow2_make_empty(struct qcow2 *q);

enum qcow2_repair { QCOW2_REPAIR_NONE, QCOW2_REPAIR_LEAKS, QCOW2_REPAIR_ALL };

struct qcow2_check {
    uint64_t corruptions, leaks, errors; /* found; errors: what could not be checked */
    uint64_t fixed_corruptions, fixed_leaks;
    uint64_t total, allocated, compressed, fragmented; /* clusters of the disk */
    uint64_t end;                                      /* of the part of the file that is used */
};

/* Compares refcounts and flags with the references; sentences go to `out` (may be NULL). */
int qcow2_check(struct qcow2 *q, enum qcow2_repair repair, FILE *out, struct qcow2_check *ret,
                struct error *err);

#endif

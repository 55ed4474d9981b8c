/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Jobs: work on a disk that goes on while its guest uses it, on a thread of its own.
 *
 * Contract: the functions are called with the machine lock held and do not wait, but for
 * blockjob_stop. The callbacks come on the loop's thread with the machine lock held; `ended` is the
 * last one. One job at a time works on a disk. A job that fails, is cancelled, or dies with the
 * program at any moment leaves every image whole, and the disk as the guest wrote it in the image
 * that it was started with.
 */
#ifndef BLOCK_BLOCKJOB_H
#define BLOCK_BLOCKJOB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct block;
struct blockjob;

enum blockjob_kind {
    BLOCKJOB_SNAPSHOT, /* a new layer on top: what was the disk stays as it is from now on */
    BLOCKJOB_COMMIT,   /* what the layers from `top` down hold goes into `base`; they go */
    BLOCKJOB_STREAM,   /* what the layers above `base` show goes into the first; they go */
    BLOCKJOB_MIRROR,   /* a copy that is kept equal until the end, and then may become the disk */
    BLOCKJOB_BACKUP,   /* a copy of the disk as it was when the job began */
    BLOCKJOB_RESIZE,
};
enum { BLOCKJOB_KINDS = BLOCKJOB_RESIZE + 1 };

struct blockjob_spec {
    enum blockjob_kind kind;
    const char *path;       /* SNAPSHOT, MIRROR, BACKUP: the new file */
    const char *format;     /* MIRROR, BACKUP: "raw" or "qcow2"; NULL: qcow2 */
    const char *top, *base; /* COMMIT, STREAM: layers by their files; NULL: the first; COMMIT the
                               one below top, STREAM none */
    bool only_top;          /* MIRROR: what the first layer holds; the copy has its backing file */
    const char *bitmap;     /* BACKUP: only what was written since; NULL: everything */
    bool begin;             /* BACKUP: everything, and the bitmap begins; made if it is not there */
    const char *parent;     /* BACKUP: the backing file of the new one: the backup before it */
    uint64_t size;          /* RESIZE */
    uint64_t speed;         /* bytes a second; 0: no limit */
};

struct blockjob_fns {
    void (*began)(void *opaque); /* BACKUP: the moment that it shows is over */
    void (*progress)(void *opaque, uint64_t done, uint64_t total); /* a few a second */
    void (*ready)(void *opaque);                          /* only blockjob_complete is missing */
    void (*ended)(void *opaque, const struct error *err); /* NULL: it is done */
    void *opaque;
};

/* NULL with a sentence: it cannot be, and nothing has happened. */
struct blockjob *blockjob_start(struct block *b, const struct blockjob_spec *spec,
                                const struct blockjob_fns *fns, struct error *err);
/* It ends soon, with -ECANCELED. A copy that was ready stays, as it was at that moment; others are
 * deleted. */
void blockjob_cancel(struct blockjob *j);
void blockjob_complete(struct blockjob *j); /* after ready: the copy becomes the disk */
void blockjob_set_speed(struct blockjob *j, uint64_t bytes_a_second);
/* The kind of the job that works on the disk, NULL: none. */
const char *blockjob_running(const struct block *b);
/* Cancels a job and waits for its end; `ended` is called. */
void blockjob_stop(struct block *b);

extern const char *const blockjob_names[BLOCKJOB_KINDS];

/*
 * Snapshots or backups of several disks at one instant: a job on each, and all of them succeed or
 * none leaves anything. specs[i] is for disks[i], with a speed of its own; fns are told of the
 * whole, whose progress is the sum, and `ended` comes when the last has ended, with the first
 * failure.
 */
struct blockjob_group;
enum { BLOCKJOB_GROUP_MAX = 64 };
struct blockjob_group *blockjob_start_group(struct block *const *disks,
                                            const struct blockjob_spec *specs, unsigned count,
                                            const struct blockjob_fns *fns, struct error *err);
void blockjob_group_cancel(struct blockjob_group *g);
void blockjob_group_set_speed(struct blockjob_group *g, uint64_t bytes_a_second); /* of all */

#endif

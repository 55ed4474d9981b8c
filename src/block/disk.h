/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk in use: an image with its chain, which a job may rearrange while requests go on.
 *
 * Contract: each request is inside the gate while it works. Who changes `image` or `filter` closes
 * the gate, which waits until nobody is inside, and keeps others out until it is opened. Requests
 * wait at the gate on threads of the pool only, never the loop or a processor. One job at a time
 * may close it, and not while it holds the machine lock, which some wait for inside.
 */
#ifndef BLOCK_DISK_H
#define BLOCK_DISK_H

#include <pthread.h>

#include "block/block.h"
#include "block/chain.h"

struct blockjob;
struct pool;

struct disk_filter { /* a job that must know what is written */
    /* Before the range changes; may block. Optional. */
    void (*before)(void *opaque, uint64_t offset, uint64_t length);
    /* Would `before` return at once? */
    bool (*idle)(void *opaque, uint64_t offset, uint64_t length);
    /* After it changed, or may have; must not block. Optional. */
    void (*after)(void *opaque, uint64_t offset, uint64_t length);
    void *opaque;
};

struct disk {
    struct chain *image; /* gate */
    const struct disk_filter *filter;
    pthread_mutex_t gate;
    pthread_cond_t gate_changed;
    unsigned inside;
    bool closed;
    bool keep_discarded;
    /* With the machine lock held: */
    struct block *block; /* whose disk it is; NULL in tests */
    struct pool *pool;
    struct blockjob *job;        /* NULL: none */
    struct block_options engine; /* how files are opened: cache, aio, discard */
};

void disk_init(struct disk *d, struct chain *image);
void disk_done(struct disk *d); /* nobody is inside; closes the image */

void disk_gate_close(struct disk *d);
void disk_gate_open(struct disk *d);
bool disk_gate_try_enter(struct disk *d);
void disk_gate_enter(struct disk *d);
void disk_gate_leave(struct disk *d);

/* Reads, writes and so on: blocks; 0 or a negative errno. */
int disk_do(struct disk *d, const struct block_request *req);
/* The same if it needs no waiting; as block_try. */
bool disk_try(struct disk *d, struct block_request *req, int *ret_result);

/* A request of a file's ring has come back. False: a thread has to give its clusters back first,
 * and completes it again. Machine lock. */
bool disk_end_direct(struct disk *d, struct block_request *req);

/* The disk of a block device of this engine, NULL if tests gave it another format. */
struct disk *disk_of(const struct block *b);
/* Its first layer, for the bitmaps in it; NULL with a sentence: it has none, or a job works on it.
 * Machine lock. */
struct qcow2 *disk_qcow2(const struct block *b, struct error *err);
/* How many layers of the disk lie on top of this file: 0 if it is the first; -ENOENT: it is none of
 * them. Machine lock, no job; so the next. */
int disk_find_layer(const struct block *b, const char *path);
/* Whether one of the first `count` layers says anything itself: 0, 1, or a negative errno with a
 * sentence. Blocks. */
int disk_layers_hold(const struct block *b, unsigned count, struct error *err);
/* A job has ended: name, format and size may be others. Machine lock. */
void disk_changed(struct disk *d);

#endif

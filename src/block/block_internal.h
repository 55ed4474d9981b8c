/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the engine shares with formats: the open image, completion, the thread pool and the image
 * lock. */
#ifndef BLOCK_BLOCK_INTERNAL_H
#define BLOCK_BLOCK_INTERNAL_H

#include <pthread.h>

#include "base/loop.h"
#include "block/block.h"

enum { BLOCK_SECTOR = 512, BLOCK_ERROR_KINDS = 8 };

/* A guest may name the same memory any number of times, and a request that lasts for hours would
 * hold up all that waits for it: a reset, a pause, the end. What is longer fails (QEMU has the same
 * limit). */
#define BLOCK_TRANSFER_MAX (INT32_MAX / BLOCK_SECTOR * (uint64_t)BLOCK_SECTOR)

struct block {
    const struct block_ops *ops;
    void *state; /* the format's */
    char *path;
    struct block_info info; /* filled by the format's open */
    struct loop *loop;
    struct loop_watch *watch;
    struct loop_lender lender;
    int event_fd;
    unsigned inflight;   /* machine lock */
    unsigned plugged;    /* machine lock */
    struct limit *limit; /* NULL: this disk has none */
    bool draining;       /* machine lock */
    bool pausing;        /* machine lock: the pause was asked for, until block_resume */
    enum block_on_error on_error;
    void (*pause_fn)(void *opaque, const struct error *e);
    void *pause_opaque;
    void (*resume_fn)(void *opaque);
    void *resume_opaque;
    void (*resize_fn)(void *opaque);
    void *resize_opaque;
    struct file *files;         /* files_lock: those that the format has open */
    pthread_mutex_t files_lock; /* innermost: a job opens files on its own thread */
    /* machine lock: finished, `done` not yet called, in order */
    struct block_request *ready, **ready_end;
    struct block_request *finished; /* atomic stack that any thread pushes to */
    void (*batch_fn)(void *opaque);
    void *batch_opaque;
    void (*error_fn)(void *opaque, const struct error *e);
    void *error_opaque;
    struct {
        enum block_op op;
        int code;
    } reported[BLOCK_ERROR_KINDS];
    unsigned reported_count;
};

extern const struct block_ops block_raw_ops, block_qcow2_ops;

/* The format has finished the request. Any thread, with or without the machine lock. */
void block_complete(struct block_request *req, int result);
/* The same from file_reap_all, with the machine lock held: nobody has to be woken. */
void block_complete_locked(struct block_request *req, int result);

/*
 * Threads that do what may block. `run` is called on one of them with all signals blocked; it ends
 * in block_complete. Threads start when there is work, up to `max`.
 */
struct pool;
struct pool *pool_new(unsigned max, void (*run)(struct block_request *req), struct error *err);
void pool_free(struct pool *pool); /* accepts NULL; finishes what is queued */
void pool_submit(struct pool *pool, struct block_request *req);

/* Requests that wait for limits (limit.c). limit_hold: true = it has taken the request and submits
 * it to the format later; limit_try asks whether one may go now, limit_tried says that it has gone;
 * limit_release lets all go. */
struct limit *limit_new(struct block *b, struct error *err);
void limit_free(struct limit *l); /* nothing waits; accepts NULL */
void limit_set(struct limit *l, const struct block_limits *limits);
bool limit_hold(struct limit *l, struct block_request *req);
bool limit_try(const struct limit *l, const struct block_request *req);
void limit_tried(struct limit *l, const struct block_request *req);
void limit_release(struct limit *l);

/*
 * Locks the open image against other machines until fd is closed: byte 100 + n held for each
 * permission n used, byte 200 + n for each that others may not have (the scheme of QEMU's
 * block/file-posix.c, so that both respect each other). A writer shares with nobody who writes;
 * readers share with readers.
 */
int lock_image(int fd, const char *path, bool readonly, struct error *err);
/* From now on others may read the image, or write it, too. */
int unlock_image(int fd);
void unlock_image_writer(int fd);

#endif

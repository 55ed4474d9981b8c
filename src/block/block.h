/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The seam to disk images: asynchronous reads, writes, flushes and discards in bytes.
 *
 * Contract: submit with the machine lock held; `done` is called later on the loop's thread, or on
 * that of a processor that waits in its stead, with the machine lock held, exactly once, never from
 * inside submit. Buffers stay the caller's and must stay valid until then. Requests may complete in
 * any order; a flush covers every write completed before it was submitted. block_drain returns when
 * nothing is in flight (callbacks run, on the drainer's thread). A callback may submit, try and
 * drain, but not close.
 */
#ifndef BLOCK_BLOCK_H
#define BLOCK_BLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"

struct loop;
struct block;
struct range;

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_WRITE_ZEROES };

struct block_request {
    enum block_op op;
    uint64_t offset, length; /* bytes; multiples of 512; READ, WRITE: less than 2 GiB */
    const struct iovec *iov; /* READ, WRITE: lengths sum to `length` */
    unsigned iov_count;
    bool unmap; /* WRITE_ZEROES: may deallocate */
    bool
        settle; /* FLUSH: a close would have nothing to write any more; nothing else is under way */
    /* In `done` of a failure: the machine is going to be paused for it (on-error). Keep the request
     * and submit it again when block_set_resume_fn says so. */
    bool keep;
    void (*done)(struct block_request *req, int result); /* 0 or negative errno */
    void *opaque;
    bool direct;                /* the engine's: not on a thread of the disk's pool */
    struct range *held;         /* the engine's, if it is direct: clusters of a qcow2 image */
    struct block_request *next; /* the engine's */
    struct block *block;        /* the engine's */
    struct file *file;          /* the engine's */
    uint64_t at;                /* the engine's: where in the file */
    uint64_t since;             /* the engine's: when it came */
    int result;                 /* the engine's */
};

struct block_info {
    uint64_t size; /* bytes, multiple of 512 */
    bool readonly;
    char format[16];
    const char *path; /* of the file that is written; a job may change it */
};

enum block_cache {
    BLOCK_CACHE_WRITEBACK, /* through the host's page cache; a flush brings it to the disk */
    BLOCK_CACHE_NONE,      /* past the page cache (O_DIRECT) */
    BLOCK_CACHE_UNSAFE,    /* through the page cache; a flush does nothing */
};

enum block_engine { BLOCK_ENGINE_AUTO, BLOCK_ENGINE_URING, BLOCK_ENGINE_THREADS };

/* Which failures pause the machine; the others are reported to the guest. */
enum block_on_error {
    BLOCK_ON_ERROR_ENOSPC, /* no room for a write */
    BLOCK_ON_ERROR_REPORT, /* none */
    BLOCK_ON_ERROR_PAUSE,  /* all but a failed flush: what that lost, repeating does not bring */
};

struct block_limits { /* 0 = no limit; of all requests, of reads, of writes */
    uint64_t iops[3], bps[3];
    uint64_t burst_ns; /* for how long unused allowance is kept */
};

struct block_options {
    const char *path;
    const char *format;  /* "raw", "qcow2"; NULL = raw */
    const char *backing; /* what may lie below (struct chain_options) */
    bool format_assumed; /* nobody said "raw": refuse what looks like another format */
    bool readonly;
    bool keep_discarded; /* discard=ignore: what the guest discards stays allocated */
    enum block_cache cache;
    enum block_engine engine;
    enum block_on_error on_error;
    struct block_limits limits;
    const struct block_ops
        *ops; /* overrides `format`: formats that are not the engine's own (tests) */
};

struct block_ops { /* a format */
    const char *name;
    int (*open)(struct block *b, const struct block_options *o, struct error *err);
    void (*close)(struct block *b); /* nothing is in flight; accepts a half-opened image */
    void (*submit)(struct block *b, struct block_request *req);
    bool (*try_now)(struct block *b, struct block_request *req, int *ret_result); /* optional */
};

/* Takes a lock on the image so that two machines cannot write it (OFD lock, as QEMU's byte ranges).
 */
struct block *block_open(struct loop *loop, const struct block_options *o, struct error *err);
void block_close(struct block *b); /* drains first; accepts NULL */
const struct block_info *block_info(const struct block *b);
void block_submit(struct block *b, struct block_request *req);
void block_drain(struct block *b);

/* Between the two, requests may be kept back, so that they go to the host in one system call. The
 * calls nest. */
void block_plug(struct block *b);
void block_unplug(struct block *b);

/*
 * Does the request at once if that needs no waiting (a read from the host's page cache or a write
 * into it: no thread hop, no system call besides). True: *ret_result is 0 or a negative errno and
 * `done` is not called. False: nothing has happened to the image; submit it.
 */
bool block_try(struct block *b, struct block_request *req, int *ret_result);

/* fn is called after each batch of `done` calls, so that a device can interrupt once for all of
 * them. */
void block_set_batch_fn(struct block *b, void (*fn)(void *opaque), void *opaque);

/* From now on; all zero: none. A drain does not wait for limits. */
int block_set_limits(struct block *b, const struct block_limits *limits, struct error *err);

/*
 * Failures that pause (block_options.on_error): pause_fn gets a sentence at the first one, and has
 * the machine paused soon, but not before it returns. After the machine has resumed, block_resume
 * is called, which calls resume_fn: the device submits again what it has kept. Without a pause_fn
 * all failures are reported.
 */
void block_set_pause_fn(struct block *b, void (*fn)(void *opaque, const struct error *e),
                        void *opaque);
void block_set_resume_fn(struct block *b, void (*fn)(void *opaque), void *opaque);
bool block_wants_pause(const struct block *b); /* from pause_fn to block_resume */
void block_resume(struct block *b);

/* fn is called when the size has changed. */
void block_set_resize_fn(struct block *b, void (*fn)(void *opaque), void *opaque);

/* fn gets a sentence for the user at the first failure of each kind (operation and errno) that is
 * reported to the guest. */
void block_set_error_fn(struct block *b, void (*fn)(void *opaque, const struct error *e),
                        void *opaque);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The seam to disk images: asynchronous reads, writes, flushes and discards in bytes.
 *
 * Contract: submit with the machine lock held; `done` is called later on the loop's thread with the
 * machine lock held, exactly once, never from inside submit. Buffers stay the caller's and must
 * stay valid until then. Requests may complete in any order; a flush covers every write completed
 * before it was submitted. block_drain returns when nothing is in flight (callbacks run, on the
 * drainer's thread). A callback may submit, try and drain, but not close.
 */
#ifndef BLOCK_BLOCK_H
#define BLOCK_BLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"

struct loop;
struct block;

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_WRITE_ZEROES };

struct block_request {
    enum block_op op;
    uint64_t offset, length; /* bytes; multiples of 512 */
    const struct iovec *iov; /* READ, WRITE: lengths sum to `length` */
    unsigned iov_count;
    bool unmap;                                          /* WRITE_ZEROES: may deallocate */
    void (*done)(struct block_request *req, int result); /* 0 or negative errno */
    void *opaque;
    struct block_request *next; /* the engine's */
    struct block *block;        /* the engine's */
    struct file *file;          /* the engine's */
    uint64_t at;                /* the engine's: where in the file */
    int result;                 /* the engine's */
};

struct block_info {
    uint64_t size; /* bytes, multiple of 512 */
    bool readonly;
    char format[16];
};

enum block_cache {
    BLOCK_CACHE_WRITEBACK, /* through the host's page cache; a flush brings it to the disk */
    BLOCK_CACHE_NONE,      /* past the page cache (O_DIRECT) */
    BLOCK_CACHE_UNSAFE,    /* through the page cache; a flush does nothing */
};

enum block_engine { BLOCK_ENGINE_AUTO, BLOCK_ENGINE_URING, BLOCK_ENGINE_THREADS };

struct block_options {
    const char *path;
    const char *format; /* "raw"; NULL = raw */
    bool readonly;
    bool keep_discarded; /* discard=ignore: what the guest discards stays allocated */
    enum block_cache cache;
    enum block_engine engine;
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
 * Does the request at once if that needs no waiting (a small read from the host's page cache: no
 * thread hop, no system call besides the read). True: *ret_result is 0 or a negative errno and
 * `done` is not called. False: nothing has happened to the image; submit it.
 */
bool block_try(struct block *b, struct block_request *req, int *ret_result);

/* fn is called after each batch of `done` calls, so that a device can interrupt once for all of
 * them. */
void block_set_batch_fn(struct block *b, void (*fn)(void *opaque), void *opaque);

/* fn gets a sentence for the user at the first failure of each kind (operation and errno). The
 * request gets its error in any case. */
void block_set_error_fn(struct block *b, void (*fn)(void *opaque, const struct error *e),
                        void *opaque);

#endif

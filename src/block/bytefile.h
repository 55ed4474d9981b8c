/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bytes that an image format lies on, and buffers in pieces. Tests put a file of their own
 * under a format by struct bytefile_ops.
 *
 * Contract: every function may block, may be called from any thread at the same time, transfers
 * everything or fails, and returns 0 or a negative errno.
 */
#ifndef BLOCK_BYTEFILE_H
#define BLOCK_BYTEFILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/error.h"

struct bytefile;

struct bytefile_ops {
    /* What lies behind the end of the file reads as zeroes. */
    int (*readv)(struct bytefile *f, const struct iovec *iov, unsigned count, uint64_t offset);
    int (*writev)(struct bytefile *f, const struct iovec *iov, unsigned count, uint64_t offset);
    int (*sync)(struct bytefile *f);
    /* The range reads as zeroes afterwards and costs no space, or -EOPNOTSUPP. */
    int (*punch)(struct bytefile *f, uint64_t offset, uint64_t length);
    int (*truncate)(struct bytefile *f, uint64_t size);
    int (*size)(struct bytefile *f, uint64_t *ret_size);
    /* As readv and writev, but only what needs no waiting: false when nothing has happened. */
    bool (*try_rw)(struct bytefile *f, bool write, const struct iovec *iov, unsigned count,
                   uint64_t offset, uint64_t length); /* optional */
    /* Where data begin at or behind offset, and where they end. */
    int (*extent)(struct bytefile *f, uint64_t offset, uint64_t *ret_data,
                  uint64_t *ret_hole); /* optional */
    /* As punch, but by whatever way there is; optional. */
    int (*zero)(struct bytefile *f, uint64_t offset, uint64_t length, bool unmap);
    /* The file was opened for reading and is to be written, or the other way round. */
    int (*set_writable)(struct bytefile *f, const char *path, bool writable,
                        struct error *err); /* optional: needs nothing */
    void (*close)(struct bytefile *f);
};

struct bytefile {
    const struct bytefile_ops *ops;
    bool grows; /* a file, whose bytes behind the end are zeroes: not a block device */
};

enum bytefile_lock { BYTEFILE_LOCK_NONE, BYTEFILE_LOCK_IMAGE };

struct bytefile_options {
    const char *path;
    bool readonly, create; /* create: makes the file, or empties the one that is there */
    bool exclusive;        /* create: one that is there is refused */
    enum bytefile_lock lock;
    bool no_sync; /* flushes do nothing: cache=unsafe */
    dev_t dev;    /* set by bytefile_open: what the file is */
    ino_t ino;
};

/* A file or block device of the host. */
struct bytefile *bytefile_open(struct bytefile_options *o, struct error *err);
void bytefile_close(struct bytefile *f); /* accepts NULL */

int bytefile_read(struct bytefile *f, void *data, uint64_t length, uint64_t offset);
int bytefile_write(struct bytefile *f, const void *data, uint64_t length, uint64_t offset);
/* By a hole where that works and is wanted, else by writing. */
int bytefile_zero(struct bytefile *f, uint64_t offset, uint64_t length, bool unmap);

/* A buffer in pieces, from its byte `skip` on. */
struct span {
    const struct iovec *iov;
    unsigned count;
    uint64_t skip;
};

/* The next pieces, at most max and length bytes; returns their number and *ret_length. */
unsigned span_pieces(const struct span *s, uint64_t length, struct iovec *ret, unsigned max,
                     uint64_t *ret_length);
void span_zero(const struct span *s, uint64_t length);
void span_put(const struct span *s, const void *data, uint64_t length); /* data -> buffer */
bool span_is_zero(const struct span *s, uint64_t length);
bool bytes_are_zero(const void *data, uint64_t length);

/* Length bytes of the buffer from or to the file. */
int bytefile_transfer(struct bytefile *f, bool write, const struct span *s, uint64_t length,
                      uint64_t offset);

#endif

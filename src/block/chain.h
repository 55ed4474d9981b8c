/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An image with everything below it: raw or qcow2, with its chain of backing files.
 *
 * Contract: as qcow2.h: functions block, any thread, 0 or negative errno.
 */
#ifndef BLOCK_CHAIN_H
#define BLOCK_CHAIN_H

#include "block/qcow2.h"

struct block;
struct block_options;

enum { CHAIN_MAX_DEPTH = 256 };

struct chain {
    char *path;
    uint64_t size; /* bytes, a multiple of 512 */
    bool readonly;
    struct bytefile *file; /* raw: the bytes; qcow2 owns its own */
    struct qcow2 *qcow2;   /* NULL: raw */
    struct chain *backing; /* NULL: none, or not opened */
    dev_t dev;
    ino_t ino;
};

struct chain_options {
    const char *path;
    const char *format; /* "raw", "qcow2", or NULL: by the first bytes */
    bool readonly, no_backing, no_lock, no_sync, no_repair;
    struct block *block; /* does its I/O as this image's engine, by `engine`; NULL: plain files */
    const struct block_options *engine;
};

struct chain *chain_open(const struct chain_options *o, struct error *err);
int chain_close(struct chain *i); /* accepts NULL */
/* Opens what the image names as its backing file; readonly. */
int chain_open_backing(struct chain *i, const struct chain_options *o, struct error *err);
/* The path of a backing file: relative names start at the folder of the image. For free. */
char *chain_backing_path(const char *image, const char *name);
const char *chain_format(const struct chain *i);

int chain_read(struct chain *i, const struct span *s, uint64_t offset, uint64_t length);
int chain_write(struct chain *i, const struct span *s, uint64_t offset, uint64_t length);
int chain_zero(struct chain *i, uint64_t offset, uint64_t length, bool unmap);
int chain_discard(struct chain *i, uint64_t offset, uint64_t length);
int chain_flush(struct chain *i);

struct chain_run {
    uint64_t length;
    unsigned depth; /* the layer that decides: 0 is this image */
    bool present;   /* a layer says something; false: nobody does, zeroes */
    bool zero, data, compressed;
    bool has_host;
    uint64_t host; /* in the file of that layer */
};

/* What lies at offset, and for how long the same follows. */
int chain_map(struct chain *i, uint64_t offset, uint64_t length, struct chain_run *ret_run);

#endif

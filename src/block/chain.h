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
    /* What may lie below: NULL, whatever headers name; "none"; "beside", files in the folder of the
     * image; else these and the file of this very name. Who wrote to an image may have said in its
     * header what he liked. */
    const char *backing;
    bool readonly, no_backing, no_lock, no_sync, no_repair;
    struct block *block; /* does its I/O as this image's engine, by `engine`; NULL: plain files */
    const struct block_options *engine;
    struct bytefile *file; /* tests: the first layer's file, which is taken over */
};

struct chain *chain_open(const struct chain_options *o, struct error *err);
int chain_close(struct chain *i); /* accepts NULL */
/* Opens what the image names as its backing file; readonly. */
int chain_open_backing(struct chain *i, const struct chain_options *o, struct error *err);
/* The path of a backing file: relative names start at the folder of the image. For free. */
char *chain_backing_path(const char *image, const char *name);
const char *chain_format(const struct chain *i);
struct file *chain_engine_file(const struct chain *i); /* that the first layer lies in; NULL:
                                                          another kind of file */

struct chain_create {
    const char *path, *format; /* the file must not be there yet */
    uint64_t size;
    unsigned cluster_bits;                /* qcow2; 0: 16 */
    const char *backing, *backing_format; /* qcow2; NULL: none */
};

/* An empty image; it and its name are safe when it returns. */
int chain_create(const struct chain_create *c, struct error *err);
int chain_resize(struct chain *i, uint64_t size, struct error *err);

/* ---- rearranging of a chain: nobody uses the layers meanwhile ---- */

/* A layer that was opened for reading is written from now on, or the other way round. */
int chain_set_writable(struct chain *i, bool writable, struct error *err);
/* What lies below a qcow2 layer from now on (NULL: nothing), in memory; the caller's are what lay
 * there before and the name in the header. */
void chain_attach(struct chain *i, struct chain *backing);
/* The name of its backing file as a layer elsewhere may write it down: absolute. For free. */
char *chain_absolute_path(const struct chain *i);
/* The same for an image at `image`: the name alone if both lie in one folder, so that this may be
 * moved, or hard-linked into another one together. For free. */
char *chain_name_for(const char *image, const struct chain *below);
/* The layer of that name, or of that file by another name; NULL: none. */
struct chain *chain_find(struct chain *top, const char *path);

int chain_read(struct chain *i, const struct span *s, uint64_t offset, uint64_t length);
int chain_write(struct chain *i, const struct span *s, uint64_t offset, uint64_t length);
int chain_zero(struct chain *i, uint64_t offset, uint64_t length, bool unmap);
int chain_discard(struct chain *i, uint64_t offset, uint64_t length);
int chain_flush(struct chain *i);
int chain_settle(struct chain *i); /* qcow2_settle */

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

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Raw and qcow2 images as formats of the block engine.
 *
 * What the tables in memory and the host's cache allow is done at once. What cannot be done at once
 * goes to the file's ring (file.c) as long as no job must see it, of a qcow2 image if it lies in
 * one place that the tables in memory tell; everything else runs on threads, which may wait for
 * tables, for each other and at the gate.
 *
 * A raw file whose size is no multiple of 512 appears rounded up, as in QEMU: the rest of the last
 * sector reads as zeroes, and writing that sector extends the file. So does everything else behind
 * the end of a file that somebody shrinks under us: zeroes, no error.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/block_internal.h"
#include "block/blockjob.h"
#include "block/disk.h"
#include "block/file.h"

enum { THREADS = 8 };

static bool let_go(struct disk *d, struct block_request *req, bool wait) {
    if (req->held && !qcow2_let_go(d->image->qcow2, req->held, req->op == BLOCK_WRITE, req->offset,
                                   req->length, wait))
        return false;
    req->held = NULL;
    return true;
}

static void run(struct block_request *req) { /* on a thread of the pool */
    struct disk *d = req->block->state;

    if (req->direct) {
        let_go(d, req, true);
        block_complete(req, req->result);
    } else {
        block_complete(req, disk_do(d, req));
    }
}

bool disk_end_direct(struct disk *d, struct block_request *req) {
    if (!let_go(d, req, false)) {
        pool_submit(d->pool, req);
        return false;
    }
    disk_gate_leave(d);
    return true;
}

/* A guest can write anything to its raw disk, so what lies there never decides by itself how the
 * file is read; but whoever named no format may have meant the other one. */
static int check_assumed(const struct chain *image, struct error *err) {
    if (!qcow2_has_magic(image->file))
        return 0;
    return error_set(err, -EINVAL,
                     "disk image '%s' looks like a qcow2 image: say format=qcow2 if it is one, or "
                     "format=raw if its guest has put that there",
                     image->path);
}

static int check_size(struct block *b, const struct chain *image, struct error *err) {
    b->info.size = image->size;
    if (b->info.size)
        return 0;
    if (image->qcow2)
        return error_set(err, -EINVAL,
                         "disk image '%s' is empty; give it a size: viv-img resize '%s' 10G",
                         b->path, b->path);
    return error_set(err, -EINVAL, "disk image '%s' is empty; give it a size: truncate -s 10G '%s'",
                     b->path, b->path);
}

static int open_as(struct block *b, const struct block_options *o, const char *format,
                   struct error *err) {
    struct chain_options i = {.path = o->path,
                              .format = format,
                              .backing = o->backing,
                              .readonly = o->readonly,
                              .block = b,
                              .engine = o};
    struct chain *image = chain_open(&i, err);
    struct disk *d = image ? malloc(sizeof(*d)) : NULL;
    int r;

    if (!d) {
        chain_close(image);
        return image ? error_set(err, -ENOMEM, "disk image '%s': out of memory", o->path) : -EINVAL;
    }
    disk_init(d, image);
    d->block = b;
    d->engine = *o;
    d->engine.path = d->engine.format = d->engine.backing =
        NULL; /* the caller's, who may free them */
    d->keep_discarded = o->keep_discarded;
    b->state = d;
    r = check_size(b, image, err);
    if (r == 0 && o->format_assumed && !image->qcow2)
        r = check_assumed(image, err);
    if (r < 0)
        return r;
    d->pool = pool_new(THREADS, run, err);
    return d->pool ? 0 : -ENOMEM;
}

static int raw_open(struct block *b, const struct block_options *o, struct error *err) {
    return open_as(b, o, "raw", err);
}

static int qcow2_open_disk(struct block *b, const struct block_options *o, struct error *err) {
    return open_as(b, o, "qcow2", err);
}

static void close_disk(struct block *b) {
    struct disk *d = b->state;

    if (!d)
        return;
    pool_free(d->pool);
    disk_done(d);
    free(d);
    b->state = NULL;
}

/* The file that can do the request by itself, and where in it; NULL: there is none. */
static struct file *direct_file(struct disk *d, struct block_request *req, uint64_t *ret_at) {
    struct qcow2 *q = d->image->qcow2;
    struct file *file = chain_engine_file(d->image);

    *ret_at = req->offset;
    if (!q || !file)
        return file;
    if (req->op == BLOCK_READ || req->op == BLOCK_WRITE)
        req->held = qcow2_hold(q, req->op == BLOCK_WRITE, req->offset, req->length, ret_at);
    return req->held ? file : NULL;
}

static void submit(struct block *b, struct block_request *req) {
    struct disk *d = b->state;
    bool inside = !d->job && disk_gate_try_enter(d);
    uint64_t at;
    struct file *file = inside ? direct_file(d, req, &at) : NULL;

    if (file) {
        req->direct = true;
        file_submit(file, req, at);
        return;
    }
    if (inside)
        disk_gate_leave(d);
    pool_submit(d->pool, req);
}

static bool try_now(struct block *b, struct block_request *req, int *ret_result) {
    return disk_try(b->state, req, ret_result);
}

const struct block_ops block_raw_ops = {
    .name = "raw",
    .open = raw_open,
    .close = close_disk,
    .submit = submit,
    .try_now = try_now,
};

const struct block_ops block_qcow2_ops = {
    .name = "qcow2",
    .open = qcow2_open_disk,
    .close = close_disk,
    .submit = submit,
    .try_now = try_now,
};

struct disk *disk_of(const struct block *b) {
    return b->ops->close == close_disk ? b->state : NULL;
}

struct qcow2 *disk_qcow2(const struct block *b, struct error *err) {
    struct disk *d = disk_of(b);

    if (d && !d->job && d->image->qcow2)
        return d->image->qcow2;
    if (d && d->job)
        error_set(err, -EBUSY,
                  "disk image '%s': a job (%s) works on it; wait for its end, or cancel it",
                  b->path, blockjob_running(b));
    else
        error_set(
            err, -EINVAL,
            "disk image '%s' is a raw image, which has no bitmaps; convert it: viv-img convert "
            "-O qcow2",
            b->path);
    return NULL;
}

void disk_changed(struct disk *d) {
    struct block *b = d->block;
    char *path = strdup(d->image->path);
    bool resized = b->info.size != d->image->size;

    if (path) {
        free(b->path);
        b->path = path;
        b->info.path = path;
    }
    b->info.size = d->image->size;
    snprintf(b->info.format, sizeof(b->info.format), "%s", chain_format(d->image));
    if (resized && b->resize_fn)
        b->resize_fn(b->resize_opaque);
}

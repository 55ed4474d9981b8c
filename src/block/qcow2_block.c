/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2 as a format of the block engine.
 *
 * What the tables in memory and the host's cache allow is done at once; everything else runs on
 * threads, which may wait for tables and for each other.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/block_internal.h"
#include "block/chain.h"

enum { THREADS = 8 };

struct qcow2_disk {
    struct chain *image;
    struct pool *pool;
    bool keep_discarded;
};

static void run(struct block_request *req) { /* on a thread of the pool */
    struct qcow2_disk *d = req->block->state;
    struct span s = {req->iov, req->iov_count, 0};
    int r = -EINVAL;

    switch (req->op) {
    case BLOCK_READ:
        r = chain_read(d->image, &s, req->offset, req->length);
        break;
    case BLOCK_WRITE:
        r = chain_write(d->image, &s, req->offset, req->length);
        break;
    case BLOCK_FLUSH:
        r = chain_flush(d->image);
        break;
    case BLOCK_DISCARD:
        r = d->keep_discarded ? 0 : chain_discard(d->image, req->offset, req->length);
        break;
    case BLOCK_WRITE_ZEROES:
        r = chain_zero(d->image, req->offset, req->length, req->unmap && !d->keep_discarded);
        break;
    }
    block_complete(req, r);
}

static int disk_open(struct block *b, const struct block_options *o, struct error *err) {
    struct qcow2_disk *d = calloc(1, sizeof(*d));
    struct chain_options i = {
        .path = o->path, .format = "qcow2", .readonly = o->readonly, .block = b, .engine = o};

    if (!d)
        return error_set(err, -ENOMEM, "disk image '%s': out of memory", o->path);
    b->state = d;
    d->keep_discarded = o->keep_discarded;
    d->image = chain_open(&i, err);
    if (!d->image)
        return -EINVAL;
    b->info.size = d->image->size;
    if (!b->info.size)
        return error_set(err, -EINVAL,
                         "disk image '%s' is empty; give it a size: viv-img resize '%s' 10G",
                         o->path, o->path);
    d->pool = pool_new(THREADS, run, err);
    return d->pool ? 0 : -ENOMEM;
}

static void disk_close(struct block *b) {
    struct qcow2_disk *d = b->state;

    if (!d)
        return;
    pool_free(d->pool);
    chain_close(d->image); /* a failure was reported with the guest's last flush */
    free(d);
    b->state = NULL;
}

static void disk_submit(struct block *b, struct block_request *req) {
    struct qcow2_disk *d = b->state;

    pool_submit(d->pool, req);
}

static bool disk_try(struct block *b, struct block_request *req, int *ret_result) {
    struct qcow2_disk *d = b->state;
    struct span s = {req->iov, req->iov_count, 0};

    if ((req->op != BLOCK_READ && req->op != BLOCK_WRITE) ||
        !qcow2_try(d->image->qcow2, req->op == BLOCK_WRITE, &s, req->offset, req->length))
        return false;
    *ret_result = 0;
    return true;
}

const struct block_ops block_qcow2_ops = {
    .name = "qcow2",
    .open = disk_open,
    .close = disk_close,
    .submit = disk_submit,
    .try_now = disk_try,
};

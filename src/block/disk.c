/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The gate of a disk in use, and requests that go through it. */
#include "block/disk.h"

#include <errno.h>
#include <string.h>

#include "block/block_internal.h"
#include "block/file.h"

void disk_init(struct disk *d, struct chain *image) {
    memset(d, 0, sizeof(*d));
    d->image = image;
    pthread_mutex_init(&d->gate, NULL);
    pthread_cond_init(&d->gate_changed, NULL);
}

void disk_done(struct disk *d) {
    chain_close(d->image); /* a failure was reported with the guest's last flush */
    pthread_mutex_destroy(&d->gate);
    pthread_cond_destroy(&d->gate_changed);
}

/* ------------------------------------------------------------------ the gate */

void disk_gate_close(struct disk *d) {
    pthread_mutex_lock(&d->gate);
    d->closed = true;
    while (d->inside)
        pthread_cond_wait(&d->gate_changed, &d->gate);
    pthread_mutex_unlock(&d->gate);
}

void disk_gate_open(struct disk *d) {
    pthread_mutex_lock(&d->gate);
    d->closed = false;
    pthread_cond_broadcast(&d->gate_changed);
    pthread_mutex_unlock(&d->gate);
}

bool disk_gate_try_enter(struct disk *d) {
    bool entered;

    pthread_mutex_lock(&d->gate);
    entered = !d->closed;
    d->inside += entered;
    pthread_mutex_unlock(&d->gate);
    return entered;
}

void disk_gate_enter(struct disk *d) {
    pthread_mutex_lock(&d->gate);
    while (d->closed)
        pthread_cond_wait(&d->gate_changed, &d->gate);
    d->inside++;
    pthread_mutex_unlock(&d->gate);
}

void disk_gate_leave(struct disk *d) {
    pthread_mutex_lock(&d->gate);
    if (--d->inside == 0 && d->closed)
        pthread_cond_broadcast(&d->gate_changed);
    pthread_mutex_unlock(&d->gate);
}

/* ------------------------------------------------------------------ requests */

static bool changes(const struct disk *d, const struct block_request *req) {
    if (req->op == BLOCK_DISCARD)
        return !d->keep_discarded;
    return req->op == BLOCK_WRITE || req->op == BLOCK_WRITE_ZEROES;
}

static int do_inside(struct disk *d, const struct block_request *req) {
    struct span s = {req->iov, req->iov_count, 0};

    switch (req->op) {
    case BLOCK_READ:
        return chain_read(d->image, &s, req->offset, req->length);
    case BLOCK_WRITE:
        return chain_write(d->image, &s, req->offset, req->length);
    case BLOCK_FLUSH:
        return req->settle ? chain_settle(d->image) : chain_flush(d->image);
    case BLOCK_DISCARD:
        return d->keep_discarded ? 0 : chain_discard(d->image, req->offset, req->length);
    case BLOCK_WRITE_ZEROES:
        return chain_zero(d->image, req->offset, req->length, req->unmap && !d->keep_discarded);
    }
    return -EINVAL;
}

int disk_do(struct disk *d, const struct block_request *req) {
    const struct disk_filter *f;
    int r;

    disk_gate_enter(d);
    f = changes(d, req) ? d->filter : NULL;
    if (f && f->before)
        f->before(f->opaque, req->offset, req->length);
    r = do_inside(d, req);
    if (f && f->after) /* also of a failure: a part may have been written */
        f->after(f->opaque, req->offset, req->length);
    disk_gate_leave(d);
    return r;
}

static bool try_inside(struct disk *d, struct block_request *req, int *ret_result) {
    struct file *file = chain_engine_file(d->image);
    struct span s = {req->iov, req->iov_count, 0};

    if (!d->image->qcow2)
        return file && file_try(file, req, req->offset, ret_result);
    if (!qcow2_try(d->image->qcow2, req->op == BLOCK_WRITE, &s, req->offset, req->length))
        return false;
    *ret_result = 0;
    return true;
}

bool disk_try(struct disk *d, struct block_request *req, int *ret_result) {
    const struct disk_filter *f;
    bool done;

    if ((req->op != BLOCK_READ && req->op != BLOCK_WRITE) || !disk_gate_try_enter(d))
        return false;
    f = req->op == BLOCK_WRITE ? d->filter : NULL;
    done = !(f && f->before && !f->idle(f->opaque, req->offset, req->length)) &&
           try_inside(d, req, ret_result);
    if (done && f && f->after)
        f->after(f->opaque, req->offset, req->length);
    disk_gate_leave(d);
    return done;
}

/* ------------------------------------------------------------------ what it lies on */

int disk_find_layer(const struct block *b, const char *path) {
    struct disk *d = disk_of(b);
    struct chain *wanted = d ? chain_find(d->image, path) : NULL;
    int depth = 0;

    if (!wanted)
        return -ENOENT;
    for (const struct chain *i = d->image; i != wanted; i = i->backing)
        depth++;
    return depth;
}

static int layer_holds(struct chain *i, struct error *err) {
    struct qcow2_run run = {.type = QCOW2_UNALLOCATED};

    for (uint64_t at = 0; at < i->size; at += run.length) {
        int r = qcow2_map(i->qcow2, at, i->size - at, &run);

        if (r < 0)
            return error_set(err, r, "disk image '%s' cannot be read: %s", i->path, strerror(-r));
        if (run.type != QCOW2_UNALLOCATED)
            return 1;
    }
    return 0;
}

int disk_layers_hold(const struct block *b, unsigned count, struct error *err) {
    struct chain *i = disk_of(b)->image;
    int r = 0;

    for (; count && r == 0; count--, i = i->backing)
        r = i->qcow2 ? layer_holds(i, err) : 1;
    return r;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The external snapshot: an empty layer is put on top of a disk, and what was the disk is not
 * written any more. And the resizing of a disk.
 *
 * A crash before the change leaves an overlay that nobody has written; after it, what the guest
 * writes is in the overlay.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/trace.h"
#include "block/blockjob_internal.h"

/* With the gate closed: what can fail. */
static int prepare(struct disk *d, struct chain *overlay, struct error *err) {
    int r = blockjob_carry_bitmaps(overlay, d->image, err);

    if (r == 0 && (r = chain_flush(d->image)) < 0)
        error_set(err, r, "disk image '%s' cannot be flushed: %s", d->image->path, strerror(-r));
    return r;
}

/* With the gate closed, when all disks are prepared. */
static void put_on_top(struct disk *d, struct chain *overlay) {
    struct chain *base = d->image;

    chain_attach(overlay, base);
    d->image = overlay;
    /* All of it is in the file already. If that is not known for sure it stays locked as one that
     * is written. */
    if (chain_set_writable(base, false, NULL) < 0)
        trace(blockjob_base_locked, base->path);
}

static struct chain *make_overlay(struct blockjob *j, struct error *err) {
    struct disk *d = blockjob_disk(j);
    char *below = chain_name_for(blockjob_spec(j)->path, d->image);
    struct chain_create c = {.path = blockjob_spec(j)->path,
                             .format = "qcow2",
                             .size = d->image->size,
                             .backing = below,
                             .backing_format = chain_format(d->image)};
    struct chain *overlay;
    struct qcow2_info info;

    if (!below) {
        error_set(err, -ENOMEM, "disk image '%s': out of memory", d->image->path);
        return NULL;
    }
    if (d->image->qcow2) {
        qcow2_info(d->image->qcow2, &info);
        c.cluster_bits = (unsigned)__builtin_ctzll(info.cluster_size);
    }
    overlay = blockjob_new_image(j, &c, err);
    free(below);
    return overlay;
}

/* A chain that is too long could not be opened again. */
static int check_depth(struct disk *d, struct error *err) {
    unsigned layers = 0;

    for (const struct chain *i = d->image; i; i = i->backing)
        layers++;
    return layers < CHAIN_MAX_DEPTH
               ? 0
               : error_set(err, -ELOOP,
                           "disk image '%s' has %u layers, which is as many as there may be; "
                           "commit or stream some of them first",
                           d->image->path, layers);
}

int blockjob_run_snapshot(struct blockjob *j, struct error *err) {
    struct disk *d = blockjob_disk(j);
    struct chain *overlay = check_depth(d, err) == 0 ? make_overlay(j, err) : NULL;
    int r = overlay ? blockjob_check(j, err) : err->code;

    if (r == 0)
        chain_flush(d->image); /* so that there is little left to do while the guest waits */
    r = blockjob_meet_first(j, r, err);
    if (r == 0) {
        disk_gate_close(d);
        r = blockjob_meet(j, prepare(d, overlay, err), err);
        if (r == 0)
            put_on_top(d, overlay);
        disk_gate_open(d);
    }
    if (r < 0 && overlay) {
        unlink(overlay->path);
        chain_close(overlay);
    }
    return r;
}

int blockjob_run_resize(struct blockjob *j, struct error *err) {
    struct disk *d = blockjob_disk(j);
    uint64_t size = (blockjob_spec(j)->size + 511) & ~511ull;
    int r = 0;

    if (size < d->image->size)
        return error_set(err, -EINVAL,
                         "disk image '%s' has %llu bytes and cannot become smaller while its guest "
                         "runs; end the machine and use viv-img resize --shrink",
                         d->image->path, (unsigned long long)d->image->size);
    disk_gate_close(d);
    r = chain_resize(d->image, size, err);
    if (r == 0 && (r = chain_flush(d->image)) < 0)
        error_set(err, r, "disk image '%s' cannot be flushed: %s", d->image->path, strerror(-r));
    disk_gate_open(d);
    return r;
}

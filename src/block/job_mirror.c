/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The mirror: a disk is copied to a new image, which follows it until it takes its place, or until
 * the job is cancelled: then it stays what it is, a copy of that moment.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/blockjob_internal.h"

static int check(struct blockjob *j, struct error *err) {
    const struct blockjob_spec *s = blockjob_spec(j);
    struct chain *image = blockjob_disk(j)->image;

    if (!s->only_top || image->backing)
        return s->only_top && s->format && strcmp(s->format, "qcow2") != 0
                   ? error_set(err, -EINVAL,
                               "a copy of only the first layer has a backing file "
                               "and must be a qcow2 image")
                   : 0;
    return error_set(err, -EINVAL,
                     "disk image '%s' has no backing file, so that there is no first layer to copy "
                     "by itself; use sync full",
                     image->path);
}

static struct chain *make_target(struct blockjob *j, struct error *err) {
    const struct blockjob_spec *s = blockjob_spec(j);
    struct chain *image = blockjob_disk(j)->image, *target;
    struct chain_create c = {
        .path = s->path, .format = s->format ? s->format : "qcow2", .size = image->size};
    char *below = s->only_top ? chain_absolute_path(image->backing) : NULL;

    c.backing = below;
    c.backing_format = below ? chain_format(image->backing) : NULL;
    target = blockjob_new_image(j, &c, err);
    free(below);
    if (target && s->only_top) { /* it shows what the disk shows; the layer stays the disk's */
        chain_attach(target, image->backing);
        target->backing = NULL;
    }
    return target;
}

/* With the gate closed: the copy is the disk from now on. Returns what was it before. */
static struct chain *pivot(struct blockjob *j, struct chain *target) {
    struct disk *d = blockjob_disk(j);
    struct chain *old = d->image;

    d->filter = NULL;
    if (blockjob_spec(j)->only_top) {
        target->backing = old->backing;
        old->backing = NULL;
    }
    d->image = target;
    return old;
}

/* Closes the copy and leaves it, equal to the disk at this moment. */
static int leave(struct blockjob *j, struct copy *c, struct error *err) {
    struct disk *d = blockjob_disk(j);
    int r;

    disk_gate_close(d);
    r = copy_rest(c, err);
    d->filter = NULL;
    disk_gate_open(d);
    return r < 0 ? r : error_set(err, -ECANCELED, "given up; the copy is whole");
}

/* *ret_whole: the copy is one, of whatever moment. */
static int follow(struct blockjob *j, struct copy *c, struct chain **target, bool *ret_whole,
                  struct error *err) {
    struct disk *d = blockjob_disk(j);
    int r = copy_until_told(c, err);

    if (r < 0)
        return r;
    if (blockjob_is_cancelled(j)) {
        r = leave(j, c, err);
        *ret_whole = r == -ECANCELED;
        return r;
    }
    disk_gate_close(d);
    r = copy_rest(c, err);
    if (r == 0)
        r = blockjob_carry_bitmaps(*target, d->image, err);
    *ret_whole = r == 0;
    if (r == 0)
        *target = pivot(j, *target);
    disk_gate_open(d);
    return r;
}

int blockjob_run_mirror(struct blockjob *j, struct error *err) {
    struct copy c = {0};
    struct chain *target = check(j, err) == 0 ? make_target(j, err) : NULL;
    bool whole = false;
    int r;

    if (!target)
        return err->code;
    r = copy_begin(&c, j, target, blockjob_spec(j)->only_top ? 1 : 0, err);
    if (r == 0)
        r = follow(j, &c, &target, &whole, err);
    copy_end(&c);
    if (!whole)
        unlink(target->path);
    chain_close(target); /* the copy, or after a pivot the old image */
    return r;
}

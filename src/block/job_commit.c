/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Commit: what some layers hold is written into the layer below them, and they go.
 *
 * A crash at any moment leaves every layer that is above the base with the contents it had: the
 * base only changes where a layer above it holds something. When the first layer is committed, the
 * base becomes the disk; before the guest writes to it, the first layer is emptied and put directly
 * on the base. So whoever starts the machine again with the name it was started with finds
 * everything.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/blockjob_internal.h"

struct commit {
    struct chain *above; /* NULL: top is the first layer */
    struct chain *top, *base;
    unsigned depth; /* of the base */
    unsigned top_depth;
    uint64_t base_size;
    bool base_written;
};

static int no_layer(const char *disk, const char *path, struct error *err) {
    return error_set(err, -EINVAL,
                     "'%s' is no layer of disk image '%s'; viv-img info --backing-chain -U lists "
                     "them",
                     path, disk);
}

/* The layers that go, and the one that gets what they hold. */
static int find_layers(struct blockjob *j, struct commit *c, struct error *err) {
    const struct blockjob_spec *s = blockjob_spec(j);
    struct chain *first = blockjob_disk(j)->image, *top = first, *base;
    const char *disk = first->path;
    uint64_t size = first->size;

    if (s->top && !(top = chain_find(first, s->top)))
        return no_layer(disk, s->top, err);
    if (!top->backing)
        return error_set(err, -EINVAL,
                         "disk image '%s' has no backing file into which it could be committed",
                         top->path);
    base = s->base ? chain_find(top->backing, s->base) : top->backing;
    if (!base)
        return error_set(err, -EINVAL, "'%s' is no layer below '%s'", s->base, top->path);
    if (base->size > size)
        return error_set(err, -EINVAL,
                         "the backing file '%s' is larger than disk image '%s'; resize the disk "
                         "first",
                         base->path, disk);
    c->top = top;
    c->base = base;
    for (struct chain *i = first; i != top; i = i->backing, c->top_depth++)
        c->above = i;
    c->depth = c->top_depth + 1;
    for (const struct chain *i = top->backing; i != base; i = i->backing)
        c->depth++;
    return 0;
}

static int make_base_writable(struct disk *d, struct commit *c, struct error *err) {
    int r;

    disk_gate_close(d);
    r = chain_set_writable(c->base, true, err);
    c->base_written = r == 0;
    if (r == 0 && c->base->size < d->image->size)
        r = chain_resize(c->base, d->image->size, err);
    disk_gate_open(d);
    return r;
}

/* With the gate closed. */
static void make_base_readonly(struct commit *c) {
    if (c->base_written)
        chain_set_writable(c->base, false, NULL); /* what it failed to keep, a layer above has */
}

/* The layers from `first` down to the one above the base. */
static void close_layers(struct chain *first, const struct chain *base) {
    struct chain *last = first;

    while (last->backing != base)
        last = last->backing;
    last->backing = NULL;
    chain_close(first);
}

static int set_base(struct chain *layer, const struct chain *base, struct error *err) {
    char *path = chain_name_for(layer->path, base);
    int r = path ? qcow2_set_backing(layer->qcow2, path, chain_format(base), err) : -ENOMEM;

    free(path);
    return r;
}

/* ------------------------------------------------------------------ the first layer */

/* With the gate closed, and the base equal to the disk. *ret_between: layers that went. */
static int pivot(struct disk *d, const struct commit *c, struct chain **ret_between,
                 struct error *err) {
    int r = set_base(c->top, c->base, err);

    if (r < 0)
        return r;
    if (c->top->backing != c->base)
        *ret_between = c->top->backing;
    chain_attach(c->top, c->base); /* before it is emptied: others may hold something older */
    r = qcow2_make_empty(c->top->qcow2);
    if (r < 0)
        error_set(err, r, "disk image '%s' cannot be emptied: %s; it stays the disk", c->top->path,
                  strerror(-r));
    else
        d->image = c->base;
    return r;
}

static int commit_first(struct blockjob *j, struct commit *c, struct error *err) {
    struct disk *d = blockjob_disk(j);
    struct chain *between = NULL;
    struct copy copy;
    int r = copy_begin(&copy, j, c->base, c->depth, err);

    if (r == 0)
        r = copy_until_told(&copy, err);
    if (r == 0)
        r = blockjob_check(j, err);
    disk_gate_close(d);
    if (r == 0)
        r = copy_rest(&copy, err);
    if (r == 0)
        r = blockjob_carry_bitmaps(c->base, d->image, err);
    if (r == 0)
        r = pivot(d, c, &between, err);
    d->filter = NULL;
    if (r < 0)
        make_base_readonly(c);
    disk_gate_open(d);
    copy_end(&copy);
    if (between)
        close_layers(between, c->base);
    if (r == 0)
        close_layers(c->top, c->base);
    return r;
}

/* ------------------------------------------------------------------ others */

static int copy_layers(struct blockjob *j, struct commit *c, uint8_t *buf, struct error *err) {
    uint64_t at = 0, size = c->top->size;
    int r = 0;

    while (r == 0 && at < size && (r = blockjob_check(j, err)) == 0) {
        struct chain_run run;

        r = chain_map(c->top, at, size - at, &run);
        if (r == 0 && run.length > COPY_PIECE && run.data)
            run.length = COPY_PIECE;
        if (r == 0 && run.present && run.depth < c->depth - c->top_depth) {
            r = copy_piece(c->top, c->base, buf, at, run.length, run.zero);
            blockjob_pace(j, run.data ? run.length : 0);
        }
        at += run.length;
        blockjob_tell(j, at, size);
    }
    if (r == 0)
        r = chain_flush(c->base);
    return r < 0 && !err->code
               ? error_set(err, r,
                           "disk image '%s' cannot be committed to '%s': %s; nothing is lost: make "
                           "room or check the storage, and begin again",
                           c->top->path, c->base->path, strerror(-r))
               : r;
}

/* With the gate closed: the layer above is put on the base. */
static int drop_layers(struct disk *d, struct commit *c, struct error *err) {
    bool first = c->above == d->image;
    int r = first ? 0 : chain_set_writable(c->above, true, err);

    if (r == 0)
        r = set_base(c->above, c->base, err);
    make_base_readonly(c);
    if (!first)
        chain_set_writable(c->above, false, NULL);
    if (r == 0)
        chain_attach(c->above, c->base);
    return r;
}

static int commit_others(struct blockjob *j, struct commit *c, struct error *err) {
    struct disk *d = blockjob_disk(j);
    uint8_t *buf = malloc(COPY_PIECE);
    int r = buf ? copy_layers(j, c, buf, err) : -ENOMEM;

    free(buf);
    disk_gate_close(d);
    if (r == 0)
        r = drop_layers(d, c, err);
    else
        make_base_readonly(c);
    disk_gate_open(d);
    if (r == 0)
        close_layers(c->top, c->base);
    return r;
}

int blockjob_run_commit(struct blockjob *j, struct error *err) {
    struct disk *d = blockjob_disk(j);
    struct commit c = {0};
    int r = find_layers(j, &c, err);

    if (r < 0)
        return r;
    assert(c.base);
    r = make_base_writable(d, &c, err);
    if (r == 0)
        return c.above ? commit_others(j, &c, err) : commit_first(j, &c, err);
    if (c.base_written) {
        disk_gate_close(d);
        make_base_readonly(&c);
        disk_gate_open(d);
    }
    return r;
}

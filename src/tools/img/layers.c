/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * viv-img commit, rebase: work on chains of backing files.
 *
 * Both are safe to repeat after they were interrupted: the layer that loses something is changed
 * last, after everything was flushed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/convert.h"
#include "tools/img/img.h"

enum { PIECE = 1 << 20 };

/* ------------------------------------------------------------------ commit */

/* The layer that commit writes to: the one below, or that of -b. */
static struct chain *find_base(const struct img_args *a, struct chain *view, unsigned *ret_depth,
                               struct error *err) {
    struct chain *base = view->backing;
    char *path = a->backing ? chain_backing_path(view->path, a->backing) : NULL;

    *ret_depth = 1;
    while (base && path && strcmp(base->path, path) != 0 && strcmp(base->path, a->backing) != 0) {
        base = base->backing;
        ++*ret_depth;
    }
    free(path);
    if (!base)
        error_set(err, -EINVAL, "disk image '%s' has no backing file%s%s to commit to", view->path,
                  a->backing ? " " : "", a->backing ? a->backing : "");
    return base;
}

static int commit_runs(const struct img_args *a, struct chain *view, struct chain *base,
                       unsigned depth) {
    uint64_t at = 0;
    int r = 0;

    while (r == 0 && at < view->size) {
        struct chain_run run;

        r = chain_map(view, at, view->size - at, &run);
        run.length = r == 0 && run.length > PIECE ? PIECE : run.length;
        if (r == 0 && run.present && run.depth < depth)
            r = convert_range(view, base, at, run.length, false);
        at += run.length;
        img_progress(a, at, view->size);
    }
    return r < 0 ? r : chain_flush(base);
}

static int commit(const struct img_args *a, struct chain *top, struct chain *view,
                  struct error *err) {
    unsigned depth = 0;
    struct chain *below = find_base(a, view, &depth, err), *base;
    int r, closed;

    if (!below)
        return -EINVAL;
    base = img_open(a, below->path, chain_format(below), IMG_WRITE, err);
    if (!base)
        return -EINVAL;
    r = base->size < view->size ? chain_resize(base, view->size, err) : 0;
    if (r == 0)
        r = commit_runs(a, view, base, depth);
    closed = chain_close(base);
    r = r < 0 ? r : closed;
    if (r == 0 && depth == 1 && !a->keep) /* what lies between would show through otherwise */
        r = qcow2_make_empty(top->qcow2);
    return r < 0 ? error_set(err, r, "disk image '%s' cannot be committed: %s", top->path,
                             strerror(-r))
                 : 0;
}

int img_commit(const struct img_args *a, struct error *err) {
    /* `top` holds the lock and is emptied at the end; `view` shows the whole chain. */
    struct chain_options lock = {.path = a->word[0], .format = a->format, .no_backing = true};
    struct chain_options all = {
        .path = a->word[0], .format = a->format, .readonly = true, .no_lock = true};
    struct chain *top = chain_open(&lock, err), *view = top ? chain_open(&all, err) : NULL;
    int r = -EINVAL, closed;

    if (view && !view->qcow2)
        error_set(err, -EINVAL, "'%s' is a raw image, which has no backing file", a->word[0]);
    else if (view)
        r = commit(a, top, view, err);
    chain_close(view);
    closed = chain_close(top);
    if (r == 0 && closed < 0)
        r = error_set(err, closed, "disk image '%s' could not be closed: %s", a->word[0],
                      strerror(-closed));
    if (r == 0)
        img_progress_end(a);
    if (r == 0 && !a->quiet)
        printf("Image committed.\n");
    return r < 0 ? IMG_EXIT_FAILED : 0;
}

/* ------------------------------------------------------------------ rebase */

/* The old layers, with zeroes behind their end up to the size of the disk. */
static int read_padded(void *opaque, const struct span *s, uint64_t offset, uint64_t length) {
    struct chain *c = opaque;
    uint64_t have = !c || offset >= c->size ? 0 : c->size - offset;
    struct span rest = *s;
    int r;

    have = have < length ? have : length;
    r = have ? chain_read(c, s, offset, have) : 0;
    rest.skip += have;
    span_zero(&rest, length - have);
    return r;
}

static int read_flat(void *c, uint8_t *data, uint64_t offset, uint64_t length) {
    struct iovec v = {data, length};

    return read_padded(c, &(struct span){&v, 1, 0}, offset, length);
}

/* What the new layers show otherwise than the old ones, the image must hold itself. */
static int keep_difference(struct chain *top, struct chain *base, uint8_t *data[2], uint64_t at,
                           uint64_t n) {
    struct iovec v = {data[0], n};
    int r = read_flat(top->backing, data[0], at, n);

    if (r == 0)
        r = read_flat(base, data[1], at, n);
    if (r < 0 || !memcmp(data[0], data[1], n))
        return r;
    if (bytes_are_zero(data[0], n))
        return qcow2_zero(top->qcow2, at, n, true);
    return qcow2_write(top->qcow2, &(struct span){&v, 1, 0}, at, n);
}

static int move_over(const struct img_args *a, struct chain *top, struct chain *base) {
    uint8_t *data[2] = {malloc(PIECE), malloc(PIECE)};
    int r = data[0] && data[1] ? 0 : -ENOMEM;
    uint64_t at = 0;

    /* Even where the old layers end, a zero must be written down: the new ones may be longer. */
    qcow2_set_below(top->qcow2, read_padded, top->backing, top->size);
    while (r == 0 && at < top->size) {
        struct qcow2_run run;

        r = qcow2_map(top->qcow2, at, top->size - at, &run);
        if (r < 0)
            break;
        run.length = run.length < PIECE ? run.length : PIECE;
        if (run.type == QCOW2_UNALLOCATED)
            r = keep_difference(top, base, data, at, run.length);
        at += run.length;
        img_progress(a, at, top->size);
    }
    free(data[0]);
    free(data[1]);
    return r;
}

static int rebase(const struct img_args *a, struct chain *top, struct error *err) {
    bool none = !a->backing || !*a->backing;
    char *path = none ? NULL : chain_backing_path(top->path, a->backing);
    struct chain *base = NULL;
    int r = 0;

    if (!top->qcow2)
        r = error_set(err, -EINVAL, "'%s' is a raw image, which has no backing file", top->path);
    else if (!none && !a->other_format)
        r = error_set(
            err, -EINVAL,
            "-b %s: say its format, too, since it must not be guessed: -F raw or -F qcow2",
            a->backing);
    if (r == 0 && !a->unsafe) {
        base = none ? NULL : img_open(a, path, a->other_format, IMG_READ, err);
        r = none || base ? move_over(a, top, base) : -EINVAL;
    }
    if (r == 0)
        r = qcow2_set_backing(top->qcow2, none ? NULL : a->backing, a->other_format, err);
    chain_close(base);
    free(path);
    return r < 0
               ? error_set(err, r, "disk image '%s' cannot be rebased: %s", top->path, strerror(-r))
               : 0;
}

int img_rebase(const struct img_args *a, struct error *err) {
    struct chain_options o = {
        .path = a->word[0], .format = a->format, .no_backing = a->unsafe, .no_lock = a->share};
    struct chain *top = chain_open(&o, err);
    int r = top ? rebase(a, top, err) : -EINVAL, closed = chain_close(top);

    if (r == 0 && closed < 0)
        r = error_set(err, closed, "disk image '%s' could not be closed: %s", a->word[0],
                      strerror(-closed));
    if (r == 0)
        img_progress_end(a);
    return r < 0 ? IMG_EXIT_FAILED : 0;
}

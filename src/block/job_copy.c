/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copying a disk that goes on being written.
 *
 * A bit for each part says that the copy may differ there. A request sets it after it has written,
 * the copy clears it before it reads: so what is clear and not being copied is equal. With the gate
 * closed nobody writes, and what is left is copied once more.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/blockjob_internal.h"

enum {
    PART_SHIFT = 16,
    LITTLE = 8 << 20, /* so much may be left when the gate is closed */
    ROUNDS = 20,      /* a guest that writes faster than the copy goes has to wait in the end */
    IDLE_MS = 100,
};
#define ZERO_PIECE (1ull << 30)

static void written(void *opaque, uint64_t offset, uint64_t length) {
    dirty_set(&((struct copy *)opaque)->dirty, offset, length);
}

static int out_of_memory(const struct copy *c, struct error *err) {
    return error_set(err, -ENOMEM, "disk image '%s': out of memory", c->to->path);
}

int copy_begin(struct copy *c, struct blockjob *j, struct chain *to, unsigned depth,
               struct error *err) {
    struct disk *d = blockjob_disk(j);

    *c = (struct copy){.job = j, .to = to, .depth = depth};
    c->filter = (struct disk_filter){.after = written, .opaque = c};
    c->buf = malloc(COPY_PIECE);
    if (!c->buf || dirty_init(&c->dirty, d->image->size, PART_SHIFT) < 0)
        return out_of_memory(c, err);
    dirty_set(&c->dirty, 0, d->image->size);
    disk_gate_close(d);
    d->filter = &c->filter;
    disk_gate_open(d);
    return 0;
}

void copy_end(struct copy *c) {
    struct disk *d = c->job ? blockjob_disk(c->job) : NULL;

    if (!d)
        return;
    if (d->filter) { /* whoever has closed the gate has taken it away */
        disk_gate_close(d);
        d->filter = NULL;
        disk_gate_open(d);
    }
    dirty_done(&c->dirty);
    free(c->buf);
}

/* ------------------------------------------------------------------ pieces */

int copy_piece(struct chain *from, struct chain *to, uint8_t *buf, uint64_t offset, uint64_t length,
               bool zero) {
    struct iovec v = {buf, length};
    struct span s = {&v, 1, 0};
    int r;

    if (zero)
        return chain_zero(to, offset, length, true);
    r = chain_read(from, &s, offset, length);
    if (r < 0)
        return r;
    return bytes_are_zero(buf, length) ? chain_zero(to, offset, length, true)
                                       : chain_write(to, &s, offset, length);
}

/* What the map says of the range, as it was before the bits were cleared, does for how far it goes;
 * not for what is there. */
static int copy_range(struct copy *c, struct chain *from, uint64_t offset, uint64_t length) {
    uint64_t end = offset + length;
    int r = 0;

    while (r == 0 && offset < end) {
        struct chain_run run;

        r = chain_map(from, offset, end - offset, &run);
        if (r < 0)
            return r;
        if (run.length > COPY_PIECE && !run.zero)
            run.length = COPY_PIECE;
        if (!c->depth || (run.present && run.depth < c->depth)) {
            r = copy_piece(from, c->to, c->buf, offset, run.length, run.zero || !run.present);
            if (r == 0 && !run.zero && !c->hurry)
                blockjob_pace(c->job, run.length);
        }
        offset += run.length;
    }
    return r;
}

static int one_piece(struct copy *c, uint64_t offset, uint64_t length, struct error *err) {
    struct chain *from = blockjob_disk(c->job)->image;
    struct chain_run run;
    int r = chain_map(from, offset, length, &run);
    uint64_t most = COPY_PIECE;

    if (r == 0 && (run.zero || (c->depth && run.depth >= c->depth)) && run.length > most)
        most = run.length & ~((1ull << PART_SHIFT) - 1);
    if (most > ZERO_PIECE)
        most = ZERO_PIECE;
    length = length < most ? length : most;
    dirty_clear(&c->dirty, offset, length);
    if (r == 0)
        r = copy_range(c, from, offset, length);
    if (r == 0) {
        c->done += length;
        return 0;
    }
    dirty_set(&c->dirty, offset, length);
    return error_set(err, r, "disk image '%s' cannot be copied to '%s': %s; nothing is lost: %s",
                     from->path, c->to->path, strerror(-r),
                     r == -ENOSPC || r == -EDQUOT ? "make room there and begin again"
                                                  : "check the storage of both and begin again");
}

/* Every part that is dirty now, once. */
static int pass(struct copy *c, bool cancellable, struct error *err) {
    uint64_t at = 0, n, from;
    int r = 0;

    while (r == 0 && (n = dirty_next(&c->dirty, at, ZERO_PIECE, &from))) {
        uint64_t before = c->done;

        r = cancellable ? blockjob_check(c->job, err) : 0;
        if (r == 0)
            r = one_piece(c, from, n, err);
        at = from + (c->done - before);
        blockjob_tell(c->job, c->done, c->done + dirty_bytes(&c->dirty));
    }
    return r;
}

/* ------------------------------------------------------------------ the whole */

int copy_until_told(struct copy *c, struct error *err) {
    uint64_t left;
    int r = 0;

    for (unsigned i = 0; i < ROUNDS && r == 0 && dirty_bytes(&c->dirty); i++)
        r = pass(c, true, err);
    if (r == 0 && (r = chain_flush(c->to)) < 0)
        error_set(err, r, "disk image '%s' cannot be flushed: %s; check the storage", c->to->path,
                  strerror(-r));
    if (r < 0)
        return r;
    blockjob_ready(c->job);
    while (r == 0 && !blockjob_wait(c->job, IDLE_MS))
        r = pass(c, false, err);
    for (unsigned i = 0; r == 0 && i < ROUNDS; i++) {
        left = dirty_bytes(&c->dirty);
        if (left <= LITTLE)
            break;
        r = pass(c, false, err);
    }
    return r;
}

int copy_rest(struct copy *c, struct error *err) {
    int r;

    c->hurry = true;
    r = pass(c, false, err);
    if (r == 0 && (r = chain_flush(c->to)) < 0)
        error_set(err, r, "disk image '%s' cannot be flushed: %s; check the storage", c->to->path,
                  strerror(-r));
    return r;
}

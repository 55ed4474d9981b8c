/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copying a disk that goes on being written.
 *
 * A bit for each part says that the copy may differ there. A request sets it after it has written,
 * the copy clears it before it reads: so what is clear and not being copied is equal. With the gate
 * closed nobody writes, and what is left is copied once more.
 *
 * A guest may write faster than this copies. If a pass over what is dirty leaves more than half as
 * much behind, the copy begins to follow: a request then writes to both before it is answered, so
 * that no part becomes dirty again and the next pass is the last one. So that the order of two
 * writers is the same in both, whoever writes or copies a part claims it first. What is copied is
 * read back from the disk, not taken from the guest's buffers, which it may change meanwhile. Parts
 * that are dirty anyway are left to the pass.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/trace.h"
#include "block/blockjob_internal.h"

enum {
    PART_SHIFT = 16,
    PART = 1 << PART_SHIFT,
    LITTLE = 8 << 20, /* so much may be left when the gate is closed, of small disks less: */
    LITTLE_SHARE = 64,
    IDLE_MS = 100,
};
#define ZERO_PIECE (1ull << 30)

static int out_of_memory(const struct copy *c, struct error *err) {
    return error_set(err, -ENOMEM, "disk image '%s': out of memory", c->to->path);
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
 * not for what is there. *ret_data grows by the bytes that were no hole. */
static int copy_range(struct copy *c, uint8_t *buf, uint64_t offset, uint64_t length,
                      uint64_t *ret_data) {
    struct chain *from = blockjob_disk(c->job)->image;
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
            r = copy_piece(from, c->to, buf, offset, run.length, run.zero || !run.present);
            *ret_data += run.zero ? 0 : run.length;
        }
        offset += run.length;
    }
    return r;
}

/* ------------------------------------------------------------------ following */

static bool claimed(const struct copy *c, uint64_t offset, uint64_t end) {
    for (unsigned i = 0; i < COPY_CLAIMS; i++)
        if (offset < c->claim[i].end && c->claim[i].offset < end)
            return true;
    return false;
}

static struct copy_claim *free_claim(struct copy *c) {
    for (unsigned i = 0; i < COPY_CLAIMS; i++)
        if (!c->claim[i].end)
            return &c->claim[i];
    return NULL;
}

/* Whole parts. Who holds a claim needs nothing of others to come to the end. */
static void claim(struct copy *c, uint64_t offset, uint64_t length) {
    uint64_t end = (offset + length + PART - 1) & ~(uint64_t)(PART - 1);
    struct copy_claim *mine;

    offset &= ~(uint64_t)(PART - 1);
    pthread_mutex_lock(&c->lock);
    while (claimed(c, offset, end) || !(mine = free_claim(c)))
        pthread_cond_wait(&c->changed, &c->lock);
    *mine = (struct copy_claim){offset, end};
    pthread_mutex_unlock(&c->lock);
}

static void unclaim(struct copy *c, uint64_t offset) {
    offset &= ~(uint64_t)(PART - 1);
    pthread_mutex_lock(&c->lock);
    for (unsigned i = 0; i < COPY_CLAIMS; i++)
        if (c->claim[i].end && c->claim[i].offset == offset)
            c->claim[i].end = 0;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

/* Of what the guest has written, the parts that were equal before. */
static int carry(struct copy *c, uint64_t offset, uint64_t length) {
    uint64_t end = offset + length, size = length < COPY_PIECE ? length : COPY_PIECE;
    uint8_t *buf = malloc(size);
    uint64_t data = 0;
    int r = buf ? 0 : -ENOMEM;

    while (r == 0 && offset < end) {
        uint64_t from = end, n = dirty_next(&c->dirty, offset, end - offset, &from);

        if (!n || from > end)
            from = end;
        if (from > offset)
            r = copy_range(c, buf, offset, from - offset, &data);
        offset = n ? from + n : end;
    }
    free(buf);
    return r;
}

static bool follows_not(void *opaque, uint64_t offset, uint64_t length) {
    return !((struct copy *)opaque)->following;
}

static void writing(void *opaque, uint64_t offset, uint64_t length) {
    struct copy *c = opaque;

    if (c->following && length)
        claim(c, offset, length);
}

static void written(void *opaque, uint64_t offset, uint64_t length) {
    struct copy *c = opaque;
    int r;

    if (!c->following) {
        dirty_set(&c->dirty, offset, length);
        return;
    }
    if (!length)
        return;
    r = carry(c, offset, length);
    if (r < 0) { /* the job's failure, not the guest's */
        dirty_set(&c->dirty, offset, length);
        __atomic_store_n(&c->failed, r, __ATOMIC_RELAXED);
    }
    unclaim(c, offset);
}

static void follow(struct copy *c) {
    struct disk *d = blockjob_disk(c->job);

    stat_inc(blockjob_followed);
    trace(blockjob_follows, d->image->path, dirty_bytes(&c->dirty));
    disk_gate_close(d);
    c->following = true;
    disk_gate_open(d);
}

/* ------------------------------------------------------------------ beginning and end */

int copy_begin(struct copy *c, struct blockjob *j, struct chain *to, unsigned depth,
               struct error *err) {
    struct disk *d = blockjob_disk(j);

    *c = (struct copy){.job = j, .to = to, .depth = depth};
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    c->filter =
        (struct disk_filter){.before = writing, .idle = follows_not, .after = written, .opaque = c};
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
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->changed);
    free(c->buf);
}

static int one_piece(struct copy *c, uint64_t offset, uint64_t length, struct error *err) {
    struct chain *from = blockjob_disk(c->job)->image;
    struct chain_run run;
    int r = chain_map(from, offset, length, &run);
    uint64_t most = COPY_PIECE, data = 0;

    if (r == 0 && (run.zero || (c->depth && run.depth >= c->depth)) && run.length > most)
        most = run.length & ~((1ull << PART_SHIFT) - 1);
    if (most > ZERO_PIECE)
        most = ZERO_PIECE;
    length = length < most ? length : most;
    claim(c, offset, length);
    dirty_clear(&c->dirty, offset, length);
    if (r == 0)
        r = copy_range(c, c->buf, offset, length, &data);
    if (r < 0)
        dirty_set(&c->dirty, offset, length);
    unclaim(c, offset);
    if (data && !c->hurry)
        blockjob_pace(c->job, data);
    if (r == 0)
        r = __atomic_load_n(&c->failed, __ATOMIC_RELAXED);
    if (r == 0) {
        c->done += length;
        return 0;
    }
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

/* Passes until little is left; before it was ready one at least. */
static int catch_up(struct copy *c, bool was_ready, struct error *err) {
    uint64_t little = c->dirty.size / LITTLE_SHARE, left = dirty_bytes(&c->dirty), now;
    bool again;
    int r = 0;

    if (little > LITTLE)
        little = LITTLE;
    for (again = !was_ready || left > little; r == 0 && again; left = now) {
        r = pass(c, !was_ready, err);
        now = dirty_bytes(&c->dirty);
        again = now > little;
        if (r == 0 && again && now > left / 2 && !c->following)
            follow(c);
    }
    return r;
}

int copy_until_told(struct copy *c, struct error *err) {
    int r = catch_up(c, false, err);

    if (r == 0 && (r = chain_flush(c->to)) < 0)
        error_set(err, r, "disk image '%s' cannot be flushed: %s; check the storage", c->to->path,
                  strerror(-r));
    if (r < 0)
        return r;
    blockjob_ready(c->job);
    while (r == 0 && !blockjob_wait(c->job, IDLE_MS))
        r = pass(c, false, err);
    return r < 0 ? r : catch_up(c, true, err);
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

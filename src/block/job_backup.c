/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Backups of a running disk: a copy of one moment, of everything or of what a bitmap says was
 * written since the backup before.
 *
 * What is to be copied is known when the job begins, with the gate closed. A guest that is about to
 * write a part that has not been copied yet has it copied first. If that fails the backup has
 * failed, not the guest's write.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/blockjob_internal.h"
#include "block/qcow2_bitmap.h"

enum { PART_SHIFT = 16, PART = 1 << PART_SHIFT };

struct busy { /* a part that somebody copies now */
    uint64_t offset;
    struct busy *next;
};

struct backup {
    struct blockjob *job;
    struct chain *to;
    struct disk_filter filter;
    struct dirty todo;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a part is not busy any more */
    struct busy *busy;
    uint64_t total;
    int failed; /* atomic */
    struct qcow2 *bitmap_of;
};

/* ------------------------------------------------------------------ one part */

static bool is_busy(const struct backup *b, uint64_t offset) {
    for (const struct busy *i = b->busy; i; i = i->next)
        if (i->offset == offset)
            return true;
    return false;
}

static void unlink_busy(struct backup *b, const struct busy *mine) {
    struct busy **link = &b->busy;

    while (*link != mine)
        link = &(*link)->next;
    *link = mine->next;
}

static int copy_now(struct backup *b, uint64_t offset) {
    struct chain *from = blockjob_disk(b->job)->image;
    uint64_t length = from->size - offset < PART ? from->size - offset : PART;
    uint8_t *buf = malloc(PART);
    struct chain_run run;
    int r = buf ? chain_map(from, offset, length, &run) : -ENOMEM;

    if (r == 0)
        r = copy_piece(from, b->to, buf, offset, length,
                       run.length == length && (run.zero || !run.present));
    free(buf);
    return r;
}

/* Copies the part unless it was, or waits for who does it. */
static void copy_part(struct backup *b, uint64_t offset) {
    struct busy mine = {.offset = offset};
    int r;

    pthread_mutex_lock(&b->lock);
    while (is_busy(b, offset))
        pthread_cond_wait(&b->changed, &b->lock);
    if (!dirty_any(&b->todo, offset, 1) || __atomic_load_n(&b->failed, __ATOMIC_RELAXED)) {
        pthread_mutex_unlock(&b->lock);
        return;
    }
    mine.next = b->busy;
    b->busy = &mine;
    pthread_mutex_unlock(&b->lock);
    r = copy_now(b, offset);
    pthread_mutex_lock(&b->lock);
    if (r < 0)
        __atomic_store_n(&b->failed, r, __ATOMIC_RELAXED);
    else
        dirty_clear(&b->todo, offset, 1);
    unlink_busy(b, &mine);
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

/* ------------------------------------------------------------------ what the guest writes */

static bool idle(void *opaque, uint64_t offset, uint64_t length) {
    struct backup *b = opaque;

    return __atomic_load_n(&b->failed, __ATOMIC_RELAXED) || !dirty_any(&b->todo, offset, length);
}

static void before(void *opaque, uint64_t offset, uint64_t length) {
    struct backup *b = opaque;
    uint64_t at = offset & ~(uint64_t)(PART - 1), from;

    while (!idle(b, offset, length) && dirty_next(&b->todo, at, 1, &from) &&
           from < offset + length) {
        copy_part(b, from);
        at = from + PART;
    }
}

/* ------------------------------------------------------------------ beginning and end */

static int check(struct blockjob *j, struct error *err) {
    const struct blockjob_spec *s = blockjob_spec(j);
    bool raw = s->format && !strcmp(s->format, "raw");

    if (raw && (s->parent || (s->bitmap && !s->begin)))
        return error_set(err, -EINVAL,
                         "an incremental backup must be a qcow2 image: a raw one "
                         "cannot say what it does not hold");
    if (s->begin && !s->bitmap)
        return error_set(err, -EINVAL, "which bitmap is to begin? Name it");
    if (s->bitmap && !blockjob_disk(j)->image->qcow2)
        return error_set(err, -EINVAL,
                         "disk image '%s' is a raw image, which has no bitmaps; make a full backup",
                         blockjob_disk(j)->image->path);
    return 0;
}

static int nothing_below(void *opaque, const struct span *s, uint64_t offset, uint64_t length) {
    span_zero(s, length);
    return 0;
}

static struct chain *make_target(struct blockjob *j, struct error *err) {
    const struct blockjob_spec *s = blockjob_spec(j);
    struct chain_options o = {.path = s->parent, .format = "qcow2", .readonly = true};
    struct chain_create c = {.path = s->path,
                             .format = s->format ? s->format : "qcow2",
                             .size = blockjob_disk(j)->image->size};
    struct chain *parent = s->parent ? blockjob_open_image(j, &o, err) : NULL, *target;
    char *name = parent ? chain_absolute_path(parent) : NULL;

    if (s->parent && !name) {
        chain_close(parent);
        return NULL;
    }
    c.backing = name;
    c.backing_format = name ? "qcow2" : NULL;
    target = blockjob_new_image(j, &c, err);
    free(name);
    if (!target) {
        chain_close(parent);
        return NULL;
    }
    if (parent)
        chain_attach(target, parent);
    else if (s->bitmap && !s->begin) /* whoever gives it a parent later must not see it where zeroes
                                        were written */
        qcow2_set_below(target->qcow2, nothing_below, NULL, target->size);
    return target;
}

/* With the gate closed: what is to be copied, and the bitmap begins anew. */
static int take_bitmap(struct backup *b, struct error *err) {
    const struct blockjob_spec *s = blockjob_spec(b->job);
    struct qcow2 *q = blockjob_disk(b->job)->image->qcow2;
    struct error mine = {0};
    struct dirty *taken;
    int r;

    if (!s->bitmap || s->begin)
        dirty_set(&b->todo, 0, b->todo.size);
    if (!s->bitmap)
        return 0;
    r = qcow2_bitmap_take(q, s->bitmap, &taken, &mine);
    if (s->begin && (r == -EUCLEAN || r == -ENOENT)) {
        if (r == -EUCLEAN)
            qcow2_bitmap_change(q, s->bitmap, QCOW2_BITMAP_REMOVE, NULL);
        mine.code = 0;
        r = qcow2_bitmap_add(q, s->bitmap, 0, true, &mine);
        if (r == 0)
            r = qcow2_bitmap_take(q, s->bitmap, &taken, &mine);
        if (r == 0) /* a backup that fails leaves one that knows of nothing: all was written */
            dirty_set(taken, 0, taken->size);
    }
    if (r < 0) {
        *err = mine;
        return r;
    }
    b->bitmap_of = q;
    if (!s->begin)
        dirty_merge(&b->todo, taken);
    return 0;
}

static int begin(struct backup *b, struct error *err) {
    struct disk *d = blockjob_disk(b->job);
    int r = 0;

    b->filter = (struct disk_filter){.before = before, .idle = idle, .opaque = b};
    if (dirty_init(&b->todo, d->image->size, PART_SHIFT) < 0)
        r = error_set(err, -ENOMEM, "disk image '%s': out of memory", d->image->path);
    r = blockjob_meet_first(b->job, r, err);
    if (r < 0)
        return r;
    disk_gate_close(d);
    r = blockjob_meet(b->job, take_bitmap(b, err), err);
    if (r == 0)
        d->filter = &b->filter;
    disk_gate_open(d);
    if (r == 0)
        blockjob_began(b->job);
    b->total = dirty_bytes(&b->todo);
    return r;
}

/* Requests that are inside may still copy to it. */
static void let_go(struct disk *d) {
    disk_gate_close(d);
    d->filter = NULL;
    disk_gate_open(d);
}

static int copy_all(struct backup *b, struct error *err) {
    const char *disk = blockjob_disk(b->job)->image->path;
    uint64_t at = 0;
    int r = 0;

    while (r == 0 && dirty_next(&b->todo, at, 1, &at)) {
        r = blockjob_check(b->job, err);
        if (r < 0)
            return r;
        copy_part(b, at);
        r = __atomic_load_n(&b->failed, __ATOMIC_RELAXED);
        blockjob_tell(b->job, b->total - dirty_bytes(&b->todo), b->total);
        blockjob_pace(b->job, PART);
        at += PART;
    }
    let_go(blockjob_disk(b->job)); /* also those who copy for themselves */
    if (r == 0)
        r = __atomic_load_n(&b->failed, __ATOMIC_RELAXED);
    if (r == 0)
        r = chain_flush(b->to);
    return r < 0 ? error_set(err, r,
                             "the backup of disk image '%s' to '%s' failed: %s; the disk itself "
                             "has taken no harm: make room or check the storage, and begin again",
                             disk, b->to->path, strerror(-r))
                 : 0;
}

/* The file is whole, or the reason why not. */
static int close_target(struct backup *b, struct error *err) {
    int r;

    let_go(blockjob_disk(b->job));
    r = chain_close(b->to);
    return r < 0 ? error_set(err, r, "the backup '%s' cannot be written: %s",
                             blockjob_spec(b->job)->path, strerror(-r))
                 : 0;
}

int blockjob_run_backup(struct blockjob *j, struct error *err) {
    struct backup b = {.job = j};
    int r = check(j, err), closed;

    if (r == 0 && !(b.to = make_target(j, err)))
        r = err->code ? err->code : -ENOMEM;
    if (r < 0)
        return r;
    pthread_mutex_init(&b.lock, NULL);
    pthread_cond_init(&b.changed, NULL);
    r = begin(&b, err);
    if (r == 0)
        r = copy_all(&b, err);
    closed = close_target(&b, r < 0 ? &(struct error){0} : err);
    r = blockjob_meet(j, r < 0 ? r : closed, err);
    if (r < 0)
        unlink(blockjob_spec(j)->path);
    if (b.bitmap_of)
        qcow2_bitmap_give(b.bitmap_of, blockjob_spec(j)->bitmap, r == 0);
    dirty_done(&b.todo);
    pthread_mutex_destroy(&b.lock);
    pthread_cond_destroy(&b.changed);
    return r;
}

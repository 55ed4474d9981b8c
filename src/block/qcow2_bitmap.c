/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dirty bitmaps of an open qcow2 image: in memory while it is written ("QCOW2 image format",
 * section Bitmaps). qcow2_bitmap_file.c reads and writes them.
 */
#include "block/qcow2_bitmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/qcow2_internal.h"

enum { MIN_SHIFT = 9, MAX_SHIFT = 31, MAX_BITMAPS = 256 };

/* ------------------------------------------------------------------ the list */

void bitmap_free(struct bitmap *b) {
    if (!b)
        return;
    dirty_done(&b->dirty);
    if (b->taken)
        dirty_done(b->taken);
    free(b->taken);
    free(b->extra);
    free(b->name);
    free(b);
}

void bitmaps_free(struct qcow2 *q) {
    struct bitmap *b;

    while ((b = q->bitmap_list)) {
        q->bitmap_list = b->next;
        bitmap_free(b);
    }
}

static struct bitmap **find(struct qcow2 *q, const char *name) {
    struct bitmap **link = &q->bitmap_list;

    while (*link && strcmp((*link)->name, name) != 0)
        link = &(*link)->next;
    return link;
}

/* One that may be used and changed. */
static int lookup_good(struct qcow2 *q, const char *name, struct bitmap **ret, struct error *err) {
    struct bitmap *b = *find(q, name);

    if (!b) {
        error_set(err, -ENOENT, "disk image '%s' has no bitmap '%s'", q->path, name);
        return -ENOENT;
    }
    *ret = b;
    if (b->taken)
        return error_set(err, -EBUSY,
                         "the bitmap '%s' of disk image '%s' is in use by a backup; wait for its "
                         "end",
                         name, q->path);
    if (b->inconsistent)
        return error_set(err, -EUCLEAN,
                         "the bitmap '%s' of disk image '%s' is of no use, since the image was not "
                         "closed; remove it, add it again, and make a full backup",
                         name, q->path);
    return 0;
}

static int check_writable(struct qcow2 *q, struct error *err) {
    int r;

    if (q->version < 3)
        return error_set(err, -ENOTSUP,
                         "disk image '%s' is of version 2 (compat=0.10), which has no bitmaps; "
                         "convert it: viv-img convert -O qcow2",
                         q->path);
    r = q->readonly ? -EROFS : bitmaps_use(q);
    return r == -EROFS ? error_set(err, r, "disk image '%s' is open for reading only", q->path)
           : r < 0
               ? error_set(err, r, "disk image '%s' cannot be written: %s", q->path, strerror(-r))
               : 0;
}

void qcow2_bitmap_each(struct qcow2 *q,
                       void (*fn)(void *opaque, const struct qcow2_bitmap_info *info),
                       void *opaque) {
    pthread_mutex_lock(&q->bitmap_lock);
    for (const struct bitmap *b = q->bitmap_list; b; b = b->next) {
        struct qcow2_bitmap_info info = {.name = b->name,
                                         .granularity = 1ull << b->shift,
                                         .enabled = b->enabled,
                                         .inconsistent = b->inconsistent,
                                         .busy = b->taken != NULL,
                                         .dirty = b->dirty.words ? dirty_bytes(&b->dirty) : 0};

        fn(opaque, &info);
    }
    pthread_mutex_unlock(&q->bitmap_lock);
}

/* ------------------------------------------------------------------ what is written */

void bitmaps_mark(struct qcow2 *q, uint64_t offset, uint64_t length) {
    if (!__atomic_load_n(&q->bitmap_list, __ATOMIC_RELAXED))
        return; /* one that is added now begins with the next write */
    pthread_mutex_lock(&q->bitmap_lock);
    bitmaps_set_closed(q, false);
    for (struct bitmap *b = q->bitmap_list; b; b = b->next)
        if (b->enabled && b->dirty.words)
            dirty_set(&b->dirty, offset, length);
    pthread_mutex_unlock(&q->bitmap_lock);
}

int bitmaps_resize(struct qcow2 *q, uint64_t size) {
    int r = 0;

    pthread_mutex_lock(&q->bitmap_lock);
    for (struct bitmap *b = q->bitmap_list; r == 0 && b; b = b->next)
        if (b->dirty.words)
            r = dirty_resize(&b->dirty, size);
    pthread_mutex_unlock(&q->bitmap_lock);
    return r;
}

/* ------------------------------------------------------------------ changes */

static int check_new(struct qcow2 *q, const char *name, unsigned shift, struct error *err) {
    unsigned count = 0;

    for (const struct bitmap *b = q->bitmap_list; b; b = b->next)
        count++;
    if (*find(q, name))
        return error_set(err, -EEXIST, "disk image '%s' has a bitmap '%s' already", q->path, name);
    if (count == MAX_BITMAPS)
        return error_set(err, -ENOSPC, "disk image '%s' has %u bitmaps; remove one", q->path,
                         count);
    if (!bitmap_fits(q->size, shift))
        return error_set(err, -EFBIG,
                         "a bitmap of disk image '%s' would take too much memory; use a larger "
                         "granularity",
                         q->path);
    return 0;
}

int qcow2_bitmap_add(struct qcow2 *q, const char *name, uint64_t granularity, bool enabled,
                     struct error *err) {
    unsigned shift = granularity ? (unsigned)__builtin_ctzll(granularity) : QCOW2_BITMAP_SHIFT;
    struct bitmap *b;
    int r = check_writable(q, err);

    if (r < 0)
        return r;
    if ((granularity & (granularity - 1)) || shift < MIN_SHIFT || shift > MAX_SHIFT)
        return error_set(err, -EINVAL,
                         "the granularity of a bitmap must be a power of two from 512 to 2G");
    if (!*name || strlen(name) > BITMAP_MAX_NAME)
        return error_set(err, -EINVAL, "the name of a bitmap must have 1 to %d bytes",
                         BITMAP_MAX_NAME);
    b = calloc(1, sizeof(*b));
    if (!b || !(b->name = strdup(name)) || dirty_init(&b->dirty, q->size, shift) < 0) {
        bitmap_free(b);
        return error_set(err, -ENOMEM, "disk image '%s': out of memory", q->path);
    }
    b->shift = shift;
    b->enabled = enabled;
    pthread_mutex_lock(&q->bitmap_lock);
    r = check_new(q, name, shift, err);
    if (r == 0) {
        *find(q, name) = b; /* the end of the list */
        b = NULL;
    }
    pthread_mutex_unlock(&q->bitmap_lock);
    bitmap_free(b);
    return r;
}

/* Its clusters are given back when the bitmaps are written. */
static void remove_at(struct bitmap **link) {
    struct bitmap *b = *link;

    *link = b->next;
    bitmap_free(b);
}

static int change(struct qcow2 *q, const char *name, enum qcow2_bitmap_change what,
                  struct error *err) {
    struct bitmap *b;
    int r = lookup_good(q, name, &b, err);

    if (r == -EUCLEAN && what == QCOW2_BITMAP_REMOVE) {
        err->code = 0;
        r = 0;
    }
    if (r < 0)
        return r;
    switch (what) {
    case QCOW2_BITMAP_REMOVE:
        remove_at(find(q, name));
        break;
    case QCOW2_BITMAP_CLEAR:
        dirty_clear(&b->dirty, 0, b->dirty.size);
        break;
    case QCOW2_BITMAP_ENABLE:
    case QCOW2_BITMAP_DISABLE:
        b->enabled = what == QCOW2_BITMAP_ENABLE;
        break;
    }
    return 0;
}

int qcow2_bitmap_change(struct qcow2 *q, const char *name, enum qcow2_bitmap_change what,
                        struct error *err) {
    struct error mine = {0};
    int r = check_writable(q, &mine);

    if (r == 0) {
        pthread_mutex_lock(&q->bitmap_lock);
        r = change(q, name, what, &mine);
        pthread_mutex_unlock(&q->bitmap_lock);
    }
    if (r < 0 && err)
        *err = mine;
    return r;
}

int qcow2_bitmap_merge(struct qcow2 *q, const char *name, struct qcow2 *from, const char *from_name,
                       struct error *err) {
    struct bitmap *to, *source;
    struct dirty bits = {0};
    int r = check_writable(q, err);

    if (r == 0)
        r = lookup_good(from, from_name, &source, err);
    if (r == 0)
        r = bitmap_copy_bits(from, source, &bits, err);
    if (r == 0) {
        pthread_mutex_lock(&q->bitmap_lock);
        r = lookup_good(q, name, &to, err);
        if (r == 0)
            dirty_merge(&to->dirty, &bits);
        pthread_mutex_unlock(&q->bitmap_lock);
    }
    dirty_done(&bits);
    return r;
}

static int carry(struct qcow2 *q, struct qcow2 *from, const struct bitmap *b, struct error *err) {
    struct error mine = {0};
    struct bitmap *there;
    int r;

    pthread_mutex_lock(&q->bitmap_lock);
    r = lookup_good(q, b->name, &there, &mine);
    pthread_mutex_unlock(&q->bitmap_lock);
    if (r == -EUCLEAN)
        qcow2_bitmap_change(q, b->name, QCOW2_BITMAP_REMOVE, NULL);
    if (r < 0 && (r = qcow2_bitmap_add(q, b->name, 1ull << b->shift, true, err)) < 0)
        return r;
    r = qcow2_bitmap_merge(q, b->name, from, b->name, err);
    if (r == 0)
        r = qcow2_bitmap_change(q, b->name, b->enabled ? QCOW2_BITMAP_ENABLE : QCOW2_BITMAP_DISABLE,
                                err);
    return r;
}

int qcow2_bitmaps_carry(struct qcow2 *q, struct qcow2 *from, struct error *err) {
    int r = 0;

    for (const struct bitmap *b = from->bitmap_list; r == 0 && b; b = b->next)
        if (!b->inconsistent)
            r = carry(q, from, b, err);
    return r;
}

/* ------------------------------------------------------------------ backups */

int qcow2_bitmap_take(struct qcow2 *q, const char *name, struct dirty **ret, struct error *err) {
    struct dirty *taken = malloc(sizeof(*taken)), now = {0};
    struct bitmap *b;
    int r = check_writable(q, err);

    pthread_mutex_lock(&q->bitmap_lock);
    if (r == 0)
        r = lookup_good(q, name, &b, err);
    if (r == 0 && taken && dirty_init(&now, b->dirty.size, b->shift) == 0) {
        *taken = b->dirty;
        b->dirty = now;
        b->taken = *ret = taken;
        taken = NULL;
    } else if (r == 0) {
        r = error_set(err, -ENOMEM, "disk image '%s': out of memory", q->path);
    }
    pthread_mutex_unlock(&q->bitmap_lock);
    free(taken);
    return r;
}

void qcow2_bitmap_give(struct qcow2 *q, const char *name, bool good) {
    struct bitmap *b;

    pthread_mutex_lock(&q->bitmap_lock);
    b = *find(q, name);
    if (b && b->taken) {
        bitmaps_set_closed(q, false);
        if (!good)
            dirty_merge(&b->dirty, b->taken);
        dirty_done(b->taken);
        free(b->taken);
        b->taken = NULL;
    }
    pthread_mutex_unlock(&q->bitmap_lock);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Persistent dirty bitmaps of qcow2 images: what was written since a moment ("QCOW2 image format",
 * section Bitmaps), as qemu-img bitmap knows them.
 *
 * Contract: any thread, at any time; nothing here waits, but for qcow2_bitmap_merge and the first
 * change since the image was opened or settled. Changes are in the file when the image is closed or
 * settled; after a crash behind one, or behind a write, its bitmaps are inconsistent and only good
 * to be removed, because nobody knows what was written last.
 */
#ifndef BLOCK_QCOW2_BITMAP_H
#define BLOCK_QCOW2_BITMAP_H

#include "block/dirty.h"
#include "block/qcow2.h"

struct qcow2_bitmap_info {
    const char *name;
    uint64_t granularity; /* bytes a bit stands for */
    bool enabled;         /* it is kept up to date */
    bool inconsistent;    /* the image was not closed */
    bool busy;            /* a backup uses it */
    uint64_t dirty;       /* bytes; 0 if the image is open for reading only */
};

void qcow2_bitmap_each(struct qcow2 *q,
                       void (*fn)(void *opaque, const struct qcow2_bitmap_info *info),
                       void *opaque);

enum { QCOW2_BITMAP_SHIFT = 16 }; /* 64 KiB, as QEMU has it */
/* granularity: a power of two, 0: 64 KiB. */
int qcow2_bitmap_add(struct qcow2 *q, const char *name, uint64_t granularity, bool enabled,
                     struct error *err);

enum qcow2_bitmap_change {
    QCOW2_BITMAP_REMOVE,
    QCOW2_BITMAP_CLEAR,
    QCOW2_BITMAP_ENABLE,
    QCOW2_BITMAP_DISABLE,
};
int qcow2_bitmap_change(struct qcow2 *q, const char *name, enum qcow2_bitmap_change what,
                        struct error *err);
/* What one of `from` (the same image, or another) says is added to one of q. */
int qcow2_bitmap_merge(struct qcow2 *q, const char *name, struct qcow2 *from, const char *from_name,
                       struct error *err);

/* The bitmaps that are of use say from now on what they say in `from`, in q, too: the disk goes on
 * there. Nobody changes those of `from` meanwhile. */
int qcow2_bitmaps_carry(struct qcow2 *q, struct qcow2 *from, struct error *err);

/*
 * For a backup: the bitmap gives away what it holds and begins anew. In the end the backup is good
 * (`good`) and that is forgotten, or the bitmap gets it back. In between nobody changes it. An
 * image that is closed in between keeps what both say.
 */
int qcow2_bitmap_take(struct qcow2 *q, const char *name, struct dirty **ret, struct error *err);
void qcow2_bitmap_give(struct qcow2 *q, const char *name, bool good);

#endif

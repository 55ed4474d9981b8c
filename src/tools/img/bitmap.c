/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * viv-img bitmap: dirty bitmaps of qcow2 images.
 *
 * Departure from qemu-img: what is to be done is done in one order, whatever the order of the
 * words: add, clear, merge, enable, disable, remove.
 */
#include <errno.h>
#include <string.h>

#include "block/qcow2_bitmap.h"
#include "tools/img/img.h"

static int add(const struct img_args *a, struct chain *c, struct error *err) {
    uint64_t granularity = 0;

    if (a->granularity && !a->add)
        return error_set(err, -EINVAL, "-g goes with --add only");
    if (!a->add)
        return 0;
    if (a->granularity && (!img_parse_size(a->granularity, &granularity) || !granularity))
        return error_set(err, -EINVAL, "-g %s: say a size such as 64k", a->granularity);
    return qcow2_bitmap_add(c->qcow2, a->word[1], granularity, true, err);
}

static int merge(const struct img_args *a, struct chain *c, struct error *err) {
    struct chain_options o = {
        .path = a->backing, .format = a->other_format, .readonly = true, .no_backing = true};
    struct chain *from;
    int r;

    if (!a->merge)
        return a->backing ? error_set(err, -EINVAL, "-b goes with --merge only") : 0;
    if (!a->backing)
        return qcow2_bitmap_merge(c->qcow2, a->word[1], c->qcow2, a->merge, err);
    from = chain_open(&o, err);
    if (!from)
        return -EINVAL;
    r = from->qcow2
            ? qcow2_bitmap_merge(c->qcow2, a->word[1], from->qcow2, a->merge, err)
            : error_set(err, -EINVAL, "'%s' is a raw image, which has no bitmaps", from->path);
    chain_close(from);
    return r;
}

static int change(const struct img_args *a, struct chain *c, struct error *err) {
    const struct {
        bool wanted;
        enum qcow2_bitmap_change what;
    } all[] = {{a->enable, QCOW2_BITMAP_ENABLE},
               {a->disable, QCOW2_BITMAP_DISABLE},
               {a->remove, QCOW2_BITMAP_REMOVE}};
    int r = add(a, c, err);

    if (r == 0 && a->clear)
        r = qcow2_bitmap_change(c->qcow2, a->word[1], QCOW2_BITMAP_CLEAR, err);
    if (r == 0)
        r = merge(a, c, err);
    for (unsigned i = 0; r == 0 && i < sizeof(all) / sizeof(all[0]); i++)
        if (all[i].wanted)
            r = qcow2_bitmap_change(c->qcow2, a->word[1], all[i].what, err);
    return r;
}

int img_bitmap(const struct img_args *a, struct error *err) {
    struct chain_options o = {.path = a->word[0], .format = a->format, .no_backing = true};
    struct chain *c;
    int r;

    if (!a->add && !a->remove && !a->clear && !a->enable && !a->disable && !a->merge) {
        error_set(err, -EINVAL,
                  "say what to do with the bitmap: --add, --remove, --clear, "
                  "--enable, --disable or --merge NAME");
        return IMG_EXIT_FAILED;
    }
    c = chain_open(&o, err);
    if (!c)
        return IMG_EXIT_FAILED;
    r = c->qcow2 ? change(a, c, err)
                 : error_set(err, -EINVAL, "'%s' is a raw image, which has no bitmaps", c->path);
    if (chain_close(c) < 0 && r == 0)
        r = error_set(err, -EIO, "disk image '%s' could not be closed", a->word[0]);
    return r < 0 ? IMG_EXIT_FAILED : 0;
}

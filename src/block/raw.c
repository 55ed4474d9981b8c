/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Raw images: the bytes of the disk are the bytes of a file or block device.
 *
 * A file whose size is no multiple of 512 appears rounded up, as in QEMU: the rest of the last
 * sector reads as zeroes, and writing that sector extends the file. So does everything else behind
 * the end of a file that somebody shrinks under us: zeroes, no error.
 */
#include <errno.h>
#include <string.h>

#include "block/block_internal.h"
#include "block/file.h"

/* A guest can write anything to its raw disk, so what lies there never decides by itself how the
 * file is read; but whoever named no format may have meant the other one. */
static int check_assumed(struct file *f, const char *path, struct error *err) {
    static const uint8_t qcow2[4] = {'Q', 'F', 'I', 0xfb};
    uint8_t start[4];
    struct iovec v = {start, sizeof(start)};

    if (file_read(f, 0, &v, 1) < 0 || memcmp(start, qcow2, sizeof(qcow2)) != 0)
        return 0;
    return error_set(err, -EINVAL,
                     "disk image '%s' looks like a qcow2 image: say format=qcow2 if it is one, or "
                     "format=raw if its guest has put that there",
                     path);
}

static int raw_open(struct block *b, const struct block_options *o, struct error *err) {
    struct file *f = file_open(b, o, o->path, o->readonly, err);
    uint64_t size;

    if (!f)
        return -EINVAL;
    b->state = f;
    size = file_size(f);
    if (size == 0)
        return error_set(err, -EINVAL,
                         "disk image '%s' is empty; give it a size: truncate -s 10G '%s'", b->path,
                         b->path);
    b->info.size = (size + BLOCK_SECTOR - 1) & ~(uint64_t)(BLOCK_SECTOR - 1);
    return o->format_assumed ? check_assumed(f, b->path, err) : 0;
}

static void raw_close(struct block *b) { file_close(b->state); }

static void raw_submit(struct block *b, struct block_request *req) {
    file_submit(b->state, req, req->offset);
}

static bool raw_try(struct block *b, struct block_request *req, int *ret_result) {
    return file_try(b->state, req, req->offset, ret_result);
}

const struct block_ops block_raw_ops = {
    .name = "raw",
    .open = raw_open,
    .close = raw_close,
    .submit = raw_submit,
    .try_now = raw_try,
};

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files of the host as the ground of image formats, and buffers in pieces.
 *
 * After a failed fdatasync every later one fails too: the kernel has marked the lost pages as
 * clean, and a second one would report a success that is none.
 */
#include "block/bytefile.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/block_internal.h"

/*
 * Calls (main, job): openat flock
 * Calls (main, vcpu, disk, job): fdatasync fallocate ftruncate
 */

enum { PIECES = 64, ZEROES = 64 * 1024 };

struct host_file {
    struct bytefile base;
    int fd;
    int sync_error; /* atomic */
    bool no_punch;  /* atomic */
    bool no_sync;
};

static const uint8_t zeroes[ZEROES];

/* ------------------------------------------------------------------ buffers in pieces */

unsigned span_pieces(const struct span *s, uint64_t length, struct iovec *ret, unsigned max,
                     uint64_t *ret_length) {
    uint64_t skip = s->skip, total = 0;
    unsigned n = 0;

    for (unsigned i = 0; i < s->count && n < max && total < length; i++) {
        size_t len = s->iov[i].iov_len;

        if (skip >= len) {
            skip -= len;
            continue;
        }
        ret[n].iov_base = (uint8_t *)s->iov[i].iov_base + skip;
        ret[n].iov_len = len - skip < length - total ? len - skip : length - total;
        total += ret[n++].iov_len;
        skip = 0;
    }
    *ret_length = total;
    return n;
}

bool bytes_are_zero(const void *data, uint64_t length) {
    const uint8_t *p = data;

    /* All bytes equal their neighbour, and the first is zero. */
    return !length || (!p[0] && !memcmp(p, p + 1, length - 1));
}

void span_zero(const struct span *s, uint64_t length) {
    struct span at = *s;
    struct iovec v;
    uint64_t n;

    for (; length && span_pieces(&at, length, &v, 1, &n); at.skip += n, length -= n)
        memset(v.iov_base, 0, n);
}

void span_put(const struct span *s, const void *data, uint64_t length) {
    const uint8_t *p = data;
    struct span at = *s;
    struct iovec v;
    uint64_t n;

    for (; length && span_pieces(&at, length, &v, 1, &n); at.skip += n, length -= n, p += n)
        memcpy(v.iov_base, p, n);
}

bool span_is_zero(const struct span *s, uint64_t length) {
    struct span at = *s;
    struct iovec v;
    uint64_t n;

    for (; length && span_pieces(&at, length, &v, 1, &n); at.skip += n, length -= n)
        if (!bytes_are_zero(v.iov_base, n))
            return false;
    return true;
}

int bytefile_transfer(struct bytefile *f, bool write, const struct span *s, uint64_t length,
                      uint64_t offset) {
    struct span at = *s;
    struct iovec iov[PIECES];
    int r = 0;

    while (r == 0 && length) {
        uint64_t n;
        unsigned count = span_pieces(&at, length, iov, PIECES, &n);

        if (!count)
            return -EINVAL;
        r = (write ? f->ops->writev : f->ops->readv)(f, iov, count, offset);
        at.skip += n;
        offset += n;
        length -= n;
    }
    return r;
}

int bytefile_read(struct bytefile *f, void *data, uint64_t length, uint64_t offset) {
    struct iovec v = {data, length};

    return f->ops->readv(f, &v, 1, offset);
}

int bytefile_write(struct bytefile *f, const void *data, uint64_t length, uint64_t offset) {
    struct iovec v = {(void *)(uintptr_t)data, length};

    return f->ops->writev(f, &v, 1, offset);
}

int bytefile_zero(struct bytefile *f, uint64_t offset, uint64_t length, bool unmap) {
    int r;

    if (f->ops->zero)
        return f->ops->zero(f, offset, length, unmap);
    r = f->ops->punch(f, offset, length);

    if (r != -EOPNOTSUPP)
        return r;
    for (r = 0; r == 0 && length;) {
        uint64_t n = length < ZEROES ? length : ZEROES;

        r = bytefile_write(f, zeroes, n, offset);
        offset += n;
        length -= n;
    }
    return r;
}

void bytefile_close(struct bytefile *f) {
    if (f)
        f->ops->close(f);
}

/* ------------------------------------------------------------------ files of the host */

static struct host_file *host(struct bytefile *f) { return (struct host_file *)f; }

static uint64_t total(const struct iovec *iov, unsigned count) {
    uint64_t n = 0;

    for (unsigned i = 0; i < count; i++)
        n += iov[i].iov_len;
    return n;
}

static int host_rw(struct bytefile *f, bool write, const struct iovec *iov, unsigned count,
                   uint64_t offset) {
    struct span at = {iov, count, 0};
    uint64_t left = total(iov, count);
    struct iovec part[PIECES];

    if (offset > INT64_MAX || left > INT64_MAX - offset)
        return -EFBIG;
    while (left) {
        uint64_t n;
        unsigned k = span_pieces(&at, left, part, PIECES, &n);
        ssize_t done = write ? pwritev(host(f)->fd, part, (int)k, (off_t)offset)
                             : preadv(host(f)->fd, part, (int)k, (off_t)offset);

        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return -errno;
        if (!done && write)
            return -EIO;
        if (!done) {
            span_zero(&at, left);
            return 0;
        }
        at.skip += (uint64_t)done;
        offset += (uint64_t)done;
        left -= (uint64_t)done;
    }
    return 0;
}

static int host_readv(struct bytefile *f, const struct iovec *iov, unsigned count,
                      uint64_t offset) {
    return host_rw(f, false, iov, count, offset);
}

static int host_writev(struct bytefile *f, const struct iovec *iov, unsigned count,
                       uint64_t offset) {
    return host_rw(f, true, iov, count, offset);
}

static bool host_try_rw(struct bytefile *f, bool write, const struct iovec *iov, unsigned count,
                        uint64_t offset, uint64_t length) {
    ssize_t n = write ? pwritev2(host(f)->fd, iov, (int)count, (off_t)offset, RWF_NOWAIT)
                      : preadv2(host(f)->fd, iov, (int)count, (off_t)offset, RWF_NOWAIT);

    return n == (ssize_t)length; /* a part of it is done again: no harm */
}

static int host_sync(struct bytefile *f) {
    int r = __atomic_load_n(&host(f)->sync_error, __ATOMIC_ACQUIRE);

    if (r < 0 || host(f)->no_sync)
        return r;
    do
        r = fdatasync(host(f)->fd);
    while (r < 0 && errno == EINTR);
    if (r == 0 || errno == EROFS || errno == EINVAL)
        return 0;
    r = -errno;
    __atomic_store_n(&host(f)->sync_error, r, __ATOMIC_RELEASE);
    return r;
}

static int host_punch(struct bytefile *f, uint64_t offset, uint64_t length) {
    int r;

    if (__atomic_load_n(&host(f)->no_punch, __ATOMIC_RELAXED))
        return -EOPNOTSUPP;
    do
        r = fallocate(host(f)->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                      (off_t)length);
    while (r < 0 && errno == EINTR);
    if (r == 0)
        return 0;
    if (errno != EOPNOTSUPP && errno != ENOSYS && errno != ENOTTY)
        return -errno;
    __atomic_store_n(&host(f)->no_punch, true, __ATOMIC_RELAXED);
    return -EOPNOTSUPP;
}

static int host_truncate(struct bytefile *f, uint64_t size) {
    return ftruncate(host(f)->fd, (off_t)size) < 0 ? -errno : 0;
}

static int host_size(struct bytefile *f, uint64_t *ret_size) {
    off_t size = lseek(host(f)->fd, 0, SEEK_END);

    if (size < 0)
        return -errno;
    *ret_size = (uint64_t)size;
    return 0;
}

static int host_extent(struct bytefile *f, uint64_t offset, uint64_t *ret_data,
                       uint64_t *ret_hole) {
    off_t data = lseek(host(f)->fd, (off_t)offset, SEEK_DATA), hole;

    if (data < 0 && errno == ENXIO) { /* a hole up to the end */
        *ret_data = *ret_hole = INT64_MAX;
        return 0;
    }
    hole = data < 0 ? -1 : lseek(host(f)->fd, data, SEEK_HOLE);
    if (hole < 0)
        return -errno;
    *ret_data = (uint64_t)data;
    *ret_hole = (uint64_t)hole;
    return 0;
}

static void host_close(struct bytefile *f) {
    if (host(f)->fd >= 0)
        close(host(f)->fd);
    free(f);
}

static const struct bytefile_ops host_ops = {
    .readv = host_readv,
    .writev = host_writev,
    .sync = host_sync,
    .punch = host_punch,
    .truncate = host_truncate,
    .size = host_size,
    .try_rw = host_try_rw,
    .extent = host_extent,
    .close = host_close,
};

static int explain(const struct bytefile_options *o, int code, struct error *err) {
    if (code == -EEXIST)
        return error_set(err, code,
                         "disk image '%s' is there already and would be overwritten; name a new "
                         "file, or delete that one",
                         o->path);
    if (code == -ENOENT && !o->create)
        return error_set(err, code, "disk image '%s' does not exist; check the path", o->path);
    return error_set(err, code, "disk image '%s' cannot be %s: %s; check the path and its rights",
                     o->path,
                     o->create     ? "made"
                     : o->readonly ? "opened"
                                   : "opened for writing",
                     strerror(-code));
}

static int check_kind(struct host_file *h, struct bytefile_options *o, struct error *err) {
    struct stat st;

    if (fstat(h->fd, &st) < 0)
        return explain(o, -errno, err);
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return error_set(err, -EINVAL,
                         "disk image '%s' is neither a file nor a block device; name one that is",
                         o->path);
    h->base.grows = S_ISREG(st.st_mode);
    o->dev = st.st_dev;
    o->ino = st.st_ino;
    return 0;
}

struct bytefile *bytefile_open(struct bytefile_options *o, struct error *err) {
    /* O_NONBLOCK: a named pipe must not keep us waiting here; it means nothing to files. */
    int flags = (o->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    struct host_file *h = calloc(1, sizeof(*h));
    int r;

    if (!h) {
        error_set(err, -ENOMEM, "disk image '%s': out of memory", o->path);
        return NULL;
    }
    h->base.ops = &host_ops;
    h->no_sync = o->no_sync;
    h->fd = open(o->path, flags | (o->create ? O_CREAT : 0) | (o->exclusive ? O_EXCL : 0), 0644);
    r = h->fd < 0 ? explain(o, -errno, err) : check_kind(h, o, err);
    if (r == 0 && o->lock == BYTEFILE_LOCK_IMAGE)
        r = lock_image(h->fd, o->path, o->readonly, err);
    /* Only now: an image that somebody uses must not be emptied. */
    if (r == 0 && o->create && h->base.grows && ftruncate(h->fd, 0) < 0)
        r = explain(o, -errno, err);
    if (r == 0)
        return &h->base;
    host_close(&h->base);
    return NULL;
}

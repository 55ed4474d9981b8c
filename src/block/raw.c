/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Raw images: the bytes of the disk are the bytes of a file or block device.
 *
 * Theory of operation: requests run as plain system calls on a few threads. Small reads are first
 * tried with RWF_NOWAIT on the caller's thread: when the host has the pages cached, that is one
 * system call instead of two context switches. Short transfers are continued, so a request ends
 * with all its bytes or with the host's errno, ENOSPC included.
 *
 * A file whose size is no multiple of 512 appears rounded up, as in QEMU: the rest of the last
 * sector reads as zeroes, and writing that sector extends the file. So does everything else behind
 * the end of a file that somebody shrinks under us: zeroes, no error.
 *
 * After a failed fdatasync every later flush fails too: the kernel has marked the lost pages as
 * clean, and a second fdatasync would report a success that is none.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/block_internal.h"

enum {
    THREADS = 4,
    TRY_MAX = 128 * 1024, /* a longer copy under the machine lock would delay the other CPUs */
    WINDOW = 64,          /* buffers a system call after a short one */
    ZEROES = 64 * 1024,
};

struct raw {
    int fd;
    int flush_error;                                   /* atomic */
    bool no_try_read, no_try_write, no_punch, no_zero; /* atomic: the filesystem cannot do it */
    struct pool *pool;
};

static const uint8_t zeroes[ZEROES];

static bool get_flag(const bool *flag) { return __atomic_load_n(flag, __ATOMIC_RELAXED); }
static void set_flag(bool *flag) { __atomic_store_n(flag, true, __ATOMIC_RELAXED); }

static bool unsupported(int r) { return r == -EOPNOTSUPP || r == -ENOSYS || r == -ENOTTY; }

/* At most `max` buffers that follow the first `skip` bytes of the request's. */
static unsigned window(const struct block_request *req, uint64_t skip, struct iovec *ret,
                       unsigned max) {
    unsigned n = 0;

    for (unsigned i = 0; i < req->iov_count && n < max; i++) {
        if (skip >= req->iov[i].iov_len) {
            skip -= req->iov[i].iov_len;
            continue;
        }
        ret[n].iov_base = (uint8_t *)req->iov[i].iov_base + skip;
        ret[n++].iov_len = req->iov[i].iov_len - skip;
        skip = 0;
    }
    return n;
}

static void zero_rest(const struct block_request *req, uint64_t skip) {
    struct iovec v;

    for (; window(req, skip, &v, 1); skip += v.iov_len)
        memset(v.iov_base, 0, v.iov_len);
}

static ssize_t transfer_some(int fd, const struct block_request *req, uint64_t done) {
    struct iovec part[WINDOW];
    const struct iovec *iov = req->iov;
    unsigned count = req->iov_count < IOV_MAX ? req->iov_count : IOV_MAX;

    if (done) {
        count = window(req, done, part, WINDOW);
        iov = part;
    }
    return req->op == BLOCK_READ ? preadv(fd, iov, (int)count, (off_t)(req->offset + done))
                                 : pwritev(fd, iov, (int)count, (off_t)(req->offset + done));
}

static int transfer(struct raw *raw, const struct block_request *req) {
    uint64_t done = 0;

    while (done < req->length) {
        ssize_t n = transfer_some(raw->fd, req, done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0) {
            if (req->op == BLOCK_WRITE)
                return -EIO;
            zero_rest(req, done);
            return 0;
        }
        done += (uint64_t)n;
    }
    return 0;
}

static int allocate(struct raw *raw, int mode, const struct block_request *req) {
    int r;

    do
        r = fallocate(raw->fd, mode, (off_t)req->offset, (off_t)req->length);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

static int punch(struct raw *raw, const struct block_request *req) {
    int r = -EOPNOTSUPP;

    if (!get_flag(&raw->no_punch))
        r = allocate(raw, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, req);
    if (unsupported(r))
        set_flag(&raw->no_punch);
    return r;
}

static int write_zero_bytes(struct raw *raw, const struct block_request *req) {
    uint64_t done = 0;

    while (done < req->length) {
        uint64_t left = req->length - done;
        ssize_t n =
            pwrite(raw->fd, zeroes, left < ZEROES ? left : ZEROES, (off_t)(req->offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        done += (uint64_t)n;
    }
    return 0;
}

static int zero(struct raw *raw, const struct block_request *req) {
    int r = req->unmap ? punch(raw, req) : -EOPNOTSUPP;

    if (!unsupported(r))
        return r;
    if (!get_flag(&raw->no_zero)) {
        r = allocate(raw, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, req);
        if (!unsupported(r))
            return r;
        set_flag(&raw->no_zero);
    }
    return write_zero_bytes(raw, req);
}

static int discard(struct raw *raw, const struct block_request *req) {
    int r = punch(raw, req);

    return unsupported(r) ? 0 : r; /* a discard is advice */
}

static int flush(struct raw *raw) {
    int r = __atomic_load_n(&raw->flush_error, __ATOMIC_ACQUIRE);

    if (r < 0)
        return r;
    do
        r = fdatasync(raw->fd) < 0 ? -errno : 0;
    while (r == -EINTR);
    if (r < 0)
        __atomic_store_n(&raw->flush_error, r, __ATOMIC_RELEASE);
    return r;
}

static void run(struct block_request *req) { /* on a thread of the pool */
    struct raw *raw = req->block->state;
    int r = -EINVAL;

    switch (req->op) {
    case BLOCK_READ:
    case BLOCK_WRITE:
        r = transfer(raw, req);
        break;
    case BLOCK_FLUSH:
        r = flush(raw);
        break;
    case BLOCK_DISCARD:
        r = discard(raw, req);
        break;
    case BLOCK_WRITE_ZEROES:
        r = zero(raw, req);
        break;
    }
    block_complete(req, r);
}

static void raw_submit(struct block *b, struct block_request *req) {
    struct raw *raw = b->state;

    pool_submit(raw->pool, req);
}

static bool raw_try(struct block *b, struct block_request *req, int *ret_result) {
    struct raw *raw = b->state;
    bool reading = req->op == BLOCK_READ;
    bool *no_try = reading ? &raw->no_try_read : &raw->no_try_write;
    ssize_t n;

    if ((!reading && req->op != BLOCK_WRITE) || req->length > TRY_MAX || req->iov_count > IOV_MAX ||
        get_flag(no_try))
        return false;
    n = reading ? preadv2(raw->fd, req->iov, (int)req->iov_count, (off_t)req->offset, RWF_NOWAIT)
                : pwritev2(raw->fd, req->iov, (int)req->iov_count, (off_t)req->offset, RWF_NOWAIT);
    if (n == (ssize_t)req->length) {
        *ret_result = 0;
        return true;
    }
    /* Some, EAGAIN or an error: a thread does all of it again and finds out what is the matter. */
    if (n < 0 && unsupported(-errno))
        set_flag(no_try);
    return false;
}

static int explain_open(const char *path, bool readonly, int code, struct error *err) {
    const char *what = readonly ? "opened" : "opened for writing";

    if (code == -ENOENT)
        return error_set(err, code,
                         "disk image '%s' does not exist; check the path, or make one: truncate -s "
                         "10G '%s'",
                         path, path);
    if (!readonly && (code == -EACCES || code == -EPERM || code == -EROFS || code == -ETXTBSY))
        return error_set(err, code,
                         "disk image '%s' cannot be %s: %s; give this user the right to write it, "
                         "or add ',readonly' to the disk",
                         path, what, strerror(-code));
    if (code == -EISDIR)
        return error_set(err, code, "disk image '%s' is a directory; name the image file in it",
                         path);
    return error_set(err, code, "disk image '%s' cannot be %s: %s; check the path and its rights",
                     path, what, strerror(-code));
}

static int find_size(struct block *b, int fd, struct error *err) {
    struct stat st;
    off_t size;
    int ro = 0;

    if (fstat(fd, &st) < 0)
        return error_set(err, -errno, "disk image '%s': %s; check the filesystem", b->path,
                         strerror(errno));
    if (S_ISDIR(st.st_mode))
        return explain_open(b->path, b->info.readonly, -EISDIR, err);
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return error_set(err, -EINVAL,
                         "disk image '%s' is neither a file nor a block device; name one that is",
                         b->path);
    if (S_ISBLK(st.st_mode) && !b->info.readonly && ioctl(fd, BLKROGET, &ro) == 0 && ro)
        return explain_open(b->path, false, -EROFS, err);
    size = lseek(fd, 0, SEEK_END);
    if (size < 0)
        return error_set(err, -errno, "disk image '%s' tells no size: %s; is there a medium in it?",
                         b->path, strerror(errno));
    if (size == 0)
        return error_set(err, -EINVAL,
                         "disk image '%s' is empty; give it a size: truncate -s 10G '%s'", b->path,
                         b->path);
    b->info.size = ((uint64_t)size + BLOCK_SECTOR - 1) & ~(uint64_t)(BLOCK_SECTOR - 1);
    return 0;
}

static int raw_open(struct block *b, const struct block_options *o, struct error *err) {
    struct raw *raw = calloc(1, sizeof(*raw));
    int r;

    if (!raw)
        return error_set(err, -ENOMEM, "disk image '%s': out of memory", b->path);
    b->state = raw;
    /* O_NONBLOCK: a named pipe must not keep us waiting here; it means nothing to files. */
    raw->fd = open(o->path, (o->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (raw->fd < 0)
        return explain_open(o->path, o->readonly, -errno, err);
    r = find_size(b, raw->fd, err);
    if (r == 0)
        r = lock_image(raw->fd, o->path, o->readonly, err);
    if (r < 0)
        return r;
    raw->pool = pool_new(THREADS, run, err);
    return raw->pool ? 0 : -ENOMEM;
}

static void raw_close(struct block *b) {
    struct raw *raw = b->state;

    if (!raw)
        return;
    pool_free(raw->pool);
    if (raw->fd >= 0)
        close(raw->fd);
    free(raw);
    b->state = NULL;
}

const struct block_ops block_raw_ops = {
    .name = "raw",
    .open = raw_open,
    .close = raw_close,
    .submit = raw_submit,
    .try_now = raw_try,
};

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files and block devices of the host, as formats see them: plain transfers, and requests that are
 * done by io_uring or by threads.
 *
 * Theory of operation: a small request is first tried with RWF_NOWAIT on the caller's thread: when
 * the host has the pages cached, that is one system call and no wait for anybody. Others go to a
 * ring (uring.c); flushes, discards, zeroes, transfers that need a copy for alignment, and all of
 * them on a host without io_uring, go to a few threads (pool.c). Short transfers are continued, so
 * a request ends with all its bytes or with the host's errno, ENOSPC included.
 *
 * Without the host's cache (O_DIRECT) a transfer that is not aligned goes through a buffer; where
 * it covers blocks in part, those are read first, and one such write excludes the others, because
 * two of them may share a block.
 *
 * ext4 knows no RWF_NOWAIT for writes, though one into the page cache takes microseconds as long as
 * the host is not short of clean pages, and a software processor that goes idle and is interrupted
 * costs ten times that. So such writes are done at once on the caller's thread (eager) while
 * nothing else is in flight, in whole pages, so that nothing has to be read; if two take long this
 * is turned off for a time.
 *
 * After a failed fdatasync every later flush fails too: the kernel has marked the lost pages as
 * clean, and a second fdatasync would report a success that is none.
 */
#include "block/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "base/trace.h"
#include "block/block_internal.h"
#include "block/uring.h"

/*
 * Calls (main, job): openat fstatfs ioctl:BLKROGET ioctl:BLKSSZGET
 * Calls (main, vcpu, disk, job): fdatasync fallocate ftruncate
 */

enum {
    THREADS = 8,
    TRY_MAX = 1024 * 1024, /* a longer copy under the machine lock would delay the other CPUs */
    WINDOW = 64,           /* buffers a system call after a short one */
    ZEROES = 64 * 1024,
    COPY_MAX = 1024 * 1024, /* bytes of a copy for alignment */
    ALIGN_MAX = 64 * 1024,
    PAGE = 4096,
};

#define MS                 1000000ull
#define EAGER_SLOW_NS      (2 * MS)
#define EAGER_WATCH_NS     (1000 * MS)
#define EAGER_PAUSE_MIN_NS (1000 * MS)
#define EAGER_PAUSE_MAX_NS (64000 * MS)

struct file {
    struct file *next; /* of the same image */
    struct block *block;
    int fd;
    enum block_cache cache;
    bool keep_discarded;                               /* discard=ignore */
    uint32_t align, mem_align;                         /* what O_DIRECT wants; 1 with the cache */
    int flush_error;                                   /* atomic */
    bool no_try_read, no_try_write, no_punch, no_zero; /* atomic: the filesystem cannot do it */
    pthread_mutex_t partial;                           /* one write of parts of blocks at a time */
    struct pool *pool;
    struct uring *uring; /* NULL: threads do all of it */
    bool eager;          /* machine lock, and so on: the filesystem is one of those */
    uint64_t eager_from; /* ns: not before */
    uint64_t eager_pause;
    uint64_t eager_watch; /* ns: until then it is looked at why a write takes long */
};

static const uint8_t zeroes[ZEROES] __attribute__((aligned(4096)));

static bool get_flag(const bool *flag) { return __atomic_load_n(flag, __ATOMIC_RELAXED); }
static void set_flag(bool *flag) { __atomic_store_n(flag, true, __ATOMIC_RELAXED); }

static bool unsupported(int r) { return r == -EOPNOTSUPP || r == -ENOSYS || r == -ENOTTY; }

/* ------------------------------------------------------------------ plain transfers */

struct span { /* what one transfer is about */
    const struct iovec *iov;
    unsigned count;
    uint64_t offset, length;
};

static uint64_t iov_total(const struct iovec *iov, unsigned count) {
    uint64_t sum = 0;

    for (unsigned i = 0; i < count; i++)
        sum += iov[i].iov_len;
    return sum;
}

/* At most `max` buffers that follow the first `skip` bytes. */
static unsigned window(const struct span *s, uint64_t skip, struct iovec *ret, unsigned max) {
    unsigned n = 0;

    for (unsigned i = 0; i < s->count && n < max; i++) {
        if (skip >= s->iov[i].iov_len) {
            skip -= s->iov[i].iov_len;
            continue;
        }
        ret[n].iov_base = (uint8_t *)s->iov[i].iov_base + skip;
        ret[n++].iov_len = s->iov[i].iov_len - skip;
        skip = 0;
    }
    return n;
}

static void zero_rest(const struct span *s, uint64_t skip) {
    struct iovec v;

    for (; window(s, skip, &v, 1); skip += v.iov_len)
        memset(v.iov_base, 0, v.iov_len);
}

static ssize_t transfer_some(int fd, bool writing, const struct span *s, uint64_t done) {
    struct iovec part[WINDOW];
    const struct iovec *iov = s->iov;
    unsigned count = s->count < IOV_MAX ? s->count : IOV_MAX;

    if (done) {
        count = window(s, done, part, WINDOW);
        iov = part;
    }
    return writing ? pwritev(fd, iov, (int)count, (off_t)(s->offset + done))
                   : preadv(fd, iov, (int)count, (off_t)(s->offset + done));
}

static int transfer_plain(const struct file *f, bool writing, const struct span *s) {
    uint64_t done = 0;

    while (done < s->length) {
        ssize_t n = transfer_some(f->fd, writing, s, done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        done += (uint64_t)n;
        /* Without the cache a read that ends inside of a block has met the end of the file. */
        if (n == 0 || (!writing && done < s->length && done % f->align)) {
            if (writing)
                return -EIO;
            zero_rest(s, done);
            return 0;
        }
    }
    return 0;
}

/* ------------------------------------------------------------------ alignment */

static bool aligned(const struct file *f, uint64_t offset, uint64_t length, const struct iovec *iov,
                    unsigned count) {
    if (f->align == 1)
        return true;
    if ((offset | length) % f->align)
        return false;
    for (unsigned i = 0; i < count; i++)
        if ((uintptr_t)iov[i].iov_base % f->mem_align || iov[i].iov_len % f->align)
            return false;
    return true;
}

static void copy(const struct span *s, uint64_t skip, uint8_t *buf, uint64_t n, bool to_buf) {
    struct iovec v;

    while (n && window(s, skip, &v, 1)) {
        uint64_t part = v.iov_len < n ? v.iov_len : n;

        if (to_buf)
            memcpy(buf, v.iov_base, part);
        else
            memcpy(v.iov_base, buf, part);
        buf += part;
        skip += part;
        n -= part;
    }
}

static int transfer_buffer(const struct file *f, bool writing, uint8_t *buf, uint64_t offset,
                           uint64_t length) {
    struct iovec v = {buf, length};

    return transfer_plain(f, writing, &(struct span){&v, 1, offset, length});
}

/* The blocks at both ends of a piece that is not made of whole ones. */
static int read_ends(const struct file *f, uint8_t *buf, uint64_t from, uint64_t to, uint64_t first,
                     uint64_t last) {
    int r = 0;

    if (from > first)
        r = transfer_buffer(f, false, buf, first, f->align);
    if (r == 0 && to < last && (last - f->align > first || from == first))
        r = transfer_buffer(f, false, buf + (last - first) - f->align, last - f->align, f->align);
    return r;
}

/* Bytes [from, to) of the file through a buffer that holds the whole blocks [first, last). */
static int copy_piece(struct file *f, bool writing, const struct span *s, uint8_t *buf,
                      uint64_t from, uint64_t to) {
    uint64_t first = from - from % f->align, last = (to + f->align - 1) / f->align * f->align;
    uint64_t size;
    int r = 0;

    if (!writing) {
        r = transfer_buffer(f, false, buf, first, last - first);
        if (r == 0)
            copy(s, from - s->offset, buf + (from - first), to - from, false);
        return r;
    }
    size = file_size(f);
    r = read_ends(f, buf, from, to, first, last);
    if (r == 0) {
        copy(s, from - s->offset, buf + (from - first), to - from, true);
        r = transfer_buffer(f, true, buf, first, last - first);
    }
    if (r == 0 && last > to && last > size) /* the block, not the request, has extended the file */
        r = ftruncate(f->fd, (off_t)(to > size ? to : size)) < 0 ? -errno : 0;
    return r;
}

static int transfer_copied(struct file *f, bool writing, const struct span *s) {
    bool part = writing && (s->offset | s->length) % f->align;
    uint64_t end = s->offset + s->length, room = s->length + 2ull * f->align;
    uint8_t *buf;
    int r = 0;

    if (room > COPY_MAX)
        room = COPY_MAX;
    room = (room + ALIGN_MAX - 1) / ALIGN_MAX * ALIGN_MAX;
    buf = aligned_alloc(ALIGN_MAX, room);
    if (!buf)
        return -ENOMEM;
    stat_inc(block_copied);
    if (part)
        pthread_mutex_lock(&f->partial);
    for (uint64_t from = s->offset, to; from < end && r == 0; from = to) {
        to = from - from % f->align + (room - f->align);
        if (to > end)
            to = end;
        r = copy_piece(f, writing, s, buf, from, to);
    }
    if (part)
        pthread_mutex_unlock(&f->partial);
    free(buf);
    return r;
}

static int transfer(struct file *f, bool writing, uint64_t offset, const struct iovec *iov,
                    unsigned count, uint64_t length) {
    struct span s = {iov, count, offset, length};

    return aligned(f, offset, length, iov, count) ? transfer_plain(f, writing, &s)
                                                  : transfer_copied(f, writing, &s);
}

int file_read(struct file *f, uint64_t offset, const struct iovec *iov, unsigned count) {
    return transfer(f, false, offset, iov, count, iov_total(iov, count));
}

int file_write(struct file *f, uint64_t offset, const struct iovec *iov, unsigned count) {
    return transfer(f, true, offset, iov, count, iov_total(iov, count));
}

/* ------------------------------------------------------------------ the rest */

int file_flush(struct file *f) {
    int r = __atomic_load_n(&f->flush_error, __ATOMIC_ACQUIRE);

    if (r < 0 || f->cache == BLOCK_CACHE_UNSAFE)
        return r;
    do
        r = fdatasync(f->fd) < 0 ? -errno : 0;
    while (r == -EINTR);
    if (r < 0)
        __atomic_store_n(&f->flush_error, r, __ATOMIC_RELEASE);
    return r;
}

static int allocate(struct file *f, int mode, uint64_t offset, uint64_t length) {
    int r;

    do
        r = fallocate(f->fd, mode, (off_t)offset, (off_t)length);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

static int punch(struct file *f, uint64_t offset, uint64_t length) {
    int r = -EOPNOTSUPP;

    if (!f->keep_discarded && !get_flag(&f->no_punch)) {
        r = allocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
        if (unsupported(r))
            set_flag(&f->no_punch);
    }
    return r;
}

int file_discard(struct file *f, uint64_t offset, uint64_t length) {
    int r = punch(f, offset, length);

    return unsupported(r) ? 0 : r;
}

static int write_zero_bytes(struct file *f, uint64_t offset, uint64_t length) {
    int r = 0;

    for (uint64_t n; length && r == 0; offset += n, length -= n) {
        struct iovec v = {(void *)zeroes, 0};

        n = length < ZEROES ? length : ZEROES;
        v.iov_len = n;
        r = file_write(f, offset, &v, 1);
    }
    return r;
}

int file_zero(struct file *f, uint64_t offset, uint64_t length, bool unmap) {
    int r = unmap ? punch(f, offset, length) : -EOPNOTSUPP;

    if (!unsupported(r))
        return r;
    if (!get_flag(&f->no_zero)) {
        r = allocate(f, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, length);
        if (!unsupported(r))
            return r;
        set_flag(&f->no_zero);
    }
    return write_zero_bytes(f, offset, length);
}

uint64_t file_size(struct file *f) {
    off_t size = lseek(f->fd, 0, SEEK_END);

    return size < 0 ? 0 : (uint64_t)size;
}

/* ------------------------------------------------------------------ requests */

static void run(struct block_request *req) { /* on a thread of the pool */
    struct file *f = req->file;
    int r = -EINVAL;

    switch (req->op) {
    case BLOCK_READ:
    case BLOCK_WRITE:
        r = transfer(f, req->op == BLOCK_WRITE, req->at, req->iov, req->iov_count, req->length);
        break;
    case BLOCK_FLUSH:
        r = file_flush(f);
        break;
    case BLOCK_DISCARD:
        r = file_discard(f, req->at, req->length);
        break;
    case BLOCK_WRITE_ZEROES:
        r = file_zero(f, req->at, req->length, req->unmap);
        break;
    }
    block_complete(req, r);
}

static bool for_ring(const struct file *f, const struct block_request *req) {
    return f->uring && (req->op == BLOCK_READ || req->op == BLOCK_WRITE) &&
           req->iov_count <= IOV_MAX && req->length <= INT_MAX &&
           aligned(f, req->at, req->length, req->iov, req->iov_count);
}

void file_submit(struct file *f, struct block_request *req, uint64_t offset) {
    req->file = f;
    req->at = offset;
    if (!for_ring(f, req) || !uring_submit(f->uring, req))
        pool_submit(f->pool, req);
    else if (!f->block->plugged)
        uring_kick(f->uring);
}

static uint64_t now_ns(void) {
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 * MS + (uint64_t)t.tv_nsec;
}

/* How often this thread has slept: on a busy host a write also takes long without that. */
static long sleeps(void) {
    struct rusage r;

    return getrusage(RUSAGE_THREAD, &r) == 0 ? r.ru_nvcsw : 0;
}

/* After a write that took `took`; slept: how often the thread had slept before it, -1: unknown. The
 * first slow one for a while is not to blame: asking before each would cost two system calls. */
static void judge_eager(struct file *f, uint64_t now, uint64_t took, long slept) {
    if (took < EAGER_SLOW_NS || (slept >= 0 && sleeps() == slept)) {
        if (now - f->eager_from > 2 * f->eager_pause) /* it has gone well for a while */
            f->eager_pause = 0;
        return;
    }
    f->eager_watch = now + EAGER_WATCH_NS;
    if (slept < 0)
        return;
    stat_inc(block_eager_slow);
    f->eager_pause = f->eager_pause ? 2 * f->eager_pause : EAGER_PAUSE_MIN_NS;
    if (f->eager_pause > EAGER_PAUSE_MAX_NS)
        f->eager_pause = EAGER_PAUSE_MAX_NS;
    f->eager_from = now + f->eager_pause;
    f->eager_watch += f->eager_pause;
}

static bool write_eagerly(struct file *f, const struct block_request *req, uint64_t offset) {
    uint64_t begin, end;
    long slept;
    ssize_t n;

    if (!f->eager || f->block->inflight || (offset | req->length) % PAGE)
        return false;
    begin = now_ns();
    if (begin < f->eager_from)
        return false;
    slept = begin < f->eager_watch ? sleeps() : -1;
    n = pwritev(f->fd, req->iov, (int)req->iov_count, (off_t)offset);
    end = now_ns();
    judge_eager(f, end, end - begin, slept);
    return n == (ssize_t)req->length;
}

bool file_try(struct file *f, struct block_request *req, uint64_t offset, int *ret_result) {
    bool reading = req->op == BLOCK_READ;
    bool *no_try = reading ? &f->no_try_read : &f->no_try_write;
    ssize_t n;

    if ((!reading && req->op != BLOCK_WRITE) || f->cache == BLOCK_CACHE_NONE ||
        req->length > TRY_MAX || req->iov_count > IOV_MAX)
        return false;
    if (get_flag(no_try)) {
        *ret_result = 0;
        return !reading && write_eagerly(f, req, offset);
    }
    n = reading ? preadv2(f->fd, req->iov, (int)req->iov_count, (off_t)offset, RWF_NOWAIT)
                : pwritev2(f->fd, req->iov, (int)req->iov_count, (off_t)offset, RWF_NOWAIT);
    if (n == (ssize_t)req->length) {
        *ret_result = 0;
        return true;
    }
    /* Some, EAGAIN or an error: what does all of it again finds out what is the matter. */
    if (n < 0 && unsupported(-errno))
        set_flag(no_try);
    return false;
}

static void ring_done(struct block_request *req, int result) {
    if (result >= 0 && (uint64_t)result == req->length)
        block_complete_locked(req, 0);
    else if (result >= 0 || result == -EAGAIN || result == -EINTR || result == -ECANCELED)
        pool_submit(req->file->pool, req);
    else
        block_complete_locked(req, result);
}

void file_kick_all(struct block *b) {
    pthread_mutex_lock(&b->files_lock);
    for (struct file *f = b->files; f; f = f->next)
        if (f->uring)
            uring_kick(f->uring);
    pthread_mutex_unlock(&b->files_lock);
}

void file_reap_all(struct block *b) {
    pthread_mutex_lock(&b->files_lock);
    for (struct file *f = b->files; f; f = f->next)
        if (f->uring)
            uring_reap(f->uring, ring_done);
    pthread_mutex_unlock(&b->files_lock);
    if (!b->plugged)
        file_kick_all(b); /* what the kernel had no room for before */
}

unsigned file_lend_all(struct block *b, struct pollfd *fds, unsigned max) {
    unsigned n = 0;
    int fd;

    pthread_mutex_lock(&b->files_lock);
    for (struct file *f = b->files; f && n < max; f = f->next)
        if (f->uring && (fd = uring_set_quiet(f->uring, true)) >= 0)
            fds[n++] = (struct pollfd){.fd = fd, .events = POLLIN};
    pthread_mutex_unlock(&b->files_lock);
    return n;
}

void file_take_back_all(struct block *b) {
    pthread_mutex_lock(&b->files_lock);
    for (struct file *f = b->files; f; f = f->next)
        if (f->uring)
            uring_set_quiet(f->uring, false);
    pthread_mutex_unlock(&b->files_lock);
}

/* ------------------------------------------------------------------ opening */

static int explain_open(const struct file *f, const char *path, bool readonly, int code,
                        struct error *err) {
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
    if (code == -EINVAL && f->cache == BLOCK_CACHE_NONE)
        return error_set(err, code,
                         "disk image '%s' lies on a filesystem that cannot do without the host's "
                         "cache (O_DIRECT); use cache=writeback",
                         path);
    return error_set(err, code, "disk image '%s' cannot be %s: %s; check the path and its rights",
                     path, what, strerror(-code));
}

static int check_kind(const struct file *f, const char *path, bool readonly, struct error *err) {
    struct stat st;
    int ro = 0;

    if (fstat(f->fd, &st) < 0)
        return error_set(err, -errno, "disk image '%s': %s; check the filesystem", path,
                         strerror(errno));
    if (S_ISDIR(st.st_mode))
        return explain_open(f, path, readonly, -EISDIR, err);
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return error_set(err, -EINVAL,
                         "disk image '%s' is neither a file nor a block device; name one that is",
                         path);
    if (S_ISBLK(st.st_mode) && !readonly && ioctl(f->fd, BLKROGET, &ro) == 0 && ro)
        return explain_open(f, path, false, -EROFS, err);
    if (lseek(f->fd, 0, SEEK_END) < 0)
        return error_set(err, -errno, "disk image '%s' tells no size: %s; is there a medium in it?",
                         path, strerror(errno));
    return 0;
}

/* What O_DIRECT wants: the kernel says it since 6.1; before, a page is always enough. */
static void find_alignment(struct file *f) {
    struct statx st = {0};
    int sector = 0;

    f->align = f->mem_align = 1;
    if (f->cache != BLOCK_CACHE_NONE)
        return;
    f->align = f->mem_align = 4096;
    if (statx(f->fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_DIOALIGN, &st) == 0 &&
        (st.stx_mask & STATX_DIOALIGN) && st.stx_dio_offset_align) {
        f->align = st.stx_dio_offset_align;
        f->mem_align = st.stx_dio_mem_align;
    } else if (S_ISBLK(st.stx_mode) && ioctl(f->fd, BLKSSZGET, &sector) == 0 && sector > 0) {
        f->align = (uint32_t)sector;
    }
}

/* Local filesystems that take writes into memory but cannot promise it. */
static bool may_be_eager(const struct file *f) {
    struct statfs fs;

    return f->cache != BLOCK_CACHE_NONE && fstatfs(f->fd, &fs) == 0 &&
           (fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == TMPFS_MAGIC);
}

static int check_alignment(const struct file *f, const char *path, struct error *err) {
    if (f->align <= ALIGN_MAX && f->mem_align && f->mem_align <= ALIGN_MAX &&
        !(f->align & (f->align - 1)) && !(f->mem_align & (f->mem_align - 1)))
        return 0;
    return error_set(err, -EINVAL,
                     "disk image '%s': the filesystem wants transfers in blocks of %u bytes, which "
                     "is not supported; use cache=writeback",
                     path, f->align);
}

static int open_engine(struct file *f, const struct block_options *o, const char *path,
                       struct error *err) {
    int code = 0;

    f->pool = pool_new(THREADS, run, err);
    if (!f->pool)
        return -ENOMEM;
    if (o->engine == BLOCK_ENGINE_THREADS)
        return 0;
    f->uring = uring_new(f->fd, f->block->event_fd, &code);
    if (!f->uring)
        trace(block_no_uring, path, strerror(-code));
    if (f->uring || o->engine != BLOCK_ENGINE_URING)
        return 0;
    return error_set(err, code,
                     "disk image '%s': the host refuses io_uring: %s; use aio=auto, which takes "
                     "threads then, or see the sysctl kernel.io_uring_disabled",
                     path, strerror(-code));
}

static int open_fd(struct file *f, const struct block_options *o, const char *path, bool readonly,
                   struct error *err) {
    /* O_NONBLOCK: a named pipe must not keep us waiting here; it means nothing to files. */
    int flags = (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, r;

    f->fd = open(path, flags);
    if (f->fd < 0)
        return explain_open(f, path, readonly, -errno, err);
    r = check_kind(f, path, readonly, err);
    /* Set afterwards, so that what is no image says so whatever its cache mode. */
    if (r == 0 && f->cache == BLOCK_CACHE_NONE &&
        fcntl(f->fd, F_SETFL, fcntl(f->fd, F_GETFL) | O_DIRECT) < 0)
        r = explain_open(f, path, readonly, -errno, err);
    if (r == 0)
        r = lock_image(f->fd, path, readonly, err);
    return r;
}

static void destroy(struct file *f) {
    pool_free(f->pool);
    uring_free(f->uring);
    if (f->fd >= 0)
        close(f->fd);
    pthread_mutex_destroy(&f->partial);
    free(f);
}

struct file *file_open(struct block *b, const struct block_options *o, const char *path,
                       bool readonly, struct error *err) {
    struct file *f = calloc(1, sizeof(*f));
    int r;

    if (!f) {
        error_set(err, -ENOMEM, "disk image '%s': out of memory", path);
        return NULL;
    }
    f->block = b;
    f->cache = o->cache;
    f->keep_discarded = o->keep_discarded;
    pthread_mutex_init(&f->partial, NULL);
    r = open_fd(f, o, path, readonly, err);
    if (r == 0) {
        find_alignment(f);
        f->eager = may_be_eager(f);
        r = check_alignment(f, path, err);
    }
    if (r == 0)
        r = open_engine(f, o, path, err);
    if (r < 0) {
        destroy(f);
        return NULL;
    }
    pthread_mutex_lock(&b->files_lock);
    f->next = b->files;
    b->files = f;
    pthread_mutex_unlock(&b->files_lock);
    return f;
}

void file_close(struct file *f) {
    struct file **link;

    if (!f)
        return;
    pthread_mutex_lock(&f->block->files_lock);
    for (link = &f->block->files; *link != f; link = &(*link)->next)
        ;
    *link = f->next;
    pthread_mutex_unlock(&f->block->files_lock);
    destroy(f);
}

int file_truncate(struct file *f, uint64_t size) {
    return ftruncate(f->fd, (off_t)size) < 0 ? -errno : 0;
}

/* The same file under the same number, but open for writing: who reads it meanwhile does not
 * notice. */
static int reopen(struct file *f, const char *path, struct error *err) {
    char self[64];
    int fd, r;

    snprintf(self, sizeof(self), "/proc/self/fd/%d", f->fd);
    fd = open(self, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return explain_open(f, path, false, -errno, err);
    r = unlock_image(f->fd);
    if (r == 0)
        r = lock_image(fd, path, false, err);
    if (r == 0 && f->cache == BLOCK_CACHE_NONE &&
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_DIRECT) < 0)
        r = explain_open(f, path, false, -errno, err);
    if (r == 0 && dup3(fd, f->fd, O_CLOEXEC) < 0)
        r = error_set(err, -errno, "disk image '%s' cannot be opened for writing: %s", path,
                      strerror(errno));
    close(fd);
    if (r < 0)
        lock_image(f->fd, path, true, NULL); /* as it was; nobody can have taken it to write */
    return r;
}

int file_set_writable(struct file *f, const char *path, bool writable, struct error *err) {
    int r;

    if (!writable) {
        unlock_image_writer(f->fd);
        return 0;
    }
    if ((fcntl(f->fd, F_GETFL) & O_ACCMODE) != O_RDWR)
        return reopen(f, path, err);
    r = lock_image(f->fd, path, false, err);
    if (r < 0)
        unlock_image_writer(f->fd);
    return r;
}

int file_extent(struct file *f, uint64_t offset, uint64_t *ret_data, uint64_t *ret_hole) {
    off_t data = lseek(f->fd, (off_t)offset, SEEK_DATA), hole;

    if (data < 0 && errno == ENXIO) { /* a hole up to the end */
        *ret_data = *ret_hole = INT64_MAX;
        return 0;
    }
    hole = data < 0 ? -1 : lseek(f->fd, data, SEEK_HOLE);
    if (hole < 0)
        return -errno;
    *ret_data = (uint64_t)data;
    *ret_hole = (uint64_t)hole;
    return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Open files. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/iov.h"
#include "share/share_internal.h"

enum { COPY_MAX = 16 << 20, IOV = 260 };

/* What of the guest's flags the host's descriptor gets: the rest is the guest's kernel's business.
 */
static int host_flags(uint32_t flags) {
    int keep = O_ACCMODE | O_APPEND | O_SYNC | O_DSYNC | O_TRUNC;

    if ((flags & O_ACCMODE) == O_ACCMODE)
        flags = (flags & ~(uint32_t)O_ACCMODE) | O_RDWR;
    return (int)flags & keep;
}

/* Only files and folders: a FIFO would wait, a device do something. */
int open_handle(struct call *c, struct node *n, int node_fd, uint32_t flags, bool folder,
                struct fuse_open_out *ret) {
    int how = folder ? O_RDONLY | O_DIRECTORY : host_flags(flags), fd, r;

    if (folder ? !S_ISDIR(n->type) : !S_ISREG(n->type))
        return S_ISDIR(n->type) ? -EISDIR : folder ? -ENOTDIR : -EPERM;
    if (c->s->readonly && ((how & O_ACCMODE) != O_RDONLY || (how & O_TRUNC)))
        return -EROFS;
    fd = share_reopen(c->s, node_fd, how);
    if (fd < 0)
        return fd;
    r = handle_add(c->s, fd, n, (uint32_t)(how & ~O_TRUNC), folder, &ret->fh);
    if (r < 0)
        close(fd);
    return r;
}

int op_open(struct call *c) {
    const struct fuse_open_in *in = call_arg(c, sizeof(*in));
    struct fuse_open_out *out = call_answer(c, sizeof(*out));
    struct node *n;
    int fd, r;

    if (!in || !out)
        return -EINVAL;
    r = call_node(c, c->h.nodeid, &n, &fd);
    if (r < 0)
        return r;
    r = open_handle(c, n, fd, in->flags, false, out);
    if (r == 0 && (in->flags & O_TRUNC) && (in->open_flags & FUSE_OPEN_KILL_SUIDGID))
        owner_drop_privileges(c->s, fd);
    call_done(c, n);
    return r;
}

/* A file that is open; NULL and `ret_error` if it is none, or was gone after a restore. */
static struct handle *file_of(struct call *c, uint64_t fh, int *ret_error) {
    struct handle *h = handle_get(c->s, fh, false);

    *ret_error = h ? 0 : -EBADF;
    if (h && h->fd < 0) {
        *ret_error = -ESTALE;
        handle_put(c->s, h);
        h = NULL;
    }
    return h;
}

int op_read(struct call *c) {
    const struct fuse_read_in *in = call_arg(c, sizeof(*in));
    const struct share_request *r = c->r;
    struct iovec own[IOV];
    const struct iovec *iov;
    struct handle *h;
    unsigned count;
    ssize_t got;
    int error;

    if (!in || r->in_count > IOV)
        return -EINVAL;
    h = file_of(c, in->fh, &error);
    if (!h)
        return error;
    count = iov_slice(r->in, r->in_count, sizeof(struct fuse_out_header),
                      in->size < call_room(c) ? in->size : call_room(c), own, &iov);
    got = preadv(h->fd, iov, (int)count, (off_t)in->offset);
    error = got < 0 ? -errno : 0;
    c->direct_len = got < 0 ? 0 : (size_t)got;
    handle_put(c->s, h);
    return error;
}

int op_write(struct call *c) {
    const struct fuse_write_in *in = call_arg(c, sizeof(*in));
    const size_t head = sizeof(c->h) + sizeof(*in);
    struct fuse_write_out *out = call_answer(c, sizeof(*out));
    const struct share_request *r = c->r;
    struct iovec own[IOV];
    const struct iovec *iov;
    struct handle *h;
    unsigned count;
    ssize_t put;
    int error;

    if (!in || !out || r->out_count > IOV || in->size > r->out_len - head)
        return -EINVAL;
    h = file_of(c, in->fh, &error);
    if (!h)
        return error;
    count = iov_slice(r->out, r->out_count, head, in->size, own, &iov);
    if (in->write_flags & FUSE_WRITE_KILL_SUIDGID)
        owner_drop_privileges(c->s, h->fd);
    put = pwritev(h->fd, iov, (int)count, (off_t)in->offset);
    error = put < 0 ? -errno : 0;
    out->size = put < 0 ? 0 : (uint32_t)put;
    handle_put(c->s, h);
    return error;
}

/* What only a close tells (a quota, a server far away) is told. */
int op_flush(struct call *c) {
    const struct fuse_flush_in *in = call_arg(c, sizeof(*in));
    struct handle *h;
    int error, copy;

    if (!in)
        return -EINVAL;
    h = file_of(c, in->fh, &error);
    if (!h)
        return error;
    copy = fcntl(h->fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0 || close(copy) < 0)
        error = -errno;
    handle_put(c->s, h);
    return error;
}

static int sync_handle(struct call *c, bool folder) {
    const struct fuse_fsync_in *in = call_arg(c, sizeof(*in));
    struct handle *h = in ? handle_get(c->s, in->fh, folder) : NULL;
    int r;

    if (!h)
        return in ? -EBADF : -EINVAL;
    r = h->fd < 0                                ? -ESTALE
        : in->fsync_flags & FUSE_FSYNC_FDATASYNC ? fdatasync(h->fd)
                                                 : fsync(h->fd);
    r = r == -1 ? -errno : r;
    handle_put(c->s, h);
    return r;
}

int op_fsync(struct call *c) { return sync_handle(c, false); }

int op_fsyncdir(struct call *c) { return sync_handle(c, true); }

int op_release(struct call *c) {
    const struct fuse_release_in *in = call_arg(c, sizeof(*in));

    if (!in)
        return -EINVAL;
    handle_release(c->s, in->fh);
    return 0;
}

int op_releasedir(struct call *c) { return op_release(c); }

int op_fallocate(struct call *c) {
    const struct fuse_fallocate_in *in = call_arg(c, sizeof(*in));
    const uint32_t known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
    struct handle *h;
    int error;

    if (!in)
        return -EINVAL;
    if (in->mode & ~known)
        return -EOPNOTSUPP;
    h = file_of(c, in->fh, &error);
    if (!h)
        return error;
    owner_drop_privileges(c->s, h->fd);
    if (fallocate(h->fd, (int)in->mode, (off_t)in->offset, (off_t)in->length) < 0)
        error = -errno;
    handle_put(c->s, h);
    return error;
}

int op_lseek(struct call *c) {
    const struct fuse_lseek_in *in = call_arg(c, sizeof(*in));
    struct fuse_lseek_out *out = call_answer(c, sizeof(*out));
    struct handle *h;
    off_t at;
    int error;

    if (!in || !out || (in->whence != SEEK_DATA && in->whence != SEEK_HOLE))
        return -EINVAL;
    h = file_of(c, in->fh, &error);
    if (!h)
        return error;
    at = lseek(h->fd, (off_t)in->offset, (int)in->whence);
    error = at < 0 ? -errno : 0;
    out->offset = (uint64_t)at;
    handle_put(c->s, h);
    return error;
}

int op_copy(struct call *c) {
    const struct fuse_copy_file_range_in *in = call_arg(c, sizeof(*in));
    struct fuse_write_out *out = call_answer(c, sizeof(*out));
    struct handle *from, *to = NULL;
    off_t from_at, to_at;
    ssize_t n = -1;
    int error;

    if (!in || !out || in->flags)
        return -EINVAL;
    from = file_of(c, in->fh_in, &error);
    if (from)
        to = file_of(c, in->fh_out, &error);
    if (to) {
        from_at = (off_t)in->off_in;
        to_at = (off_t)in->off_out;
        owner_drop_privileges(c->s, to->fd);
        n = copy_file_range(from->fd, &from_at, to->fd, &to_at,
                            in->len < COPY_MAX ? in->len : COPY_MAX, 0);
        error = n < 0 ? -errno : 0;
        out->size = n < 0 ? 0 : (uint32_t)n;
        handle_put(c->s, to);
    }
    if (from)
        handle_put(c->s, from);
    return error;
}

/* All that was written to the file system of this folder is on its disk. */
int op_syncfs(struct call *c) {
    struct node *n;
    int fd, file, r = call_node(c, c->h.nodeid, &n, &fd);

    if (r < 0)
        return r;
    file = share_reopen(c->s, fd, O_RDONLY | O_DIRECTORY);
    call_done(c, n);
    if (file < 0)
        return file;
    r = syncfs(file) < 0 ? -errno : 0;
    close(file);
    return r;
}

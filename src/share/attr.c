/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Looking files up, and their attributes. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "share/share_internal.h"

/* How long the guest believes what it was told: what the host's programs do meanwhile is seen a
 * second later. Contents are looked at anew whenever a file is opened. */
enum { VALID_SECONDS = 1 };

void fill_attr(const struct share *s, int fd, const struct statx *st, struct fuse_attr *a) {
    struct owner o;

    owner_read(s, fd, st, &o);
    *a = (struct fuse_attr){
        .ino = st->stx_ino,
        .size = st->stx_size,
        .blocks = st->stx_blocks,
        .atime = (uint64_t)st->stx_atime.tv_sec,
        .mtime = (uint64_t)st->stx_mtime.tv_sec,
        .ctime = (uint64_t)st->stx_ctime.tv_sec,
        .atimensec = st->stx_atime.tv_nsec,
        .mtimensec = st->stx_mtime.tv_nsec,
        .ctimensec = st->stx_ctime.tv_nsec,
        .mode = (st->stx_mode & S_IFMT) | o.mode,
        .nlink = st->stx_nlink,
        .uid = o.uid,
        .gid = o.gid,
        .rdev = (uint32_t)(st->stx_rdev_major << 8 | (st->stx_rdev_minor & 0xff) |
                           (st->stx_rdev_minor & ~0xffu) << 12),
        .blksize = st->stx_blksize,
    };
}

int lookup_entry(struct call *c, struct node *parent, int parent_fd, const char *name,
                 struct fuse_entry_out *ret) {
    struct fuse_entry_out e = {.entry_valid = VALID_SECONDS, .attr_valid = VALID_SECONDS};
    int fd = openat(parent_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC), r;
    struct node *n = NULL;
    struct statx st;

    if (fd < 0)
        return -errno;
    r = share_statx(fd, "", &st);
    if (r < 0) {
        close(fd);
        return r;
    }
    fill_attr(c->s, fd, &st, &e.attr);
    pthread_mutex_lock(&c->s->lock);
    r = node_enter(c->s, parent, name, fd, &st, 0, &n);
    if (r == 0)
        e.nodeid = n->id;
    pthread_mutex_unlock(&c->s->lock);
    if (r == 0)
        memcpy(ret, &e, sizeof(e));
    return r;
}

int op_lookup(struct call *c) {
    const char *name = call_name(c);
    struct fuse_entry_out *e = call_answer(c, sizeof(*e));
    struct node *parent;
    int fd, r;

    if (!name || !e)
        return -EINVAL;
    r = call_node(c, c->h.nodeid, &parent, &fd);
    if (r < 0)
        return r;
    r = lookup_entry(c, parent, fd, name, e);
    call_done(c, parent);
    return r;
}

static int answer_attr(struct call *c, int fd) {
    struct fuse_attr_out *out = call_answer(c, sizeof(*out));
    struct statx st;
    int r;

    if (!out)
        return -EINVAL;
    r = share_statx(fd, "", &st);
    if (r < 0)
        return r;
    out->attr_valid = VALID_SECONDS;
    fill_attr(c->s, fd, &st, &out->attr);
    return 0;
}

/* Of a file without a name what is open tells more than the node. */
static int getattr_handle(struct call *c, uint64_t fh) {
    struct handle *h = handle_get(c->s, fh, false);
    int r = h && h->fd >= 0 ? answer_attr(c, h->fd) : -ESTALE;

    if (h)
        handle_put(c->s, h);
    return r;
}

int op_getattr(struct call *c) {
    const struct fuse_getattr_in *in = call_arg(c, sizeof(*in));
    struct node *n;
    int fd, r;

    if (!in)
        return -EINVAL;
    r = call_node(c, c->h.nodeid, &n, &fd);
    if (r < 0)
        return in->getattr_flags & FUSE_GETATTR_FH ? getattr_handle(c, in->fh) : r;
    r = answer_attr(c, fd);
    call_done(c, n);
    return r;
}

/* ---- changes ---- */

static int set_size(struct call *c, int fd, const struct fuse_setattr_in *in) {
    struct handle *h = in->valid & FATTR_FH ? handle_get(c->s, in->fh, false) : NULL;
    struct statx st;
    int file, r;

    if (h && h->fd >= 0 && (h->flags & O_ACCMODE) != O_RDONLY) {
        r = ftruncate(h->fd, (off_t)in->size) < 0 ? -errno : 0;
        handle_put(c->s, h);
        return r;
    }
    if (h)
        handle_put(c->s, h);
    r = share_statx(fd, "", &st);
    if (r < 0 || !S_ISREG(st.stx_mode))
        return r < 0 ? r : -EINVAL;
    file = share_reopen(c->s, fd, O_WRONLY);
    if (file < 0)
        return file;
    r = ftruncate(file, (off_t)in->size) < 0 ? -errno : 0;
    close(file);
    return r;
}

static struct timespec time_of(uint32_t valid, uint32_t set, uint32_t now, uint64_t s,
                               uint32_t ns) {
    return valid & now   ? (struct timespec){0, UTIME_NOW}
           : valid & set ? (struct timespec){(time_t)s, (long)ns}
                         : (struct timespec){0, UTIME_OMIT};
}

static int set_times(struct call *c, int fd, const struct fuse_setattr_in *in) {
    struct timespec t[2] = {
        time_of(in->valid, FATTR_ATIME, FATTR_ATIME_NOW, in->atime, in->atimensec),
        time_of(in->valid, FATTR_MTIME, FATTR_MTIME_NOW, in->mtime, in->mtimensec),
    };

    if (t[0].tv_nsec == UTIME_OMIT && t[1].tv_nsec == UTIME_OMIT)
        return 0;
    return utimensat(fd, "", t, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

static int set_owner(struct call *c, int fd, const struct fuse_setattr_in *in) {
    struct statx st;
    struct owner o;
    int r;

    if (!(in->valid & (FATTR_MODE | FATTR_UID | FATTR_GID)))
        return 0;
    r = share_statx(fd, "", &st);
    if (r < 0)
        return r;
    owner_read(c->s, fd, &st, &o);
    if (in->valid & FATTR_MODE)
        o.mode = in->mode & 07777;
    else if (S_ISREG(st.stx_mode)) /* a change of owner takes privileges away */
        o.mode &= ~(uint32_t)(S_ISUID | (o.mode & S_IXGRP ? S_ISGID : 0));
    if (in->valid & FATTR_UID)
        o.uid = in->uid;
    if (in->valid & FATTR_GID)
        o.gid = in->gid;
    return owner_write(c->s, fd, &st, &o);
}

int op_setattr(struct call *c) {
    const struct fuse_setattr_in *in = call_arg(c, sizeof(*in));
    struct node *n;
    int fd, r;

    if (!in)
        return -EINVAL;
    r = call_node(c, c->h.nodeid, &n, &fd);
    if (r < 0)
        return r;
    if (in->valid & FATTR_SIZE)
        r = set_size(c, fd, in);
    if (r == 0 && (in->valid & FATTR_SIZE) && (in->valid & FATTR_KILL_SUIDGID))
        owner_drop_privileges(c->s, fd);
    if (r == 0)
        r = set_owner(c, fd, in);
    if (r == 0)
        r = set_times(c, fd, in);
    if (r == 0)
        r = answer_attr(c, fd);
    call_done(c, n);
    return r;
}

int op_readlink(struct call *c) {
    size_t room = call_room(c) < PATH_MAX ? call_room(c) : PATH_MAX;
    char text[PATH_MAX], *to;
    struct node *n;
    ssize_t got;
    int fd, r = call_node(c, c->h.nodeid, &n, &fd);

    if (r < 0)
        return r;
    got = readlinkat(fd, "", text, room);
    r = got < 0 ? (errno == ENOENT ? -EINVAL : -errno) : 0;
    call_done(c, n);
    if (r < 0)
        return r;
    to = call_answer(c, (size_t)got);
    if (!to)
        return -ENAMETOOLONG;
    memcpy(to, text, (size_t)got);
    return 0;
}

int op_statfs(struct call *c) {
    struct fuse_statfs_out *out = call_answer(c, sizeof(*out));
    struct statfs f;
    struct node *n;
    int fd, r;

    if (!out)
        return -EINVAL;
    r = call_node(c, c->h.nodeid, &n, &fd);
    if (r < 0)
        return r;
    r = fstatfs(fd, &f) < 0 ? -errno : 0;
    call_done(c, n);
    if (r < 0)
        return r;
    out->st = (struct fuse_kstatfs){
        .blocks = f.f_blocks,
        .bfree = f.f_bfree,
        .bavail = f.f_bavail,
        .files = f.f_files,
        .ffree = f.f_ffree,
        .bsize = (uint32_t)f.f_bsize,
        .namelen = (uint32_t)f.f_namelen,
        .frsize = (uint32_t)f.f_frsize,
    };
    return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names in folders: making, linking, renaming, removing. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "share/share_internal.h"

int made_entry(struct call *c, struct node *parent, int parent_fd, const char *name,
               const struct owner *o, struct fuse_entry_out *ret) {
    int fd = openat(parent_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct statx st;
    int r;

    if (fd < 0)
        return -errno;
    r = share_statx(fd, "", &st);
    /* That an owner cannot be kept is no reason to have no file. */
    if (r == 0)
        owner_write(c->s, fd, &st, o);
    close(fd);
    return r < 0 ? r : lookup_entry(c, parent, parent_fd, name, ret);
}

enum making { A_FOLDER, A_NODE, A_LINK };

static int make_one(int parent_fd, const char *name, enum making what, uint32_t mode,
                    const char *target) {
    switch (what) {
    case A_FOLDER:
        return mkdirat(parent_fd, name, 0700);
    case A_NODE:
        return mknodat(parent_fd, name, (mode & S_IFMT) | 0600, 0);
    default:
        return symlinkat(target, parent_fd, name);
    }
}

static int make(struct call *c, const char *name, enum making what, uint32_t mode,
                const char *target) {
    struct fuse_entry_out *e = call_answer(c, sizeof(*e));
    struct node *parent;
    struct owner o;
    int fd, r;

    if (!name || !e)
        return -EINVAL;
    r = call_node(c, c->h.nodeid, &parent, &fd);
    if (r < 0)
        return r;
    o = owner_of_new(c, fd, mode);
    r = make_one(fd, name, what, mode, target) < 0 ? -errno : 0;
    if (r == 0)
        r = made_entry(c, parent, fd, name, &o, e);
    call_done(c, parent);
    return r;
}

int op_mkdir(struct call *c) {
    const struct fuse_mkdir_in *in = call_arg(c, sizeof(*in));

    return in ? make(c, call_name(c), A_FOLDER, S_IFDIR | (in->mode & 07777), NULL) : -EINVAL;
}

/* Devices are the host's root's alone. */
int op_mknod(struct call *c) {
    const struct fuse_mknod_in *in = call_arg(c, sizeof(*in));
    uint32_t type = in ? in->mode & S_IFMT : 0;

    if (!in)
        return -EINVAL;
    if (type != S_IFREG && type != S_IFIFO && type != S_IFSOCK)
        return -EPERM;
    return make(c, call_name(c), A_NODE, in->mode, NULL);
}

int op_symlink(struct call *c) {
    const char *name = call_name(c), *target = call_text(c);

    return target ? make(c, name, A_LINK, S_IFLNK | 0777, target) : -EINVAL;
}

int op_link(struct call *c) {
    const struct fuse_link_in *in = call_arg(c, sizeof(*in));
    const char *name = call_name(c);
    struct fuse_entry_out *e = call_answer(c, sizeof(*e));
    struct node *parent, *old;
    int parent_fd, old_fd, r;
    char number[16];

    if (!in || !name || !e)
        return -EINVAL;
    r = call_node(c, in->oldnodeid, &old, &old_fd);
    if (r < 0)
        return r;
    r = call_node(c, c->h.nodeid, &parent, &parent_fd);
    if (r == 0) {
        snprintf(number, sizeof(number), "%d", old_fd);
        r = linkat(c->s->proc_fd, number, parent_fd, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
        if (r == 0)
            r = lookup_entry(c, parent, parent_fd, name, e);
        call_done(c, parent);
    }
    call_done(c, old);
    return r;
}

/* ---- what takes names away; with the lock held ---- */

/* The node of this name, if the guest knows it; with a descriptor of it, or -1. */
static struct node *known(struct share *s, int parent_fd, const char *name, int *ret_fd) {
    struct node *n = NULL;
    struct statx st;
    int fd = openat(parent_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

    if (fd >= 0 && share_statx(fd, "", &st) == 0)
        n = node_of_file(s, &st);
    if (fd >= 0 && !n) {
        close(fd);
        fd = -1;
    }
    *ret_fd = fd;
    return n;
}

static bool is_named(const struct node *n, const struct node *parent, const char *name) {
    return n && n->parent == parent && n->name && !strcmp(n->name, name);
}

static void lost(struct share *s, struct node *n, int fd, struct node *parent, const char *name) {
    if (is_named(n, parent, name))
        node_unname(s, n, fd);
    else if (fd >= 0)
        close(fd);
}

static int take_away(struct call *c, int flags) {
    const char *name = call_name(c);
    struct node *parent, *n;
    int fd, known_fd, r;

    if (!name)
        return -EINVAL;
    r = call_node(c, c->h.nodeid, &parent, &fd);
    if (r < 0)
        return r;
    pthread_mutex_lock(&c->s->lock);
    n = known(c->s, fd, name, &known_fd);
    r = unlinkat(fd, name, flags) < 0 ? -errno : 0;
    if (r == 0)
        lost(c->s, n, known_fd, parent, name);
    else if (known_fd >= 0)
        close(known_fd);
    pthread_mutex_unlock(&c->s->lock);
    call_done(c, parent);
    return r;
}

int op_unlink(struct call *c) { return take_away(c, 0); }

int op_rmdir(struct call *c) { return take_away(c, AT_REMOVEDIR); }

struct place {
    struct node *parent;
    int fd;
    const char *name;
};

static int rename_locked(struct share *s, const struct place *from, const struct place *to,
                         unsigned flags) {
    int from_fd, to_fd, r;
    struct node *moved = known(s, from->fd, from->name, &from_fd),
                *hit = known(s, to->fd, to->name, &to_fd);

    r = renameat2(from->fd, from->name, to->fd, to->name, flags) < 0 ? -errno : 0;
    if (from_fd >= 0)
        close(from_fd);
    if (r < 0 || moved == hit) { /* two links to one file: nothing happens */
        if (to_fd >= 0)
            close(to_fd);
        return r;
    }
    if (flags & RENAME_EXCHANGE) {
        if (to_fd >= 0)
            close(to_fd);
        if (hit)
            node_get(hit);
        if (moved)
            r = node_rename(s, moved, to->parent, to->name);
        if (hit) {
            r = node_rename(s, hit, from->parent, from->name) < 0 ? -EIO : r;
            node_put(s, hit);
        }
        return r;
    }
    lost(s, hit, to_fd, to->parent, to->name);
    return moved ? node_rename(s, moved, to->parent, to->name) : 0;
}

static int rename_call(struct call *c, uint64_t new_parent, unsigned flags) {
    struct place from = {.name = call_name(c)}, to = {.name = call_name(c)};
    int r;

    if (!from.name || !to.name || (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)))
        return -EINVAL;
    r = call_node(c, c->h.nodeid, &from.parent, &from.fd);
    if (r < 0)
        return r;
    r = call_node(c, new_parent, &to.parent, &to.fd);
    if (r == 0) {
        pthread_mutex_lock(&c->s->lock);
        r = rename_locked(c->s, &from, &to, flags);
        pthread_mutex_unlock(&c->s->lock);
        call_done(c, to.parent);
    }
    call_done(c, from.parent);
    return r;
}

int op_rename(struct call *c) {
    const struct fuse_rename_in *in = call_arg(c, sizeof(*in));

    return in ? rename_call(c, in->newdir, 0) : -EINVAL;
}

int op_rename2(struct call *c) {
    const struct fuse_rename2_in *in = call_arg(c, sizeof(*in));

    return in ? rename_call(c, in->newdir, in->flags) : -EINVAL;
}

/* ---- create and open in one ---- */

/* A new file; or one that came meanwhile, if the guest does not insist. */
static int create_file(struct call *c, struct node *parent, int parent_fd, const char *name,
                       const struct fuse_create_in *in, struct fuse_entry_out *e) {
    struct owner o = owner_of_new(c, parent_fd, S_IFREG | (in->mode & 07777));
    int fd = openat(parent_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd >= 0) {
        close(fd);
        return made_entry(c, parent, parent_fd, name, &o, e);
    }
    if (errno != EEXIST || (in->flags & O_EXCL))
        return -errno;
    return lookup_entry(c, parent, parent_fd, name, e);
}

int op_create(struct call *c) {
    const struct fuse_create_in *in = call_arg(c, sizeof(*in));
    const char *name = call_name(c);
    struct fuse_entry_out *e = call_answer(c, sizeof(*e));
    struct fuse_open_out *out = call_answer(c, sizeof(*out));
    struct node *parent, *n;
    int parent_fd, fd, r;

    if (!in || !name || !e || !out)
        return -EINVAL;
    r = call_node(c, c->h.nodeid, &parent, &parent_fd);
    if (r < 0)
        return r;
    r = create_file(c, parent, parent_fd, name, in, e);
    call_done(c, parent);
    if (r < 0)
        return r;
    r = call_node(c, e->nodeid, &n, &fd);
    if (r == 0) {
        r = open_handle(c, n, fd, in->flags, false, out);
        call_done(c, n);
    }
    if (r < 0) { /* the guest hears of no entry, and will not forget it */
        pthread_mutex_lock(&c->s->lock);
        node_forget(c->s, e->nodeid, 1);
        pthread_mutex_unlock(&c->s->lock);
    }
    return r;
}

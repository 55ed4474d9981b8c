/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading folders. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "share/share_internal.h"

enum { ENTRIES = 32 << 10 };

int op_opendir(struct call *c) {
    const struct fuse_open_in *in = call_arg(c, sizeof(*in));
    struct fuse_open_out *out = call_answer(c, sizeof(*out));
    struct node *n;
    int fd, r;

    if (!in || !out)
        return -EINVAL;
    r = call_node(c, c->h.nodeid, &n, &fd);
    if (r < 0)
        return r;
    r = open_handle(c, n, fd, 0, true, out);
    call_done(c, n);
    return r;
}

struct reading {
    struct call *c;
    struct node *folder;
    int fd; /* of the folder's node */
    bool plus;
    size_t room; /* bytes that the guest wants at most */
};

static void forget_entry(struct call *c, uint64_t id) {
    pthread_mutex_lock(&c->s->lock);
    node_forget(c->s, id, 1);
    pthread_mutex_unlock(&c->s->lock);
}

/* False if there is no room for it. */
static bool put_entry(struct reading *r, const struct dirent64 *d) {
    size_t name = strlen(d->d_name), head = r->plus ? sizeof(struct fuse_entry_out) : 0,
           n = FUSE_DIRENT_ALIGN(head + FUSE_NAME_OFFSET + name);
    bool dots = !strcmp(d->d_name, ".") || !strcmp(d->d_name, "..");
    struct fuse_entry_out e = {0};
    struct fuse_dirent *to;
    uint8_t *p;

    if (n > r->room)
        return false;
    /* What cannot be looked up has a name, at least. */
    if (r->plus && !dots)
        lookup_entry(r->c, r->folder, r->fd, d->d_name, &e);
    p = call_answer(r->c, n);
    if (!p) {
        if (e.nodeid)
            forget_entry(r->c, e.nodeid);
        return false;
    }
    r->room -= n;
    memcpy(p, &e, head);
    to = (struct fuse_dirent *)(p + head);
    to->ino = d->d_ino;
    to->off = (uint64_t)d->d_off;
    to->namelen = (uint32_t)name;
    to->type = d->d_type;
    memcpy(to->name, d->d_name, name);
    return true;
}

/* From the place that `offset` means to the host's file system, as far as there is room. */
static int read_entries(struct reading *r, int fd, uint64_t offset, uint8_t *entries) {
    ssize_t n;

    if (lseek(fd, (off_t)offset, SEEK_SET) < 0)
        return -errno;
    while ((n = getdents64(fd, entries, ENTRIES)) > 0)
        for (ssize_t at = 0; at < n;) {
            const struct dirent64 *d = (const struct dirent64 *)(entries + at);

            if (!put_entry(r, d))
                return 0;
            at += d->d_reclen;
        }
    return n < 0 && !r->c->reply_len ? -errno : 0;
}

static int read_folder(struct call *c, bool plus) {
    const struct fuse_read_in *in = call_arg(c, sizeof(*in));
    struct reading r = {.c = c, .plus = plus, .room = in ? in->size : 0};
    struct handle *h = in ? handle_get(c->s, in->fh, true) : NULL;
    uint8_t *entries = NULL;
    int error = in ? h ? 0 : -EBADF : -EINVAL;

    if (error == 0)
        error = h->fd < 0 ? -ESTALE : call_node(c, h->node->id, &r.folder, &r.fd);
    if (error == 0) {
        entries = malloc(ENTRIES);
        pthread_mutex_lock(&h->position);
        error = entries ? read_entries(&r, h->fd, in->offset, entries) : -ENOMEM;
        pthread_mutex_unlock(&h->position);
        free(entries);
        call_done(c, r.folder);
    }
    if (h)
        handle_put(c->s, h);
    return error;
}

int op_readdir(struct call *c) { return read_folder(c, false); }

int op_readdirplus(struct call *c) { return read_folder(c, true); }

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a guest knows of a share, saved and loaded.
 *
 *   u32 version 1, u32 session (bit 0: begun), u64 next number, u32 nodes, u32 handles
 *   node     u64 number, u64 parent, u64 lookups, u32 type, u16 length, name; parents come first
 *   handle   u64 number, u64 node, u32 flags, u32 folder
 *
 * A node without a name of its own (removed, but open) has parent 0. Little-endian. Files are found
 * again by their names, so that a copy of the folder on another host will do. What is not there any
 * more is a node that no call can use, and a handle without a descriptor: the guest gets ESTALE.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "share/server.h"
#include "share/share_internal.h"

enum { VERSION = 1, BEGUN = 1 };

/* ---- saving ---- */

static void put_node(struct buf *to, const struct node *n) {
    size_t len = n->parent ? strlen(n->name) : 0;

    buf_put_le64(to, n->id);
    buf_put_le64(to, n->parent ? n->parent->id : 0);
    buf_put_le64(to, n->lookups);
    buf_put_le32(to, n->type);
    buf_put_le16(to, (uint16_t)len);
    buf_put(to, n->name, len);
}

struct by_depth {
    unsigned depth;
    const struct node *node;
};

static int compare(const void *a, const void *b) {
    const struct by_depth *x = a, *y = b;

    return x->depth != y->depth        ? (x->depth > y->depth ? 1 : -1)
           : x->node->id > y->node->id ? 1
                                       : -1;
}

static void put_nodes(struct share *s, struct buf *to) {
    struct buf list = {0};
    struct by_depth *order;
    size_t n = 0;

    for (size_t i = 0; i < s->buckets; i++)
        for (const struct node *k = s->by_id[i]; k; k = k->next_id)
            if (k != s->root) {
                struct by_depth one = {node_depth(k), k};

                buf_put(&list, &one, sizeof(one));
                n++;
            }
    order = (struct by_depth *)list.data;
    if (n)
        qsort(order, n, sizeof(*order), compare);
    for (size_t i = 0; i < n; i++)
        put_node(to, order[i].node);
    buf_done(&list);
}

void share_save(struct share *s, struct buf *to) {
    if (s->server) {
        share_server_save(s->server, to);
        return;
    }
    buf_put_le32(to, VERSION);
    buf_put_le32(to, s->began ? BEGUN : 0);
    buf_put_le64(to, s->next_id);
    buf_put_le32(to, (uint32_t)s->nodes - 1);
    buf_put_le32(to, s->handles);
    put_nodes(s, to);
    for (unsigned i = 0; i < s->handle_room; i++) {
        const struct handle *h = s->handle[i];

        if (!h || !h->used)
            continue;
        buf_put_le64(to, handle_id(s, i));
        buf_put_le64(to, h->node->id);
        buf_put_le32(to, h->flags);
        buf_put_le32(to, h->folder);
    }
}

/* ---- loading ---- */

static bool is_name(const char *s) {
    return *s && !strchr(s, '/') && strcmp(s, ".") != 0 && strcmp(s, "..") != 0;
}

/* One that is gone has no descriptor, and is no file that a name leads to. */
static int load_node(struct share *s, struct reader *r) {
    uint64_t id = reader_le64(r), up = reader_le64(r), lookups = reader_le64(r);
    uint32_t type = reader_le32(r);
    uint16_t len = reader_le16(r);
    const char *text = reader_take(r, len);
    struct node *parent = up ? node_find(s, up) : s->root, *n;
    char name[NAME_MAX + 1] = "";
    struct statx st = {0};
    int fd = -1, parent_fd, e;

    if (r->bad || len > NAME_MAX || id >= s->next_id || node_find(s, id) || !parent)
        return -EINVAL;
    memcpy(name, text, len);
    if (strlen(name) != len || (up && !is_name(name)))
        return -EINVAL;
    parent_fd = up ? node_use(s, parent) : -1;
    if (parent_fd >= 0) {
        fd = openat(parent_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        node_release(s, parent);
    }
    if (fd >= 0 && (share_statx(fd, "", &st) < 0 || (st.stx_mode & S_IFMT) != (type & S_IFMT))) {
        close(fd);
        fd = -1;
    }
    if (fd < 0)
        st = (struct statx){.stx_mode = (uint16_t)(type & S_IFMT), .stx_ino = id};
    e = node_enter(s, parent, up ? name : "gone", fd, &st, id, &n);
    if (e < 0)
        return e;
    n->lookups = lookups;
    if (!up)
        node_unname(s, n, -1);
    return 0;
}

static int load_handle(struct share *s, struct reader *r) {
    uint64_t id = reader_le64(r);
    struct node *n = node_find(s, reader_le64(r));
    uint32_t flags = reader_le32(r) & (O_ACCMODE | O_APPEND | O_SYNC | O_DSYNC);
    bool folder = reader_le32(r) & 1;
    int fd = -1, node_fd, e;

    if (r->bad || !n)
        return -EINVAL;
    node_fd = S_ISREG(n->type) || S_ISDIR(n->type) ? node_use(s, n) : -1;
    if (node_fd >= 0) {
        if (S_ISDIR(n->type) == folder && (!s->readonly || (flags & O_ACCMODE) == O_RDONLY))
            fd = share_reopen(s, node_fd, folder ? O_RDONLY | O_DIRECTORY : (int)flags);
        node_release(s, n);
    }
    e = handle_restore(s, id, fd < 0 ? -1 : fd, n, flags, folder);
    if (e < 0 && fd >= 0)
        close(fd);
    return e;
}

static int load_here(struct share *s, const void *p, size_t n, struct error *err) {
    struct reader r = {.p = p, .left = n};
    uint32_t version = reader_le32(&r), session = reader_le32(&r);
    uint64_t next = reader_le64(&r);
    uint32_t nodes = reader_le32(&r), handles = reader_le32(&r);
    int e = r.bad || version != VERSION || next <= FUSE_ROOT_ID ? -EINVAL : 0;

    share_reset(s);
    if (e == 0)
        s->next_id = next;
    for (uint32_t i = 0; e == 0 && i < nodes; i++)
        e = load_node(s, &r);
    for (uint32_t i = 0; e == 0 && i < handles; i++)
        e = load_handle(s, &r);
    if (e == 0 && !r.left) {
        s->began = session & BEGUN;
        return 0;
    }
    share_reset(s);
    return error_set(err, e ? e : -EINVAL,
                     "what the guest had open of a shared folder cannot be read from the snapshot: "
                     "%s; use another one",
                     version != VERSION ? "it is of another version" : strerror(e ? -e : EINVAL));
}

int share_load(struct share *s, const void *p, size_t n, struct error *err) {
    return s->server ? share_server_load(s->server, p, n, err) : load_here(s, p, n, err);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The files that a guest knows.
 *
 * Two hash tables of chains, by number and by file; both grow together. Descriptors are what the
 * host has few of: those that no call uses are in a list by age, and the oldest is closed for
 * another. It is opened again by its name in its folder, without following a link, and only if that
 * is the same file still.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "share/share_internal.h"

enum { FIRST_BUCKETS = 256 };

int share_statx(int fd, const char *name, struct statx *ret) {
    int r = statx(fd, name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
                  STATX_BASIC_STATS | STATX_BTIME, ret);

    return r < 0 ? -errno : 0;
}

static struct identity identity_of(const struct statx *st) {
    return (struct identity){
        .dev = (uint64_t)st->stx_dev_major << 32 | st->stx_dev_minor,
        .ino = st->stx_ino,
        .born = st->stx_mask & STATX_BTIME
                    ? (uint64_t)st->stx_btime.tv_sec * 1000000000ull + st->stx_btime.tv_nsec
                    : 0,
    };
}

static bool same_file(const struct identity *a, const struct identity *b) {
    return a->dev == b->dev && a->ino == b->ino && a->born == b->born;
}

/* ---- the tables ---- */

static size_t spread(uint64_t v) { return (size_t)((v * 0x9e3779b97f4a7c15ull) >> 20); }

static struct node **id_chain(const struct share *s, uint64_t id) {
    return &s->by_id[spread(id) & (s->buckets - 1)];
}

static struct node **file_chain(const struct share *s, const struct identity *f) {
    return &s->by_file[spread(f->ino ^ f->dev << 40) & (s->buckets - 1)];
}

static void link_node(struct share *s, struct node *n) {
    struct node **id = id_chain(s, n->id), **file = file_chain(s, &n->file);

    n->next_id = *id;
    *id = n;
    n->next_file = *file;
    *file = n;
}

static void unlink_file(struct share *s, struct node *n) {
    struct node **p = file_chain(s, &n->file);

    while (*p && *p != n)
        p = &(*p)->next_file;
    if (*p)
        *p = n->next_file;
}

static void unlink_id(struct share *s, struct node *n) {
    struct node **p = id_chain(s, n->id);

    while (*p != n)
        p = &(*p)->next_id;
    *p = n->next_id;
}

static int grow(struct share *s) {
    size_t buckets = s->buckets ? s->buckets * 2 : FIRST_BUCKETS, old_buckets = s->buckets;
    struct node **by_id = calloc(buckets, sizeof(*by_id)),
                **by_file = calloc(buckets, sizeof(*by_file)), **old = s->by_id;

    if (!by_id || !by_file) {
        free(by_id);
        free(by_file);
        return s->buckets ? 0 : -ENOMEM; /* long chains are slow, no more */
    }
    free(s->by_file);
    s->by_id = by_id;
    s->by_file = by_file;
    s->buckets = buckets;
    for (size_t i = 0; i < old_buckets; i++)
        for (struct node *n = old[i], *next; n; n = next) {
            next = n->next_id;
            link_node(s, n);
        }
    free(old);
    return 0;
}

struct node *node_find(struct share *s, uint64_t id) {
    struct node *n = *id_chain(s, id);

    while (n && n->id != id)
        n = n->next_id;
    return n;
}

struct node *node_of_file(struct share *s, const struct statx *st) {
    struct identity f = identity_of(st);
    struct node *n = *file_chain(s, &f);

    while (n && (!same_file(&n->file, &f) || n->type != (st->stx_mode & S_IFMT)))
        n = n->next_file;
    return n;
}

/* ---- descriptors ---- */

static bool may_close(const struct share *s, const struct node *n) {
    return n->fd >= 0 && !n->using && !n->nameless && n != s->root;
}

static void leave_list(struct share *s, struct node *n) {
    if (n->older)
        n->older->newer = n->newer;
    else if (s->oldest == n)
        s->oldest = n->newer;
    if (n->newer)
        n->newer->older = n->older;
    else if (s->newest == n)
        s->newest = n->older;
    n->older = n->newer = NULL;
}

static void enter_list(struct share *s, struct node *n) {
    if (!may_close(s, n))
        return;
    n->older = s->newest;
    n->newer = NULL;
    if (s->newest)
        s->newest->newer = n;
    else
        s->oldest = n;
    s->newest = n;
}

static void close_node(struct share *s, struct node *n) {
    if (n->fd < 0)
        return;
    leave_list(s, n);
    close(n->fd);
    n->fd = -1;
    s->node_fds--;
}

/* Gives the node a descriptor; others lose theirs for it. */
static void set_fd(struct share *s, struct node *n, int fd) {
    while (s->node_fds >= s->max_node_fds && s->oldest)
        close_node(s, s->oldest);
    n->fd = fd;
    s->node_fds++;
    enter_list(s, n);
}

/* By its name in the folder of its parent, which has a descriptor. */
static int open_below(struct share *s, struct node *n) {
    struct identity now;
    struct statx st;
    int r, fd = openat(n->parent->fd, n->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR ? -ESTALE : -errno;
    r = share_statx(fd, "", &st);
    now = identity_of(&st);
    if (r == 0 && (!same_file(&now, &n->file) || (st.stx_mode & S_IFMT) != n->type))
        r = -ESTALE;
    if (r < 0) {
        close(fd);
        return r;
    }
    set_fd(s, n, fd);
    return 0;
}

int node_use(struct share *s, struct node *n) {
    while (n->fd < 0) { /* each round opens one more on the way down; the newest are not closed */
        struct node *top = n;
        int r;

        while (top->parent && top->parent->fd < 0)
            top = top->parent;
        if (!top->parent)
            return -ESTALE;
        leave_list(s, top->parent); /* it is the youngest now */
        enter_list(s, top->parent);
        r = open_below(s, top);
        if (r < 0)
            return r;
    }
    if (!n->using ++)
        leave_list(s, n);
    return n->fd;
}

void node_release(struct share *s, struct node *n) {
    if (!--n->using)
        enter_list(s, n);
}

/* ---- lives ---- */

void node_get(struct node *n) { n->refs++; }

static void free_node(struct share *s, struct node *n) {
    close_node(s, n);
    unlink_id(s, n);
    unlink_file(s, n);
    s->nodes--;
    free(n->name);
    free(n);
}

/* Nobody needs it any more: then its folder may be the next. */
static void drop(struct share *s, struct node *n) {
    while (n && !n->refs && !n->lookups && n != s->root) {
        struct node *parent = n->parent;

        free_node(s, n);
        n = parent;
        if (n)
            n->refs--;
    }
}

void node_put(struct share *s, struct node *n) {
    n->refs--;
    drop(s, n);
}

void node_forget(struct share *s, uint64_t id, uint64_t count) {
    struct node *n = node_find(s, id);

    if (!n || n == s->root)
        return;
    n->lookups -= count < n->lookups ? count : n->lookups;
    drop(s, n);
}

unsigned node_depth(const struct node *n) {
    unsigned depth = 0;

    for (; n->parent; n = n->parent)
        depth++;
    return depth;
}

int node_rename(struct share *s, struct node *n, struct node *parent, const char *name) {
    struct node *before = n->parent;
    char *copy;

    assert(parent);
    if (n == s->root || (before == parent && n->name && !strcmp(n->name, name)))
        return 0;
    /* The host may have moved a folder into one that was below it: no node is its own ancestor. */
    for (struct node *up = parent; up; up = up->parent)
        if (up == n)
            return -ELOOP;
    copy = strdup(name);
    if (!copy)
        return -ENOMEM;
    free(n->name);
    n->name = copy;
    leave_list(s, n);
    n->nameless = false;
    n->parent = parent;
    parent->refs++;
    enter_list(s, n);
    if (before)
        node_put(s, before);
    return 0;
}

void node_unname(struct share *s, struct node *n, int fd) {
    struct node *before = n->parent;

    if (n == s->root) {
        if (fd >= 0)
            close(fd);
        return;
    }
    /* What guests keep of files without names must leave room for the others. */
    if (fd >= 0 && n->fd < 0 && s->node_fds < s->max_node_fds)
        set_fd(s, n, fd);
    else if (fd >= 0)
        close(fd);
    leave_list(s, n);
    n->nameless = true;
    n->parent = NULL;
    if (before)
        node_put(s, before);
}

static struct node *new_node(struct share *s, const struct statx *st, uint64_t id) {
    struct node *n;

    if (s->nodes >= SHARE_MAX_NODES || (s->nodes >= s->buckets && grow(s) < 0))
        return NULL;
    n = calloc(1, sizeof(*n));
    if (!n)
        return NULL;
    n->id = id ? id : s->next_id++;
    n->fd = -1;
    n->type = st->stx_mode & S_IFMT;
    n->file = identity_of(st);
    link_node(s, n);
    s->nodes++;
    return n;
}

/* Now there is somebody at this place, who may have been here before. */
static int enter_known(struct share *s, struct node *n, struct node *parent, const char *name,
                       int fd) {
    int r = node_rename(s, n, parent, name);

    if (r == 0 && n->fd < 0)
        set_fd(s, n, fd);
    else
        close(fd);
    return r;
}

int node_enter(struct share *s, struct node *parent, const char *name, int fd,
               const struct statx *st, uint64_t id, struct node **ret) {
    struct node *n = id ? NULL : node_of_file(s, st);
    int r;

    if (n) {
        r = enter_known(s, n, parent, name, fd);
    } else {
        n = node_depth(parent) < SHARE_DEPTH ? new_node(s, st, id) : NULL;
        r = n ? node_rename(s, n, parent, name) : -ENFILE;
        if (r == 0 && fd >= 0)
            set_fd(s, n, fd);
        else if (fd >= 0)
            close(fd);
        if (n && r < 0)
            drop(s, n);
    }
    if (r < 0)
        return r;
    n->lookups++;
    *ret = n;
    return 0;
}

int node_table_init(struct share *s, int root_fd, struct error *err) {
    struct statx st;
    int r = share_statx(root_fd, "", &st);

    if (r == 0)
        r = grow(s);
    if (r == 0) {
        s->next_id = FUSE_ROOT_ID + 1;
        s->root = new_node(s, &st, FUSE_ROOT_ID);
        r = s->root ? 0 : -ENOMEM;
    }
    if (r < 0)
        return error_set(err, r, "the shared folder cannot be used: %s", strerror(-r));
    s->root->fd = root_fd;
    s->root->refs = 1;
    s->root->name = strdup("/");
    s->node_fds++;
    return 0;
}

void node_table_clear(struct share *s) {
    for (size_t i = 0; i < s->buckets; i++)
        for (struct node *n = s->by_id[i], *next; n; n = next) {
            next = n->next_id;
            if (n != s->root)
                free_node(s, n);
        }
    if (s->root)
        s->root->refs = 1;
    s->oldest = s->newest = NULL;
}

void node_table_done(struct share *s) {
    node_table_clear(s);
    if (s->root)
        free_node(s, s->root);
    s->root = NULL;
    free(s->by_id);
    free(s->by_file);
}

/* ---- for calls ---- */

int call_node(struct call *c, uint64_t id, struct node **ret_node, int *ret_fd) {
    struct share *s = c->s;
    struct node *n;
    int fd;

    pthread_mutex_lock(&s->lock);
    n = node_find(s, id);
    fd = n ? node_use(s, n) : -ESTALE;
    if (fd >= 0)
        node_get(n);
    pthread_mutex_unlock(&s->lock);
    if (fd < 0)
        return fd;
    *ret_node = n;
    *ret_fd = fd;
    return 0;
}

void call_done(struct call *c, struct node *n) {
    pthread_mutex_lock(&c->s->lock);
    node_release(c->s, n);
    node_put(c->s, n);
    pthread_mutex_unlock(&c->s->lock);
}

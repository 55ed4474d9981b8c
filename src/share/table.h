/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tables of what a guest knows of a share, and has open.
 *
 * A node is what the guest knows by a number: an inode of FUSE. It is known to the host by the
 * number of its file (device, inode, time of birth), has a descriptor (O_PATH) while it is used,
 * and a name, by which the descriptor is opened again when it was closed for others. The share's
 * `lock` guards the tables, and calls that change names, so that a name and its file never part.
 */
#ifndef SHARE_TABLE_H
#define SHARE_TABLE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/error.h"

struct share;
struct statx;

enum {
    SHARE_DEPTH = 2048, /* of folders in each other */
    SHARE_HANDLES = 1 << 16,
};

struct identity { /* of a file */
    uint64_t dev, ino, born;
};

struct node {
    uint64_t id;
    uint64_t lookups; /* that the guest has not forgotten */
    unsigned refs;    /* others: children, handles, calls under way */
    unsigned using;   /* calls that use `fd` */
    int fd;           /* O_PATH; -1: opened when it is wanted */
    bool nameless;    /* its name is gone; while `fd` is there it lives on */
    mode_t type;      /* S_IFMT */
    struct identity file;
    struct node *parent; /* NULL: the root, or nameless */
    char *name;
    struct node *next_id, *next_file; /* in their chains */
    struct node *older, *newer;       /* of those with a descriptor that may be closed */
};

struct handle {
    bool used, folder;
    int fd; /* -1: it could not be opened again after a restore */
    uint32_t flags, generation;
    unsigned refs; /* calls under way, and the guest */
    struct node *node;
    pthread_mutex_t position; /* of a folder's reading */
};

/* ---- node.c; all with the lock held, if they do not say otherwise ---- */
int node_table_init(struct share *s, int root_fd, struct error *err);
void node_table_clear(struct share *s); /* all but the root */
void node_table_done(struct share *s);
struct node *node_find(struct share *s, uint64_t id);
void node_get(struct node *n);
void node_put(struct share *s, struct node *n);
void node_forget(struct share *s, uint64_t id, uint64_t count);
/* The node of the file that `fd` (O_PATH, becomes the table's) is, by this name in this folder;
 * with an id for a load, when fd may be -1. */
int node_enter(struct share *s, struct node *parent, const char *name, int fd,
               const struct statx *st, uint64_t id, struct node **ret);
struct node *node_of_file(struct share *s, const struct statx *st);
/* Its descriptor, to be given back with node_release; negative errno. */
int node_use(struct share *s, struct node *n);
void node_release(struct share *s, struct node *n);
int node_rename(struct share *s, struct node *n, struct node *parent, const char *name);
/* The name of the file goes; with `fd` (O_PATH, may be -1, becomes the table's) it stays usable. */
void node_unname(struct share *s, struct node *n, int fd);
unsigned node_depth(const struct node *n);
int share_statx(int fd, const char *name, struct statx *ret);

/* ---- handle.c; without the lock ---- */
int handle_add(struct share *s, int fd, struct node *n, uint32_t flags, bool folder,
               uint64_t *ret_id);
/* One that is open, of this kind; to be given back. NULL: there is none. */
struct handle *handle_get(struct share *s, uint64_t id, bool folder);
void handle_put(struct share *s, struct handle *h);
void handle_release(struct share *s, uint64_t id);
void handle_clear(struct share *s);
/* For a load: the handle of this very number. */
int handle_restore(struct share *s, uint64_t id, int fd, struct node *n, uint32_t flags,
                   bool folder);
uint64_t handle_id(const struct share *s, unsigned i);

#endif

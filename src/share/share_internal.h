/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of a share have in common: the share, and a call while it is served. */
#ifndef SHARE_SHARE_INTERNAL_H
#define SHARE_SHARE_INTERNAL_H

#include <linux/fuse.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/loop.h"
#include "share/share.h"
#include "share/table.h"

enum {
    SHARE_THREADS = 4,
    SHARE_ARGS = 80 << 10,   /* a request without the bytes of a write; an xattr has 64 KiB */
    SHARE_REPLY = 132 << 10, /* an answer without the bytes of a read */
};
#define SHARE_MAX_WRITE ((uint32_t)SHARE_MAX_PAGES * 4096)

struct share {
    struct loop *loop; /* NULL: nobody submits */
    bool readonly;
    struct share_server *server; /* has the tables; NULL: they are here */
    int proc_fd;                 /* /proc/self/fd: opens a node's file by its descriptor */
    uid_t uid;
    gid_t gid;
    bool began; /* INIT was done */
    /* The tables. */
    pthread_mutex_t lock;
    struct node *root, **by_id, **by_file, *oldest, *newest;
    uint64_t next_id;
    size_t nodes, buckets;
    unsigned node_fds, max_node_fds;
    struct handle **handle;
    unsigned handles, handle_room, max_handles;
    /* The threads. */
    pthread_mutex_t queue_lock;
    pthread_cond_t work, idle;
    struct share_request *queue, **queue_end, *complete, **complete_end;
    unsigned threads, waiting, queued, active; /* active: taken, and not yet complete */
    struct loop_lender lender;
    bool stop, quiet; /* quiet: no `done` is called any more */
    pthread_t thread[SHARE_THREADS];
    int event_fd;
    struct loop_watch *watch;
    void (*batch)(void *opaque);
    void *batch_opaque;
};

struct call { /* one request while it is served */
    struct share *s;
    const struct share_request *r;
    struct fuse_in_header h;
    const uint8_t *args; /* what follows the header; of a write, what precedes its bytes */
    size_t args_len;
    uint8_t *reply; /* SHARE_REPLY bytes */
    size_t reply_len;
    size_t direct_len; /* bytes that were put into r->in behind the header by themselves */
};

typedef int share_op(struct call *c); /* 0 or a negative errno */

/* Without the lock: a node with its descriptor in use. */
int call_node(struct call *c, uint64_t id, struct node **ret_node, int *ret_fd);
void call_done(struct call *c, struct node *n);

/* ---- owner.c ---- */
struct owner {
    uint32_t mode, uid, gid;
};
/* Who owns the file for the guest. */
void owner_read(const struct share *s, int fd, const struct statx *st, struct owner *ret);
/* Makes it so. `st` is as it is now. */
int owner_write(const struct share *s, int fd, const struct statx *st, const struct owner *o);
/* What a write, or a change of owner or size, takes away. */
void owner_drop_privileges(const struct share *s, int fd);
/* The owner of what is made in this folder by the caller of a request. */
struct owner owner_of_new(const struct call *c, int folder_fd, uint32_t mode);
bool owner_is_record(const char *xattr);

/* ---- fuse.c ---- */
const void *call_arg(struct call *c, size_t n); /* the next bytes, or NULL */
const char *call_name(struct call *c);          /* a name in a folder; NULL if it is none */
const char *call_text(struct call *c);          /* any string */
void *call_answer(struct call *c, size_t n); /* room in the answer, zeroed; NULL if there is none */
size_t call_room(const struct call *c);      /* bytes that the guest has room for */
/* Opens the file of a descriptor with O_PATH. */
int share_reopen(const struct share *s, int fd, int flags);

/* ---- the operations ---- */
share_op op_lookup, op_getattr, op_setattr, op_readlink, op_statfs; /* attr.c */
share_op op_symlink, op_mknod, op_mkdir, op_create, op_link, op_unlink, op_rmdir, op_rename,
    op_rename2; /* names.c */
share_op op_open, op_read, op_write, op_flush, op_fsync, op_release, op_fallocate, op_lseek,
    op_copy, op_syncfs;                                                      /* file.c */
share_op op_opendir, op_readdir, op_readdirplus, op_releasedir, op_fsyncdir; /* folder.c */
share_op op_setxattr, op_getxattr, op_listxattr, op_removexattr;             /* xattr.c */
void fill_attr(const struct share *s, int fd, const struct statx *st, struct fuse_attr *ret);
/* Looks a name up and counts that for the guest. `ret` may lie anywhere. */
int lookup_entry(struct call *c, struct node *parent, int parent_fd, const char *name,
                 struct fuse_entry_out *ret);
/* Answers with the entry of a file just made, owned as asked for. */
int made_entry(struct call *c, struct node *parent, int parent_fd, const char *name,
               const struct owner *o, struct fuse_entry_out *ret);
int open_handle(struct call *c, struct node *n, int node_fd, uint32_t flags, bool folder,
                struct fuse_open_out *ret);

#endif

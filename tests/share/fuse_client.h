/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A client of FUSE for tests: says to a share what a guest's kernel would, and takes the answers
 * apart. Calls give 0 or the negative errno of the answer. */
#ifndef TESTS_SHARE_FUSE_CLIENT_H
#define TESTS_SHARE_FUSE_CLIENT_H

#include <linux/fuse.h>
#include <sys/uio.h>

#include "share/share.h"

struct fuse_client {
    struct share *share;
    uint32_t uid, gid;
    uint64_t unique;
    uint8_t reply[1 << 20];
    size_t len; /* of the answer behind its header */
};

/* Any request; `room` bytes for the answer behind its header. */
int fuse_ask(struct fuse_client *c, unsigned opcode, uint64_t node, const struct iovec *args,
             unsigned count, size_t room);
int fuse_hello(struct fuse_client *c);
/* A structure (NULL: none), a name (NULL: none). */
int fuse_name(struct fuse_client *c, unsigned opcode, uint64_t node, const void *in, size_t n,
              const char *name);
int fuse_lookup(struct fuse_client *c, uint64_t parent, const char *name,
                struct fuse_entry_out *ret);
/* Along a path below the root, by lookups. The node, or 0. */
uint64_t fuse_walk(struct fuse_client *c, const char *path);
int fuse_attr(struct fuse_client *c, uint64_t node, struct fuse_attr *ret);
int fuse_set(struct fuse_client *c, uint64_t node, const struct fuse_setattr_in *in);
int fuse_create(struct fuse_client *c, uint64_t parent, const char *name, unsigned flags,
                unsigned mode, uint64_t *ret_node, uint64_t *ret_fh);
int fuse_open(struct fuse_client *c, uint64_t node, unsigned flags, uint64_t *ret_fh);
int fuse_write(struct fuse_client *c, uint64_t fh, uint64_t offset, const void *p, size_t n);
int fuse_read(struct fuse_client *c, uint64_t fh, uint64_t offset, size_t n); /* bytes in reply */
int fuse_release(struct fuse_client *c, uint64_t fh);
void fuse_forget(struct fuse_client *c, uint64_t node, uint64_t count);
int fuse_mkdir(struct fuse_client *c, uint64_t parent, const char *name, unsigned mode,
               uint64_t *ret_node);
int fuse_rename(struct fuse_client *c, uint64_t from, const char *name, uint64_t to,
                const char *new_name, unsigned flags);

#endif

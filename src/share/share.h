/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A folder of the host that a guest may use: the server's side of FUSE, as virtiofs carries it.
 *
 * Contract: the main thread with the machine lock held, unless it says otherwise. Requests are
 * served by threads of the share, which read and write the buffers that they were given without the
 * lock; `done` comes from the loop, or from a call of share_drain. Nothing outside of the folder
 * is reachable, whatever the guest asks and whatever links the folder holds. What a guest can make
 * the host keep is bounded: SHARE_MAX_NODES names, and descriptors as the process's limit allows.
 */
#ifndef SHARE_SHARE_H
#define SHARE_SHARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/bytes.h"
#include "base/error.h"

struct loop;
struct share;

enum {
    SHARE_MAX_NODES = 1 << 20,
    SHARE_TAG_MAX = 36, /* bytes of a tag */
    SHARE_MAX_PAGES = 128,
};

struct share_server; /* share/server.h */

struct share_options {
    const char *path;
    bool readonly;
    struct share_server *server; /* NULL: the folder is opened and served by this process */
    int proc_fd;                 /* /proc/self/fd where there is none any more; 0: there is */
};

struct share_request {       /* the caller's until `done` */
    const struct iovec *out; /* from the guest */
    const struct iovec *in;  /* to the guest */
    unsigned out_count, in_count;
    uint64_t out_len, in_len;
    /* `written` bytes of `in` are the answer; 0: there is none. */
    void (*done)(struct share_request *r, uint32_t written);
    struct share_request *next; /* the share's */
    uint32_t written;           /* the share's */
};

/* NULL with a sentence on failure. */
struct share *share_open(struct loop *loop, const struct share_options *options, struct error *err);
void share_close(struct share *s); /* accepts NULL; drains, but calls no `done` any more */

/* `batch` is called after the last `done` of those that ended together. */
void share_set_batch_fn(struct share *s, void (*batch)(void *opaque), void *opaque);
void share_submit(struct share *s, struct share_request *r);
void share_drain(struct share *s); /* waits until every request is done */
void share_reset(struct share *s); /* drains, and forgets all that the guest had open */

/* Serves one request on the calling thread, which needs no lock: what the threads do. */
uint32_t share_serve(struct share *s, const struct share_request *r);

/* What the guest knows and has open, by names; drained. */
void share_save(struct share *s, struct buf *to);
/* Opens the same again. What is not there any more gives the guest errors. */
int share_load(struct share *s, const void *p, size_t n, struct error *err);

#endif

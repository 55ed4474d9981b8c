/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests of FUSE, from bytes to operations and back.
 * Source: linux/fuse.h, protocol 7.38; documentation: Linux, Documentation/filesystems/fuse.rst and
 * virtiofs.rst.
 *
 *   request   in header (40 bytes: length, opcode, unique, node, uid, gid, pid), arguments
 *   answer    out header (16 bytes: length, -errno, unique), results
 *
 * Everything but the bytes of READ and WRITE is copied before it is looked at: the guest may change
 * its memory meanwhile.
 *
 * Departures: locks are not offered, so the guest's kernel keeps them for itself (as other servers
 * of virtiofs have it): they hold among the guest's programs, and the host's know nothing of them.
 * INTERRUPT is heeded by none, no operation here waits for long. There is no DAX window.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/iov.h"
#include "share/server.h"
#include "share/share_internal.h"

enum {
    READS = 0,
    WRITES = 1,
    SILENT = 2,
    EARLY = 4
};                       /* refused if read-only; no answer; before INIT */
enum { MINOR_MIN = 27 }; /* Linux 4.18; virtiofs came with 5.4 (7.31) */

const void *call_arg(struct call *c, size_t n) {
    const uint8_t *p = c->args;

    if (n > c->args_len)
        return NULL;
    c->args += n;
    c->args_len -= n;
    return p;
}

const char *call_text(struct call *c) {
    size_t n = strnlen((const char *)c->args, c->args_len);

    return n < c->args_len ? call_arg(c, n + 1) : NULL;
}

/* One step down, never up or aside. */
const char *call_name(struct call *c) {
    const char *s = call_text(c);

    if (!s || !*s || strlen(s) > NAME_MAX || strchr(s, '/') || !strcmp(s, ".") || !strcmp(s, ".."))
        return NULL;
    return s;
}

size_t call_room(const struct call *c) {
    size_t head = sizeof(struct fuse_out_header);

    return c->r->in_len > head ? c->r->in_len - head : 0;
}

void *call_answer(struct call *c, size_t n) {
    size_t room = call_room(c) < SHARE_REPLY ? call_room(c) : SHARE_REPLY;
    uint8_t *p = c->reply + c->reply_len;

    if (n > room - c->reply_len)
        return NULL;
    c->reply_len += n;
    return memset(p, 0, n);
}

int share_reopen(const struct share *s, int fd, int flags) {
    char name[16];
    int r;

    snprintf(name, sizeof(name), "%d", fd);
    r = openat(s->proc_fd, name, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    return r < 0 ? -errno : r;
}

/* ---- the session ---- */

static int op_init(struct call *c) {
    const struct fuse_init_in *in = call_arg(c, offsetof(struct fuse_init_in, flags2));
    struct fuse_init_out *out = call_answer(c, sizeof(*out));
    uint32_t want = FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES | FUSE_AUTO_INVAL_DATA |
                    FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO |
                    FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES | FUSE_HANDLE_KILLPRIV_V2;

    if (!in || !out)
        return -EINVAL;
    out->major = FUSE_KERNEL_VERSION;
    out->minor = FUSE_KERNEL_MINOR_VERSION;
    if (in->major > FUSE_KERNEL_VERSION)
        return 0; /* the guest asks again in ours */
    if (in->major < FUSE_KERNEL_VERSION || in->minor < MINOR_MIN)
        return -EPROTO;
    out->max_readahead = in->max_readahead;
    out->flags = in->flags & want;
    out->max_background = 64;
    out->congestion_threshold = 48;
    out->max_write = SHARE_MAX_WRITE;
    out->max_pages = SHARE_MAX_PAGES;
    out->time_gran = 1;
    pthread_mutex_lock(&c->s->lock);
    c->s->began = true;
    pthread_mutex_unlock(&c->s->lock);
    return 0;
}

static int op_destroy(struct call *c) {
    pthread_mutex_lock(&c->s->lock);
    c->s->began = false;
    pthread_mutex_unlock(&c->s->lock);
    return 0;
}

static int op_forget(struct call *c) {
    const struct fuse_forget_in *in = call_arg(c, sizeof(*in));

    if (!in)
        return -EINVAL;
    pthread_mutex_lock(&c->s->lock);
    node_forget(c->s, c->h.nodeid, in->nlookup);
    pthread_mutex_unlock(&c->s->lock);
    return 0;
}

static int op_batch_forget(struct call *c) {
    const struct fuse_batch_forget_in *in = call_arg(c, sizeof(*in));
    const struct fuse_forget_one *one;

    if (!in)
        return -EINVAL;
    pthread_mutex_lock(&c->s->lock);
    for (uint32_t i = 0; i < in->count && (one = call_arg(c, sizeof(*one))); i++)
        node_forget(c->s, one->nodeid, one->nlookup);
    pthread_mutex_unlock(&c->s->lock);
    return 0;
}

static int op_interrupt(struct call *c) { return 0; }

/* ---- the table ---- */

static const struct {
    share_op *op;
    unsigned how;
} ops[] = {
    [FUSE_LOOKUP] = {op_lookup, READS},
    [FUSE_FORGET] = {op_forget, SILENT},
    [FUSE_GETATTR] = {op_getattr, READS},
    [FUSE_SETATTR] = {op_setattr, WRITES},
    [FUSE_READLINK] = {op_readlink, READS},
    [FUSE_SYMLINK] = {op_symlink, WRITES},
    [FUSE_MKNOD] = {op_mknod, WRITES},
    [FUSE_MKDIR] = {op_mkdir, WRITES},
    [FUSE_UNLINK] = {op_unlink, WRITES},
    [FUSE_RMDIR] = {op_rmdir, WRITES},
    [FUSE_RENAME] = {op_rename, WRITES},
    [FUSE_LINK] = {op_link, WRITES},
    [FUSE_OPEN] = {op_open, READS},
    [FUSE_READ] = {op_read, READS},
    [FUSE_WRITE] = {op_write, WRITES},
    [FUSE_STATFS] = {op_statfs, READS},
    [FUSE_RELEASE] = {op_release, READS},
    [FUSE_FSYNC] = {op_fsync, READS},
    [FUSE_SETXATTR] = {op_setxattr, WRITES},
    [FUSE_GETXATTR] = {op_getxattr, READS},
    [FUSE_LISTXATTR] = {op_listxattr, READS},
    [FUSE_REMOVEXATTR] = {op_removexattr, WRITES},
    [FUSE_FLUSH] = {op_flush, READS},
    [FUSE_INIT] = {op_init, EARLY},
    [FUSE_OPENDIR] = {op_opendir, READS},
    [FUSE_READDIR] = {op_readdir, READS},
    [FUSE_RELEASEDIR] = {op_releasedir, READS},
    [FUSE_FSYNCDIR] = {op_fsyncdir, READS},
    [FUSE_CREATE] = {op_create, WRITES},
    [FUSE_INTERRUPT] = {op_interrupt, SILENT},
    [FUSE_DESTROY] = {op_destroy, READS},
    [FUSE_BATCH_FORGET] = {op_batch_forget, SILENT},
    [FUSE_FALLOCATE] = {op_fallocate, WRITES},
    [FUSE_READDIRPLUS] = {op_readdirplus, READS},
    [FUSE_RENAME2] = {op_rename2, WRITES},
    [FUSE_LSEEK] = {op_lseek, READS},
    [FUSE_COPY_FILE_RANGE] = {op_copy, WRITES},
    [FUSE_SYNCFS] = {op_syncfs, READS},
};
enum { OPS = sizeof(ops) / sizeof(ops[0]) };

static int run(struct call *c) {
    const unsigned how = c->h.opcode < OPS ? ops[c->h.opcode].how : 0;
    bool began;

    if (c->h.opcode >= OPS || !ops[c->h.opcode].op)
        return -ENOSYS;
    pthread_mutex_lock(&c->s->lock);
    began = c->s->began;
    pthread_mutex_unlock(&c->s->lock);
    if (!began && !(how & EARLY))
        return -EIO;
    if ((how & WRITES) && c->s->readonly)
        return -EROFS;
    return ops[c->h.opcode].op(c);
}

static uint32_t answer(struct call *c, int result) {
    struct fuse_out_header h = {.error = result, .unique = c->h.unique};
    const struct share_request *r = c->r;

    if (r->in_len < sizeof(h) || (c->h.opcode < OPS && ops[c->h.opcode].how & SILENT))
        return 0;
    if (result < 0)
        c->reply_len = c->direct_len = 0;
    h.len = (uint32_t)(sizeof(h) + c->reply_len + c->direct_len);
    iov_write(r->in, r->in_count, 0, &h, sizeof(h));
    iov_write(r->in, r->in_count, sizeof(h), c->reply, c->reply_len);
    return h.len;
}

uint32_t share_serve(struct share *s, const struct share_request *r) {
    struct call c = {.s = s, .r = r};
    uint8_t *args;
    int result = -EIO;
    size_t want;
    uint32_t n;

    if (s->server)
        return share_server_serve(s->server, r);
    if (iov_read(r->out, r->out_count, 0, &c.h, sizeof(c.h)) < sizeof(c.h))
        return 0;
    want = r->out_len - sizeof(c.h);
    if (c.h.opcode == FUSE_WRITE && want > sizeof(struct fuse_write_in))
        want = sizeof(struct fuse_write_in);
    args = want <= SHARE_ARGS ? malloc(SHARE_ARGS + SHARE_REPLY) : NULL;
    if (args) {
        c.args = args;
        c.args_len = iov_read(r->out, r->out_count, sizeof(c.h), args, want);
        c.reply = args + SHARE_ARGS;
        result = run(&c);
    }
    n = answer(&c, result);
    free(args);
    return n;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A client of FUSE for tests. */
#include "share/fuse_client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PARTS = 6 };

/* The request lies in two buffers and the answer in three, cut where no structure ends. */
int fuse_ask(struct fuse_client *c, unsigned opcode, uint64_t node, const struct iovec *args,
             unsigned count, size_t room) {
    struct fuse_in_header h = {
        .opcode = opcode, .unique = ++c->unique, .nodeid = node, .uid = c->uid, .gid = c->gid};
    struct fuse_out_header answer;
    struct iovec out[PARTS] = {{&h, sizeof(h)}};
    uint8_t *in = calloc(1, sizeof(answer) + room);
    struct iovec to[3] = {{in, 5}, {in + 5, 11}, {in + 16, room}};
    struct share_request r = {.out = out,
                              .out_count = 1 + count,
                              .in = to,
                              .in_count = room ? 3 : 2,
                              .in_len = 16 + room};
    uint32_t n;

    if (!in || count >= PARTS)
        abort();
    for (unsigned i = 0; i < count; i++)
        out[i + 1] = args[i];
    for (unsigned i = 0; i <= count; i++)
        r.out_len += out[i].iov_len;
    h.len = (uint32_t)r.out_len;
    n = share_serve(c->share, &r);
    memcpy(&answer, in, sizeof(answer));
    c->len = 0;
    if (!n) {
        free(in);
        return 0;
    }
    if (n < 16 || n > r.in_len || answer.len != n || answer.unique != c->unique ||
        (answer.error && n != 16))
        abort();
    c->len = n - 16 < sizeof(c->reply) ? n - 16 : sizeof(c->reply);
    memcpy(c->reply, in + 16, c->len);
    free(in);
    return answer.error;
}

int fuse_hello(struct fuse_client *c) {
    struct fuse_init_in in = {.major = 7, .minor = 36, .max_readahead = 1 << 17, .flags = ~0u};
    struct iovec v = {&in, sizeof(in)};

    return fuse_ask(c, FUSE_INIT, 0, &v, 1, sizeof(struct fuse_init_out));
}

int fuse_name(struct fuse_client *c, unsigned opcode, uint64_t node, const void *in, size_t n,
              const char *name) {
    struct iovec v[2];
    unsigned count = 0;

    if (in)
        v[count++] = (struct iovec){(void *)in, n};
    if (name)
        v[count++] = (struct iovec){(void *)name, strlen(name) + 1};
    return fuse_ask(c, opcode, node, v, count, 4096);
}

int fuse_lookup(struct fuse_client *c, uint64_t parent, const char *name,
                struct fuse_entry_out *ret) {
    int r = fuse_name(c, FUSE_LOOKUP, parent, NULL, 0, name);

    if (r == 0 && ret)
        memcpy(ret, c->reply, sizeof(*ret));
    return r;
}

uint64_t fuse_walk(struct fuse_client *c, const char *path) {
    char *copy = strdup(path), *save = NULL;
    struct fuse_entry_out e = {.nodeid = FUSE_ROOT_ID};

    for (char *s = strtok_r(copy, "/", &save); s && e.nodeid; s = strtok_r(NULL, "/", &save))
        if (fuse_lookup(c, e.nodeid, s, &e) < 0)
            e.nodeid = 0;
    free(copy);
    return e.nodeid;
}

int fuse_attr(struct fuse_client *c, uint64_t node, struct fuse_attr *ret) {
    struct fuse_getattr_in in = {0};
    int r = fuse_name(c, FUSE_GETATTR, node, &in, sizeof(in), NULL);

    if (r == 0)
        memcpy(ret, c->reply + offsetof(struct fuse_attr_out, attr), sizeof(*ret));
    return r;
}

int fuse_set(struct fuse_client *c, uint64_t node, const struct fuse_setattr_in *in) {
    return fuse_name(c, FUSE_SETATTR, node, in, sizeof(*in), NULL);
}

int fuse_create(struct fuse_client *c, uint64_t parent, const char *name, unsigned flags,
                unsigned mode, uint64_t *ret_node, uint64_t *ret_fh) {
    struct fuse_create_in in = {.flags = flags, .mode = mode};
    int r = fuse_name(c, FUSE_CREATE, parent, &in, sizeof(in), name);

    if (r == 0 && ret_node)
        *ret_node = ((struct fuse_entry_out *)c->reply)->nodeid;
    if (r == 0 && ret_fh)
        *ret_fh = ((struct fuse_open_out *)(c->reply + sizeof(struct fuse_entry_out)))->fh;
    return r;
}

int fuse_open(struct fuse_client *c, uint64_t node, unsigned flags, uint64_t *ret_fh) {
    struct fuse_open_in in = {.flags = flags};
    int r = fuse_name(c, FUSE_OPEN, node, &in, sizeof(in), NULL);

    if (r == 0 && ret_fh)
        *ret_fh = ((struct fuse_open_out *)c->reply)->fh;
    return r;
}

int fuse_write(struct fuse_client *c, uint64_t fh, uint64_t offset, const void *p, size_t n) {
    struct fuse_write_in in = {.fh = fh, .offset = offset, .size = (uint32_t)n};
    struct iovec v[] = {{&in, sizeof(in)}, {(void *)p, n}};
    int r = fuse_ask(c, FUSE_WRITE, 0, v, 2, sizeof(struct fuse_write_out));

    return r < 0 ? r : (int)((struct fuse_write_out *)c->reply)->size;
}

int fuse_read(struct fuse_client *c, uint64_t fh, uint64_t offset, size_t n) {
    struct fuse_read_in in = {.fh = fh, .offset = offset, .size = (uint32_t)n};
    struct iovec v = {&in, sizeof(in)};
    int r = fuse_ask(c, FUSE_READ, 0, &v, 1, n);

    return r < 0 ? r : (int)c->len;
}

int fuse_release(struct fuse_client *c, uint64_t fh) {
    struct fuse_release_in in = {.fh = fh};

    return fuse_name(c, FUSE_RELEASE, 0, &in, sizeof(in), NULL);
}

void fuse_forget(struct fuse_client *c, uint64_t node, uint64_t count) {
    struct fuse_forget_in in = {.nlookup = count};

    fuse_name(c, FUSE_FORGET, node, &in, sizeof(in), NULL);
}

int fuse_mkdir(struct fuse_client *c, uint64_t parent, const char *name, unsigned mode,
               uint64_t *ret_node) {
    struct fuse_mkdir_in in = {.mode = mode};
    int r = fuse_name(c, FUSE_MKDIR, parent, &in, sizeof(in), name);

    if (r == 0 && ret_node)
        *ret_node = ((struct fuse_entry_out *)c->reply)->nodeid;
    return r;
}

int fuse_rename(struct fuse_client *c, uint64_t from, const char *name, uint64_t to,
                const char *new_name, unsigned flags) {
    struct fuse_rename2_in in = {.newdir = to, .flags = flags};
    struct iovec v[] = {{&in, sizeof(in)},
                        {(void *)name, strlen(name) + 1},
                        {(void *)new_name, strlen(new_name) + 1}};

    return fuse_ask(c, FUSE_RENAME2, from, v, 3, 0);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extended attributes: those of users, of files and folders. What means something to the host's
 * kernel (security, trusted, access lists) is not the guest's, nor are our records of owners.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "share/share_internal.h"

enum { VALUE_MAX = 64 << 10, LIST_MAX = 64 << 10 };

static bool is_users(const char *name) {
    return name && !strncmp(name, "user.", 5) && name[5] && strlen(name) <= 255 &&
           !owner_is_record(name);
}

/* A descriptor through which attributes of the call's node are reached. */
static int open_file(struct call *c) {
    struct node *n;
    int fd, r = call_node(c, c->h.nodeid, &n, &fd);

    if (r < 0)
        return r;
    r = S_ISREG(n->type) || S_ISDIR(n->type) ? share_reopen(c->s, fd, O_RDONLY) : -EOPNOTSUPP;
    call_done(c, n);
    return r;
}

int op_setxattr(struct call *c) {
    const struct fuse_setxattr_in *in = call_arg(c, FUSE_COMPAT_SETXATTR_IN_SIZE);
    const char *name = in ? call_text(c) : NULL;
    const void *value = name ? call_arg(c, in->size) : NULL;
    int fd, r;

    if (!name || !value || in->size > VALUE_MAX)
        return -EINVAL;
    if (!is_users(name))
        return owner_is_record(name) ? -EPERM : -EOPNOTSUPP;
    fd = open_file(c);
    if (fd < 0)
        return fd;
    r = fsetxattr(fd, name, value, in->size, (int)in->flags) < 0 ? -errno : 0;
    close(fd);
    return r;
}

int op_removexattr(struct call *c) {
    const char *name = call_text(c);
    int fd, r;

    if (!name)
        return -EINVAL;
    if (!is_users(name))
        return owner_is_record(name) ? -ENODATA : -EOPNOTSUPP;
    fd = open_file(c);
    if (fd < 0)
        return fd;
    r = fremovexattr(fd, name) < 0 ? -errno : 0;
    close(fd);
    return r;
}

/* The guest asks with size 0 how much there is, and then for all of it. */
static int answer_bytes(struct call *c, uint32_t size, const void *p, size_t n) {
    void *to;

    if (!size) {
        struct fuse_getxattr_out *out = call_answer(c, sizeof(*out));

        if (!out)
            return -EINVAL;
        out->size = (uint32_t)n;
        return 0;
    }
    to = n <= size ? call_answer(c, n) : NULL;
    if (!to)
        return -ERANGE;
    memcpy(to, p, n);
    return 0;
}

int op_getxattr(struct call *c) {
    const struct fuse_getxattr_in *in = call_arg(c, sizeof(*in));
    const char *name = in ? call_text(c) : NULL;
    uint8_t *value;
    ssize_t n;
    int fd, r;

    if (!name)
        return -EINVAL;
    if (!is_users(name))
        return owner_is_record(name) ? -ENODATA : -EOPNOTSUPP;
    fd = open_file(c);
    if (fd < 0)
        return fd;
    value = malloc(VALUE_MAX);
    n = value ? fgetxattr(fd, name, value, VALUE_MAX) : -1;
    r = n < 0 ? (value ? -errno : -ENOMEM) : answer_bytes(c, in->size, value, (size_t)n);
    free(value);
    close(fd);
    return r;
}

/* Leaves in the list what the guest may know of. */
static size_t filter(char *list, size_t n) {
    size_t to = 0;

    for (size_t at = 0; at < n;) {
        size_t len = strnlen(list + at, n - at) + 1;

        if (at + len <= n && is_users(list + at)) {
            memmove(list + to, list + at, len);
            to += len;
        }
        at += len;
    }
    return to;
}

int op_listxattr(struct call *c) {
    const struct fuse_getxattr_in *in = call_arg(c, sizeof(*in));
    char *list;
    ssize_t n;
    int fd, r;

    if (!in)
        return -EINVAL;
    fd = open_file(c);
    if (fd < 0)
        return fd == -EOPNOTSUPP ? answer_bytes(c, in->size, "", 0) : fd;
    list = malloc(LIST_MAX);
    n = list ? flistxattr(fd, list, LIST_MAX) : -1;
    r = n < 0 ? (list ? -errno : -ENOMEM)
              : answer_bytes(c, in->size, list, filter(list, (size_t)n));
    free(list);
    close(fd);
    return r;
}

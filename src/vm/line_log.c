/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The newest that was said on a line, in two files that are open all the time: when one is full it
 * is copied over the other one and begun anew. Nothing is renamed, so that a process without a
 * right to its folder can go on.
 *
 * Calls (main, vcpu): pread64 pwrite64 ftruncate
 */
#include "vm/line_log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

enum { KEPT = 4096 };

struct line_log {
    int now, old;
    off_t size; /* of `now` */
    size_t used;
    bool warned;
    uint8_t kept[KEPT];
};

static void failed(struct line_log *l, int code) {
    if (!l->warned)
        log_warning("the log of the serial line cannot be written: %s (the machine runs on)",
                    strerror(code));
    l->warned = true;
}

static int copy(const struct line_log *l) {
    char bytes[16 * 1024];
    off_t at = 0;

    if (ftruncate(l->old, 0) < 0)
        return -errno;
    for (;;) {
        ssize_t n = pread(l->now, bytes, sizeof(bytes), at);

        if (n <= 0)
            return n < 0 ? -errno : 0;
        if (pwrite(l->old, bytes, (size_t)n, at) != n)
            return errno ? -errno : -ENOSPC;
        at += n;
    }
}

/* Room for the next bytes, whatever becomes of the old ones. */
static void turn_over(struct line_log *l) {
    int r;

    errno = 0;
    r = copy(l);
    if (r < 0)
        failed(l, -r);
    if (ftruncate(l->now, 0) < 0)
        failed(l, errno);
    l->size = 0;
}

void line_log_flush(struct line_log *l) {
    ssize_t n;

    if (!l->used)
        return;
    if (l->size + (off_t)l->used > LINE_LOG_HALF)
        turn_over(l);
    errno = 0;
    n = pwrite(l->now, l->kept, l->used, l->size);
    if (n > 0)
        l->size += n;
    if (n != (ssize_t)l->used)
        failed(l, errno ? errno : ENOSPC);
    l->used = 0;
}

bool line_log_put(struct line_log *l, const uint8_t *p, size_t n) {
    bool first = !l->used && n;

    while (n) {
        size_t part = KEPT - l->used < n ? KEPT - l->used : n;

        memcpy(l->kept + l->used, p, part);
        l->used += part;
        p += part;
        n -= part;
        if (l->used == KEPT)
            line_log_flush(l);
    }
    return first && l->used;
}

static int open_one(const char *path, struct error *err) {
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
    struct stat st;

    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        return fd;
    error_set(err, fd < 0 ? -errno : -EINVAL, "--serial-log: '%s' cannot be written: %s", path,
              fd < 0 ? strerror(errno) : "it is no regular file");
    if (fd >= 0)
        close(fd);
    return -1;
}

struct line_log *line_log_open(const char *path, struct error *err) {
    struct line_log *l = calloc(1, sizeof(*l));
    char old[PATH_MAX];

    if (!l || snprintf(old, sizeof(old), "%s.old", path) >= (int)sizeof(old)) {
        free(l);
        error_set(err, -ENAMETOOLONG, "--serial-log: '%.100s...' is too long", path);
        return NULL;
    }
    l->now = open_one(path, err);
    l->old = l->now < 0 ? -1 : open_one(old, err);
    l->size = l->old < 0 ? 0 : lseek(l->now, 0, SEEK_END);
    if (l->old >= 0 && l->size >= 0)
        return l;
    line_log_close(l);
    return NULL;
}

void line_log_close(struct line_log *l) {
    if (!l)
        return;
    line_log_flush(l);
    if (l->now >= 0)
        close(l->now);
    if (l->old >= 0)
        close(l->old);
    free(l);
}

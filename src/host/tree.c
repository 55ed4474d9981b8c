/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Removing, measuring and copying, by descriptors of folders so that nobody can exchange a part of
 * a path meanwhile. */
#include "host/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEEPEST = 16, STEP = 4 << 20 };

static bool is_dots(const char *name) { return !strcmp(name, ".") || !strcmp(name, ".."); }

static int remove_at(int parent, const char *name, unsigned depth) {
    int fd, r = 0;
    struct dirent *e;
    DIR *d;

    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -errno;
    if (depth == DEEPEST)
        return -ELOOP;
    fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        r = -errno;
        if (fd >= 0)
            close(fd);
        return r;
    }
    while (r == 0 && (e = readdir(d)))
        if (!is_dots(e->d_name))
            r = remove_at(dirfd(d), e->d_name, depth + 1);
    closedir(d);
    if (r == 0 && unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        r = -errno;
    return r;
}

int tree_remove(int parent, const char *name, struct error *err) {
    int r = remove_at(parent, name, 0);

    return r < 0 ? error_set(err, r, "the folder '%s' cannot be removed: %s", name, strerror(-r))
                 : 0;
}

int64_t tree_used(int parent, const char *name) {
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    int64_t used = 0;
    struct dirent *e;
    struct stat st;

    while (d && (e = readdir(d)))
        if (!is_dots(e->d_name) && fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            used += (int64_t)st.st_blocks * 512;
    if (d)
        closedir(d);
    else if (fd >= 0)
        close(fd);
    return used;
}

/* One run of data. */
static int copy_run(int in, int out, off_t at, off_t end, char *room, int64_t *done,
                    const int *stop) {
    while (at < end) {
        size_t want = end - at < STEP ? (size_t)(end - at) : STEP;
        ssize_t n = pread(in, room, want, at), put = 0;

        if (__atomic_load_n(stop, __ATOMIC_RELAXED))
            return -ECANCELED;
        if (n <= 0)
            return n < 0 ? -errno : -EIO; /* it became shorter */
        while (put < n) {
            ssize_t w = pwrite(out, room + put, (size_t)(n - put), at + put);

            if (w < 0)
                return -errno;
            put += w;
        }
        at += n;
        __atomic_store_n(done, at, __ATOMIC_RELAXED);
    }
    return 0;
}

static int copy_data(int in, int out, int64_t *done, const int *stop) {
    char *room = malloc(STEP);
    struct stat st;
    off_t at = 0;
    int r = room && fstat(in, &st) == 0 ? 0 : -ENOMEM;

    if (r == 0 && ftruncate(out, st.st_size) < 0)
        r = -errno;
    while (r == 0 && at < st.st_size) {
        off_t data = lseek(in, at, SEEK_DATA), hole;

        if (data < 0) {
            r = errno == ENXIO ? 0 : -errno; /* ENXIO: only a hole is left */
            break;
        }
        hole = lseek(in, data, SEEK_HOLE);
        r = copy_run(in, out, data, hole < 0 ? st.st_size : hole, room, done, stop);
        at = hole < 0 ? st.st_size : hole;
    }
    free(room);
    return r;
}

int tree_copy(const char *from, int parent, const char *to, int64_t *done, const int *stop,
              struct error *err) {
    int in = open(from, O_RDONLY | O_CLOEXEC), out = -1, r = 0;

    if (in < 0)
        return error_set(err, -errno, "the file '%s' cannot be read: %s", from, strerror(errno));
    out = openat(parent, to, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (out < 0)
        r = -errno;
    /* Where the file system can share the blocks, nothing is copied. */
    if (r == 0 && ioctl(out, FICLONE, in) < 0)
        r = copy_data(in, out, done, stop);
    if (r == 0 && fsync(out) < 0)
        r = -errno;
    close(in);
    if (out >= 0)
        close(out);
    return r < 0 ? error_set(err, r, "'%s' cannot be copied: %s", from, strerror(-r)) : 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lock of an image file: open file description locks on the bytes that QEMU uses.
 * Observed: a QEMU 7.2 that writes a raw image holds read locks on bytes 100, 101 and 201; one that
 * only reads holds 100 and 201.
 *
 *   byte 100 + n   somebody uses permission n    (0 consistent read, 1 write)
 *   byte 200 + n   somebody refuses n to others
 *
 * All are read locks, so that they never conflict by themselves; conflicts are found by asking
 * whether a write lock on the opposite byte would be refused.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/block_internal.h"

/*
 * Calls (main, job): openat getdents64 newfstatat fcntl:F_OFD_SETLK fcntl:F_OFD_GETLK
 */

enum { USED = 100, REFUSED = 200, PERM_READ = 0, PERM_WRITE = 1 };

static int hold(int fd, off_t byte) {
    struct flock l = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    return fcntl(fd, F_OFD_SETLK, &l) < 0 ? -errno : 0;
}

static int release(int fd, off_t byte, off_t count) {
    struct flock l = {.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = count};

    return fcntl(fd, F_OFD_SETLK, &l) < 0 ? -errno : 0;
}

int unlock_image(int fd) { return release(fd, USED, REFUSED + PERM_WRITE + 1 - USED); }

void unlock_image_writer(int fd) { release(fd, USED + PERM_WRITE, 1); }

/* 1 if another open of the file holds the byte, 0 if none does, negative errno. */
static int held_by_other(int fd, off_t byte) {
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    if (fcntl(fd, F_OFD_GETLK, &l) < 0)
        return -errno;
    return l.l_type != F_UNLCK;
}

static bool has_open(const char *pid, const struct stat *image) {
    char path[300];
    struct dirent *e;
    struct stat st;
    bool found = false;
    DIR *d;

    snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
    d = opendir(path);
    while (d && !found && (e = readdir(d)))
        found = e->d_name[0] != '.' && fstatat(dirfd(d), e->d_name, &st, 0) == 0 &&
                st.st_dev == image->st_dev && st.st_ino == image->st_ino;
    if (d)
        closedir(d);
    return found;
}

/* Who else has the file open, as far as /proc shows it to us; the kernel does not tell for this
 * kind of lock. */
static void describe_holder(int fd, char *ret, size_t size) {
    char path[64], name[64] = "";
    struct dirent *e;
    struct stat image;
    DIR *d = opendir("/proc");
    FILE *f;

    snprintf(ret, size, "another machine or program");
    if (fstat(fd, &image) < 0)
        memset(&image, 0, sizeof(image));
    while (d && (e = readdir(d))) {
        if (e->d_name[0] < '1' || e->d_name[0] > '9' || atoi(e->d_name) == getpid() ||
            !has_open(e->d_name, &image))
            continue;
        snprintf(path, sizeof(path), "/proc/%.20s/comm", e->d_name);
        if ((f = fopen(path, "r"))) {
            if (fgets(name, sizeof(name), f))
                name[strcspn(name, "\n")] = 0;
            fclose(f);
        }
        snprintf(ret, size, "process %.20s (%s)", e->d_name, name);
        break;
    }
    if (d)
        closedir(d);
}

static int in_use(int fd, const char *path, bool readonly, struct error *err) {
    char holder[128];

    describe_holder(fd, holder, sizeof(holder));
    return error_set(err, -EBUSY,
                     "disk image '%s' is in use by %s: stop that one first, or give this machine a "
                     "copy of the image%s",
                     path, holder, readonly ? "" : " (two that only read may share it)");
}

int lock_image(int fd, const char *path, bool readonly, struct error *err) {
    int r = hold(fd, USED + PERM_READ);

    if (r == 0 && !readonly)
        r = hold(fd, USED + PERM_WRITE);
    if (r == 0)
        r = hold(fd, REFUSED + PERM_WRITE);
    /* Own bytes first, then the question: of two that start together at least one sees the other.
     */
    if (r == 0)
        r = held_by_other(fd, REFUSED + PERM_READ);
    if (r == 0 && !readonly)
        r = held_by_other(fd, REFUSED + PERM_WRITE);
    if (r == 0)
        r = held_by_other(fd, USED + PERM_WRITE);
    if (r == 0)
        return 0;
    /* Other tools that lock the whole file exclusively make the holding itself fail. */
    if (r == 1 || r == -EAGAIN || r == -EACCES)
        return in_use(fd, path, readonly, err);
    return error_set(err, r,
                     "disk image '%s' cannot be locked: %s; put it on a filesystem with file locks",
                     path, strerror(-r));
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Quiet disks for a snapshot: {"do": "freeze", "seconds": n}. The file systems on disks are written
 * out and accept no write until the connection ends, but at most for n seconds (default 30): a host
 * that is gone never leaves a frozen guest. A guest that is restored from a snapshot made meanwhile
 * loses the connection, and thaws.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <mntent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/agent.h"

enum { MOUNTS_MAX = 256, DEFAULT_SECONDS = 30, SECONDS_MAX = 600 };

struct frozen {
    int fd[MOUNTS_MAX]; /* descriptors of the mount points */
    dev_t dev[MOUNTS_MAX];
    unsigned count;
};

static bool seen(const struct frozen *f, dev_t dev) {
    for (unsigned i = 0; i < f->count; i++)
        if (f->dev[i] == dev)
            return true;
    return false;
}

/* One that is frozen already belongs to somebody else, one that cannot be frozen is none of ours.
 */
static int freeze_one(struct frozen *f, const struct mntent *m, struct error *err) {
    int fd = open(m->mnt_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), code;
    struct stat st;

    if (fd < 0)
        return 0; /* mounted over, or just gone */
    if (fstat(fd, &st) == 0 && !seen(f, st.st_dev)) {
        if (ioctl(fd, FIFREEZE, 0) == 0) {
            f->fd[f->count] = fd;
            f->dev[f->count++] = st.st_dev;
            return 0;
        }
        if (errno != EOPNOTSUPP && errno != ENOTTY && errno != EBUSY && errno != EINVAL) {
            code = errno;
            close(fd);
            return error_set(err, -code, "the file system on '%s' cannot be frozen: %s", m->mnt_dir,
                             strerror(code));
        }
    }
    close(fd);
    return 0;
}

/* The last mounted first: what lies on another file system is quiet before that is. */
static int freeze_all(struct frozen *f, struct error *err) {
    struct mntent m[MOUNTS_MAX];
    FILE *table = setmntent("/proc/self/mounts", "re");
    const struct mntent *one;
    unsigned n = 0;
    int r = 0;

    if (!table)
        return error_set(err, -errno, "the guest's mounts cannot be read: %s", strerror(errno));
    while (n < MOUNTS_MAX && (one = getmntent(table)))
        if (one->mnt_fsname[0] == '/' && !hasmntopt(one, "ro")) {
            m[n].mnt_dir = strdup(one->mnt_dir);
            n += m[n].mnt_dir != NULL;
        }
    endmntent(table);
    for (unsigned i = n; i > 0; i--) {
        if (r == 0)
            r = freeze_one(f, &m[i - 1], err);
        free(m[i - 1].mnt_dir);
    }
    return r;
}

static void thaw_all(struct frozen *f) {
    while (f->count) {
        ioctl(f->fd[--f->count], FITHAW, 0);
        close(f->fd[f->count]);
    }
}

static int64_t now_ms(void) {
    struct timespec ts;

    clock_gettime(CLOCK_BOOTTIME, &ts);
    return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Anything that the host says ends it as well. */
static void wait_for_end(int fd, int64_t seconds) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int64_t end = now_ms() + seconds * 1000;

    while (now_ms() < end && poll(&p, 1, (int)(end - now_ms())) < 0 && errno == EINTR)
        ;
}

int agent_freeze(struct agent_call *call, struct error *err) {
    struct frozen f = {.count = 0};
    int64_t seconds;
    int r = agent_number(call, "seconds", 1, SECONDS_MAX, DEFAULT_SECONDS, &seconds, err);

    if (r < 0)
        return r;
    sync(); /* most of the work, while writes are still possible */
    r = freeze_all(&f, err);
    if (r == 0)
        r = agent_answer(call, json_pack("{s:i}", "frozen", (int)f.count), err);
    if (r == 0)
        wait_for_end(call->fd, seconds);
    thaw_all(&f);
    return r < 0 ? r : agent_answer(call, json_pack("{s:b}", "thawed", 1), err);
}

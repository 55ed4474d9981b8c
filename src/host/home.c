/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Making and holding the folders of a manager. */
#include "host/home.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int cannot(const char *path, struct error *err) {
    return error_set(err, -errno, "the folder '%s' cannot be used: %s; set VIV_HOME to another one",
                     path, strerror(errno));
}

static int make_path(const char *path, struct error *err) {
    char part[PATH_MAX];
    struct stat st;

    for (const char *p = path + 1;; p++) {
        if (*p && *p != '/')
            continue;
        snprintf(part, sizeof(part), "%.*s", (int)(p - path), path);
        if (mkdir(part, 0700) < 0 && errno != EEXIST)
            return cannot(part, err);
        if (!*p)
            break;
    }
    if (stat(path, &st) < 0)
        return cannot(path, err);
    if (!S_ISDIR(st.st_mode))
        return error_set(err, -ENOTDIR, "'%s' is no folder; set VIV_HOME to another one", path);
    if (st.st_uid != geteuid())
        return error_set(err, -EPERM,
                         "the folder '%s' belongs to another user: set VIV_HOME to one of yours",
                         path);
    return 0;
}

/* ret NULL: it is only made. */
static int open_folder(const char *data, const char *name, int *ret, struct error *err) {
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%.4000s/%s", data, name);
    if (make_path(path, err) < 0)
        return -EINVAL;
    if (!ret)
        return 0;
    *ret = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *ret < 0 ? cannot(path, err) : 0;
}

/*
 * The lock goes with the process, whatever ends it. A record lock, because children do not inherit
 * it: one that was just started and has not become viv-vm yet must not keep the next manager out.
 */
static int take_lock(struct home *h, struct error *err) {
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char path[PATH_MAX], pid[24];

    snprintf(path, sizeof(path), "%.4000s/lock", h->place.data);
    h->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (h->lock < 0)
        return cannot(path, err);
    if (fcntl(h->lock, F_SETLK, &l) < 0) {
        if (errno != EAGAIN && errno != EACCES)
            return cannot(path, err);
        if (fcntl(h->lock, F_GETLK, &l) < 0 || l.l_type == F_UNLCK)
            l.l_pid = 0; /* it has just ended */
        return error_set(err, -EBUSY,
                         "another manager, process %d, looks after the folder '%s': use that one "
                         "(viv does so by itself), or set VIV_HOME to another folder",
                         (int)l.l_pid, h->place.data);
    }
    snprintf(pid, sizeof(pid), "%d\n", getpid());
    if (ftruncate(h->lock, 0) < 0 || pwrite(h->lock, pid, strlen(pid), 0) < 0)
        return cannot(path, err);
    return 0;
}

int home_open(struct home *h, bool system, struct error *err) {
    *h = (struct home){.lock = -1, .machines = -1, .images = -1, .volumes = -1, .networks = -1};
    if (place_find(&h->place, system, err) < 0 || make_path(h->place.data, err) < 0 ||
        take_lock(h, err) < 0 || make_path(h->place.runtime, err) < 0 ||
        open_folder(h->place.data, "media", NULL, err) < 0 ||
        open_folder(h->place.data, "machines", &h->machines, err) < 0 ||
        open_folder(h->place.data, "images", &h->images, err) < 0 ||
        open_folder(h->place.data, "volumes", &h->volumes, err) < 0 ||
        open_folder(h->place.data, "networks", &h->networks, err) < 0)
        return err->code;
    return 0;
}

void home_close(struct home *h) {
    if (h->machines >= 0)
        close(h->machines);
    if (h->images >= 0)
        close(h->images);
    if (h->volumes >= 0)
        close(h->volumes);
    if (h->networks >= 0)
        close(h->networks);
    if (h->lock >= 0)
        close(h->lock);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Disk files of machines: what they lie on, one more on top, links, and copies of all they show. */
#include "host/layers.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/convert.h"
#include "host/image.h"

enum { PATH_ROOM = PATH_MAX + 100 };

bool layers_is_disk(const char *name) {
    const char *dot = strrchr(name, '.');

    return !strncmp(name, "disk.", 5) && dot && !strcmp(dot, ".qcow2");
}

void layers_name(int64_t number, char out[LAYER_NAME]) {
    snprintf(out, LAYER_NAME, "disk.%lld.qcow2", (long long)number);
}

const char *layers_base(const struct image_files *files) {
    return *files->disk ? files->disk : "beside";
}

struct chain *layers_open(const char *folder, const char *name, struct error *err) {
    char path[PATH_ROOM];
    struct chain_options o = {.path = path,
                              .format = "qcow2",
                              .readonly = true,
                              .no_backing = true,
                              .no_lock = true,
                              .no_repair = true};

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return chain_open(&o, err);
}

/* ------------------------------------------------------------------ what lies where */

static bool same_folder(const char *a, const char *b) {
    struct stat x, y;

    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* The last part of a path, if the rest of it is `folder`. */
static const char *name_in(const char *folder, const char *path) {
    const char *slash = strrchr(path, '/');
    char other[PATH_ROOM];

    if (!slash)
        return path;
    snprintf(other, sizeof(other), "%.*s", (int)(slash - path + 1), path);
    return same_folder(folder, other) ? slash + 1 : "";
}

/* What the header says; *ret_whole: by its whole path. */
static int read_below(const char *folder, const char *name, char out[LAYER_NAME], bool *ret_whole,
                      struct error *err) {
    struct chain *c = layers_open(folder, name, err);
    struct qcow2_info info;
    const char *below;

    if (!c)
        return err && err->code ? err->code : -EIO;
    qcow2_info(c->qcow2, &info);
    chain_close(c);
    below = name_in(folder, info.backing);
    *ret_whole = *below && below != info.backing;
    snprintf(out, LAYER_NAME, "%.*s", LAYER_NAME - 1, layers_is_disk(below) ? below : "");
    return 0;
}

int layers_below(const char *folder, const char *name, char out[LAYER_NAME], struct error *err) {
    bool whole;

    return read_below(folder, name, out, &whole, err);
}

int layers_depth(const char *folder, const char *name, unsigned *ret, struct error *err) {
    char at[LAYER_NAME];
    int r = 0;

    snprintf(at, sizeof(at), "%s", name);
    for (*ret = 0; r == 0 && *at && *ret < CHAIN_MAX_DEPTH; ++*ret)
        r = layers_below(folder, at, at, err);
    return r;
}

int layers_is_empty(const char *folder, const char *name, bool *ret, struct error *err) {
    struct chain *c = layers_open(folder, name, err);
    struct qcow2_run run = {.length = 0};
    uint64_t at = 0;
    int r = 0;

    if (!c)
        return err && err->code ? err->code : -EIO;
    for (*ret = true; r == 0 && *ret && at < c->size; at += run.length) {
        r = qcow2_map(c->qcow2, at, c->size - at, &run);
        *ret = r == 0 && run.type == QCOW2_UNALLOCATED;
    }
    chain_close(c);
    return r < 0 ? error_set(err, r, "'%s/%s' cannot be read: %s", folder, name, strerror(-r)) : 0;
}

/* ------------------------------------------------------------------ one more on top */

int layers_check_room(const char *folder, const char *name, struct error *err) {
    unsigned depth = 0;
    int r = layers_depth(folder, name, &depth, err);

    if (r < 0 || depth < LAYERS_MOST)
        return r;
    return error_set(err, -ELOOP,
                     "its disk lies on %u files already, which is as many as there may be; remove "
                     "snapshots, so that they are joined, or go on with 'viv clone --full'",
                     depth);
}

int layers_make_on_top(const char *folder, const char *name, const char *next, struct error *err) {
    char part[PATH_ROOM], path[PATH_ROOM];
    struct chain_create c = {
        .path = part, .format = "qcow2", .backing = name, .backing_format = "qcow2"};
    struct chain *base;
    int r = layers_check_room(folder, name, err);

    if (r < 0)
        return r;
    base = layers_open(folder, name, err);
    if (!base)
        return -EIO;
    c.size = base->size;
    chain_close(base);
    snprintf(path, sizeof(path), "%s/%s", folder, next);
    snprintf(part, sizeof(part), "%s/%s.part", folder, next);
    unlink(part);
    if (chain_create(&c, err) < 0)
        return -EIO;
    if (rename(part, path) < 0)
        return error_set(err, -errno, "'%s' cannot be made: %s", path, strerror(errno));
    return 0;
}

int layers_put_on_top(const char *folder, const char *name, const char *next, struct error *err) {
    struct chain *there = layers_open(folder, next, NULL);

    chain_close(there);
    return there ? 0 : layers_make_on_top(folder, name, next, err);
}

/* ------------------------------------------------------------------ links */

static int link_one(int from, int to, const char *name, struct error *err) {
    struct stat a, b;
    int r;

    if (linkat(from, name, to, name, 0) == 0)
        return 0;
    if (errno == EEXIST && fstatat(from, name, &a, 0) == 0 && fstatat(to, name, &b, 0) == 0 &&
        a.st_ino != b.st_ino && unlinkat(to, name, 0) == 0 && linkat(from, name, to, name, 0) == 0)
        return 0;
    r = -errno;
    return r == -EEXIST
               ? 0
               : error_set(err, r, "the disk file '%s' cannot be shared by a link: %s%s", name,
                           strerror(-r), r == -EMLINK ? "; make a full copy (--full)" : "");
}

static int link_all(const char *folder, int from, int to, const char *name, struct error *err) {
    char at[LAYER_NAME], below[LAYER_NAME];
    bool whole = false;
    int r = 0;

    snprintf(at, sizeof(at), "%s", name);
    for (unsigned i = 0; r == 0 && *at && i < CHAIN_MAX_DEPTH; i++) {
        r = read_below(folder, at, below, &whole, err);
        if (r == 0 && whole)
            r = error_set(err, -EXDEV,
                          "'%s/%s' names the file below by its whole path, as an older version "
                          "wrote it: stop the machine and write the name alone, with "
                          "viv-img rebase -u -b %s",
                          folder, at, below);
        if (r == 0)
            r = link_one(from, to, at, err);
        snprintf(at, sizeof(at), "%s", below);
    }
    if (r == 0 && fsync(to) < 0)
        r = error_set(err, -errno, "the folder of the copy cannot be written: %s", strerror(errno));
    return r;
}

int layers_link(const char *from, const char *name, const char *to, struct error *err) {
    int source, target, r;

    if (mkdir(to, 0700) < 0 && errno != EEXIST)
        return error_set(err, -errno, "the folder '%s' cannot be made: %s", to, strerror(errno));
    if (!*name)
        return 0;
    source = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    target = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    r = source < 0 || target < 0
            ? error_set(err, -errno, "the folder '%s' or '%s': %s", from, to, strerror(errno))
            : link_all(from, source, target, name, err);
    if (source >= 0)
        close(source);
    if (target >= 0)
        close(target);
    return r;
}

void layers_remove_others(const char *folder, const char *keep) {
    DIR *d = opendir(folder);
    struct dirent *e;

    while (d && (e = readdir(d)))
        if (!strncmp(e->d_name, "disk.", 5) && strcmp(e->d_name, keep) != 0)
            unlinkat(dirfd(d), e->d_name, 0);
    if (d)
        closedir(d);
}

/* ------------------------------------------------------------------ copies */

static void note(void *opaque, uint64_t done, uint64_t total) {
    const struct layers_progress *p = opaque;

    __atomic_store_n(p->of, (int64_t)total, __ATOMIC_RELAXED);
    __atomic_store_n(p->done, (int64_t)done, __ATOMIC_RELAXED);
}

static int sync_file(const char *path, struct error *err) {
    int fd = open(path, O_RDWR | O_CLOEXEC), r = fd < 0 || fsync(fd) < 0 ? -errno : 0;

    if (fd >= 0)
        close(fd);
    return r < 0 ? error_set(err, r, "'%s' cannot be written: %s", path, strerror(-r)) : 0;
}

static int copy(struct chain *from, const char *path, const char *format,
                const struct layers_progress *p, struct error *err) {
    const struct chain_create make = {.path = path, .format = format, .size = from->size};
    const struct chain_options o = {.path = path, .format = format, .no_sync = true};
    struct convert c = {
        .from = from, .threads = 1, .stop = p->stop, .progress = note, .opaque = (void *)p};
    int r, closed;

    unlink(path);
    if (chain_create(&make, err) < 0 || !(c.to = chain_open(&o, err)))
        return -EIO;
    r = convert_all(&c);
    closed = chain_close(c.to);
    r = r < 0 ? r : closed;
    if (r == -ECANCELED)
        return error_set(err, r, "it was cancelled");
    return r < 0 ? error_set(err, r, "'%s' cannot be copied to '%s': %s", from->path, path,
                             strerror(-r))
                 : sync_file(path, err);
}

/* What is removed next must not be missed if the host loses power. */
static int sync_names(const char *folder, struct error *err) {
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
        r = fd < 0 || fsync(fd) < 0 ? -errno : 0;

    if (fd >= 0)
        close(fd);
    return r < 0 ? error_set(err, r, "'%s' cannot be written: %s", folder, strerror(-r)) : 0;
}

int layers_flatten(const char *folder, const struct layers_copy *c, const struct layers_progress *p,
                   struct error *err) {
    char path[PATH_ROOM], part[PATH_ROOM], to[PATH_ROOM];
    const struct chain_options o = {
        .path = path, .format = "qcow2", .backing = c->base, .readonly = true};
    struct chain *from;
    int r;

    snprintf(path, sizeof(path), "%s/%s", folder, c->name);
    snprintf(to, sizeof(to), "%s/%s", folder, c->out);
    snprintf(part, sizeof(part), "%s/%s.part", folder, c->out);
    if (access(to, F_OK) == 0)
        return 0;
    from = chain_open(&o, err);
    if (!from)
        return -EIO;
    r = copy(from, part, c->format, p, err);
    chain_close(from);
    if (r == 0 && rename(part, to) < 0)
        r = error_set(err, -errno, "'%s' cannot be made: %s", to, strerror(errno));
    if (r < 0)
        unlink(part);
    return r < 0 ? r : sync_names(folder, err);
}

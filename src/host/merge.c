/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Joining of disk files: which, and how. */
#include "host/merge.h"

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
#include "host/manager.h"
#include "host/vm_job.h"
#include "proto/client.h"

enum { MOST_FILES = 1024, PIECE = 1 << 20, PATH_ROOM = PATH_MAX + 100 };

struct layer {
    char name[LAYER_NAME], below[LAYER_NAME];
    bool shared; /* with another machine */
    struct timespec written;
};

struct layers {
    struct layer *layer;
    unsigned count;
};

/* ------------------------------------------------------------------ what there is */

static int add(const char *folder, struct layers *all, const char *name, struct error *err) {
    char path[PATH_ROOM];
    struct layer *l;
    struct stat st;

    if (all->count == MOST_FILES || strlen(name) >= LAYER_NAME)
        return error_set(err, -E2BIG, "'%s' has too many disk files", folder);
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (stat(path, &st) < 0)
        return error_set(err, -errno, "'%s': %s", path, strerror(errno));
    l = &all->layer[all->count];
    snprintf(l->name, sizeof(l->name), "%s", name);
    l->shared = st.st_nlink > 1;
    l->written = st.st_mtim;
    all->count++;
    return layers_below(folder, name, l->below, err);
}

static int scan(const char *folder, struct layers *all, struct error *err) {
    struct layer *layer = calloc(MOST_FILES, sizeof(*layer));
    DIR *d = layer ? opendir(folder) : NULL;
    struct dirent *e;
    int r = 0;

    if (!d) {
        free(layer);
        return error_set(err, -EIO, "the folder '%s' cannot be read: %s", folder, strerror(errno));
    }
    all->layer = layer;
    while (r == 0 && (e = readdir(d)))
        if (layers_is_disk(e->d_name))
            r = add(folder, all, e->d_name, err);
    closedir(d);
    return r;
}

static const struct layer *find(const struct layers *all, const char *name) {
    for (unsigned i = 0; i < all->count; i++)
        if (!strcmp(all->layer[i].name, name))
            return &all->layer[i];
    return NULL;
}

/* The only file on top of that one; NULL: there is none, or there are several. */
static const struct layer *only_child(const struct layers *all, const char *name) {
    const struct layer *child = NULL;

    for (unsigned i = 0; i < all->count; i++)
        if (!strcmp(all->layer[i].below, name)) {
            if (child)
                return NULL;
            child = &all->layer[i];
        }
    return child;
}

int merge_find(const char *folder, const json_t *needed, char into[LAYER_NAME],
               char from[LAYER_NAME], struct error *err) {
    struct layers all = {0};
    int r = scan(folder, &all, err);

    for (unsigned i = 0; i < all.count && r == 0; i++) {
        const struct layer *l = &all.layer[i], *child = only_child(&all, l->name);

        if (l->shared || json_object_get(needed, l->name) || !child || child->shared)
            continue;
        snprintf(into, LAYER_NAME, "%s", l->name);
        snprintf(from, LAYER_NAME, "%s", child->name);
        r = 1;
    }
    free(all.layer);
    return r;
}

/* ------------------------------------------------------------------ without a process */

static bool stopped(const struct merge *m) { return __atomic_load_n(m->stop, __ATOMIC_RELAXED); }

static int copy(const struct merge *m, struct chain *from, struct chain *into) {
    int r = into->size < from->size ? chain_resize(into, from->size, NULL) : 0;
    uint64_t at = 0;

    while (r == 0 && at < from->size) {
        struct chain_run run;

        r = chain_map(from, at, from->size - at, &run);
        run.length = r == 0 && run.length > PIECE ? PIECE : run.length;
        if (r == 0 && run.present)
            r = convert_range(from, into, at, run.length, false);
        at += run.length;
        if (r == 0 && stopped(m))
            r = -ECANCELED;
    }
    return r < 0 ? r : chain_flush(into);
}

static int copy_files(const struct merge *m, struct error *err) {
    char path[PATH_ROOM];
    const struct chain_options o = {.path = path, .format = "qcow2", .backing = m->base};
    struct chain *from = layers_open(m->folder, m->from, err), *into;
    int r, closed;

    if (!from)
        return -EIO;
    snprintf(path, sizeof(path), "%s/%s", m->folder, m->into);
    into = chain_open(&o, err);
    if (!into) {
        chain_close(from);
        return -EIO;
    }
    r = copy(m, from, into);
    chain_close(from);
    closed = chain_close(into);
    r = r < 0 ? r : closed;
    if (r == -ECANCELED)
        return error_set(err, r, "it was interrupted");
    return r < 0 ? error_set(err, r, "'%s' cannot be joined with '%s': %s", m->from, m->into,
                             strerror(-r))
                 : 0;
}

/* When a file was written last is what tells a snapshot's memory whether it fits. */
static void keep_time(const struct merge *m, const struct layer *l) {
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, l->written};
    char path[PATH_ROOM];

    snprintf(path, sizeof(path), "%s/%s", m->folder, l->name);
    utimensat(AT_FDCWD, path, times, 0);
}

static int lay_on(const struct merge *m, const struct layer *l, struct error *err) {
    char path[PATH_ROOM];
    const struct chain_options o = {.path = path, .format = "qcow2", .no_backing = true};
    struct chain *c;
    int r, closed;

    snprintf(path, sizeof(path), "%s/%s", m->folder, l->name);
    c = chain_open(&o, err);
    if (!c)
        return -EIO;
    r = qcow2_set_backing(c->qcow2, m->into, "qcow2", err);
    closed = chain_close(c);
    keep_time(m, l);
    return r < 0 ? r
           : closed < 0
               ? error_set(err, closed, "'%s' cannot be written: %s", path, strerror(-closed))
               : 0;
}

/* ------------------------------------------------------------------ with a process */

static int wait_job(const struct merge *m, struct client *c, json_int_t id, struct error *err) {
    int r = vm_job_wait_or_stop(c, id, m->stop, err);

    return r == -ECANCELED ? error_set(err, r, "it was interrupted") : r;
}

static int commit_live(const struct merge *m, struct error *err) {
    struct client *c = client_open(m->control, NULL, NULL, err);
    char top[PATH_ROOM], base[PATH_ROOM];
    json_t *status = NULL;
    const char *path, *slash;
    json_int_t id = 0;
    int r = c ? vm_job_call(c, "status", NULL, &status, err) : -EIO;

    path = row_text(json_array_get(json_object_get(status, "disks"), 0), "path");
    slash = strrchr(path, '/');
    path = slash ? slash + 1 : path;
    snprintf(top, sizeof(top), "%s/%s", m->folder, m->from);
    snprintf(base, sizeof(base), "%s/%s", m->folder, m->into);
    /* It may be on the joined file already, when the manager was ended in between. */
    if (r == 0 && (strcmp(m->from, m->disk) != 0 || strcmp(path, m->into) != 0)) {
        r = vm_job_start(
            c, "disk-commit",
            json_pack("{s:i, s:s, s:s, s:b}", "disk", 0, "top", top, "base", base, "complete", 1),
            &id, err);
        if (r == 0)
            r = wait_job(m, c, id, err);
    }
    json_decref(status);
    client_close(c);
    return r;
}

/* ------------------------------------------------------------------ both */

static bool is_open(const struct merge *m, const struct layers *all) {
    const struct layer *l = m->control ? find(all, m->disk) : NULL;

    for (unsigned i = 0; l && i < all->count; i++, l = find(all, l->below))
        if (!strcmp(l->name, m->from))
            return true;
    return false;
}

/* Something else lies on `into` already: then it holds all that it should. */
static bool was_copied(const struct merge *m, const struct layers *all) {
    for (unsigned i = 0; i < all->count; i++)
        if (!strcmp(all->layer[i].below, m->into) && strcmp(all->layer[i].name, m->from) != 0)
            return true;
    return false;
}

static int join(const struct merge *m, const struct layers *all, struct error *err) {
    const struct layer *into = find(all, m->into), *from = find(all, m->from);
    bool open = is_open(m, all);
    int r = 0;

    if (!into || !from || into->shared || from->shared || strcmp(from->below, into->name) != 0)
        return error_set(err, -ESTALE, "'%s' and '%s' are not what they were", m->into, m->from);
    if (!was_copied(m, all))
        r = open ? commit_live(m, err) : copy_files(m, err);
    for (unsigned i = 0; r == 0 && i < all->count; i++) {
        const struct layer *l = &all->layer[i];
        char now[LAYER_NAME];

        if (strcmp(l->below, m->from) != 0)
            continue;
        r = layers_below(m->folder, l->name, now, err);
        if (r == 0 && strcmp(now, m->into) != 0)
            r = lay_on(m, l, err);
        else
            keep_time(m, l); /* the process has done it */
    }
    return r;
}

int merge_do(const struct merge *m, struct error *err) {
    struct layers all = {0};
    int r = scan(m->folder, &all, err);

    if (r == 0)
        r = join(m, &all, err);
    free(all.layer);
    return r;
}

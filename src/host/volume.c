/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The controller of volumes: makes, grows and removes their files, each on a worker. What it does
 * can be seen on the host again: a file has its name when it is whole, and its own size.
 */
#include "host/volume.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "block/chain.h"
#include "host/vm.h"
#include "host/vm_job.h"
#include "host/worker.h"

enum { AGAIN_MS = 1000 };

struct volume {
    struct volumes *all;
    struct volume *next, **link;
    char id[STORE_WORD];
    bool queued, busy, forgotten;
    enum { NOTHING, MADE, GROWN, REMOVED } done; /* by the worker */
    bool in_use;                                 /* its machine is to make it larger */
    char path[PATH_MAX], control[PATH_MAX];
    char format[8];
    int64_t size;
    struct error error;
    struct timer timer;
};

struct volumes {
    struct manager *m;
    struct volume *first;
    unsigned active;
};

static void step(struct volume *v);

/* ------------------------------------------------------------------ files */

static void path_of(const struct manager *m, const char *id, const char *format, char *out,
                    size_t size) {
    snprintf(out, size, "%.3900s/volumes/%s.%s", m->home.place.data, id, format);
}

static void make_work(void *opaque) {
    struct volume *v = opaque;
    char part[PATH_MAX + 8];
    struct chain_create c = {.path = part, .format = v->format, .size = (uint64_t)v->size};

    snprintf(part, sizeof(part), "%s.part", v->path);
    unlink(part);                     /* of a manager that was ended in the middle of this */
    if (access(v->path, F_OK) == 0) { /* it made it, and perhaps of another size */
        v->size = 0;
        return;
    }
    if (chain_create(&c, &v->error) < 0)
        return;
    if (rename(part, v->path) < 0)
        error_set(&v->error, -errno, "the file of the volume cannot get its name: %s",
                  strerror(errno));
    fsync(v->all->m->home.volumes);
}

static void grow_work(void *opaque) {
    struct volume *v = opaque;
    struct chain_options o = {.path = v->path, .format = v->format, .backing = "none"};
    struct chain *c;

    if (v->in_use) {
        vm_resize_disk(v->control, v->path, v->size, &v->error);
        return;
    }
    c = chain_open(&o, &v->error);
    if (!c)
        return;
    if (c->size < (uint64_t)v->size)
        chain_resize(c, (uint64_t)v->size, &v->error);
    if (chain_close(c) < 0 && !v->error.code)
        error_set(&v->error, -EIO, "the volume cannot be written");
}

static void remove_work(void *opaque) {
    struct volume *v = opaque;
    static const char *const formats[] = {"qcow2", "raw"};
    char path[PATH_MAX], part[PATH_MAX + 8];

    for (unsigned i = 0; i < 2; i++) {
        path_of(v->all->m, v->id, formats[i], path, sizeof(path));
        snprintf(part, sizeof(part), "%s.part", path);
        if ((unlink(path) < 0 && errno != ENOENT) || (unlink(part) < 0 && errno != ENOENT))
            error_set(&v->error, -errno, "the file of the volume cannot be removed: %s",
                      strerror(errno));
    }
}

/* ------------------------------------------------------------------ the list of them */

static struct volume *find(const struct volumes *vs, const char *id) {
    for (struct volume *v = vs->first; v; v = v->next)
        if (!strcmp(v->id, id))
            return v;
    return NULL;
}

/* viv-vm, and whoever else minds the locks of disk images, holds some byte of it. While a worker of
 * ours makes it larger, the lock is that worker's: its machine does not start before that is done.
 */
bool volume_in_use(const struct manager *m, const struct store_row *volume) {
    const struct volume *ours = find(m->volumes, volume->id);
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char path[PATH_MAX];
    bool used;
    int fd;

    if (ours && ours->busy)
        return ours->in_use;
    path_of(m, volume->id, row_text(volume->spec, "format"), path, sizeof(path));
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return false;
    used = fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
    close(fd);
    return used;
}

static struct volume *volume_new(struct volumes *vs, const char *id) {
    struct volume *v = calloc(1, sizeof(*v));

    if (!v)
        abort();
    v->all = vs;
    snprintf(v->id, sizeof(v->id), "%s", id);
    v->next = vs->first;
    v->link = &vs->first;
    if (v->next)
        v->next->link = &v->next;
    vs->first = v;
    vs->active++;
    return v;
}

static void forget(struct volume *v) {
    *v->link = v->next;
    if (v->next)
        v->next->link = v->link;
    v->all->active--;
    timer_stop(&v->timer);
    v->forgotten = true;
    if (!v->queued)
        free(v);
}

static void queued_step(void *opaque) {
    struct volume *v = opaque;

    v->queued = false;
    if (v->forgotten)
        free(v);
    else
        step(v);
}

static void kick(void *opaque) {
    struct volume *v = opaque;

    if (!v->queued)
        loop_post(v->all->m->loop, queued_step, v);
    v->queued = true;
}

void volumes_kick(struct volumes *vs, const char *id) {
    struct volume *v = find(vs, id);

    kick(v ? v : volume_new(vs, id));
}

unsigned volumes_active(const struct volumes *vs) { return vs->active; }

static void work_done(void *opaque) {
    struct volume *v = opaque;

    v->busy = false;
    step(v);
}

static void begin(struct volume *v, const struct store_row *row, void (*work)(void *opaque)) {
    v->busy = true;
    v->in_use = v->done == GROWN && v->in_use;
    v->error = (struct error){0};
    if (row) {
        snprintf(v->format, sizeof(v->format), "%s", row_text(row->spec, "format"));
        v->size = row_number(row->spec, "size");
        path_of(v->all->m, v->id, v->format, v->path, sizeof(v->path));
    }
    workers_run(v->all->m->workers, work, work_done, v);
}

/* ------------------------------------------------------------------ steps */

static void save(struct volume *v, struct store_row *row, const char *what, const char *text) {
    struct manager *m = v->all->m;
    struct error e = {0};

    if (store_begin(m->store, STORE_PROMISE, &e) == 0) {
        if ((what && manager_event(m, row, what, &e, "%s", text) < 0) ||
            store_update(m->store, row, &e) < 0)
            store_rollback(m->store);
        else if (store_commit(m->store, &e) == 0)
            return;
    }
    log_line_about(LOG_LEVEL_ERROR, "volume", v->id, "%s", e.text);
    timer_start(m->timers, &v->timer, AGAIN_MS, kick, v);
}

static void kick_machine(struct volume *v, const struct store_row *row) {
    if (*row_text(row->status, "vm_id"))
        machines_kick(v->all->m->machines, row_text(row->status, "vm_id"));
}

static bool is_to_grow(const struct store_row *row) {
    int64_t size = row_number(row->spec, "size");

    return row_flag(row->wanted, "prepared") && size > row_number(row->status, "now") &&
           size != row_number(row->wanted, "gave_up");
}

/* What it is now, or is about to become. */
static void set_done(struct store_row *row) {
    row_set_state(row, is_to_grow(row) ? "resizing" : "ready", NULL);
}

static void step_made(struct volume *v, struct store_row *row) {
    if (v->error.code) {
        row_set_state(row, "failed", v->error.text);
        save(v, row, "failed", v->error.text);
        return;
    }
    json_object_set_new(row->wanted, "prepared", json_true());
    row_set_number(row->status, "now", v->size);
    set_done(row);
    save(v, row, "made", "its file is made");
    kick_machine(v, row);
}

static void step_grown(struct volume *v, struct store_row *row) {
    char text[700];

    if (!v->error.code) {
        row_set_number(row->status, "now", v->size);
        row_unset(row->wanted, "gave_up");
        set_done(row);
        save(v, row, "resized", "it is larger");
    } else {
        snprintf(text, sizeof(text), "it could not grow%s: %.500s",
                 v->in_use ? " while its machine runs, and does at its next start" : "",
                 v->error.text);
        row_set_number(row->wanted, v->in_use ? "later" : "gave_up", v->size);
        row_set_state(row, "ready", text);
        save(v, row, "failed", text);
    }
    kick_machine(v, row);
}

static void delete_row(struct volume *v, struct store_row *row) {
    struct manager *m = v->all->m;
    struct error e = {0};

    if (store_begin(m->store, STORE_PROMISE, &e) == 0) {
        if (manager_event(m, row, "deleted", &e, "it is deleted, with what was on it") < 0 ||
            store_delete(m->store, "volume", v->id, &e) < 0)
            store_rollback(m->store);
        else if (store_commit(m->store, &e) == 0)
            return; /* the change brings us back */
    }
    log_line_about(LOG_LEVEL_ERROR, "volume", v->id, "%s", e.text);
    timer_start(m->timers, &v->timer, AGAIN_MS, kick, v);
}

static void step_grow(struct volume *v, struct store_row *row) {
    struct manager *m = v->all->m;

    v->in_use = volume_in_use(m, row);
    if (v->in_use && row_number(row->wanted, "later") == row_number(row->spec, "size")) {
        forget(v); /* the start of its machine brings us back */
        return;
    }
    snprintf(v->control, sizeof(v->control), "%.3900s/machines/%s/control", m->home.place.data,
             row_text(row->status, "vm_id"));
    v->done = GROWN;
    begin(v, row, grow_work);
}

static void step_delete(struct volume *v, struct store_row *row, bool removed) {
    if (removed && !v->error.code) {
        delete_row(v, row);
    } else if (removed) {
        log_line_about(LOG_LEVEL_WARNING, "volume", v->id, "%s", v->error.text);
        timer_start(v->all->m->timers, &v->timer, AGAIN_MS, kick, v);
    } else {
        v->done = REMOVED;
        begin(v, NULL, remove_work);
    }
}

static void step_row(struct volume *v, struct store_row *row) {
    int done = v->done;

    v->done = NOTHING;
    if (row_flag(row->wanted, "deleting"))
        step_delete(v, row, done == REMOVED);
    else if (done == MADE)
        step_made(v, row);
    else if (done == GROWN)
        step_grown(v, row);
    else if (!row_flag(row->wanted, "prepared") &&
             strcmp(row_text(row->status, "state"), "failed") != 0) {
        v->done = MADE;
        begin(v, row, make_work);
    } else if (is_to_grow(row)) {
        step_grow(v, row);
    } else {
        forget(v);
    }
}

/* A file, or what is left of one, that belongs to nothing. */
static void step_gone(struct volume *v) {
    int done = v->done;

    v->done = REMOVED;
    if (done == REMOVED)
        forget(v);
    else
        begin(v, NULL, remove_work);
}

static void step(struct volume *v) {
    struct store_row row = {0};
    int r;

    if (v->busy)
        return;
    timer_stop(&v->timer);
    r = store_get(v->all->m->store, "volume", v->id, &row);
    if (r == 0)
        step_row(v, &row);
    else if (r == -ENOENT)
        step_gone(v);
    else
        timer_start(v->all->m->timers, &v->timer, AGAIN_MS, kick, v);
    store_row_done(&row);
}

/* ------------------------------------------------------------------ for machines */

static int find_volume(struct manager *m, const struct store_row *vm, const char *name,
                       struct store_row *ret, struct error *err) {
    if (store_find(m->store, "volume", vm->tenant, name, ret) == 0)
        return 0;
    return error_set(err, -ENOENT, "the volume '%s' is gone", name);
}

static int is_ready(struct manager *m, struct store_row *row, struct error *err) {
    const char *state = row_text(row->status, "state");

    if (!strcmp(state, "failed"))
        return error_set(err, -EIO, "the volume '%s' failed: %s", row->name,
                         row_text(row->status, "reason"));
    if (row_flag(row->wanted, "prepared") && !is_to_grow(row) && !find(m->volumes, row->id))
        return 0;
    volumes_kick(m->volumes, row->id);
    return error_set(err, -EAGAIN, "the volume '%s' is not ready yet", row->name);
}

int volumes_ready(struct manager *m, const struct store_row *vm, struct error *err) {
    const json_t *one;
    size_t i;
    int r = 0;

    json_array_foreach(json_object_get(vm->spec, "volumes"), i, one) {
        struct store_row row = {0};

        r = find_volume(m, vm, json_string_value(one), &row, err);
        if (r == 0)
            r = is_ready(m, &row, err);
        store_row_done(&row);
        if (r < 0)
            return r;
    }
    return 0;
}

void volume_limits(int64_t iops, int64_t bps, char out[VOLUME_LIMITS]) {
    size_t n;

    *out = 0;
    if (iops)
        snprintf(out, VOLUME_LIMITS, ",iops=%" PRId64, iops);
    n = strlen(out);
    if (bps)
        snprintf(out + n, VOLUME_LIMITS - n, ",bps=%" PRId64, bps);
}

int volume_disk(struct manager *m, const struct store_row *vm, const char *name, char *out,
                size_t size, struct error *err) {
    struct store_row row = {0};
    char limits[VOLUME_LIMITS];
    int r = find_volume(m, vm, name, &row, err);

    if (r == 0) {
        volume_limits(row_number(row.spec, "iops"), row_number(row.spec, "bps"), limits);
        snprintf(out, size, "../../volumes/%s.%s,format=%s,backing=none,serial=%s%s", row.id,
                 row_text(row.spec, "format"), row_text(row.spec, "format"), row.name, limits);
    }
    store_row_done(&row);
    return r;
}

/* ------------------------------------------------------------------ beginning and end */

struct volumes *volumes_new(struct manager *m, struct error *err) {
    struct volumes *vs = calloc(1, sizeof(*vs));

    if (!vs)
        error_set(err, -ENOMEM, "volumes: out of memory");
    else
        vs->m = m;
    return vs;
}

static bool look_at_row(void *opaque, const struct store_text *t) {
    volumes_kick(opaque, t->id); /* which forgets it, if nothing is to be done */
    return true;
}

void volumes_load(struct volumes *vs) {
    struct store_query q = {.kind = "volume"};
    int fd = fcntl(vs->m->home.volumes, F_DUPFD_CLOEXEC, 0);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;

    store_list(vs->m->store, &q, look_at_row, vs);
    while (d && (e = readdir(d))) {
        struct store_row row = {0};
        char id[STORE_WORD];
        size_t n = strcspn(e->d_name, ".");

        if (!n || n >= sizeof(id))
            continue;
        snprintf(id, sizeof(id), "%.*s", (int)n, e->d_name);
        if (store_get(vs->m->store, "volume", id, &row) == -ENOENT)
            volumes_kick(vs, id);
        store_row_done(&row);
    }
    if (d)
        closedir(d);
}

void volumes_free(struct volumes *vs) {
    struct volume *next;

    for (struct volume *v = vs ? vs->first : NULL; v; v = next) {
        next = v->next;
        timer_stop(&v->timer);
        free(v);
    }
    free(vs);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Machines: the folder and the disk, before the first start.
 *
 * A clone waits until the task of the machine that it is made of (snapshot.c) has linked what it
 * stands on into its folder. Then it gets a file of its own on top of that, or, as a full one, a
 * copy, after which the links go.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/chain.h"
#include "host/job.h"
#include "host/snapshot.h"
#include "host/tree.h"
#include "host/vm_impl.h"

enum { NOTE_MS = 300 };
enum { COPY_LATER = 2 }; /* for `stop`: by the next manager */

/* ------------------------------------------------------------------ on a worker */

/* The variables of UEFI firmware: boot entries, keys. Those that are there may be newer. */
static int copy_vars(struct machine *v, const char *folder, const char *from) {
    int fd, r;

    if (!*from)
        return 0;
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_set(&v->work_error, -errno, "the machine's folder '%s': %s", folder,
                         strerror(errno));
    r = tree_copy(from, fd, UEFI_VARS, &v->vars_done, &v->stop, &v->work_error);
    close(fd);
    return r;
}

/* Only what does not change meanwhile is looked at. */
static void make_disk(struct machine *v, const char *folder) {
    char path[PATH_MAX + 100];
    struct chain_create c = {.path = path,
                             .format = "qcow2",
                             .size = (uint64_t)v->disk_size,
                             .backing = *v->image.disk ? v->image.disk : NULL,
                             .backing_format = "raw"};

    if (copy_vars(v, folder, v->image.vars) < 0 || !v->image.has_disk)
        return;
    snprintf(path, sizeof(path), "%s/disk.qcow2", folder);
    unlink(path); /* of a manager that was ended in the middle of this */
    chain_create(&c, &v->work_error);
}

static void make_clone(struct machine *v, const char *folder) {
    const struct layers_progress p = {&v->done, &v->of, &v->stop};
    const struct layers_copy c = {v->frozen, layers_base(&v->image), v->file, "qcow2"};
    char vars[PATH_MAX + 100];

    snprintf(vars, sizeof(vars), "%s/machines/%s/" UEFI_VARS, v->all->m->home.place.data,
             v->clone_of);
    if ((access(vars, F_OK) == 0 && copy_vars(v, folder, vars) < 0) || !*v->frozen)
        return;
    if (!v->copying)
        layers_make_on_top(folder, v->frozen, v->file, &v->work_error);
    else if (layers_flatten(folder, &c, &p, &v->work_error) == 0)
        layers_remove_others(folder, v->file);
    else if (__atomic_load_n(&v->stop, __ATOMIC_RELAXED) != COPY_LATER)
        layers_remove_others(folder, ""); /* so that it holds nothing of the other machine's */
}

static void make_work(void *opaque) {
    struct machine *v = opaque;
    const struct home *h = &v->all->m->home;
    char folder[PATH_MAX];

    if (mkdirat(h->machines, v->id, 0700) < 0 && errno != EEXIST)
        error_set(&v->work_error, -errno, "the machine's folder cannot be made: %s",
                  strerror(errno));
    else if (snprintf(folder, sizeof(folder), "%s/machines/%s", h->place.data, v->id) >=
             (int)sizeof(folder))
        error_set(&v->work_error, -ENAMETOOLONG, "the path of the machine's folder is too long");
    else if (*v->file)
        make_clone(v, folder);
    else
        make_disk(v, folder);
}

/* ------------------------------------------------------------------ progress */

static void note_progress(void *opaque) {
    struct machine *v = opaque;
    int64_t of = __atomic_load_n(&v->of, __ATOMIC_RELAXED);

    if (of > 0)
        job_note(v->all->m, v->job, (int)(__atomic_load_n(&v->done, __ATOMIC_RELAXED) * 100 / of),
                 "copying");
    timer_start(v->all->m->timers, &v->note, NOTE_MS, note_progress, v);
}

void machine_leave_work(struct machine *v) {
    __atomic_store_n(&v->stop, COPY_LATER, __ATOMIC_RELAXED);
    if (v->task)
        snapshot_task_stop(v->task);
    machine_renew_stop(v);
}

void machine_look_at_work(struct machine *v) {
    struct store_row row = {0};
    bool there;

    if (!v->copying && !v->task)
        return;
    there = store_get(v->all->m->store, "vm", v->id, &row) == 0;
    if (v->copying &&
        (!there || row_flag(row.wanted, "deleting") || job_cancelling(v->all->m, v->job)))
        __atomic_store_n(&v->stop, 1, __ATOMIC_RELAXED);
    if (v->task && there)
        snapshot_task_look(v->task, &row);
    store_row_done(&row);
}

/* ------------------------------------------------------------------ what came of it */

/* With the end of its job, if it has one. */
static void save(struct machine *v, struct store_row *row, const char *what, const char *text,
                 const char *job_state) {
    struct manager *m = v->all->m;
    const char *job = row_text(row->status, "job");
    struct error e = {0};
    int r = store_begin(m->store, STORE_PROMISE, &e);

    if (r == 0) {
        r = manager_event(m, row, what, &e, "%s", text);
        if (r == 0)
            r = store_update(m->store, row, &e);
        if (*job) /* a copy holds the files of the other machine no more */
            snapshot_shares_no_more(m, row_text(row->status, "cloned_from"), v->id, &e);
        if (r == 0 && *job)
            r = job_end(m, job, job_state, strcmp(job_state, "done") ? text : NULL, &e);
        if (r < 0)
            store_rollback(m->store);
        else
            r = store_commit(m->store, &e);
    }
    if (r < 0)
        machine_save_row_failed(v, &e);
}

static void failed(struct machine *v, struct store_row *row, const struct error *e) {
    bool cancelled = e->code == -ECANCELED;

    row_set_text(row->spec, "power", "off");
    row_set_state(row, "failed", e->text);
    save(v, row, "failed", e->text, cancelled ? "cancelled" : "failed");
}

static void made(struct machine *v, struct store_row *row) {
    bool clone = json_object_get(row->wanted, "clone");

    if (clone && *v->frozen) {
        row_set_text(row->wanted, "disk", v->file);
        row_set_number(row->wanted, "layer", row_number(row->wanted, "layer") + 1);
    }
    row_unset(row->wanted, "clone");
    row_unset(row->wanted, "linked");
    row_unset(row->wanted, "frozen");
    json_object_set_new(row->wanted, "prepared", json_true());
    row_set_state(row, strcmp(row_text(row->spec, "power"), "off") ? "starting" : "stopped", NULL);
    save(v, row, "made", "its disk is made", "done");
}

/* ------------------------------------------------------------------ steps */

/* True: the task of the other machine is done. */
static bool is_linked(struct machine *v, struct store_row *row, const json_t *clone) {
    struct store_row other = {0};
    struct error e = {0};
    const json_t *task;

    if (row_flag(row->wanted, "linked"))
        return true;
    task = store_get(v->all->m->store, "vm", row_text(clone, "from"), &other) == 0
               ? json_object_get(other.wanted, "task")
               : NULL;
    if (row_flag(row->wanted, "broken"))
        error_set(&e, -EIO, "%s", row_text(row->wanted, "why"));
    else if (strcmp(row_text(task, "to"), v->id) != 0)
        error_set(&e, -ENOENT, "the machine that it was to be made of is gone");
    if (e.code && strcmp(row_text(row->status, "state"), "failed") != 0)
        failed(v, row, &e);
    else
        machine_forget(v); /* that machine's controller brings us back */
    store_row_done(&other);
    return false;
}

static void begin_clone(struct machine *v, struct store_row *row, const json_t *clone) {
    snprintf(v->frozen, sizeof(v->frozen), "%s", row_text(row->wanted, "frozen"));
    layers_name(row_number(row->wanted, "layer") + 1, v->file);
    v->copying = !strcmp(row_text(clone, "mode"), "full");
    snprintf(v->clone_of, sizeof(v->clone_of), "%s", row_text(clone, "from"));
    snprintf(v->job, sizeof(v->job), "%s", row_text(row->status, "job"));
    if (!v->copying)
        return;
    v->stop = 0;
    note_progress(v);
    machine_look_at_work(v); /* it may have been cancelled already */
}

static void begin_disk(struct machine *v, struct store_row *row) {
    v->disk_size = row_number(row->spec, "disk");
    if (!v->disk_size)
        v->disk_size = v->image.size;
}

void machine_step_make(struct machine *v, struct store_row *row) {
    const json_t *clone = json_object_get(row->wanted, "clone");
    struct error e = {0};

    if (v->made) {
        v->made = v->copying = false;
        timer_stop(&v->note);
        if (v->work_error.code)
            failed(v, row, &v->work_error);
        else
            made(v, row);
        return;
    }
    if (clone && !is_linked(v, row, clone))
        return;
    if (vm_files(v->all->m, row, &v->image, &e) < 0) {
        failed(v, row, &e);
        return;
    }
    if (clone)
        begin_clone(v, row, clone);
    else
        begin_disk(v, row);
    v->made = true;
    machine_begin_work(v, make_work);
}

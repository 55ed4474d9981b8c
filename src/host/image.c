/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The controller of images: makes those that are wanted, by copying them from a folder or by a
 * script that builds them from Debian's packages.
 *
 * An image that is being made when the manager ends is begun anew by the next one: its folder is
 * removed first. The script is told when the manager dies (PR_SET_PDEATHSIG), and holds a lock on
 * the folder as long as it lives, as machines do.
 */
#include "host/image.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/loop.h"
#include "host/builder.h"
#include "host/image_boot.h"
#include "host/image_internal.h"
#include "host/image_known.h"
#include "host/image_transfer.h"
#include "host/job.h"
#include "host/snapshot.h"
#include "host/template.h"
#include "host/tree.h"
#include "host/worker.h"
#include "proto/place.h"

enum { LOOK_MS = 300 };

static void step(struct image *v);

/* ------------------------------------------------------------------ the list of them */

static struct image *find(struct images *is, const char *id) {
    for (struct image *v = is->first; v; v = v->next)
        if (!strcmp(v->id, id))
            return v;
    return NULL;
}

static struct image *image_new(struct images *is, const char *id) {
    struct image *v = calloc(1, sizeof(*v));

    if (!v)
        abort();
    v->all = is;
    snprintf(v->id, sizeof(v->id), "%s", id);
    v->next = is->first;
    v->link = &is->first;
    if (v->next)
        v->next->link = &v->next;
    is->first = v;
    is->active++;
    return v;
}

static void release(struct image *v) {
    timer_stop(&v->timer);
    builder_free(v->builder);
    free(v->packages);
    free(v->mirror);
    v->packages = v->mirror = NULL;
    image_transfer_free(v->transfer);
    v->transfer = NULL;
    free(v->template);
    v->template = NULL;
}

static void forget(struct image *v) {
    *v->link = v->next;
    if (v->next)
        v->next->link = v->link;
    v->all->active--;
    release(v);
    v->forgotten = true;
    if (!v->queued)
        free(v);
}

static void queued_step(void *opaque) {
    struct image *v = opaque;

    v->queued = false;
    if (v->forgotten)
        free(v);
    else
        step(v);
}

static void kick(struct image *v) {
    if (!v->queued)
        loop_post(v->all->m->loop, queued_step, v);
    v->queued = true;
}

void images_kick(struct images *is, const char *id) {
    struct image *v = find(is, id);

    kick(v ? v : image_new(is, id));
}

unsigned images_active(const struct images *is) { return is->active; }

void images_job_changed(struct images *is, const char *job) {
    for (struct image *v = is->first; v; v = v->next)
        if (!strcmp(v->job, job) && job_cancelling(is->m, job)) {
            __atomic_store_n(&v->stop, 1, __ATOMIC_RELAXED);
            builder_stop(v->builder);
        }
}

/* ------------------------------------------------------------------ work */

static void work_done(void *opaque) {
    struct image *v = opaque;

    v->busy = false;
    step(v);
}

static void begin(struct image *v, void (*work)(void *opaque)) {
    v->busy = true;
    workers_run(v->all->m->workers, work, work_done, v);
}

static void show_progress(void *opaque) {
    struct image *v = opaque;
    int64_t copied = __atomic_load_n(&v->copied, __ATOMIC_RELAXED);
    int64_t of = __atomic_load_n(&v->of, __ATOMIC_RELAXED);

    if (v->builder)
        job_note(v->all->m, v->job, builder_percent(v->builder), builder_stage(v->builder));
    else if (v->template)
        job_note(v->all->m, v->job, of > 0 ? (int)(copied * 100 / of) : 0,
                 __atomic_load_n(&v->template->stage, __ATOMIC_RELAXED));
    else if (of > 0)
        job_note(v->all->m, v->job, (int)(copied * 100 / of),
                 v->transfer ? image_transfer_stage(v->transfer) : "copying");
    timer_start(v->all->m->timers, &v->timer, LOOK_MS, show_progress, v);
}

/* The image's folder goes, what the script said stays until the next one fails. */
static void keep_log(struct image *v, const struct error *err) {
    struct manager *m = v->all->m;
    char name[STORE_WORD + 16];

    snprintf(name, sizeof(name), "%s/guest.log", v->id);
    if (renameat(m->home.images, name, m->home.images, "../build.log") == 0)
        error_set(&v->error, err->code, "%.360s; all that was said is in '%s/build.log'", err->text,
                  m->home.place.data);
    else
        v->error = *err;
}

static void builder_ended(void *opaque, const struct error *err) {
    struct image *v = opaque;

    if (err)
        keep_log(v, err);
    builder_free(v->builder);
    v->builder = NULL;
    timer_stop(&v->timer);
    v->phase = v->error.code ? PHASE_DONE : PHASE_TIDY;
    kick(v);
}

static void start_script(struct image *v) {
    struct manager *m = v->all->m;
    char path[PATH_MAX];
    int folder = image_make_folder(v);

    if (folder < 0) {
        v->phase = PHASE_DONE;
        kick(v);
        return;
    }
    snprintf(path, sizeof(path), "%.4000s/images/%s", m->home.place.data, v->id);
    v->builder = builder_start(m->loop, path, folder,
                               &(struct builder_order){v->known->suite, v->packages, v->mirror},
                               builder_ended, v, &v->error);
    close(folder);
    v->phase = v->builder ? PHASE_MAKE : PHASE_DONE;
    if (!v->builder)
        kick(v);
}

/* ------------------------------------------------------------------ rows */

static bool save(struct image *v, struct store_row *row, const char *what, const char *text,
                 const char *job_state) {
    struct manager *m = v->all->m;
    struct error e = {0};

    if (store_begin(m->store, STORE_PROMISE, &e) == 0) {
        if (v->template) /* it holds the files of the machine no more */
            snapshot_shares_no_more(m, row_text(row->wanted, "vm"), "", &e);
        if (manager_event(m, row, what, &e, "%s", text) < 0 ||
            (*v->job &&
             job_end(m, v->job, job_state, strcmp(job_state, "done") ? text : NULL, &e) < 0) ||
            store_update(m->store, row, &e) < 0)
            store_rollback(m->store);
        else if (store_commit(m->store, &e) == 0)
            return true;
    }
    log_line_about(LOG_LEVEL_ERROR, "image", v->id, "%s", e.text);
    timer_start(m->timers, &v->timer, 1000, queued_step, v);
    return false;
}

static void finish(struct image *v, struct store_row *row) {
    struct manager *m = v->all->m;
    char path[PATH_MAX];
    int64_t size;

    timer_stop(&v->timer);
    if (v->error.code) {
        bool cancelled = __atomic_load_n(&v->stop, __ATOMIC_RELAXED);
        const char *why = cancelled ? "it was cancelled" : v->error.text;

        row_set_state(row, "failed", why);
        if (save(v, row, "failed", why, cancelled ? "cancelled" : "failed"))
            forget(v);
        return;
    }
    snprintf(path, sizeof(path), "%.4000s/images/%s/disk.raw", m->home.place.data, v->id);
    size = !v->known || v->known->disk ? image_file_size(path) : 0;
    row_set_number(row->status, "size", size);
    row_set_number(row->status, "used", v->used);
    if (v->known)
        row_set_text(row->status, "title", v->known->title);
    else if (v->transfer)
        image_transfer_note(v->transfer, row);
    image_boot_note(row, path);
    row_unset(row->wanted, "linked");
    row_set_state(row, "ready", NULL);
    if (save(v, row, "ready", "it is ready for machines", "done"))
        forget(v);
}

/* The library's tiny image, else where one is copied from. */
static void find_boot(struct manager *m, const char *tenant, struct image_transfer *t) {
    const struct image_known *known = image_known_find("tiny");
    char folder[PATH_MAX] = "", kernel[PATH_MAX + 64], initrd[PATH_MAX + 64];
    struct store_row row = {0};

    if (store_find(m->store, "image", tenant, "tiny", &row) == 0 && image_known_of(&row) &&
        !strcmp(row_text(row.status, "state"), "ready")) {
        snprintf(kernel, sizeof(kernel), "%.4000s/images/%s/%s", m->home.place.data, row.id,
                 image_file_names[IMAGE_KERNEL]);
        snprintf(initrd, sizeof(initrd), "%.4000s/images/%s/%s", m->home.place.data, row.id,
                 image_file_names[IMAGE_INITRD]);
        image_transfer_boot(t, kernel, initrd);
    } else {
        image_known_source(known, folder);
        snprintf(kernel, sizeof(kernel), "%s/%s", folder, known->kernel);
        snprintf(initrd, sizeof(initrd), "%s/%s", folder, known->initrd);
        image_transfer_boot(t, *folder ? kernel : "", *folder ? initrd : "");
    }
    store_row_done(&row);
}

static struct image_transfer *new_transfer(struct image *v, const struct store_row *row,
                                           const json_t *what) {
    char disk[PATH_MAX];

    snprintf(disk, sizeof(disk), "%.4000s/images/%s/disk.raw", v->all->m->home.place.data, row->id);
    if (job_cancelling(v->all->m, v->job)) /* while nobody was there to hear it */
        __atomic_store_n(&v->stop, 1, __ATOMIC_RELAXED);
    return image_transfer_new(what, disk, &v->copied, &v->of, &v->stop);
}

/* With commas between them; for free. */
static char *join_words(const json_t *list) {
    struct buf out = {0};
    const json_t *one;
    size_t i;

    json_array_foreach(list, i, one)
        buf_printf(&out, "%s%s", i ? "," : "", json_string_value(one));
    buf_put(&out, "", 1);
    return (char *)out.data;
}

static void start_making(struct image *v, const struct store_row *row) {
    v->known = image_known_of(row);
    snprintf(v->job, sizeof(v->job), "%s", row_text(row->status, "job"));
    snprintf(v->source, sizeof(v->source), "%s", row_text(row->spec, "source"));
    free(v->packages);
    free(v->mirror);
    v->packages = join_words(json_object_get(row->spec, "packages"));
    v->mirror = strdup(row_text(row->spec, "mirror"));
    if (!v->mirror)
        abort();
    if (v->known && !*v->source && !*v->packages && !*v->mirror)
        image_known_source(v->known, v->source);
    v->error = (struct error){0};
    timer_start(v->all->m->timers, &v->timer, LOOK_MS, show_progress, v);
    if (!v->known) {
        v->transfer = new_transfer(v, row, row->spec);
        find_boot(v->all->m, row->tenant, v->transfer);
        v->phase = PHASE_DONE;
        begin(v, image_import_work);
    } else if (*v->source) {
        v->phase = PHASE_DONE;
        begin(v, image_copy_work);
    } else {
        start_script(v);
    }
}

/* True: what the machine stands on is in the folder. */
static bool is_linked(struct image *v, struct store_row *row) {
    struct store_row vm = {0};
    const json_t *task = store_get(v->all->m->store, "vm", row_text(row->wanted, "vm"), &vm) == 0
                             ? json_object_get(vm.wanted, "task")
                             : NULL;
    bool linked = row_flag(row->wanted, "linked");

    snprintf(v->job, sizeof(v->job), "%s", row_text(row->status, "job"));
    if (row_flag(row->wanted, "broken"))
        error_set(&v->error, -EIO, "%s", row_text(row->wanted, "why"));
    else if (!linked && strcmp(row_text(task, "to"), v->id) != 0)
        error_set(&v->error, -ENOENT, "the machine that it was to be made of is gone");
    store_row_done(&vm);
    return linked;
}

static void start_template(struct image *v, struct store_row *row) {
    struct manager *m = v->all->m;
    struct template *t = calloc(1, sizeof(*t));

    if (!t)
        abort();
    v->template = t;
    t->progress = (struct layers_progress){&v->copied, &v->of, &v->stop};
    t->stage = "copying";
    /* The init of an OCI image gives a machine its identity at each start. */
    t->generalize = row_flag(row->spec, "generalize") && !*row_text(row->status, "digest");
    snprintf(t->folder, sizeof(t->folder), "%.4000s/images/%s", m->home.place.data, v->id);
    snprintf(t->frozen, sizeof(t->frozen), "%s", row_text(row->wanted, "frozen"));
    snprintf(t->append, sizeof(t->append), "%s", row_text(row->wanted, "boot"));
    if (job_cancelling(m, v->job))
        __atomic_store_n(&v->stop, 1, __ATOMIC_RELAXED);
    v->phase = PHASE_DONE;
    snprintf(t->vars, sizeof(t->vars), "%.4000s/machines/%s/" UEFI_VARS, m->home.place.data,
             row_text(row->wanted, "vm"));
    t->firmware = *row_text(row->wanted, "firmware");
    if (*row_text(row->wanted, "image") &&
        image_files(m, row_text(row->wanted, "image"), &t->from, &v->error) < 0) {
        kick(v);
        return;
    }
    timer_start(m->timers, &v->timer, LOOK_MS, show_progress, v);
    begin(v, image_template_work);
}

/* In the folder is what the machine's controller has put there. */
static void begin_template(struct image *v, struct store_row *row) {
    if (is_linked(v, row)) {
        start_template(v, row);
    } else if (v->error.code) {
        v->phase = PHASE_DONE;
        kick(v);
    } else {
        forget(v); /* that controller brings us back */
    }
}

static void step_building(struct image *v, struct store_row *row) {
    if (v->phase == PHASE_CLEAN && *row_text(row->spec, "from")) {
        begin_template(v, row);
        return;
    }
    switch (v->phase) {
    case PHASE_CLEAN: /* of what an earlier manager left */
        v->phase = PHASE_REMOVED;
        begin(v, image_remove_work);
        break;
    case PHASE_REMOVED:
        start_making(v, row);
        break;
    case PHASE_MAKE: /* the script tells when it has ended */
        break;
    case PHASE_TIDY:
        v->phase = PHASE_DONE;
        begin(v, image_tidy_work);
        break;
    case PHASE_DONE: /* of what has failed nothing stays */
        v->phase = v->error.code ? PHASE_FAILED : PHASE_DONE;
        if (v->error.code)
            begin(v, image_remove_work);
        else
            finish(v, row);
        break;
    case PHASE_FAILED:
        finish(v, row);
        break;
    }
}

/* ------------------------------------------------------------------ export */

static void finish_export(struct image *v, struct store_row *row) {
    bool cancelled = v->error.code && __atomic_load_n(&v->stop, __ATOMIC_RELAXED);
    const char *state = cancelled ? "cancelled" : v->error.code ? "failed" : "done";
    char text[600];

    timer_stop(&v->timer);
    snprintf(text, sizeof(text), "%s%s", v->error.code ? "" : "it is written to ",
             cancelled       ? "it was cancelled"
             : v->error.code ? v->error.text
                             : row_text(json_object_get(row->wanted, "export"), "file"));
    row_unset(row->wanted, "export");
    if (save(v, row, v->error.code ? "export-failed" : "exported", text, state))
        forget(v);
}

static void step_export(struct image *v, struct store_row *row) {
    if (v->phase == PHASE_DONE) {
        finish_export(v, row);
        return;
    }
    v->error = (struct error){0};
    snprintf(v->job, sizeof(v->job), "%s", row_text(row->status, "job"));
    v->transfer = new_transfer(v, row, json_object_get(row->wanted, "export"));
    v->phase = PHASE_DONE;
    timer_start(v->all->m->timers, &v->timer, LOOK_MS, show_progress, v);
    begin(v, image_export_work);
}

static void delete_row(struct image *v, struct store_row *row) {
    struct manager *m = v->all->m;
    struct error e = {0};

    if (store_begin(m->store, STORE_PROMISE, &e) == 0) {
        if (manager_event(m, row, "deleted", &e, "it is deleted") < 0 ||
            store_delete(m->store, "image", v->id, &e) < 0)
            store_rollback(m->store);
        else
            store_commit(m->store, &e);
    }
    if (e.code)
        log_line_about(LOG_LEVEL_ERROR, "image", v->id, "%s", e.text);
}

/* row NULL: a folder that belongs to nothing. */
static void step_delete(struct image *v, struct store_row *row) {
    if (v->phase != PHASE_REMOVED) {
        v->phase = PHASE_REMOVED;
        begin(v, image_remove_work);
    } else if (row) {
        delete_row(v, row);
    } else {
        forget(v);
    }
}

static void step(struct image *v) {
    struct store_row row = {0};
    const char *state;
    int r;

    if (v->busy)
        return;
    r = store_get(v->all->m->store, "image", v->id, &row);
    state = r == 0 ? row_text(row.status, "state") : "";
    if (r == -ENOENT)
        step_delete(v, NULL);
    else if (!strcmp(state, "deleting"))
        step_delete(v, &row);
    else if (!strcmp(state, "building"))
        step_building(v, &row);
    else if (!strcmp(state, "ready") && json_object_get(row.wanted, "export"))
        step_export(v, &row);
    else
        forget(v);
    store_row_done(&row);
}

/* ------------------------------------------------------------------ beginning and end */

struct images *images_new(struct manager *m, struct error *err) {
    struct images *is = calloc(1, sizeof(*is));

    if (!is)
        error_set(err, -ENOMEM, "images: out of memory");
    else
        is->m = m;
    return is;
}

static bool look_at_row(void *opaque, const struct store_text *t) {
    images_kick(opaque, t->id); /* few, and most are forgotten at once */
    return true;
}

void images_load(struct images *is) {
    struct store_query q = {.kind = "image"};
    int fd = fcntl(is->m->home.images, F_DUPFD_CLOEXEC, 0);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;

    store_list(is->m->store, &q, look_at_row, is);
    while (d && (e = readdir(d)))
        if (e->d_name[0] != '.' && strlen(e->d_name) < STORE_WORD)
            images_kick(is, e->d_name);
    if (d)
        closedir(d);
}

/* What is made is begun anew by the next manager. */
void images_leave_work(struct images *is) {
    for (struct image *v = is ? is->first : NULL; v; v = v->next)
        __atomic_store_n(&v->stop, 1, __ATOMIC_RELAXED);
}

void images_free(struct images *is) {
    struct image *next;

    for (struct image *v = is ? is->first : NULL; v; v = next) {
        next = v->next;
        release(v);
        free(v); /* the loop has stopped: nothing queued is called any more */
    }
    free(is);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is done with the disks of a machine: snapshots, ways back, files that nobody needs. */
#include "host/snapshot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "block/chain.h"
#include "host/image.h"
#include "host/layers.h"
#include "host/merge.h"
#include "host/snapshot_internal.h"
#include "host/snapshot_live.h"
#include "host/tree.h"
#include "host/vm.h"

/* Of a machine that goes, how many clones look whether they share files with nobody now; others do
 * so when they have another reason. */
enum { RELATIVES_MOST = 50 };

const char *snapshot_disk(const struct store_row *vm) {
    const char *file = row_text(vm->wanted, "disk");

    return *file ? file : "disk.qcow2";
}

const char *snapshot_restore(const struct store_row *vm) {
    return row_number(vm->wanted, "restore_cycle") == row_number(vm->wanted, "cycle")
               ? row_text(vm->wanted, "restore")
               : "";
}

/* ------------------------------------------------------------------ what is to be done */

static bool add_kept(void *opaque, const struct store_text *t) {
    struct snapshot_task *k = opaque;
    struct store_row row = {0};
    char folder[STORE_WORD + 10];

    if (store_get(k->m->store, "snapshot", t->id, &row) == 0 && *row_text(row.wanted, "file"))
        json_object_set_new(k->keep, row_text(row.wanted, "file"), json_true());
    store_row_done(&row);
    snprintf(folder, sizeof(folder), "memory.%s", t->id);
    json_object_set_new(k->keep, folder, json_true());
    return true;
}

int snapshot_list_of(struct manager *m, const char *vm,
                     bool (*fn)(void *opaque, const struct store_text *t), void *opaque) {
    json_t *id = json_string(vm);
    struct store_query q = {.kind = "snapshot", .filter = {{"status", "vm_id", id}}, .filters = 1};
    int r = store_list(m->store, &q, fn, opaque);

    json_decref(id);
    return r;
}

static bool has_disk(struct manager *m, const struct store_row *vm) {
    struct image_files files;

    return vm_files(m, vm, &files, NULL) == 0 && files.has_disk;
}

/* Not while it is to start or to end, which would have to wait. */
static bool may_tidy(const struct snapshot_task *t, const struct store_row *vm) {
    bool off = !strcmp(row_text(vm->spec, "power"), "off");

    return t->process ? !off : off;
}

static bool begin_tidy(struct snapshot_task *t, const struct store_row *vm) {
    struct image_files files = {.has_disk = false};
    char folder[STORE_WORD + 10];
    const json_t *merge = json_object_get(vm->wanted, "merge");

    snprintf(t->live.disk, sizeof(t->live.disk), "%s", snapshot_disk(vm));
    if (!may_tidy(t, vm))
        return false;
    vm_files(t->m, vm, &files, NULL);
    snprintf(t->base, sizeof(t->base), "%s", layers_base(&files));
    if (merge) {
        t->what = TASK_MERGE;
        snprintf(t->into, sizeof(t->into), "%s", row_text(merge, "into"));
        snprintf(t->from, sizeof(t->from), "%s", row_text(merge, "from"));
        return true;
    }
    t->what = TASK_TIDY;
    /* The memory of one that is suspended knows its files. */
    t->joins = !*row_text(vm->wanted, "suspended") && has_disk(t->m, vm);
    t->keep = json_object();
    json_object_set_new(t->keep, snapshot_disk(vm), json_true());
    snprintf(folder, sizeof(folder), "memory.%s", row_text(vm->wanted, "restore"));
    json_object_set_new(t->keep, folder, json_true());
    snprintf(folder, sizeof(folder), "memory.%s", row_text(vm->wanted, "suspended"));
    json_object_set_new(t->keep, folder, json_true());
    return snapshot_list_of(t->m, vm->id, add_kept, t) == 0;
}

static bool begin_change(struct snapshot_task *t, const struct store_row *vm, const json_t *task) {
    struct store_row snapshot = {0};

    t->what = strcmp(row_text(task, "do"), "revert") ? TASK_SNAPSHOT : TASK_REVERT;
    if (t->what == TASK_REVERT && t->process)
        return false; /* its end comes first */
    snprintf(t->snapshot, sizeof(t->snapshot), "%s", row_text(task, "snapshot"));
    store_get(t->m->store, "snapshot", t->snapshot, &snapshot);
    if (has_disk(t->m, vm)) {
        snprintf(t->live.disk, sizeof(t->live.disk), "%s",
                 t->what == TASK_REVERT ? row_text(snapshot.wanted, "file") : snapshot_disk(vm));
        snprintf(t->live.next, sizeof(t->live.next), "%s", row_text(task, "disk"));
    }
    snprintf(t->live.memory, sizeof(t->live.memory), "memory.%s", t->snapshot);
    t->live.with_memory = row_flag(snapshot.spec, "memory");
    store_row_done(&snapshot);
    return true;
}

static bool begin_clone(struct snapshot_task *t, const struct store_row *vm, const json_t *task) {
    const char *data = t->m->home.place.data;
    bool image;

    t->what = TASK_CLONE;
    snprintf(t->to, sizeof(t->to), "%s", row_text(task, "to"));
    snprintf(t->kind, sizeof(t->kind), "%s", row_text(task, "kind"));
    image = !strcmp(t->kind, "image");
    if (has_disk(t->m, vm)) {
        snprintf(t->live.disk, sizeof(t->live.disk), "%s", snapshot_disk(vm));
        snprintf(t->live.next, sizeof(t->live.next), "%s", row_text(task, "disk"));
    }
    t->live.with_memory = t->live.go_on = row_flag(task, "memory");
    snprintf(t->live.memory, sizeof(t->live.memory), "../%.30s/memory.%.30s", t->to, t->to);
    return snprintf(t->target, PATH_MAX, "%s/%s/%s", data, image ? "images" : "machines", t->to) <
           PATH_MAX - 100;
}

static bool begin_suspend(struct snapshot_task *t, const struct store_row *vm, const json_t *task) {
    t->what = TASK_SUSPEND;
    snprintf(t->live.memory, sizeof(t->live.memory), "memory.%.60s", row_text(task, "memory"));
    snprintf(t->was, sizeof(t->was), "%s", row_text(task, "was"));
    return true;
}

static bool begin(struct snapshot_task *t, const struct store_row *vm, const json_t *task) {
    const char *what = row_text(task, "do");

    t->live.agent = *row_text(vm->status, "agent");
    t->live.runs = !strcmp(row_text(vm->spec, "power"), "on");
    if (!task)
        return begin_tidy(t, vm);
    if (!strcmp(what, "clone"))
        return begin_clone(t, vm, task);
    return strcmp(what, "suspend") ? begin_change(t, vm, task) : begin_suspend(t, vm, task);
}

struct snapshot_task *snapshot_task_new(struct manager *m, const struct store_row *vm,
                                        bool process) {
    const json_t *task = json_object_get(vm->wanted, "task");
    struct snapshot_task *t;
    bool good;

    if (!task && !row_flag(vm->wanted, "tidy"))
        return NULL;
    t = calloc(1, sizeof(*t));
    if (!t)
        abort();
    t->m = m;
    t->process = process;
    t->revision = vm->revision;
    snprintf(t->id, sizeof(t->id), "%s", vm->id);
    good = snprintf(t->live.folder, sizeof(t->live.folder), "%s/machines/%s", m->home.place.data,
                    vm->id) < (int)sizeof(t->live.folder) - 100;
    good = good && begin(t, vm, task);
    if (good)
        return t;
    snapshot_task_free(t);
    return NULL;
}

void snapshot_task_stop(struct snapshot_task *t) {
    __atomic_store_n(&t->stop, 1, __ATOMIC_RELAXED);
}

void snapshot_task_look(struct snapshot_task *t, const struct store_row *vm) {
    bool other =
        json_object_get(vm->wanted, "task") || row_flag(vm->wanted, "deleting") || !may_tidy(t, vm);

    if (other)
        snapshot_task_stop(t);
}

bool snapshot_task_is_for_later(const struct snapshot_task *t) {
    bool can_wait = t->what == TASK_TIDY || t->what == TASK_MERGE;

    return can_wait && t->error.code && t->error.code != -ECANCELED;
}

void snapshot_task_free(struct snapshot_task *t) {
    if (!t)
        return;
    json_decref(t->keep);
    free(t);
}

/* ------------------------------------------------------------------ on a worker */

static bool exists(const struct snapshot_task *t, const char *name) {
    char path[PATH_MAX + 100];

    snprintf(path, sizeof(path), "%s/%s", t->live.folder, name);
    return access(path, F_OK) == 0 || errno != ENOENT;
}

/* Everything below what is kept is kept, too. Negative: it cannot be told. */
static int keep_below(struct snapshot_task *t) {
    json_t *tops = json_copy(t->keep), *v;
    const char *top;
    int r = 0;

    json_object_foreach(tops, top, v) {
        char name[100];

        snprintf(name, sizeof(name), "%.90s", top);
        for (int i = 0; i < CHAIN_MAX_DEPTH && layers_is_disk(name) && r == 0; i++) {
            json_object_set_new(t->keep, name, json_true());
            r = exists(t, name) ? layers_below(t->live.folder, name, name, &t->error) : 0;
        }
    }
    json_decref(tops);
    return r;
}

/* What must stay as it is: what the machine writes, and what snapshots have frozen. */
static void find_merge(struct snapshot_task *t, const json_t *needed) {
    if (!t->joins || merge_find(t->live.folder, needed, t->into, t->from, &t->error) <= 0)
        *t->into = 0;
}

static void merge(struct snapshot_task *t) {
    char control[PATH_MAX + 100];
    struct merge m = {.folder = t->live.folder,
                      .disk = t->live.disk,
                      .base = t->base,
                      .control = t->process ? control : NULL,
                      .stop = &t->stop};

    snprintf(control, sizeof(control), "%s/control", t->live.folder);
    snprintf(m.into, sizeof(m.into), "%s", t->into);
    snprintf(m.from, sizeof(m.from), "%s", t->from);
    merge_do(&m, &t->error);
}

static void tidy(struct snapshot_task *t) {
    json_t *needed = json_copy(t->keep);
    int fd = open(t->live.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;

    if (!d)
        error_set(&t->error, -errno, "the folder '%s' cannot be read: %s", t->live.folder,
                  strerror(errno));
    if (!d || keep_below(t) < 0) { /* rather too much than too little */
        if (d)
            closedir(d);
        json_decref(needed);
        return;
    }
    while ((e = readdir(d))) {
        bool disk = layers_is_disk(e->d_name);
        bool memory = !strncmp(e->d_name, "memory.", 7);

        if ((disk || memory) && !json_object_get(t->keep, e->d_name))
            tree_remove(fd, e->d_name, NULL);
    }
    closedir(d);
    find_merge(t, needed);
    json_decref(needed);
}

/* One that has written nothing since it was frozen last stands on what a copy may stand on. */
static bool is_frozen(struct snapshot_task *t) {
    char below[LAYER_NAME];
    bool empty = false;

    if (t->process || !*t->live.disk || exists(t, t->live.next) ||
        layers_is_empty(t->live.folder, t->live.disk, &empty, NULL) < 0 || !empty ||
        layers_below(t->live.folder, t->live.disk, below, NULL) < 0 || !*below)
        return false;
    snprintf(t->live.disk, sizeof(t->live.disk), "%s", below);
    *t->live.next = 0;
    return true;
}

static void freeze(struct snapshot_task *t) {
    if (t->process)
        snapshot_live(&t->live, &t->error);
    else if (*t->live.disk)
        layers_put_on_top(t->live.folder, t->live.disk, t->live.next, &t->error);
}

/* What the copy stands on comes into its folder. */
static void clone(struct snapshot_task *t) {
    if (layers_link(t->live.folder, "", t->target, &t->error) < 0)
        return;
    if (!is_frozen(t))
        freeze(t);
    if (!t->error.code && t->live.with_memory && !t->live.memory_done)
        error_set(&t->error, -EIO,
                  "its memory was not written: it does not run any more, or the "
                  "manager was ended in the middle; begin again");
    if (!t->error.code)
        layers_link(t->live.folder, t->live.disk, t->target, &t->error);
}

void snapshot_task_work(struct snapshot_task *t) {
    if (t->what == TASK_TIDY)
        tidy(t);
    else if (t->what == TASK_MERGE)
        merge(t);
    else if (t->what == TASK_CLONE)
        clone(t);
    else if (t->what == TASK_SUSPEND)
        snapshot_suspend(&t->live, t->process, &t->error);
    else if (t->what == TASK_SNAPSHOT)
        freeze(t);
    else if (*t->live.disk)
        layers_put_on_top(t->live.folder, t->live.disk, t->live.next, &t->error);
}

/* ------------------------------------------------------------------ the end of a machine */

struct ids {
    json_t *list;
};

static bool add_id(void *opaque, const struct store_text *t) {
    struct ids *ids = opaque;

    json_array_append_new(ids->list, json_string(t->id));
    return true;
}

int snapshot_forget_all(struct manager *m, const struct store_row *vm, struct error *err) {
    struct ids ids = {json_array()};
    int r = snapshot_list_of(m, vm->id, add_id, &ids);
    json_t *id;
    size_t i;

    json_array_foreach(ids.list, i, id)
        if (r == 0)
            r = store_delete(m->store, "snapshot", json_string_value(id), err);
    json_decref(ids.list);
    return r;
}

/* ------------------------------------------------------------------ what stood on its files */

static void want_tidy(struct manager *m, const char *id, struct error *err) {
    struct store_row vm = {0};

    if (store_get(m->store, "vm", id, &vm) == 0 && !row_flag(vm.wanted, "deleting") &&
        row_flag(vm.wanted, "prepared")) {
        json_object_set_new(vm.wanted, "tidy", json_true());
        if (!*row_text(vm.status, "work"))
            row_set_text(vm.status, "work", "tidy");
        store_update(m->store, &vm, err);
    }
    store_row_done(&vm);
}

void snapshot_shares_no_more(struct manager *m, const char *from, const char *id,
                             struct error *err) {
    struct ids ids = {json_array()};
    json_t *value = json_string(id), *one;
    struct store_query q = {.kind = "vm",
                            .limit = RELATIVES_MOST,
                            .filter = {{"status", "cloned_from", value}},
                            .filters = 1};
    size_t i;

    if (*from)
        want_tidy(m, from, err);
    store_list(m->store, &q, add_id, &ids);
    json_array_foreach(ids.list, i, one)
        want_tidy(m, json_string_value(one), err);
    json_decref(ids.list);
    json_decref(value);
}

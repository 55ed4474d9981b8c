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
#include "host/snapshot_live.h"
#include "host/tree.h"

struct snapshot_task {
    enum { SNAPSHOT, REVERT, TIDY } what;
    struct manager *m;
    struct snapshot_live live; /* folder, disks; the rest for a machine that runs */
    char id[STORE_WORD];       /* of the machine */
    char snapshot[STORE_WORD];
    bool process;
    json_t *keep; /* names of files and folders: an object */
    struct error error;
};

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

static int list_snapshots(struct manager *m, const char *vm,
                          bool (*fn)(void *opaque, const struct store_text *t), void *opaque) {
    json_t *id = json_string(vm);
    struct store_query q = {.kind = "snapshot", .filter = {{"status", "vm_id", id}}, .filters = 1};
    int r = store_list(m->store, &q, fn, opaque);

    json_decref(id);
    return r;
}

static bool begin_tidy(struct snapshot_task *t, const struct store_row *vm) {
    char folder[STORE_WORD + 10];

    t->what = TIDY;
    t->keep = json_object();
    json_object_set_new(t->keep, snapshot_disk(vm), json_true());
    snprintf(folder, sizeof(folder), "memory.%s", row_text(vm->wanted, "restore"));
    json_object_set_new(t->keep, folder, json_true());
    return list_snapshots(t->m, vm->id, add_kept, t) == 0;
}

static bool begin_change(struct snapshot_task *t, const struct store_row *vm, const json_t *task) {
    struct store_row snapshot = {0};
    struct image_files files;
    bool has_disk =
        image_files(t->m, row_text(vm->status, "image_id"), &files, NULL) == 0 && *files.disk;

    t->what = strcmp(row_text(task, "do"), "revert") ? SNAPSHOT : REVERT;
    if (t->what == REVERT && t->process)
        return false; /* its end comes first */
    snprintf(t->snapshot, sizeof(t->snapshot), "%s", row_text(task, "snapshot"));
    store_get(t->m->store, "snapshot", t->snapshot, &snapshot);
    if (has_disk) {
        snprintf(t->live.disk, sizeof(t->live.disk), "%s",
                 t->what == REVERT ? row_text(snapshot.wanted, "file") : snapshot_disk(vm));
        snprintf(t->live.next, sizeof(t->live.next), "%s", row_text(task, "disk"));
    }
    snprintf(t->live.memory, sizeof(t->live.memory), "memory.%s", t->snapshot);
    t->live.with_memory = row_flag(snapshot.spec, "memory");
    t->live.agent = *row_text(vm->status, "agent");
    t->live.runs = !strcmp(row_text(vm->spec, "power"), "on");
    store_row_done(&snapshot);
    return true;
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
    snprintf(t->id, sizeof(t->id), "%s", vm->id);
    good = snprintf(t->live.folder, sizeof(t->live.folder), "%s/machines/%s", m->home.place.data,
                    vm->id) < (int)sizeof(t->live.folder) - 100;
    good = good && (task ? begin_change(t, vm, task) : begin_tidy(t, vm));
    if (good)
        return t;
    snapshot_task_free(t);
    return NULL;
}

void snapshot_task_free(struct snapshot_task *t) {
    if (!t)
        return;
    json_decref(t->keep);
    free(t);
}

/* ------------------------------------------------------------------ on a worker */

static struct chain *open_layer(const struct snapshot_task *t, const char *name,
                                struct error *err) {
    char path[PATH_MAX + 100];
    struct chain_options o = {.path = path,
                              .format = "qcow2",
                              .readonly = true,
                              .no_backing = true,
                              .no_lock = true,
                              .no_repair = true};

    snprintf(path, sizeof(path), "%s/%s", t->live.folder, name);
    return chain_open(&o, err);
}

/* The next file on top of `disk`. One that is there and whole may hold what a guest wrote after a
 * manager that was killed: it stays. */
static int put_on_top(struct snapshot_task *t, struct error *err) {
    char part[PATH_MAX + 100], path[PATH_MAX + 100];
    struct chain *there, *base;
    struct chain_create c = {
        .path = part, .format = "qcow2", .backing = t->live.disk, .backing_format = "qcow2"};

    if (!*t->live.disk)
        return 0;
    there = open_layer(t, t->live.next, NULL);
    chain_close(there);
    if (there)
        return 0;
    base = open_layer(t, t->live.disk, err);
    if (!base)
        return -EIO;
    c.size = base->size;
    chain_close(base);
    snprintf(path, sizeof(path), "%s/%s", t->live.folder, t->live.next);
    snprintf(part, sizeof(part), "%s/%s.part", t->live.folder, t->live.next);
    unlink(part);
    if (chain_create(&c, err) < 0)
        return -EIO;
    if (rename(part, path) < 0)
        return error_set(err, -errno, "'%s' cannot be made: %s", path, strerror(errno));
    return 0;
}

static bool is_disk(const char *name) {
    const char *dot = strrchr(name, '.');

    return !strncmp(name, "disk.", 5) && dot && !strcmp(dot, ".qcow2");
}

/* The file that `name` lies on, by its name in the same folder, into `name`. False: it cannot be
 * told. */
static bool below(const struct snapshot_task *t, char *name, size_t size) {
    char path[PATH_MAX + 100];
    struct qcow2_info info;
    const char *slash;
    struct chain *c;

    snprintf(path, sizeof(path), "%s/%s", t->live.folder, name);
    if (access(path, F_OK) < 0 && errno == ENOENT) {
        *name = 0;
        return true;
    }
    c = open_layer(t, name, NULL);
    if (!c)
        return false;
    qcow2_info(c->qcow2, &info);
    chain_close(c);
    slash = strrchr(info.backing, '/');
    snprintf(name, size, "%.90s", slash ? slash + 1 : info.backing);
    return true;
}

/* Everything below what is kept is kept, too. False: it cannot be told. */
static bool keep_below(struct snapshot_task *t) {
    json_t *tops = json_copy(t->keep), *v;
    const char *top;
    bool good = true;

    json_object_foreach(tops, top, v) {
        char name[100];

        snprintf(name, sizeof(name), "%.90s", top);
        for (int i = 0; i < CHAIN_MAX_DEPTH && is_disk(name) && good; i++) {
            json_object_set_new(t->keep, name, json_true());
            good = below(t, name, sizeof(name));
        }
    }
    json_decref(tops);
    return good;
}

static void tidy(struct snapshot_task *t) {
    int fd = open(t->live.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;

    if (!d || !keep_below(t)) { /* rather too much than too little */
        if (d)
            closedir(d);
        return;
    }
    while ((e = readdir(d))) {
        bool disk = is_disk(e->d_name);
        bool memory = !strncmp(e->d_name, "memory.", 7);

        if ((disk || memory) && !json_object_get(t->keep, e->d_name))
            tree_remove(fd, e->d_name, NULL);
    }
    closedir(d);
}

void snapshot_task_work(struct snapshot_task *t) {
    if (t->what == TIDY)
        tidy(t);
    else if (t->what == SNAPSHOT && t->process)
        snapshot_live(&t->live, &t->error);
    else
        put_on_top(t, &t->error);
}

/* ------------------------------------------------------------------ what came of it */

/* The machine goes on from that snapshot. */
static void set_base(struct store_row *vm, const struct store_row *row) {
    row_set_text(vm->wanted, "base", row->id);
    row_set_text(vm->status, "snapshot", row->id);
}

static void note_snapshot(struct snapshot_task *t, struct store_row *vm, struct store_row *row) {
    json_object_del(vm->wanted, "task");
    if (t->error.code) {
        row_set_state(row, "failed", t->error.text);
        json_object_set_new(vm->wanted, "tidy", json_true());
        return;
    }
    if (*t->live.disk) {
        row_set_text(row->wanted, "file", t->live.disk);
        row_set_text(vm->wanted, "disk", t->live.next);
    }
    if (t->live.memory_done)
        json_object_set_new(row->status, "live", json_true());
    set_base(vm, row);
    row_set_state(row, "ready", NULL);
}

static void note_revert(struct snapshot_task *t, struct store_row *vm, struct store_row *row) {
    int64_t cycle = row_number(vm->wanted, "cycle") + 1;

    json_object_del(vm->wanted, "task");
    row_set_state(row, "ready", t->error.code ? t->error.text : NULL);
    if (t->error.code)
        return;
    if (*t->live.next)
        row_set_text(vm->wanted, "disk", t->live.next);
    set_base(vm, row);
    json_object_set_new(vm->wanted, "tidy", json_true());
    if (!row_flag(row->status, "live"))
        return;
    row_set_text(vm->wanted, "restore", row->id);
    row_set_number(vm->wanted, "restore_cycle", cycle);
    row_set_number(vm->wanted, "cycle", cycle);
    row_set_text(vm->spec, "power", "on");
    row_set_state(vm, "starting", NULL);
}

int snapshot_task_finish(struct manager *m, struct store_row *vm, struct snapshot_task *t,
                         struct error *err) {
    struct store_row row = {0};
    bool failed = t->error.code;
    int r;

    if (t->what == TIDY) {
        json_object_del(vm->wanted, "tidy");
    } else {
        if (store_get(m->store, "snapshot", t->snapshot, &row) < 0)
            return error_set(err, -EIO, "the snapshot of '%s' cannot be read", vm->name);
        if (t->what == SNAPSHOT)
            note_snapshot(t, vm, &row);
        else
            note_revert(t, vm, &row);
    }
    row_set_text(vm->status, "work",
                 json_object_get(vm->wanted, "task") ? row_text(vm->status, "work")
                 : row_flag(vm->wanted, "tidy")      ? "tidy"
                                                     : NULL);
    r = store_begin(m->store, STORE_PROMISE, err);
    if (r == 0) {
        r = store_update(m->store, vm, err);
        if (r == 0 && row.status)
            r = store_update(m->store, &row, err);
        if (r == 0 && row.status)
            r = manager_event(m, &row,
                              failed              ? "failed"
                              : t->what == REVERT ? "reverted"
                                                  : "made",
                              err, "%s", failed ? t->error.text : "it is done");
        if (r < 0)
            store_rollback(m->store);
        else
            r = store_commit(m->store, err);
    }
    store_row_done(&row);
    return r;
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
    int r = list_snapshots(m, vm->id, add_id, &ids);
    json_t *id;
    size_t i;

    json_array_foreach(ids.list, i, id)
        if (r == 0)
            r = store_delete(m->store, "snapshot", json_string_value(id), err);
    json_decref(ids.list);
    return r;
}

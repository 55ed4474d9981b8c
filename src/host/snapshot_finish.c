/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writing down what came of a task on a machine's disks. */
#include "host/snapshot_internal.h"

#include <errno.h>
#include <string.h>

#include "host/image.h"
#include "host/vm.h"

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
    row_unset(vm->wanted, "suspended"); /* does not fit that disk */
    if (!strcmp(row_text(vm->status, "state"), "suspended"))
        row_set_state(vm, "stopped", NULL);
    json_object_set_new(vm->wanted, "tidy", json_true());
    if (!row_flag(row->status, "live"))
        return;
    json_object_del(vm->wanted, "nics");
    if (json_object_get(row->wanted, "nics"))
        json_object_set(vm->wanted, "nics", json_object_get(row->wanted, "nics"));
    row_set_text(vm->wanted, "restore", row->id);
    row_set_number(vm->wanted, "restore_cycle", cycle);
    row_set_number(vm->wanted, "cycle", cycle);
    row_set_text(vm->spec, "power", "on");
    row_set_state(vm, "starting", NULL);
}

/* `row` is the copy's; it may be gone, or be going. */
static void note_clone(struct snapshot_task *t, struct store_row *vm, struct store_row *row) {
    json_object_del(vm->wanted, "task");
    if (*t->live.next && !t->error.code)
        row_set_text(vm->wanted, "disk", t->live.next);
    if (!row->status)
        return;
    row_set_text(row->wanted, "frozen", t->live.disk);
    row_set_number(row->wanted, "layer", row_number(vm->wanted, "layer"));
    json_object_set_new(row->wanted, t->error.code ? "broken" : "linked", json_true());
    if (t->error.code)
        row_set_text(row->wanted, "why", t->error.text);
}

static void note_suspend(struct snapshot_task *t, struct store_row *vm) {
    bool ended = row_number(vm->wanted, "ended") >= row_number(vm->wanted, "cycle");

    json_object_del(vm->wanted, "task");
    if (!t->error.code) {
        row_set_text(vm->wanted, "suspended", t->live.memory + strlen("memory."));
        row_set_state(vm, ended ? "suspended" : "suspending", NULL);
    } else if (ended) {
        row_set_state(vm, "failed", "it ended before its memory was written");
        json_object_set_new(vm->wanted, "tidy", json_true());
    } else {
        row_set_text(vm->spec, "power", t->was);
    }
}

static void note_tidy(struct snapshot_task *t, struct store_row *vm) {
    if (*t->into) /* written down before it is begun */
        json_object_set_new(vm->wanted, "merge",
                            json_pack("{s:s, s:s}", "into", t->into, "from", t->from));
    else if (!t->error.code && vm->revision == t->revision) /* else there may be more by now */
        json_object_del(vm->wanted, "tidy");
}

struct moved {
    struct snapshot_task *t;
    struct error *err;
    int r;
};

static bool move_snapshot(void *opaque, const struct store_text *text) {
    struct moved *m = opaque;
    struct store_row row = {0};

    m->r = store_get(m->t->m->store, "snapshot", text->id, &row);
    if (m->r == 0 && !strcmp(row_text(row.wanted, "file"), m->t->from)) {
        row_set_text(row.wanted, "file", m->t->into);
        m->r = store_update(m->t->m->store, &row, m->err);
    }
    store_row_done(&row);
    return m->r == 0;
}

/* Within the transaction: what stood on the one stands on the other. */
static int note_merge(struct snapshot_task *t, struct store_row *vm, bool again,
                      struct error *err) {
    struct moved m = {t, err, 0};

    if (t->error.code == -ECANCELED)
        return 0; /* again, when there is time for it */
    json_object_del(vm->wanted, "merge");
    if (t->error.code)
        return again ? 0 : manager_event(t->m, vm, "merge-failed", err, "%s", t->error.text);
    if (!strcmp(snapshot_disk(vm), t->from))
        row_set_text(vm->wanted, "disk", t->into);
    snapshot_list_of(t->m, vm->id, move_snapshot, &m);
    return m.r;
}

static const char *event_of(const struct snapshot_task *t) {
    bool failed = t->error.code;

    switch (t->what) {
    case TASK_SUSPEND:
        return failed ? "suspend-failed" : "suspended";
    case TASK_CLONE:
        return failed ? "clone-failed" : "cloned";
    case TASK_REVERT:
        return failed ? "failed" : "reverted";
    default:
        return failed ? "failed" : "made";
    }
}

/* The other row of the task: a snapshot, or a copy. */
static int get_other(struct snapshot_task *t, struct store_row *row, struct error *err) {
    if (t->what == TASK_CLONE) {
        store_get(t->m->store, t->kind, t->to, row);
        return 0;
    }
    if (t->what == TASK_TIDY || t->what == TASK_MERGE || t->what == TASK_SUSPEND ||
        store_get(t->m->store, "snapshot", t->snapshot, row) == 0)
        return 0;
    return error_set(err, -EIO, "the snapshot cannot be read");
}

static void note_work(const struct snapshot_task *t, struct store_row *vm) {
    bool tidies = row_flag(vm->wanted, "tidy") && !snapshot_task_is_for_later(t);

    row_set_text(vm->status, "work",
                 json_object_get(vm->wanted, "task") ? row_text(vm->status, "work")
                 : tidies                            ? "tidy"
                                                     : NULL);
}

static int save(struct snapshot_task *t, struct store_row *vm, struct store_row *row, bool again,
                struct error *err) {
    struct store *s = t->m->store;
    int r = store_begin(s, STORE_PROMISE, err);

    if (r < 0)
        return r;
    if (t->what == TASK_MERGE)
        r = note_merge(t, vm, again, err);
    note_work(t, vm);
    if (r == 0)
        r = store_update(s, vm, err);
    if (r == 0 && row->status)
        r = store_update(s, row, err);
    if (r == 0 && t->what != TASK_TIDY && t->what != TASK_MERGE)
        r = manager_event(t->m, t->what == TASK_SUSPEND || !row->status ? vm : row, event_of(t),
                          err, "%s", t->error.code ? t->error.text : "it is done");
    if (r < 0)
        store_rollback(s);
    return r < 0 ? r : store_commit(s, err);
}

int snapshot_task_finish(struct manager *m, struct store_row *vm, struct snapshot_task *t,
                         bool again, struct error *err) {
    struct store_row row = {0};
    int r = get_other(t, &row, err);

    if (r < 0)
        return r;
    if (t->what == TASK_TIDY)
        note_tidy(t, vm);
    else if (t->what == TASK_SNAPSHOT)
        note_snapshot(t, vm, &row);
    else if (t->what == TASK_REVERT)
        note_revert(t, vm, &row);
    else if (t->what == TASK_CLONE)
        note_clone(t, vm, &row);
    else if (t->what == TASK_SUSPEND)
        note_suspend(t, vm);
    r = save(t, vm, &row, again, err);
    if (r == 0 && t->what == TASK_CLONE && !row.status && !strcmp(t->kind, "vm"))
        machines_kick(m->machines, t->to); /* a folder that is nobody's */
    else if (r == 0 && t->what == TASK_CLONE && !row.status)
        images_kick(m->images, t->to);
    store_row_done(&row);
    return r;
}

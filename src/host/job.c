/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Jobs as rows, and their operations. */
#include "host/job.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "host/api.h"
#include "proto/units.h"

enum { KEEP_MS = 7 * 24 * 3600 * 1000, PRUNE_MOST = 50 };

struct old {
    char id[PRUNE_MOST][STORE_WORD];
    unsigned count;
    int64_t before;
};

static bool note_old(void *opaque, const struct store_text *t) {
    struct old *o = opaque;

    if (t->created < o->before && !strstr(t->status, "\"running\""))
        snprintf(o->id[o->count++], STORE_WORD, "%s", t->id);
    return o->count < PRUNE_MOST;
}

static void forget_old(struct manager *m) {
    struct old o = {.before = units_now_ms() - KEEP_MS};
    struct store_query q = {.kind = "job"};

    store_list(m->store, &q, note_old, &o);
    for (unsigned i = 0; i < o.count; i++)
        store_delete(m->store, "job", o.id[i], NULL);
}

int job_new(struct manager *m, const char *tenant, const char *action, const char *object,
            struct store_row *ret, struct error *err) {
    *ret = (struct store_row){
        .kind = "job", .spec = json_object(), .status = json_object(), .wanted = json_object()};
    snprintf(ret->tenant, sizeof(ret->tenant), "%s", tenant);
    row_set_text(ret->spec, "action", action);
    row_set_text(ret->spec, "object", object);
    row_set_text(ret->status, "state", "running");
    row_set_number(ret->status, "progress", 0);
    forget_old(m);
    return store_insert(m->store, ret, err);
}

int job_end(struct manager *m, const char *id, const char *state, const char *reason,
            struct error *err) {
    struct store_row row = {0};
    int r = store_get(m->store, "job", id, &row);

    if (r < 0) /* forgotten meanwhile */
        return 0;
    if (!strcmp(row_text(row.status, "state"), "running")) {
        row_set_text(row.status, "state", state);
        row_set_text(row.status, "reason", reason);
        row_set_time(row.status, "ended", units_now_ms());
        if (!strcmp(state, "done"))
            row_set_number(row.status, "progress", 100);
        r = store_update(m->store, &row, err);
    }
    store_row_done(&row);
    return r;
}

void job_note(struct manager *m, const char *id, int percent, const char *stage) {
    struct store_row row = {0};
    struct error e = {0};

    if (store_get(m->store, "job", id, &row) < 0)
        return;
    if (row_number(row.status, "progress") != percent ||
        strcmp(row_text(row.status, "stage"), stage) != 0) {
        row_set_number(row.status, "progress", percent);
        row_set_text(row.status, "stage", stage);
        if (store_begin(m->store, STORE_NOTE, &e) == 0 &&
            (store_update(m->store, &row, &e) < 0 || store_commit(m->store, &e) < 0))
            store_rollback(m->store);
        if (e.code)
            log_warning("%s", e.text);
    }
    store_row_done(&row);
}

bool job_cancelling(struct manager *m, const char *id) {
    struct store_row row = {0};
    bool yes = store_get(m->store, "job", id, &row) == 0 && row_flag(row.status, "cancelling");

    store_row_done(&row);
    return yes;
}

static int cancel(struct api_call *call) {
    struct error e = {0};

    if (strcmp(row_text(call->row.status, "state"), "running") != 0)
        return api_fail(call, FAILURE_CONFLICT, "status.state", "", "the job '%s' is %s already",
                        call->row.name, row_text(call->row.status, "state"));
    json_object_set_new(call->row.status, "cancelling", json_true());
    return store_update(call->m->store, &call->row, &e) < 0 ? api_fail_error(call, &e) : 0;
}

static enum wait_result over(const struct store_row *row, const char *word, int64_t revision) {
    if (!row || strcmp(row_text(row->status, "state"), "running") != 0)
        return WAIT_OVER;
    return revision && row->revision > revision ? WAIT_OVER : WAIT_MORE;
}

static int wait_for(struct api_call *call) {
    return wait_begin(call, over, "", row_number(call->args, "revision"),
                      row_number(call->args, "timeout"));
}

const struct api_handler job_handlers[] = {{"cancel", cancel}, {"wait", wait_for}, {NULL, NULL}};

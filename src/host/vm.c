/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Machines: what is done about each.
 *
 * Theory of operation. `step` looks at a machine's row and at what there is of it on the host, does
 * the one thing that comes next, and is called again when something has changed: the row, the
 * process (its pidfd), the control socket, work of a worker, a timer. It may be called at any time.
 * What it learns it writes into the row in one transaction; what it does in between can be seen on
 * the host again (vm_process.h), so that nothing depends on its memory.
 */
#include "host/vm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "host/history.h"
#include "host/snapshot.h"
#include "host/vm_agent.h"
#include "host/vm_control.h"
#include "host/vm_impl.h"
#include "host/worker.h"

void machine_path(const struct manager *m, const char *id, const char *file, char *out, size_t n) {
    snprintf(out, n, "/proc/self/fd/%d/%s/%s", m->home.machines, id, file);
}

bool vm_settled(const char *state) {
    return !strcmp(state, "stopped") || !strcmp(state, "running") || !strcmp(state, "paused") ||
           !strcmp(state, "failed") || !strcmp(state, "suspended");
}

/* ------------------------------------------------------------------ the list of them */

static struct machine *find(const struct machines *ms, const char *id) {
    for (struct machine *v = ms->first; v; v = v->next)
        if (!strcmp(v->id, id))
            return v;
    return NULL;
}

static struct machine *machine_new(struct machines *ms, const char *id) {
    struct machine *v = calloc(1, sizeof(*v));

    if (!v)
        abort(); /* a machine that is not looked after would be worse */
    v->all = ms;
    snprintf(v->id, sizeof(v->id), "%s", id);
    v->folder = -1;
    v->process.pidfd = -1;
    v->next = ms->first;
    v->link = &ms->first;
    if (v->next)
        v->next->link = &v->next;
    ms->first = v;
    ms->active++;
    return v;
}

void machine_leave_agent(struct machine *v) {
    vm_probe_free(v->probe);
    v->probe = NULL;
    vm_agent_cancel(v->asking);
    v->asking = NULL;
    v->agent_asked = false;
}

/* It has answered, or will not. */
void machine_usage_over(struct machine *v) {
    unsigned round = v->usage_round;

    v->usage_round = 0;
    if (round)
        usage_came(v->all->m->usages, round);
}

void machine_usage_lost(struct machine *v) {
    v->usage = (struct usage){0};
    machine_usage_over(v);
}

/* Nothing is to be done about it, or the manager ends. */
static void release(struct machine *v) {
    timer_stop(&v->timer);
    timer_stop(&v->note);
    loop_remove(v->watch);
    machine_leave_agent(v);
    machine_forwards_lost(v);
    machine_medium_lost(v);
    machine_disks_lost(v);
    machine_nics_lost(v);
    machine_devices_lost(v);
    machine_live_lost(v);
    free(v->lending);
    v->lending = NULL;
    snapshot_task_free(v->task);
    v->task = NULL;
    machine_renew_free(v);
    vm_control_close(v->control);
    vm_process_close(&v->process);
    if (v->folder >= 0)
        close(v->folder);
}

void machine_forget(struct machine *v) {
    if (v->renewal)
        return; /* its end brings us back */
    *v->link = v->next;
    if (v->next)
        v->next->link = v->link;
    v->all->active--;
    machine_not_starting(v);
    machine_usage_lost(v);
    history_end(v->all->m->histories, &v->history);
    release(v);
    v->forgotten = true;
    if (!v->queued)
        free(v);
}

static void queued_step(void *opaque) {
    struct machine *v = opaque;

    v->queued = false;
    if (v->forgotten)
        free(v);
    else
        machine_step(v);
}

void machine_kick(struct machine *v) {
    if (!v->queued)
        loop_post(v->all->m->loop, queued_step, v);
    v->queued = true;
}

static void timer_step(void *opaque) { machine_kick(opaque); }

/* Of several times the first counts. */
void machine_again_in(struct machine *v, int64_t ms) {
    int64_t due = timer_now_ms() + (ms < 1 ? 1 : ms);

    if (v->due && v->due <= due)
        return;
    v->due = due;
    timer_start(v->all->m->timers, &v->timer, ms < 1 ? 1 : ms, timer_step, v);
}

void machines_kick(struct machines *ms, const char *id) {
    struct machine *v = find(ms, id);

    machine_kick(v ? v : machine_new(ms, id));
}

void machines_job_changed(struct machines *ms, const char *job) {
    for (struct machine *v = ms->first; v; v = v->next)
        if (!strcmp(v->job, job))
            machine_look_at_work(v);
}

void machines_want_agent(struct machines *ms, const char *id, int64_t seconds) {
    struct machine *v = find(ms, id);

    if (v && v->probe)
        vm_probe_wanted(v->probe, seconds);
}

unsigned machines_active(const struct machines *ms) { return ms->active; }

unsigned machines_ask_usage(struct machines *ms, unsigned round) {
    unsigned asked = 0;

    for (struct machine *v = ms->first; v; v = v->next) {
        if (!v->up || v->usage_round)
            continue;
        v->usage_round = round;
        vm_control_send_args(v->control, "stats", v->old_stats ? NULL : usage_question());
        asked++;
    }
    return asked;
}

const struct usage *machine_usage(const struct machines *ms, const char *id) {
    const struct machine *v = find(ms, id);

    /* Who did not answer is not known, whatever it said before. */
    return v && v->up && !v->usage_round ? &v->usage : NULL;
}

unsigned machines_saw(struct machines *ms, struct histories *h) {
    unsigned up = 0;

    for (struct machine *v = ms->first; v; v = v->next) {
        history_saw(h, v->id, v->up && !v->usage_round ? &v->usage : NULL, &v->history);
        up += v->up;
    }
    return up;
}

/* ------------------------------------------------------------------ rows */

void machine_save_row_failed(struct machine *v, const struct error *e) {
    log_line_about(LOG_LEVEL_ERROR, "vm", v->id, "%s", e->text);
    machine_again_in(v, 1000); /* what was to be written is found out again */
}

/* Writes the row, with an event if `what` is not NULL. */
bool machine_save_row(struct machine *v, struct store_row *row, enum store_durability durability,
                      const char *what, const char *text) {
    struct manager *m = v->all->m;
    struct error e = {0};

    if (store_begin(m->store, durability, &e) == 0) {
        if ((what && manager_event(m, row, what, &e, "%s", text) < 0) ||
            store_update(m->store, row, &e) < 0)
            store_rollback(m->store);
        else if (store_commit(m->store, &e) == 0)
            return true;
    }
    machine_save_row_failed(v, &e);
    return false;
}

/* An event alone. */
void machine_tell(struct machine *v, const char *what, const char *text) {
    struct manager *m = v->all->m;
    struct store_row row = {0};
    struct error e = {0};

    if (store_get(m->store, "vm", v->id, &row) == 0 && store_begin(m->store, STORE_NOTE, &e) == 0 &&
        (manager_event(m, &row, what, &e, "%s", text) < 0 || store_commit(m->store, &e) < 0))
        store_rollback(m->store);
    store_row_done(&row);
}

bool machine_open_folder(struct machine *v) {
    if (v->folder < 0)
        v->folder = openat(v->all->m->home.machines, v->id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return v->folder >= 0;
}

void machine_not_made(struct machine *v, struct store_row *row, const struct error *e) {
    row_set_text(row->spec, "power", "off");
    row_set_state(row, "failed", e->text);
    machine_save_row(v, row, STORE_PROMISE, "failed", e->text);
}

void machine_step(struct machine *v) {
    struct machines *ms = v->all;
    unsigned starting = ms->starting;
    bool waited = v->waiting;
    struct store_row row = {0};
    int r;

    if (v->busy) {
        machine_look_at_work(v);
        return;
    }
    v->waiting = false;
    v->due = 0;
    timer_stop(&v->timer);
    r = store_get(ms->m->store, "vm", v->id, &row);
    if (r == 0)
        machine_step_row(v, &row);
    else if (r == -ENOENT)
        machine_step_delete(v, NULL);
    else
        machine_again_in(v, 1000);
    store_row_done(&row);
    if (waited && ms->starting == starting && starting < ms->most_starting)
        machines_next_turn(ms); /* it did not take its turn after all */
}

/* ------------------------------------------------------------------ beginning and end */

struct machines *machines_new(struct manager *m, struct error *err) {
    struct machines *ms = calloc(1, sizeof(*ms));
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);

    if (!ms) {
        error_set(err, -ENOMEM, "machines: out of memory");
        return NULL;
    }
    ms->m = m;
    ms->renewers = workers_new(m->loop, err);
    if (!ms->renewers) {
        free(ms);
        return NULL;
    }
    ms->most_starting = cpus > 2 ? 2 * (unsigned)cpus : 4;
    return ms;
}

/* What is compact JSON of ours may be looked at as text. */
static bool look_at_row(void *opaque, const struct store_text *t) {
    bool rests =
        strstr(t->spec, "\"power\":\"off\"") && !strstr(t->status, "\"work\":\"") &&
        !strstr(t->status, "\"lent\":{") &&
        (strstr(t->status, "\"state\":\"stopped\"") || strstr(t->status, "\"state\":\"failed\"") ||
         strstr(t->status, "\"state\":\"suspended\""));

    if (!rests)
        machines_kick(opaque, t->id);
    return true;
}

void machines_load(struct machines *ms) {
    struct store_query q = {.kind = "vm"};
    int fd = fcntl(ms->m->home.machines, F_DUPFD_CLOEXEC, 0);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;

    store_list(ms->m->store, &q, look_at_row, ms);
    while (d && (e = readdir(d))) {
        struct store_row row = {0};

        if (e->d_name[0] == '.' || strlen(e->d_name) >= STORE_WORD)
            continue;
        if (store_get(ms->m->store, "vm", e->d_name, &row) == -ENOENT)
            machines_kick(ms, e->d_name);
        store_row_done(&row);
    }
    if (d)
        closedir(d);
}

void machines_leave_work(struct machines *ms) {
    for (struct machine *v = ms ? ms->first : NULL; v; v = v->next)
        machine_leave_work(v);
}

void machines_free(struct machines *ms) {
    struct machine *next;

    workers_free(ms ? ms->renewers : NULL);

    for (struct machine *v = ms ? ms->first : NULL; v; v = next) {
        next = v->next;
        release(v);
        free(v); /* the loop has stopped: nothing queued is called any more */
    }
    free(ms);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Machines: what comes next for one, by its row and what there is of it on the host. */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "block/chain.h"
#include "host/snapshot.h"
#include "host/tree.h"
#include "host/vm_control.h"
#include "host/vm_impl.h"
#include "host/vnet.h"
#include "host/volume.h"
#include "host/worker.h"
#include "proto/units.h"

enum { TIDY_MS = 5000, TIDY_MOST_MS = 300 * 1000 };

/* ------------------------------------------------------------------ work */

static void remove_work(void *opaque) {
    struct machine *v = opaque;

    tree_remove(v->all->m->home.machines, v->id, &v->work_error);
}

static void work_done(void *opaque) {
    struct machine *v = opaque;

    v->busy = false;
    machine_step(v);
}

void machine_begin_work(struct machine *v, void (*work)(void *opaque)) {
    v->busy = true;
    v->work_error = (struct error){0};
    workers_run(v->all->m->workers, work, work_done, v);
}

/* ------------------------------------------------------------------ snapshots */

static void task_work(void *opaque) {
    struct machine *v = opaque;

    snapshot_task_work(v->task);
}

/* What only gives room back has time when it has failed: longer each time. */
static bool waits_with_tidying(struct machine *v, const struct store_row *row) {
    int64_t left = v->tidy_again - timer_now_ms();

    if (!v->tidy_again || left <= 0 || json_object_get(row->wanted, "task") ||
        !row_flag(row->wanted, "tidy"))
        return false;
    machine_again_in(v, left);
    return true;
}

static void note_tidying(struct machine *v) {
    bool later = snapshot_task_is_for_later(v->task);

    v->tidy_pause = !later ? 0 : !v->tidy_pause ? TIDY_MS : v->tidy_pause * 4;
    if (v->tidy_pause > TIDY_MOST_MS)
        v->tidy_pause = TIDY_MOST_MS;
    v->tidy_again = later ? timer_now_ms() + v->tidy_pause : 0;
}

/* True: something is being done with its disks, or was. */
static bool step_task(struct machine *v, struct store_row *row) {
    struct error e = {0};

    if (!v->task && waits_with_tidying(v, row))
        return false;
    if (!v->task) {
        v->task = snapshot_task_new(v->all->m, row, v->process.pid);
        if (v->task)
            machine_begin_work(v, task_work);
        return v->task;
    }
    if (snapshot_task_finish(v->all->m, row, v->task, v->tidy_pause, &e) < 0)
        machine_save_row_failed(v, &e); /* and do it again */
    note_tidying(v);
    snapshot_task_free(v->task);
    v->task = NULL;
    return true;
}

/* ------------------------------------------------------------------ with a process */

/* What the row's state is with what is seen; commands that bring it nearer. */
static const char *step_paused(struct machine *v, const struct store_row *row) {
    bool want = !strcmp(row_text(row->spec, "power"), "paused");
    bool asked = !strcmp(v->why_paused, "asked");
    bool resume = !strcmp(row_text(row->status, "state"), "resuming");

    if (want == v->paused)
        return want ? "paused" : "running";
    if (want) {
        if (!v->pause_sent)
            vm_control_send(v->control, "pause");
        v->pause_sent = true;
        return "pausing";
    }
    if (!asked && !resume)
        return "paused"; /* a disk failed: somebody must look at it first */
    if (!v->resume_sent)
        vm_control_send(v->control, "resume");
    v->resume_sent = true;
    return "resuming";
}

static void step_running(struct machine *v, struct store_row *row) {
    const char *state = step_paused(v, row), *old = row_text(row->status, "state");
    const char *reason = v->paused && strcmp(v->why_paused, "asked") ? v->why_paused : NULL;
    bool first = row_number(row->wanted, "launched") != v->process.cycle;
    char text[200];

    if (!strcmp(state, "running"))
        machine_renew(v, row);
    if (!first && !strcmp(state, old) && row_number(row->status, "pid") == v->process.pid)
        return;
    snprintf(text, sizeof(text), "it is %s%s%s", state, reason ? ": " : "", reason ? reason : "");
    if (first)
        row_set_number(row->wanted, "up", units_now_ms());
    row_set_number(row->wanted, "launched", v->process.cycle);
    row_set_number(row->status, "pid", v->process.pid);
    row_unset(row->wanted, "next_start");
    row_unset(row->status, "next_start");
    row_unset(row->status, "exit_code");
    row_unset(row->status, "command_exit");
    row_unset(row->status, "exit_signal");
    row_unset(row->status, "last_words");
    old = strcmp(state, old) ? state : NULL; /* an event only for what is new */
    row_set_state(row, state, reason);
    machine_save_row(v, row, STORE_NOTE, old && vm_settled(old) ? state : NULL, text);
}

static void step_up(struct machine *v, struct store_row *row) {
    machine_step_forwards(v, row);
    machine_step_medium(v, row);
    machine_step_disks(v, row);
    machine_step_nics(v, row);
    machine_step_limits(v, row);
    machine_step_live(v, row);
    step_running(v, row);
    machine_step_devices(v, row); /* which may leave it to a worker */
}

static void step_alive(struct machine *v, struct store_row *row) {
    bool wanted = strcmp(row_text(row->spec, "power"), "off") != 0 &&
                  row_number(row->wanted, "cycle") == v->process.cycle;

    if (!v->control)
        machine_connect(v);
    if ((v->up || v->task) && step_task(v, row))
        return;
    if (!strcmp(row_text(row->status, "work"), "suspend"))
        return; /* as soon as it can be spoken to, or has ended */
    if (!wanted)
        machine_step_stop(v, row);
    else if (v->up)
        step_up(v, row);
}

/* ------------------------------------------------------------------ without a process */

static void step_dead(struct machine *v, struct store_row *row) {
    int64_t launched = row_number(row->wanted, "launched");
    int64_t last = v->last_cycle > launched ? v->last_cycle : launched;

    if (last > row_number(row->wanted, "ended")) {
        machine_step_ended(v, row, last);
        return;
    }
    if (machine_drop_unplugged(v, row) || step_task(v, row))
        return;
    if (strcmp(row_text(row->spec, "power"), "off") != 0) {
        machine_step_start(v, row);
        return;
    }
    if (machine_give_back(v, row, true))
        return;
    if (!vm_settled(row_text(row->status, "state"))) { /* stopped before it had begun */
        row_unset(row->wanted, "next_start");
        row_unset(row->status, "next_start");
        row_set_state(row, "stopped", NULL);
        machine_save_row(v, row, STORE_PROMISE, "stopped", "it was stopped before it had started");
        return;
    }
    if (!waits_with_tidying(v, row))
        machine_forget(v);
}

/* ------------------------------------------------------------------ deletion */

static void delete_row(struct machine *v, struct store_row *row) {
    struct manager *m = v->all->m;
    struct error e = {0};

    if (store_begin(m->store, STORE_PROMISE, &e) == 0) {
        snapshot_shares_no_more(m, row_text(row->status, "cloned_from"), v->id, &e);
        if (snapshot_forget_all(m, row, &e) < 0 || volume_forget_all(m, row, &e) < 0 ||
            manager_event(m, row, "deleted", &e, "it is deleted, with its disk") < 0 ||
            store_delete(m->store, "vm", v->id, &e) < 0)
            store_rollback(m->store);
        else if (store_commit(m->store, &e) == 0) {
            vnets_vm_gone(m->vnets, row);
            return; /* the change brings us back, and there is no row any more */
        }
    }
    machine_save_row_failed(v, &e);
}

/* row NULL: a folder that belongs to nothing. */
void machine_step_delete(struct machine *v, struct store_row *row) {
    if (!machine_find_process(v))
        return;
    if (v->process.pid) {
        vm_process_signal(&v->process, SIGKILL);
        return;
    }
    if (row && !v->removed && machine_give_back(v, row, true))
        return;
    if (v->removed && v->work_error.code) {
        log_line_about(LOG_LEVEL_WARNING, "vm", v->id, "%s", v->work_error.text);
        v->removed = false;
        machine_again_in(v, 5000);
        return;
    }
    if (!v->removed) {
        v->removed = true;
        machine_begin_work(v, remove_work);
        return;
    }
    if (row)
        delete_row(v, row);
    else
        machine_forget(v);
}

void machine_step_row(struct machine *v, struct store_row *row) {
    if (row_flag(row->wanted, "deleting"))
        machine_step_delete(v, row);
    else if (!row_flag(row->wanted, "prepared") &&
             (v->made || strcmp(row_text(row->status, "state"), "failed") != 0))
        machine_step_make(v, row);
    else if (!row_flag(row->wanted, "prepared"))
        machine_forget(v); /* could not be made; the next start tries again */
    else if (machine_find_process(v)) {
        if (v->process.pid)
            step_alive(v, row);
        else
            step_dead(v, row);
    }
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Machines: how a process is ended, how one ended, and whether the next follows. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/vm_agent.h"
#include "host/vm_control.h"
#include "host/vm_hardware.h"
#include "host/vm_impl.h"
#include "host/vm_pending.h"
#include "proto/units.h"

enum {
    PRESS_MS = 3000,     /* a guest that was not up far enough gets the power button again */
    SHUTDOWN_MS = 20000, /* which an agent was asked for and began: then the button as well */
    QUIT_MS = 3000,      /* from `quit` to SIGKILL */
    BACKOFF_MS = 1000,
    LASTED_MS = 60000, /* what ran that long has not failed at once */
};

/* ------------------------------------------------------------------ ends */

/* How it ended, for people. */
static void describe_end(const struct machine *v, char *out, size_t size) {
    if (v->end.known && v->end.signal)
        snprintf(out, size, "its process was ended by signal %d (%s)", v->end.signal,
                 strsignal(v->end.signal));
    else if (!strcmp(v->end_how, "powered-off"))
        snprintf(out, size, "the guest powered off");
    else if (!strcmp(v->end_how, "quit"))
        snprintf(out, size, "it was ended by force");
    else if (!strcmp(v->end_how, "crashed"))
        snprintf(out, size, "the guest crashed");
    else if (v->end.known && v->end.code == 0)
        snprintf(out, size, "the guest powered off");
    else if (v->end.known)
        snprintf(out, size, "viv-vm ended with exit code %d", v->end.code);
    else
        snprintf(out, size, "its process is gone, and nobody saw how it ended");
}

static void note_end(struct machine *v, struct store_row *row, bool good) {
    char *words = good ? NULL : vm_process_last_words(v->folder);

    vm_probe_unset(row);
    hardware_unset(row);
    machine_unset_nics(row);
    machine_unset_devices(row);
    if (strcmp(row_text(row->status, "work"), "suspend") != 0)
        pending_done(row);
    row_unset(row->status, "pid");
    row_unset(row->status, "exit_code");
    row_unset(row->status, "exit_signal");
    if (v->end.known && v->end.signal)
        row_set_number(row->status, "exit_signal", v->end.signal);
    else if (v->end.known)
        row_set_number(row->status, "exit_code", v->end.code);
    row_set_text(row->status, "last_words", words);
    free(words);
}

static bool wants_restart(const struct store_row *row, bool good) {
    const char *policy = row_text(row->spec, "restart");

    return !strcmp(policy, "always") || (!strcmp(policy, "on-failure") && !good);
}

/* When the restart policy starts it again; each failure in a row doubles the time. */
static int64_t backoff(struct store_row *row, int64_t now) {
    int64_t up = row_number(row->wanted, "up"), failures = row_number(row->wanted, "failures");
    int64_t ms = BACKOFF_MS;

    failures = up && now - up > LASTED_MS ? 1 : failures + 1;
    row_set_number(row->wanted, "failures", failures);
    for (int64_t i = 1; i < failures && ms < BACKOFF_MOST_MS; i++)
        ms *= 2;
    return ms < BACKOFF_MOST_MS ? ms : BACKOFF_MOST_MS;
}

static void ended_unasked(struct machine *v, struct store_row *row, int64_t cycle, bool good,
                          const char *how) {
    int64_t now = units_now_ms(), wait;
    char text[400];

    if (!wants_restart(row, good)) {
        row_set_text(row->spec, "power", "off");
        row_set_state(row, good ? "stopped" : "failed", how);
        machine_save_row(v, row, STORE_PROMISE, good ? "stopped" : "failed", how);
        return;
    }
    wait = backoff(row, now);
    row_set_number(row->wanted, "cycle", cycle + 1);
    row_set_number(row->wanted, "next_start", now + wait);
    row_set_number(row->status, "restarts", row_number(row->status, "restarts") + 1);
    row_set_time(row->status, "next_start", now + wait);
    row_set_state(row, "restarting", how);
    snprintf(text, sizeof(text), "%.300s; it starts again in %lld s", how,
             (long long)(wait + 999) / 1000);
    machine_save_row(v, row, STORE_PROMISE, "restarting", text);
}

/* The memory that it went on with is of no use any more. True: it never got so far, because its
 * program could not begin: it is suspended still. */
static bool note_memory(const struct machine *v, struct store_row *row, int64_t cycle) {
    const char *memory = row_text(row->wanted, "restore");
    int64_t of = row_number(row->wanted, "restore_cycle");
    bool kept = of == cycle && row_flag(row->wanted, "resuming") && v->end.known &&
                !v->end.signal && !*v->end_how && (v->end.code == 1 || v->end.code == 2) &&
                row_number(row->wanted, "launched") != cycle;

    if (!*memory || of > cycle)
        return false;
    if (kept)
        row_set_text(row->wanted, "suspended", memory);
    row_unset(row->wanted, "restore");
    row_unset(row->wanted, "restore_cycle");
    row_unset(row->wanted, "resuming");
    json_object_set_new(row->wanted, "tidy", json_true());
    if (!*row_text(row->status, "work"))
        row_set_text(row->status, "work", "tidy");
    return kept;
}

/* Of one that is to be off. */
static void rest(struct machine *v, struct store_row *row, const char *how) {
    bool suspends = !strcmp(row_text(row->status, "work"), "suspend");
    bool suspended = *row_text(row->wanted, "suspended");

    row_set_state(row,
                  suspends    ? "suspending"
                  : suspended ? "suspended"
                              : "stopped",
                  suspends || suspended ? NULL : how);
    machine_save_row(v, row, STORE_PROMISE, suspends || suspended ? NULL : "stopped", how);
}

/* Writes down how the cycle-th process ended, and what follows from it. */
void machine_step_ended(struct machine *v, struct store_row *row, int64_t cycle) {
    bool good = v->end.known && !v->end.signal && v->end.code == 0;
    bool off = !strcmp(row_text(row->spec, "power"), "off");
    bool again = !off && row_number(row->wanted, "cycle") > cycle;
    char how[200];

    describe_end(v, how, sizeof(how));
    note_end(v, row, good || off || again);
    row_set_number(row->wanted, "ended", cycle);
    row_unset(row->wanted, "stop_by");
    row_unset(row->wanted, "stop_ms");
    row_unset(row->wanted, "force");
    if (note_memory(v, row, cycle)) {
        row_set_text(row->spec, "power", "off");
        row_set_state(row, "suspended", how);
        machine_save_row(v, row, STORE_PROMISE, "resume-failed", how);
    } else if (again) {
        row_set_state(row, "starting", NULL);
        machine_save_row(v, row, STORE_PROMISE, "stopped", how);
    } else if (off) {
        rest(v, row, how);
    } else {
        ended_unasked(v, row, cycle, good, how);
    }
}

/* ------------------------------------------------------------------ stop */

static void end_by_force(struct machine *v) {
    int64_t now = timer_now_ms();

    if (v->control && v->up && !v->quit) {
        vm_control_send(v->control, "quit"); /* closes its disk in order */
        v->quit = now;
    }
    if (!v->quit || now - v->quit >= QUIT_MS)
        vm_process_signal(&v->process, SIGKILL);
    else
        machine_again_in(v, v->quit + QUIT_MS - now);
}

/* What is left until force is used, in ms. From when it is first seen, a wall clock that is set
 * changes nothing any more. */
static int64_t stop_time(struct machine *v, const struct store_row *row, int64_t now) {
    int64_t by = row_number(row->wanted, "stop_by"), most = row_number(row->wanted, "stop_ms");

    if (v->stop_by != by) {
        int64_t left = by - units_now_ms();

        v->stop_by = by;
        v->stop_due = now + (left < 0 ? 0 : left > most ? most : left);
    }
    return v->stop_due - now;
}

static void shutdown_answered(void *opaque, int fd, const json_t *answer, const struct error *err) {
    struct machine *v = opaque;

    v->asking = NULL;
    v->pressed = answer ? timer_now_ms() + SHUTDOWN_MS - PRESS_MS : 0;
    machine_kick(v);
}

/* Once, where there is an agent: it is heard while the guest boots, and by guests that leave the
 * power button alone. */
static bool ask_agent(struct machine *v, const struct store_row *row) {
    if (v->agent_asked || !*row_text(row->status, "agent"))
        return false;
    v->agent_asked = true;
    v->asking =
        vm_agent_ask(v->all->m, v->id, json_pack("{s:s, s:s}", "do", "shutdown", "how", "poweroff"),
                     PRESS_MS, shutdown_answered, v, NULL);
    return v->asking;
}

/* The agent, else the power button, again and again, until the time is over. */
void machine_step_stop(struct machine *v, const struct store_row *row) {
    int64_t now = timer_now_ms(), left = stop_time(v, row, now);

    if (row_flag(row->wanted, "force") || left <= 0) {
        end_by_force(v);
        return;
    }
    if (v->up && (!v->pressed || now - v->pressed >= PRESS_MS)) {
        if (v->paused) /* or the guest would never see the button */
            vm_control_send(v->control, "resume");
        if (!ask_agent(v, row))
            vm_control_send(v->control, "powerdown");
        v->pressed = now;
    }
    machine_again_in(v, v->up && left > PRESS_MS ? PRESS_MS : left);
}

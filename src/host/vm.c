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
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "block/chain.h"
#include "host/image.h"
#include "host/tree.h"
#include "host/vm_control.h"
#include "host/vm_process.h"
#include "host/worker.h"
#include "proto/units.h"

enum {
    LOOK_AGAIN_MS = 20,
    CONNECT_MS = 2,     /* between tries to reach a process that has just begun */
    CONNECT_SOON = 300, /* so many tries, then */
    CONNECT_LATER_MS = 100,
    PRESS_MS = 3000, /* a guest that was not up far enough gets the power button again */
    QUIT_MS = 3000,  /* from `quit` to SIGKILL */
    BACKOFF_MS = 1000,
    BACKOFF_MOST_MS = 60000,
    LASTED_MS = 60000, /* what ran that long has not failed at once */
    NOISE_MS = 1000,   /* events of one machine that may come often: one a second */
};

struct machine {
    struct machines *all;
    struct machine *next, **link;
    char id[STORE_WORD];
    bool queued, waiting, starting, busy, made, removed;
    bool forgotten;       /* freed by the call that is queued */
    unsigned long ticket; /* of who waits for its turn to start; 0: none */
    int folder;           /* -1: not opened */
    bool looked;          /* for a process */
    struct vm_process process;
    struct loop_watch *watch;
    int64_t last_cycle; /* of the last process that there was */
    struct vm_process_end end;
    char end_how[24]; /* as the control socket told it, "" if it did not */
    struct vm_control *control;
    bool up, paused;
    char why_paused[STORE_WORD];
    int connects;                 /* tries so far */
    int64_t pressed, quit, noise; /* by the monotonic clock, 0: never */
    int64_t stop_by, stop_due;    /* wanted.stop_by, and the same by the monotonic clock */
    bool resume_sent, pause_sent;
    struct timer timer;
    int64_t due; /* of the timer, 0: it does not run */
    struct error work_error;
    struct image_files image; /* for the worker */
    int64_t disk_size;
};

struct machines {
    struct manager *m;
    struct machine *first;
    unsigned starting, most_starting, active;
    unsigned long tickets;
};

static void step(struct machine *v);

void machine_path(const struct manager *m, const char *id, const char *file, char *out, size_t n) {
    snprintf(out, n, "/proc/self/fd/%d/%s/%s", m->home.machines, id, file);
}

bool vm_settled(const char *state) {
    return !strcmp(state, "stopped") || !strcmp(state, "running") || !strcmp(state, "paused") ||
           !strcmp(state, "failed");
}

/* ------------------------------------------------------------------ the list of them */

static struct machine *find(struct machines *ms, const char *id) {
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

static void not_starting(struct machine *v);

/* Nothing is to be done about it, or the manager ends. */
static void release(struct machine *v) {
    timer_stop(&v->timer);
    loop_remove(v->watch);
    vm_control_close(v->control);
    vm_process_close(&v->process);
    if (v->folder >= 0)
        close(v->folder);
}

static void forget(struct machine *v) {
    *v->link = v->next;
    if (v->next)
        v->next->link = v->link;
    v->all->active--;
    not_starting(v);
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
        step(v);
}

static void kick(struct machine *v) {
    if (!v->queued)
        loop_post(v->all->m->loop, queued_step, v);
    v->queued = true;
}

static void timer_step(void *opaque) { kick(opaque); }

/* Of several times the first counts. */
static void again_in(struct machine *v, int64_t ms) {
    int64_t due = timer_now_ms() + (ms < 1 ? 1 : ms);

    if (v->due && v->due <= due)
        return;
    v->due = due;
    timer_start(v->all->m->timers, &v->timer, ms < 1 ? 1 : ms, timer_step, v);
}

void machines_kick(struct machines *ms, const char *id) {
    struct machine *v = find(ms, id);

    kick(v ? v : machine_new(ms, id));
}

unsigned machines_active(const struct machines *ms) { return ms->active; }

/* ------------------------------------------------------------------ turns */

/* Many machines that start at the same time would all be slow: a few at a time, in order. */
static bool take_turn(struct machine *v) {
    struct machines *ms = v->all;

    if (ms->starting < ms->most_starting) {
        ms->starting++;
        v->starting = true;
        v->ticket = 0;
        return true;
    }
    if (!v->ticket)
        v->ticket = ++ms->tickets;
    v->waiting = true;
    return false;
}

static void next_turn(struct machines *ms) {
    struct machine *first = NULL;

    for (struct machine *w = ms->first; w; w = w->next)
        if (w->waiting && (!first || w->ticket < first->ticket))
            first = w;
    if (first)
        kick(first);
}

static void not_starting(struct machine *v) {
    if (!v->starting)
        return;
    v->starting = false;
    v->all->starting--;
    next_turn(v->all);
}

/* ------------------------------------------------------------------ rows */

static void save_failed(struct machine *v, const struct error *e) {
    log_error("%s: %s", v->id, e->text);
    again_in(v, 1000); /* what was to be written is found out again */
}

/* Writes the row, with an event if `what` is not NULL. */
static bool save(struct machine *v, struct store_row *row, enum store_durability durability,
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
    save_failed(v, &e);
    return false;
}

/* An event alone. */
static void tell(struct machine *v, const char *what, const char *text) {
    struct manager *m = v->all->m;
    struct store_row row = {0};
    struct error e = {0};

    if (store_get(m->store, "vm", v->id, &row) == 0 && store_begin(m->store, STORE_NOTE, &e) == 0 &&
        (manager_event(m, &row, what, &e, "%s", text) < 0 || store_commit(m->store, &e) < 0))
        store_rollback(m->store);
    store_row_done(&row);
}

/* ------------------------------------------------------------------ making and removing */

static bool open_folder(struct machine *v) {
    if (v->folder < 0)
        v->folder = openat(v->all->m->home.machines, v->id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return v->folder >= 0;
}

/* On a worker: only what does not change meanwhile is looked at. */
static void make_work(void *opaque) {
    struct machine *v = opaque;
    const struct home *h = &v->all->m->home;
    char path[PATH_MAX];
    struct chain_create c = {.path = path,
                             .format = "qcow2",
                             .size = (uint64_t)v->disk_size,
                             .backing = v->image.disk,
                             .backing_format = "raw"};

    if (mkdirat(h->machines, v->id, 0700) < 0 && errno != EEXIST) {
        error_set(&v->work_error, -errno, "the machine's folder cannot be made: %s",
                  strerror(errno));
        return;
    }
    if (!*v->image.disk)
        return;
    if (snprintf(path, sizeof(path), "%s/machines/%s/disk.qcow2", h->place.data, v->id) >=
        (int)sizeof(path)) {
        error_set(&v->work_error, -ENAMETOOLONG, "the path of the machine's folder is too long");
        return;
    }
    unlink(path); /* of a manager that was ended in the middle of this */
    chain_create(&c, &v->work_error);
}

static void remove_work(void *opaque) {
    struct machine *v = opaque;

    tree_remove(v->all->m->home.machines, v->id, &v->work_error);
}

static void work_done(void *opaque) {
    struct machine *v = opaque;

    v->busy = false;
    step(v);
}

static void begin_work(struct machine *v, void (*work)(void *opaque)) {
    v->busy = true;
    v->work_error = (struct error){0};
    workers_run(v->all->m->workers, work, work_done, v);
}

static void could_not_be_made(struct machine *v, struct store_row *row, const struct error *e) {
    row_set_text(row->spec, "power", "off");
    row_set_state(row, "failed", e->text);
    save(v, row, STORE_PROMISE, "failed", e->text);
}

/* The folder and the disk. */
static void step_make(struct machine *v, struct store_row *row) {
    struct error e = {0};

    if (v->made) {
        v->made = false;
        if (v->work_error.code) {
            could_not_be_made(v, row, &v->work_error);
            return;
        }
        json_object_set_new(row->wanted, "prepared", json_true());
        row_set_state(row, strcmp(row_text(row->spec, "power"), "off") ? "starting" : "stopped",
                      NULL);
        save(v, row, STORE_PROMISE, "made", "its disk is made");
        return;
    }
    if (image_files(v->all->m, row_text(row->status, "image_id"), &v->image, &e) < 0) {
        could_not_be_made(v, row, &e);
        return;
    }
    v->disk_size = row_number(row->spec, "disk");
    if (!v->disk_size)
        v->disk_size = v->image.size;
    v->made = true;
    begin_work(v, make_work);
}

/* ------------------------------------------------------------------ the process */

static void control_seen(void *opaque, bool paused, const char *reason) {
    struct machine *v = opaque;

    v->up = true;
    v->paused = paused;
    v->pause_sent = v->resume_sent = false;
    snprintf(v->why_paused, sizeof(v->why_paused), "%s", paused ? reason : "");
    not_starting(v);
    kick(v);
}

static const char *text_of(const json_t *data, const char *name) { return row_text(data, name); }

static void control_event(void *opaque, const char *name, const json_t *data) {
    struct machine *v = opaque;
    int64_t now = timer_now_ms();

    if (!strcmp(name, "end")) {
        snprintf(v->end_how, sizeof(v->end_how), "%s", text_of(data, "how"));
        v->end.code = (int)row_number(data, "code");
        return;
    }
    if (v->noise && now - v->noise < NOISE_MS)
        return;
    v->noise = now;
    if (!strcmp(name, "crash"))
        tell(v, "crashed", text_of(data, "text"));
    else if (!strcmp(name, "reset") && !row_flag(data, "crashed"))
        tell(v, "rebooted", "the guest started again");
    else if (!strcmp(name, "disk-error"))
        tell(v, "disk-error", text_of(data, "text"));
}

static void control_refused(void *opaque, const char *command, const char *text) {
    struct machine *v = opaque;

    log_warning("%s: %s: %s", v->id, command, text);
}

static void control_closed(void *opaque, const char *why) {
    struct machine *v = opaque;

    vm_control_close(v->control);
    v->control = NULL;
    v->up = false;
    kick(v); /* which finds the process ended, or connects again */
}

static void process_ended(void *opaque, int fd, uint32_t events) {
    struct machine *v = opaque;

    if (v->control)
        vm_control_drain(v->control); /* its last words */
    vm_control_close(v->control);
    v->control = NULL;
    v->up = false;
    loop_remove(v->watch);
    v->watch = NULL;
    v->last_cycle = v->process.cycle;
    if (v->process.child || !*v->end_how)
        v->end = vm_process_reap(&v->process);
    else
        v->end.known = true; /* told by the control socket */
    vm_process_close(&v->process);
    not_starting(v);
    step(v);
}

static bool watch_process(struct machine *v) {
    *v->end_how = 0;
    v->end = (struct vm_process_end){0};
    v->pressed = v->quit = 0;
    v->connects = 0;
    v->watch = loop_add(v->all->m->loop, v->process.pidfd, EPOLLIN, process_ended, v);
    if (!v->watch)
        log_error("%s: its process cannot be watched; raise the limit of open files", v->id);
    return v->watch;
}

/* What this manager does not know, it finds. False: later. */
static bool look_for_process(struct machine *v) {
    int r;

    if (v->looked)
        return true;
    r = open_folder(v) ? vm_process_find(v->folder, &v->process) : 0;
    if (r < 0 || (r == 1 && !watch_process(v))) {
        vm_process_close(&v->process);
        again_in(v, LOOK_AGAIN_MS);
        return false;
    }
    v->looked = true;
    if (r == 0) {
        v->last_cycle = v->process.cycle;
        v->process = (struct vm_process){.pidfd = -1};
    }
    return true;
}

static void connect_control(struct machine *v) {
    const struct vm_control_user user = {control_seen, control_event, control_refused,
                                         control_closed, v};
    char path[160];

    machine_path(v->all->m, v->id, "control", path, sizeof(path));
    v->control = vm_control_open(v->all->m->loop, path, &user, NULL);
    if (v->control)
        v->connects = 0;
    else
        again_in(v, v->connects++ < CONNECT_SOON ? CONNECT_MS : CONNECT_LATER_MS);
}

static void launch(struct machine *v, struct store_row *row) {
    int64_t cycle = row_number(row->wanted, "cycle");
    struct error e = {0};
    char **argv = vm_argv(v->all->m, row, &e);
    int r = argv && open_folder(v) ? vm_process_start(v->folder, cycle, argv, &v->process, &e)
                                   : error_set(&e, -ENOENT, "the machine's folder is not there");

    vm_argv_free(argv);
    if (r == 0 && watch_process(v)) {
        again_in(v, CONNECT_MS);
        return;
    }
    not_starting(v);
    if (r == -EBUSY) { /* a child of its last process, which saves a snapshot */
        again_in(v, LOOK_AGAIN_MS);
    } else if (r < 0) {
        row_set_number(row->wanted, "ended", cycle);
        could_not_be_made(v, row, &e);
    } else { /* it lives and cannot be watched: it is found again by its lock */
        vm_process_close(&v->process);
        v->looked = false;
        again_in(v, 1000);
    }
}

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
        save(v, row, STORE_PROMISE, good ? "stopped" : "failed", how);
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
    save(v, row, STORE_PROMISE, "restarting", text);
}

/* Writes down how the cycle-th process ended, and what follows from it. */
static void step_ended(struct machine *v, struct store_row *row, int64_t cycle) {
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
    if (again) {
        row_set_state(row, "starting", NULL);
        save(v, row, STORE_PROMISE, "stopped", how);
    } else if (off) {
        row_set_state(row, "stopped", how);
        save(v, row, STORE_PROMISE, "stopped", how);
    } else {
        ended_unasked(v, row, cycle, good, how);
    }
}

/* ------------------------------------------------------------------ with a process */

static void end_by_force(struct machine *v) {
    int64_t now = timer_now_ms();

    if (v->control && v->up && !v->quit) {
        vm_control_send(v->control, "quit"); /* closes its disk in order */
        v->quit = now;
    }
    if (!v->quit || now - v->quit >= QUIT_MS)
        vm_process_signal(&v->process, SIGKILL);
    else
        again_in(v, v->quit + QUIT_MS - now);
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

/* Power button, again and again, until the time is over. */
static void step_stop(struct machine *v, const struct store_row *row) {
    int64_t now = timer_now_ms(), left = stop_time(v, row, now);

    if (row_flag(row->wanted, "force") || left <= 0) {
        end_by_force(v);
        return;
    }
    if (v->up && (!v->pressed || now - v->pressed >= PRESS_MS)) {
        if (v->paused) /* or the guest would never see the button */
            vm_control_send(v->control, "resume");
        vm_control_send(v->control, "powerdown");
        v->pressed = now;
    }
    again_in(v, v->up && left > PRESS_MS ? PRESS_MS : left);
}

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
    row_unset(row->status, "exit_signal");
    row_unset(row->status, "last_words");
    old = strcmp(state, old) ? state : NULL; /* an event only for what is new */
    row_set_state(row, state, reason);
    save(v, row, STORE_NOTE, old && vm_settled(old) ? state : NULL, text);
}

static void step_alive(struct machine *v, struct store_row *row) {
    bool wanted = strcmp(row_text(row->spec, "power"), "off") != 0 &&
                  row_number(row->wanted, "cycle") == v->process.cycle;

    if (!v->control)
        connect_control(v);
    if (!wanted)
        step_stop(v, row);
    else if (v->up)
        step_running(v, row);
}

/* ------------------------------------------------------------------ without a process */

static void step_start(struct machine *v, struct store_row *row) {
    int64_t left = row_number(row->wanted, "next_start") - units_now_ms();

    /* More than there ever is: the wall clock was set back. */
    if (row_number(row->wanted, "next_start") && left > 0 && left <= BACKOFF_MOST_MS) {
        again_in(v, left);
        return;
    }
    if (take_turn(v))
        launch(v, row);
}

static void step_dead(struct machine *v, struct store_row *row) {
    int64_t launched = row_number(row->wanted, "launched");
    int64_t last = v->last_cycle > launched ? v->last_cycle : launched;

    if (last > row_number(row->wanted, "ended")) {
        step_ended(v, row, last);
        return;
    }
    if (strcmp(row_text(row->spec, "power"), "off") != 0) {
        step_start(v, row);
        return;
    }
    if (!vm_settled(row_text(row->status, "state"))) { /* stopped before it had begun */
        row_unset(row->wanted, "next_start");
        row_unset(row->status, "next_start");
        row_set_state(row, "stopped", NULL);
        save(v, row, STORE_PROMISE, "stopped", "it was stopped before it had started");
        return;
    }
    forget(v);
}

/* ------------------------------------------------------------------ deletion */

static void delete_row(struct machine *v, struct store_row *row) {
    struct manager *m = v->all->m;
    struct error e = {0};

    if (store_begin(m->store, STORE_PROMISE, &e) == 0) {
        if (manager_event(m, row, "deleted", &e, "it is deleted, with its disk") < 0 ||
            store_delete(m->store, "vm", v->id, &e) < 0)
            store_rollback(m->store);
        else if (store_commit(m->store, &e) == 0)
            return; /* the change brings us back, and there is no row any more */
    }
    save_failed(v, &e);
}

/* row NULL: a folder that belongs to nothing. */
static void step_delete(struct machine *v, struct store_row *row) {
    if (!look_for_process(v))
        return;
    if (v->process.pid) {
        vm_process_signal(&v->process, SIGKILL);
        return;
    }
    if (v->removed && v->work_error.code) {
        log_warning("%s: %s", v->id, v->work_error.text);
        v->removed = false;
        again_in(v, 5000);
        return;
    }
    if (!v->removed) {
        v->removed = true;
        begin_work(v, remove_work);
        return;
    }
    if (row)
        delete_row(v, row);
    else
        forget(v);
}

static void step_row(struct machine *v, struct store_row *row) {
    if (row_flag(row->wanted, "deleting"))
        step_delete(v, row);
    else if (!row_flag(row->wanted, "prepared") &&
             (v->made || strcmp(row_text(row->status, "state"), "failed") != 0))
        step_make(v, row);
    else if (!row_flag(row->wanted, "prepared"))
        forget(v); /* could not be made; the next start tries again */
    else if (look_for_process(v)) {
        if (v->process.pid)
            step_alive(v, row);
        else
            step_dead(v, row);
    }
}

static void step(struct machine *v) {
    struct machines *ms = v->all;
    unsigned starting = ms->starting;
    bool waited = v->waiting;
    struct store_row row = {0};
    int r;

    if (v->busy)
        return;
    v->waiting = false;
    v->due = 0;
    timer_stop(&v->timer);
    r = store_get(ms->m->store, "vm", v->id, &row);
    if (r == 0)
        step_row(v, &row);
    else if (r == -ENOENT)
        step_delete(v, NULL);
    else
        again_in(v, 1000);
    store_row_done(&row);
    if (waited && ms->starting == starting && starting < ms->most_starting)
        next_turn(ms); /* it did not take its turn after all */
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
    ms->most_starting = cpus > 2 ? 2 * (unsigned)cpus : 4;
    return ms;
}

/* What is compact JSON of ours may be looked at as text. */
static bool look_at_row(void *opaque, const struct store_text *t) {
    bool rests =
        strstr(t->spec, "\"power\":\"off\"") &&
        (strstr(t->status, "\"state\":\"stopped\"") || strstr(t->status, "\"state\":\"failed\""));

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

void machines_free(struct machines *ms) {
    struct machine *next;

    for (struct machine *v = ms ? ms->first : NULL; v; v = next) {
        next = v->next;
        release(v);
        free(v); /* the loop has stopped: nothing queued is called any more */
    }
    free(ms);
}

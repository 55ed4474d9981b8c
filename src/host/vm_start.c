/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Machines: turns to start, the launch, the process as it lives and its control socket. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/log.h"
#include "base/loop.h"
#include "host/cloud.h"
#include "host/snapshot.h"
#include "host/vm_agent.h"
#include "host/vm_control.h"
#include "host/vm_hardware.h"
#include "host/vm_impl.h"
#include "host/vm_pending.h"
#include "host/vnet.h"
#include "host/volume.h"
#include "proto/units.h"

enum {
    LOOK_AGAIN_MS = 20,
    VOLUMES_MS = 5,
    CONNECT_MS = 2, /* and an eighth of the time that it has taken so far, up to the next */
    CONNECT_MOST_MS = 100,
    NOISE_MS = 1000, /* events of one machine that may come often: one a second */
};

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

void machines_next_turn(struct machines *ms) {
    struct machine *first = NULL;

    for (struct machine *w = ms->first; w; w = w->next)
        if (w->waiting && (!first || w->ticket < first->ticket))
            first = w;
    if (first)
        machine_kick(first);
}

void machine_not_starting(struct machine *v) {
    if (!v->starting)
        return;
    v->starting = false;
    v->all->starting--;
    machines_next_turn(v->all);
}

/* ------------------------------------------------------------------ the process */

static void control_seen(void *opaque, bool paused, const char *reason) {
    struct machine *v = opaque;

    if (!v->up)
        v->old_stats = false;
    v->up = true;
    if (!v->probe)
        v->probe = vm_probe_new(v->all->m, v->id);
    v->paused = paused;
    v->pause_sent = v->resume_sent = false;
    snprintf(v->why_paused, sizeof(v->why_paused), "%s", paused ? reason : "");
    machine_not_starting(v);
    machine_kick(v);
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
    if (!strcmp(name, "device")) {
        if (!strncmp(text_of(data, "device"), "nic", 3))
            machine_nics_event(v, data);
        else if (!strncmp(text_of(data, "device"), "device", 6))
            machine_devices_event(v, data);
        else
            machine_disks_event(v, data);
        return;
    }
    if (!strcmp(name, "reset") && v->probe)
        vm_probe_rebooted(v->probe);
    if (v->noise && now - v->noise < NOISE_MS)
        return;
    v->noise = now;
    if (!strcmp(name, "crash"))
        machine_tell(v, "crashed", text_of(data, "text"));
    else if (!strcmp(name, "reset") && !row_flag(data, "crashed"))
        machine_tell(v, "rebooted", "the guest started again");
    else if (!strcmp(name, "disk-error"))
        machine_tell(v, "disk-error", text_of(data, "text"));
}

static void control_answered(void *opaque, const char *command, const json_t *result) {
    struct machine *v = opaque;

    if (!strcmp(command, "forward-set"))
        machine_forwards_answered(v, result);
    else if (!strcmp(command, "status")) {
        machine_medium_seen(v, result);
        machine_disks_seen(v, result);
        machine_nics_seen(v, result);
        machine_devices_seen(v, result);
        machine_live_seen(v, result);
    } else if (!strcmp(command, "disk-add") || !strcmp(command, "disk-remove"))
        machine_disks_answered(v, NULL);
    else if (!strcmp(command, "nic-add") || !strcmp(command, "nic-remove"))
        machine_nics_answered(v, NULL);
    else if (!strcmp(command, "device-add") || !strcmp(command, "device-remove"))
        machine_devices_answered(v, NULL);
    else if (machine_live_is(command))
        machine_live_answered(v, NULL);
    else if (!strcmp(command, "cdrom-change"))
        machine_medium_changed(v);
    if (strcmp(command, "stats") != 0)
        return;
    usage_read(&v->usage, result);
    cgroup_read(v->folder, &v->usage.group);
    machine_usage_over(v);
}

static void control_refused(void *opaque, const char *command, const char *text) {
    struct machine *v = opaque;

    if (!strcmp(command, "stats")) {
        machine_usage_lost(v);
        if (!v->old_stats) {
            v->old_stats = true;
            return;
        }
    }
    if (!strcmp(command, "cdrom-change"))
        machine_medium_refused(v, text);
    else if (!strcmp(command, "disk-add") || !strcmp(command, "disk-remove"))
        machine_disks_answered(v, text);
    else if (!strcmp(command, "nic-add") || !strcmp(command, "nic-remove"))
        machine_nics_answered(v, text);
    else if (!strcmp(command, "device-add") || !strcmp(command, "device-remove"))
        machine_devices_answered(v, text);
    else if (machine_live_is(command))
        machine_live_answered(v, text);
    else
        log_line_about(LOG_LEVEL_WARNING, "vm", v->id, "%s: %s", command, text);
}

static void control_closed(void *opaque, const char *why) {
    struct machine *v = opaque;

    vm_control_close(v->control);
    v->control = NULL;
    v->up = false;
    machine_usage_lost(v);
    machine_forwards_lost(v);
    machine_medium_lost(v);
    machine_disks_lost(v);
    machine_nics_lost(v);
    machine_devices_lost(v);
    machine_live_lost(v);
    machine_kick(v); /* which finds the process ended, or connects again */
}

static void process_ended(void *opaque, int fd, uint32_t events) {
    struct machine *v = opaque;

    if (v->control)
        vm_control_drain(v->control); /* its last words */
    vm_control_close(v->control);
    v->control = NULL;
    v->up = false;
    machine_usage_lost(v);
    machine_forwards_lost(v);
    machine_medium_lost(v);
    machine_disks_lost(v);
    machine_nics_lost(v);
    machine_devices_lost(v);
    machine_live_lost(v);
    loop_remove(v->watch);
    v->watch = NULL;
    machine_leave_agent(v);
    v->last_cycle = v->process.cycle;
    if (v->process.child || !*v->end_how)
        v->end = vm_process_reap(&v->process, v->folder);
    else
        v->end.known = true; /* told by the control socket */
    vm_process_close(&v->process);
    machine_not_starting(v);
    machine_step(v);
}

static bool watch_process(struct machine *v) {
    *v->end_how = 0;
    v->end = (struct vm_process_end){0};
    v->pressed = v->quit = 0;
    v->connect_since = timer_now_ms();
    v->watch = loop_add(v->all->m->loop, v->process.pidfd, EPOLLIN, process_ended, v);
    if (!v->watch)
        log_line_about(LOG_LEVEL_ERROR, "vm", v->id,
                       "its process cannot be watched; raise the limit of open files");
    return v->watch;
}

/* What this manager does not know, it finds. False: later. */
bool machine_find_process(struct machine *v) {
    int r;

    if (v->looked)
        return true;
    r = machine_open_folder(v) ? vm_process_find(v->folder, &v->process) : 0;
    if (r < 0 || (r == 1 && !watch_process(v))) {
        vm_process_close(&v->process);
        machine_again_in(v, LOOK_AGAIN_MS);
        return false;
    }
    v->looked = true;
    if (r == 0) {
        v->last_cycle = v->process.cycle;
        v->process = (struct vm_process){.pidfd = -1};
    }
    return true;
}

void machine_connect(struct machine *v) {
    const struct vm_control_user user = {control_seen,    control_event,  control_answered,
                                         control_refused, control_closed, v};
    char path[160];
    int64_t wait;

    machine_path(v->all->m, v->id, "control", path, sizeof(path));
    v->control = vm_control_open(v->all->m->loop, path, &user, NULL);
    wait = CONNECT_MS + (timer_now_ms() - v->connect_since) / 8;
    if (v->control)
        v->connect_since = timer_now_ms(); /* should it be lost */
    else
        machine_again_in(v, wait < CONNECT_MOST_MS ? wait : CONNECT_MOST_MS);
}

/* What it is known by is written down before anybody uses it. */
static int assign_identity(struct machine *v, struct store_row *row, struct error *err) {
    int r = vnet_assign(v->all->m, row, err);
    struct image_files files;
    bool news = r > 0;

    if (r < 0)
        return r;
    if (!*snapshot_restore(row) && json_object_get(row->status, "pending")) {
        pending_done(row);
        news = true;
    }
    if (vm_files(v->all->m, row, &files, NULL) == 0)
        news |= hardware_note(row, &files);
    if (!news || machine_save_row(v, row, STORE_PROMISE, NULL, NULL))
        return 0;
    return error_set(err, -EAGAIN, "its addresses cannot be written down");
}

/* A share of the processors for each of its own; and what it may need: its memory twice, since a
 * snapshot is a copy on write, and what the translator keeps for each processor. What is above can
 * only be files that the host keeps in memory for it, or something that went wrong. */
static struct cgroup_limits limits_of(const json_t *spec) {
    enum { SHARE = 100, MOST = 10000, OWN_MB = 512, PROCESSOR_MB = 256 };
    int64_t cpus = row_number(spec, "cpus"), memory = row_number(spec, "memory");
    int64_t most_cpus = row_number(spec, "cpus_max"), most_memory = row_number(spec, "memory_max");

    cpus = cpus > 0 ? cpus : 1;
    most_cpus = most_cpus > cpus ? most_cpus : cpus;
    most_memory = most_memory > memory ? most_memory : memory;
    return (struct cgroup_limits){
        .memory = (uint64_t)(2 * most_memory + ((OWN_MB + most_cpus * PROCESSOR_MB) << 20)),
        .cpu = (unsigned)row_number(spec, "cpu_limit"),
        .weight = (unsigned)(cpus * SHARE < MOST ? cpus * SHARE : MOST)};
}

static void launch(struct machine *v, struct store_row *row) {
    int64_t cycle = row_number(row->wanted, "cycle");
    struct vm_process_limits limits = {
        .base = v->all->m->cgroup, .group = limits_of(row->spec), .lock = machine_lock_limit(row)};
    struct error e = {0};
    int r = assign_identity(v, row, &e);
    char **argv = r == 0 ? vm_argv(v->all->m, row, &e) : NULL;

    if (r == -EAGAIN) {
        machine_not_starting(v);
        return; /* machine_save_row has us come again */
    }
    if (r == 0 && (!argv || !machine_open_folder(v)))
        r = error_set(&e, -ENOENT, "the machine's folder is not there");

    /* Small, and not synced. The id is the machine's own, so that a copy is another instance. */
    if (r == 0 && cloud_wanted(row->spec))
        r = cloud_write(v->folder, VM_SEED, row->spec, v->id, row->name, &e);
    if (r == 0)
        r = vm_process_start(v->folder, cycle, argv, &limits, &v->process, &e);
    vm_argv_free(argv);
    if (r == 0 && watch_process(v)) {
        machine_again_in(v, CONNECT_MS);
        return;
    }
    machine_not_starting(v);
    if (r == -EBUSY) { /* a child of its last process, which saves a snapshot */
        machine_again_in(v, LOOK_AGAIN_MS);
    } else if (r < 0) {
        row_set_number(row->wanted, "ended", cycle);
        machine_not_made(v, row, &e);
    } else { /* it lives and cannot be watched: it is found again by its lock */
        vm_process_close(&v->process);
        v->looked = false;
        machine_again_in(v, 1000);
    }
}

void machine_step_start(struct machine *v, struct store_row *row) {
    int64_t left = row_number(row->wanted, "next_start") - units_now_ms();
    struct error e = {0};
    int r;

    /* More than there ever is: the wall clock was set back. */
    if (row_number(row->wanted, "next_start") && left > 0 && left <= BACKOFF_MOST_MS) {
        machine_again_in(v, left);
        return;
    }
    r = volumes_ready(v->all->m, row, &e);
    if (r == -EAGAIN)
        machine_again_in(v, VOLUMES_MS);
    if (r == 0)
        r = machine_lend(v, row, &e);
    if (r == -EAGAIN)
        return;
    if (r < 0) {
        row_set_number(row->wanted, "ended", row_number(row->wanted, "cycle"));
        machine_not_made(v, row, &e);
    } else if (take_turn(v)) {
        launch(v, row);
    }
}

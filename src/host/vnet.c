/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The controller of networks. `step` looks at a network's row, at the machines that are in it and
 * at its process, does what comes next, and may be called at any time. The process is told
 * everything in one file; when that changes it reads it again.
 */
#include "host/vnet.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "host/tree.h"
#include "host/vm_control.h"
#include "host/vnet_internal.h"
#include "host/worker.h"
#include "proto/units.h"

enum {
    LINGER_MS = 3000,   /* without a machine, before the process ends */
    FAILURES = 3,       /* in a row, after which the state says so */
    FORWARDS_MS = 3000, /* until those that could not be opened are tried again */
};

/* ------------------------------------------------------------------ the list of them */

static struct vnet *find(const struct vnets *ns, const char *id) {
    for (struct vnet *n = ns->first; n; n = n->next)
        if (!strcmp(n->id, id))
            return n;
    return NULL;
}

static struct vnet *vnet_new(struct vnets *ns, const char *id) {
    struct vnet *n = calloc(1, sizeof(*n));

    if (!n)
        abort(); /* a network that is not looked after would be worse */
    n->all = ns;
    snprintf(n->id, sizeof(n->id), "%s", id);
    n->folder = n->process.pidfd = -1;
    n->next = ns->first;
    n->link = &ns->first;
    if (n->next)
        n->next->link = &n->next;
    ns->first = n;
    ns->active++;
    return n;
}

static void release(struct vnet *n) {
    timer_stop(&n->timer);
    vnet_forget_process(n);
    if (n->folder >= 0)
        close(n->folder);
}

static void forget(struct vnet *n) {
    *n->link = n->next;
    if (n->next)
        n->next->link = n->link;
    n->all->active--;
    release(n);
    n->forgotten = true;
    if (!n->queued)
        free(n);
}

static void queued_step(void *opaque) {
    struct vnet *n = opaque;

    n->queued = false;
    if (n->forgotten)
        free(n);
    else
        vnet_step(n);
}

void vnet_kick(void *opaque) {
    struct vnet *n = opaque;

    if (!n->queued)
        loop_post(n->all->m->loop, queued_step, n);
    n->queued = true;
}

/* Of several times the first counts. */
void vnet_again_in(struct vnet *n, int64_t ms) {
    int64_t due = timer_now_ms() + (ms < 1 ? 1 : ms);

    if (n->due && n->due <= due)
        return;
    n->due = due;
    timer_start(n->all->m->timers, &n->timer, ms < 1 ? 1 : ms, vnet_kick, n);
}

void vnets_kick(struct vnets *ns, const char *id) {
    struct vnet *n = find(ns, id);

    vnet_kick(n ? n : vnet_new(ns, id));
}

unsigned vnets_active(const struct vnets *ns) { return ns->active; }

/* ------------------------------------------------------------------ rows */

static bool save(struct vnet *n, struct store_row *row, const char *what, const char *text) {
    struct manager *m = n->all->m;
    struct error e = {0};

    if (store_begin(m->store, STORE_NOTE, &e) == 0) {
        if ((what && manager_event(m, row, what, &e, "%s", text) < 0) ||
            store_update(m->store, row, &e) < 0)
            store_rollback(m->store);
        else if (store_commit(m->store, &e) == 0)
            return true;
    }
    log_error("%s: %s", n->id, e.text);
    vnet_again_in(n, AGAIN_MS);
    return false;
}

/* Writes what is seen, if it is something new. */
static void note(struct vnet *n, struct store_row *row, const struct vnet_plan *plan,
                 const char *state, const char *reason) {
    const char *old = row_text(row->status, "state");
    bool other = strcmp(old, state) != 0, failed = !strcmp(state, "failed");
    const char *what = other && (failed || n->up) ? state : NULL;

    if (!other && json_equal(plan->machines, json_object_get(row->status, "machines")) &&
        json_equal(plan->addresses, json_object_get(row->status, "addresses")) &&
        row_number(row->status, "pid") == n->process.pid &&
        !strcmp(row_text(row->status, "reason"), reason ? reason : "") &&
        row_number(row->status, "restarts") == n->restarts)
        return;
    json_object_set(row->status, "machines", plan->machines);
    json_object_set(row->status, "addresses", plan->addresses);
    if (n->process.pid)
        row_set_number(row->status, "pid", n->process.pid);
    else
        row_unset(row->status, "pid");
    if (n->restarts)
        row_set_number(row->status, "restarts", n->restarts);
    row_set_state(row, state, reason);
    save(n, row, what, failed ? reason : "its process runs");
}

/* ------------------------------------------------------------------ steps */

static void step_start(struct vnet *n, struct store_row *row, const struct vnet_plan *plan,
                       const char *text) {
    int64_t wait = n->not_before - timer_now_ms();
    struct error e = {0};
    int r = 0;

    if (n->not_before && wait > 0)
        vnet_again_in(n, wait);
    else if ((r = vnet_launch(n, text, &e)) == 0)
        vnet_again_in(n, CONNECT_MS);
    if (r < 0) {
        vnet_again_in(n, r == -EBUSY ? LOOK_AGAIN_MS : AGAIN_MS);
        n->failures += r != -EBUSY;
    }
    if (n->failures >= FAILURES) {
        char *words = vnet_open_folder(n, false) ? vm_process_last_words(n->folder) : NULL;
        const char *last = words ? strrchr(words, '\n') : NULL;

        note(n, row, plan, "failed",
             e.code  ? e.text
             : last  ? last + 1
             : words ? words
                     : "it ended");
        free(words);
    } else {
        note(n, row, plan, "starting", NULL);
    }
}

/* Tells it what is new. */
static void step_running(struct vnet *n, struct store_row *row, const struct vnet_plan *plan,
                         const char *text) {
    struct error e = {0};

    if (!n->control)
        vnet_connect_control(n);
    if (n->up)
        note(n, row, plan, "running", NULL);
    if (!n->up || n->reload_sent)
        return;
    if (n->told && !strcmp(n->told, text) && !n->unopened)
        return;
    if (n->told && !strcmp(n->told, text)) { /* forwards that could not be opened, now and then */
        n->unopened = false;
        free(n->told);
        n->told = NULL;
        vnet_again_in(n, FORWARDS_MS);
        return;
    }
    if (!vnet_open_folder(n, true) || vnet_write_config(n, text, &e) < 0) {
        log_error("%s: %s", n->id, e.text);
        vnet_again_in(n, AGAIN_MS);
        return;
    }
    free(n->sent);
    n->sent = strdup(text);
    json_decref(n->ids);
    n->ids = json_incref(plan->ids);
    n->reload_sent = true;
    vm_control_send(n->control, "reload");
}

static void step_unneeded(struct vnet *n, struct store_row *row, const struct vnet_plan *plan) {
    int64_t now = timer_now_ms();

    if (!n->process.pid) {
        n->failures = 0;
        note(n, row, plan, "idle", NULL);
        forget(n);
        return;
    }
    if (!n->unneeded)
        n->unneeded = now;
    if (now - n->unneeded >= LINGER_MS)
        vnet_end_process(n);
    else
        vnet_again_in(n, n->unneeded + LINGER_MS - now);
}

static void step_row(struct vnet *n, struct store_row *row) {
    struct vnet_plan plan;
    char *text;

    if (!vnet_find_process(n))
        return;
    if (vnet_plan(n->all->m, row, &plan) < 0) {
        vnet_again_in(n, AGAIN_MS);
        vnet_plan_done(&plan);
        return;
    }
    n->restarts = (unsigned)row_number(row->status, "restarts") > n->restarts
                      ? (unsigned)row_number(row->status, "restarts")
                      : n->restarts;
    text = json_dumps(plan.config, JSON_COMPACT);
    if (!plan.needed) {
        step_unneeded(n, row, &plan);
    } else {
        n->unneeded = 0;
        if (n->process.pid && n->quit) /* it is on its way out; the next one comes */
            vnet_end_process(n);
        else if (n->process.pid)
            step_running(n, row, &plan, text);
        else
            step_start(n, row, &plan, text);
    }
    free(text);
    vnet_plan_done(&plan);
}

/* ------------------------------------------------------------------ deletion */

static void remove_work(void *opaque) {
    struct vnet *n = opaque;
    struct error e = {0};

    if (tree_remove(n->all->m->home.networks, n->id, &e) < 0)
        log_warning("%s: %s", n->id, e.text);
}

static void removed(void *opaque) {
    struct vnet *n = opaque;

    n->busy = false;
    n->removed = true;
    vnet_step(n);
}

static void delete_row(struct vnet *n, struct store_row *row) {
    struct manager *m = n->all->m;
    struct error e = {0};

    if (store_begin(m->store, STORE_PROMISE, &e) == 0) {
        if (manager_event(m, row, "deleted", &e, "it is deleted") < 0 ||
            store_delete(m->store, "network", n->id, &e) < 0)
            store_rollback(m->store);
        else if (store_commit(m->store, &e) == 0)
            return; /* the change brings us back, and there is no row any more */
    }
    log_error("%s: %s", n->id, e.text);
    vnet_again_in(n, AGAIN_MS);
}

/* row NULL: a folder that belongs to nothing. */
static void step_delete(struct vnet *n, struct store_row *row) {
    if (!vnet_find_process(n))
        return;
    if (n->process.pid) {
        vm_process_signal(&n->process, SIGKILL);
        n->quit = timer_now_ms();
    } else if (!n->removed) {
        n->busy = true;
        workers_run(n->all->m->workers, remove_work, removed, n);
    } else if (row) {
        delete_row(n, row);
    } else {
        forget(n);
    }
}

void vnet_step(struct vnet *n) {
    struct store_row row = {0};
    int r;

    if (n->busy)
        return;
    n->due = 0;
    timer_stop(&n->timer);
    r = store_get(n->all->m->store, "network", n->id, &row);
    if (r == -ENOENT)
        step_delete(n, NULL);
    else if (r < 0)
        vnet_again_in(n, AGAIN_MS);
    else if (row_flag(row.wanted, "deleting"))
        step_delete(n, &row);
    else
        step_row(n, &row);
    store_row_done(&row);
}

/* ------------------------------------------------------------------ machines */

static void kick_by_name(struct vnets *ns, const struct store_row *vm, const char *name) {
    struct store_row network = {0};

    if (vnet_is_real(name) && store_find(ns->m->store, "network", vm->tenant, name, &network) == 0)
        vnets_kick(ns, network.id);
    store_row_done(&network);
}

void vnets_vm_gone(struct vnets *ns, const struct store_row *vm) {
    char name[STORE_WORD];
    const char *key;
    json_t *nic;

    for (unsigned i = 0; vnet_name(vm->spec, i, name); i++)
        kick_by_name(ns, vm, name);
    json_object_foreach(json_object_get(vm->status, "networks"), key, nic)
        kick_by_name(ns, vm, key);
}

void vnets_vm_changed(struct vnets *ns, const char *id) {
    struct store_row vm = {0};

    if (store_get(ns->m->store, "vm", id, &vm) == 0)
        vnets_vm_gone(ns, &vm);
    store_row_done(&vm);
}

/* ------------------------------------------------------------------ beginning and end */

struct vnets *vnets_new(struct manager *m, struct error *err) {
    struct vnets *ns = calloc(1, sizeof(*ns));

    if (!ns)
        error_set(err, -ENOMEM, "networks: out of memory");
    else
        ns->m = m;
    return ns;
}

static bool look_at_row(void *opaque, const struct store_text *t) {
    vnets_kick(opaque, t->id); /* which forgets it, if nothing is to be done */
    return true;
}

void vnets_load(struct vnets *ns) {
    struct store_query q = {.kind = "network"};
    int fd = fcntl(ns->m->home.networks, F_DUPFD_CLOEXEC, 0);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;

    store_list(ns->m->store, &q, look_at_row, ns);
    while (d && (e = readdir(d)))
        if (e->d_name[0] != '.' && strlen(e->d_name) < STORE_WORD)
            vnets_kick(ns, e->d_name);
    if (d)
        closedir(d);
}

void vnets_free(struct vnets *ns) {
    struct vnet *next;

    for (struct vnet *n = ns ? ns->first : NULL; n; n = next) {
        next = n->next;
        release(n);
        free(n); /* the loop has stopped: nothing queued is called any more */
    }
    free(ns);
}

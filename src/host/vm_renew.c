/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who a guest is, by a script that the agent in it runs: a new identity for that of a clone, and at
 * the first start of each what cloud-init would do where there is none. Only then is it ready.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "host/cloud.h"
#include "host/identity.h"
#include "host/vm_clone.h"
#include "host/vm_impl.h"
#include "host/worker.h"
#include "proto/guest.h"

/* A busy guest takes its time to make keys. */
enum {
    CONNECT_MS = 5000,
    SLICE_MS = 500,
    RUN_MS = 300 * 1000,
    AGAIN_MS = 5000,
    TRIES = 3,
    SAID = 300
};

static const struct step {
    const char *wanted; /* the flag in the row */
    const char *done, *failed;
    unsigned tries;
} steps[] = {
    {"renew", "renewed", "renew-failed", TRIES},
    {"introduce", NULL, "introduce-failed", 1},
};

struct renewal {
    struct machine *v;
    const struct step *step;
    json_t *request; /* NULL: nothing is to be done */
    char vsock[200];
    char said[SAID];
    int waited; /* ms */
    int stop;   /* atomic: the manager ends */
    struct error error;
};

/* ------------------------------------------------------------------ on a worker */

static void take_output(struct renewal *n, const uint8_t *p, size_t len) {
    size_t old = strlen(n->said), room = sizeof(n->said) - 1 - old;

    len = len < room ? len : room;
    memcpy(n->said + old, p, len);
    n->said[old + len] = 0;
    for (char *c = n->said + old; *c; c++)
        if ((unsigned char)*c < ' ')
            *c = ' ';
}

/* 1: more is to come. */
static int take_frame(struct renewal *n, struct guest *g) {
    enum agent_frame type;
    const uint8_t *p;
    json_t *v;
    size_t len;
    int r = agent_receive(&g->reader, SLICE_MS, &type, &p, &len, &n->error);

    n->waited += r ? 0 : SLICE_MS;
    if (r == 0 && n->waited < RUN_MS && !__atomic_load_n(&n->stop, __ATOMIC_RELAXED))
        return 1;
    if (r <= 0)
        return r < 0 ? r : error_set(&n->error, -ETIMEDOUT, "the guest took too long for it");
    if (type == AGENT_STDOUT || type == AGENT_STDERR) {
        take_output(n, p, len);
        return 1;
    }
    v = agent_json(p, len, &n->error);
    r = v ? 0 : -EPROTO;
    if (v && type == AGENT_RESULT)
        r = error_set(&n->error, -EIO, "the guest's agent cannot run it: %.200s",
                      row_text(v, "error"));
    else if (v && (json_object_get(v, "signal") || row_number(v, "code") != 0))
        r = error_set(&n->error, -EIO, "the guest could not do all of it: %s", n->said);
    json_decref(v);
    return r;
}

static void work(void *opaque) {
    struct renewal *n = opaque;
    struct guest g = {.path = n->vsock, .timeout_ms = CONNECT_MS, .reader = {.fd = -1}};
    json_t *request = n->request;

    n->request = NULL;
    if (!request)
        return;
    if (guest_connect(&g, &n->error) < 0)
        json_decref(request);
    else if (agent_send_json(g.reader.fd, AGENT_REQUEST, request, &n->error) == 0)
        while (take_frame(n, &g) > 0)
            ;
    guest_done(&g);
}

/* ------------------------------------------------------------------ what came of it */

static void save(struct machine *v, const struct step *step, const struct error *why) {
    struct manager *m = v->all->m;
    struct store_row row = {0};
    struct error e = {0};

    if (store_get(m->store, "vm", v->id, &row) < 0)
        return;
    row_unset(row.wanted, step->wanted);
    if (store_begin(m->store, STORE_NOTE, &e) == 0) {
        const char *what = why->code ? step->failed : step->done;

        if ((what &&
             manager_event(m, &row, what, &e, "%s",
                           why->code ? why->text : "its guest has an identity of its own") < 0) ||
            store_update(m->store, &row, &e) < 0)
            store_rollback(m->store);
        else
            store_commit(m->store, &e);
    }
    if (e.code)
        log_error("%s: %s", v->id, e.text);
    store_row_done(&row);
}

static void done(void *opaque) {
    struct renewal *n = opaque;
    struct machine *v = n->v;

    v->renewal = NULL;
    v->renew_at = 0;
    if (!n->error.code || (v->up && ++v->renewals >= n->step->tries)) {
        save(v, n->step, &n->error);
        v->renewals = 0;
    } else {
        v->renew_at = timer_now_ms() + AGAIN_MS - 1;
        if (v->up)
            machine_again_in(v, AGAIN_MS);
    }
    machine_kick(v);
    json_decref(n->request);
    free(n);
}

/* ------------------------------------------------------------------ what is to be done */

/* Images have a name like that until somebody gives them another. */
static bool is_placeholder(const char *name) {
    static const char *const names[] = {"", "(none)", "vivarium", "debian", "localhost"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (!strcmp(name, names[i]))
            return true;
    return !strncmp(name, "localhost.", 10);
}

static json_t *renewing(const struct store_row *row) {
    const char *host = row_text(row->spec, "hostname");
    bool network = strcmp(row_text(row->spec, "network"), "none") != 0;

    return json_pack("{s:s, s:[s,s,s,s,s,s]}", "do", "exec", "argv", "/bin/sh", "-c",
                     identity_renew, "viv-renew", *host ? host : row->name,
                     network ? row_text(row->wanted, "mac") : "");
}

static json_t *introducing(const struct store_row *row) {
    const char *host = row_text(row->spec, "hostname"), *user = row_text(row->spec, "user");
    const char *keys = row_text(row->spec, "ssh_key");
    bool data = *row_text(row->spec, "user_data"), net = *row_text(row->spec, "network_config");

    if (!*host && is_placeholder(row_text(row->status, "calls_itself")))
        host = row->name;
    if (!*host && !*user && !*keys && !data && !net)
        return NULL;
    return json_pack("{s:s, s:[s,s,s,s,s,s,s,s,s]}", "do", "exec", "argv", "/bin/sh", "-c",
                     identity_introduce, "viv-introduce", host, user, keys,
                     cloud_wanted(row->spec) ? "1" : "0",
                     data && net ? "user_data and network_config"
                     : data      ? "user_data"
                     : net       ? "network_config"
                                 : "");
}

bool machine_is_itself(const struct store_row *row) {
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
        if (row_flag(row->wanted, steps[i].wanted))
            return false;
    return true;
}

void machine_renew(struct machine *v, const struct store_row *row) {
    int64_t left = v->renew_at - timer_now_ms();
    struct renewal *n;

    if (v->renewal || machine_is_itself(row) || !*row_text(row->status, "agent"))
        return;
    if (left > 0) {
        machine_again_in(v, left);
        return;
    }
    n = calloc(1, sizeof(*n));
    if (!n)
        abort();
    n->v = v;
    n->step = &steps[!row_flag(row->wanted, steps[0].wanted)];
    n->request = n->step == steps ? renewing(row) : introducing(row);
    machine_path(v->all->m, v->id, "vsock", n->vsock, sizeof(n->vsock));
    v->renewal = n;
    workers_run(v->all->renewers, work, done, n);
}

void machine_renew_free(struct machine *v) {
    if (v->renewal)
        json_decref(v->renewal->request);
    free(v->renewal);
    v->renewal = NULL;
}

void machine_renew_stop(struct machine *v) {
    if (v->renewal)
        __atomic_store_n(&v->renewal->stop, 1, __ATOMIC_RELAXED);
}

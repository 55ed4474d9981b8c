/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A new identity for the guest of a clone: a script, run by the agent in it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
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

struct renewal {
    struct machine *v;
    char vsock[200], name[256], mac[18];
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
    json_t *request = json_pack("{s:s, s:[s,s,s,s,s,s]}", "do", "exec", "argv", "/bin/sh", "-c",
                                identity_renew, "viv-renew", n->name, n->mac);

    if (guest_connect(&g, &n->error) < 0)
        json_decref(request);
    else if (agent_send_json(g.reader.fd, AGENT_REQUEST, request, &n->error) == 0)
        while (take_frame(n, &g) > 0)
            ;
    guest_done(&g);
}

/* ------------------------------------------------------------------ what came of it */

static void save(struct machine *v, const struct error *why) {
    struct manager *m = v->all->m;
    struct store_row row = {0};
    struct error e = {0};

    if (store_get(m->store, "vm", v->id, &row) < 0)
        return;
    row_unset(row.wanted, "renew");
    if (store_begin(m->store, STORE_NOTE, &e) == 0) {
        if (manager_event(m, &row, why->code ? "renew-failed" : "renewed", &e, "%s",
                          why->code ? why->text : "its guest has an identity of its own") < 0 ||
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
    if (!n->error.code || (v->up && ++v->renewals >= TRIES))
        save(v, &n->error);
    else if (v->up)
        machine_again_in(v, AGAIN_MS);
    v->renew_at = timer_now_ms() + AGAIN_MS - 1;
    machine_kick(v);
    free(n);
}

void machine_renew(struct machine *v, const struct store_row *row) {
    const char *host = row_text(row->spec, "hostname");
    int64_t left = v->renew_at - timer_now_ms();
    struct renewal *n;

    if (v->renewal || !row_flag(row->wanted, "renew") || !*row_text(row->status, "agent"))
        return;
    if (left > 0) {
        machine_again_in(v, left);
        return;
    }
    n = calloc(1, sizeof(*n));
    if (!n)
        abort();
    n->v = v;
    machine_path(v->all->m, v->id, "vsock", n->vsock, sizeof(n->vsock));
    snprintf(n->name, sizeof(n->name), "%s", *host ? host : row->name);
    snprintf(n->mac, sizeof(n->mac), "%s",
             strcmp(row_text(row->spec, "network"), "none") ? row_text(row->wanted, "mac") : "");
    v->renewal = n;
    workers_run(v->all->renewers, work, done, n);
}

void machine_renew_stop(struct machine *v) {
    if (v->renewal)
        __atomic_store_n(&v->renewal->stop, 1, __ATOMIC_RELAXED);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The manager: what its parts share. One thread, one loop; what may block goes to workers.
 *
 * The way of every change: an operation writes what is wanted into the store, commits, and answers.
 * After the commit the store tells which resources changed, and their controllers (vm.c, image.c)
 * bring what is there to what is wanted. A controller assumes nothing but the store and what it
 * finds on the host, so that it goes on after any crash.
 */
#ifndef HOST_MANAGER_H
#define HOST_MANAGER_H

#include "base/timer.h"
#include "host/home.h"
#include "host/store.h"

struct manager {
    struct loop *loop;
    struct timers *timers;
    struct workers *workers;
    struct home home;
    struct store *store;
    char cgroup[4096]; /* of the manager, in which machines' are made (cgroup.h); "": none */
    struct http_server *http;
    struct machines *machines;
    struct images *images;
    struct volumes *volumes;
    struct vnets *vnets; /* between machines */
    struct consoles *consoles;
    struct agent_clients *agents;
    struct vm_asks *asks;
    struct waits *waits;
    struct follows *follows;
    struct usages *usages;
    struct expiries *expiries;
    struct histories *histories;
    struct backups *backups;
    struct auth *auth;
    struct tickets *tickets;
    struct network *network;
    const struct files_allowed *files; /* of the host, that callers from the network may name */
    int64_t idle_ms;                   /* of doing nothing after which the manager ends; 0: never */
    struct timer idle;
    int64_t idle_since;
    int64_t started;             /* ms since 1970 */
    uint64_t requests, refusals; /* of the API */
};

/* Adds to the events of a resource; within a transaction. */
int manager_event(struct manager *m, const struct store_row *row, const char *what,
                  struct error *err, const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* Memory that the process takes, in bytes. */
int64_t manager_resident(void);

/* ---- members of a row's objects ---- */

const char *row_text(const json_t *object, const char *name); /* "" if there is none */
int64_t row_number(const json_t *object, const char *name);   /* 0 if there is none */
bool row_flag(const json_t *object, const char *name);
void row_set_text(json_t *object, const char *name, const char *value); /* NULL: takes it away */
void row_set_number(json_t *object, const char *name, int64_t value);
void row_set_time(json_t *object, const char *name, int64_t ms);
void row_unset(json_t *object, const char *name);
/* status.state and status.reason (NULL: none), and the time if it is another state. */
void row_set_state(struct store_row *row, const char *state, const char *reason);

#endif

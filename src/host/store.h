/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the manager must not forget: resources, events, answers to repeated requests. The one file
 * that knows SQLite is store.c; another store (a cluster's) would stand behind the same functions.
 *
 * Contract: one thread. Everything that changes something stands between store_begin and
 * store_commit or store_rollback; such pairs do not nest. After a commit that succeeded, what it
 * changed survives the end of the process at any moment; with STORE_PROMISE also that of the host.
 * Functions give 0 or a negative errno: -ENOENT none, -EEXIST the name is taken, else the store
 * itself failed.
 */
#ifndef HOST_STORE_H
#define HOST_STORE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct store;

enum { STORE_WORD = 64, STORE_MAX_FILTERS = 8 };
enum store_durability {
    STORE_NOTE,   /* what could be seen again */
    STORE_PROMISE /* what somebody was told */
};

struct store_row { /* a resource; the objects belong to the row */
    char kind[STORE_WORD], id[STORE_WORD], tenant[STORE_WORD], name[STORE_WORD];
    int64_t revision, created; /* ms since 1970 */
    json_t *spec, *status;
    json_t *wanted; /* what the manager has set out to do; not shown to callers */
};

struct store_text { /* the same for lists, without parsing */
    const char *kind, *id, *tenant, *name, *spec, *status;
    int64_t revision, created;
};

struct store_filter {
    const char *part, *field; /* "spec" or "status"; NULL: field of an event */
    json_t *value;
};

struct store_query {
    const char *kind, *tenant; /* tenant NULL: all, by tenant and name */
    const char *after;         /* names behind this one; NULL: from the first */
    const char *after_tenant;  /* whose name that is, in a list of all tenants */
    int64_t after_seq;         /* events */
    bool newest;               /* of events the last `limit`, not the first */
    unsigned limit;
    struct store_filter filter[STORE_MAX_FILTERS];
    unsigned filters;
};

struct store_event {
    int64_t seq, time;
    const char *tenant, *kind, *id, *name, *what, *text;
};

struct store_hooks { /* after a commit; not within a transaction */
    void (*changed)(void *opaque, const char *kind, const char *id);
    void (*events)(void *opaque);
    void *opaque;
};

/* Makes the file if it is not there, brings one of an older version up to date, and refuses one
 * that is newer or damaged. */
struct store *store_open(const char *path, struct error *err);
/* A whole copy of a store, used or not, in a file that is not there yet; safe when it returns. A
 * damaged one is not copied. May block: for workers. */
int store_copy(const char *from, const char *to, struct error *err);
void store_close(struct store *s); /* accepts NULL */
void store_set_hooks(struct store *s, const struct store_hooks *hooks);

int store_begin(struct store *s, enum store_durability durability, struct error *err);
int store_commit(struct store *s, struct error *err); /* a failure has rolled back */
void store_rollback(struct store *s);
bool store_in_transaction(const struct store *s);

/* Gives the row its id, revision and time; one without a name is called by its id. */
int store_insert(struct store *s, struct store_row *row, struct error *err);
int store_update(struct store *s, struct store_row *row, struct error *err);
int store_delete(struct store *s, const char *kind, const char *id, struct error *err);
int store_get(struct store *s, const char *kind, const char *id, struct store_row *ret);
/* By name; by id if nothing has that name. */
int store_find(struct store *s, const char *kind, const char *tenant, const char *name,
               struct store_row *ret);
void store_row_done(struct store_row *row);

/* fn returns false to stop. */
int store_list(struct store *s, const struct store_query *q,
               bool (*fn)(void *opaque, const struct store_text *t), void *opaque);
int64_t store_count(struct store *s, const struct store_query *q);

int store_event_add(struct store *s, const struct store_event *e, struct error *err);
int store_event_list(struct store *s, const struct store_query *q,
                     bool (*fn)(void *opaque, const struct store_event *e), void *opaque);
int64_t store_event_last(struct store *s);

/* Answers that are given again to who repeats a request with the same key (a day long). */
int store_answer_find(struct store *s, const char *caller, const char *key, uint64_t *ret_request,
                      int *ret_status, char **ret_body);
int store_answer_put(struct store *s, const char *caller, const char *key, uint64_t request,
                     int status, const char *body, struct error *err);

#endif

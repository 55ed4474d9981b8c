/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Asking machines what they use. A round asks every machine that is up, by the connection to its
 * control socket that is there anyway, and ends when all have answered or after PATIENCE_MS.
 * Whoever asks meanwhile waits for the same round; whoever asks within FRESH_MS gets its figures.
 */
#include "host/usage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "host/api.h"
#include "host/vm.h"
#include "proto/units.h"

enum { PATIENCE_MS = 1000, FRESH_MS = 900 /* below a second, in which the history asks again */ };

static const struct {
    const char *counter, *field; /* in a machine's stats.def; in the resource */
    const char *also;            /* another counter that adds to it */
} counters[USAGE_COUNTERS] = {
    {"block_reads", "disk_reads", NULL},
    {"block_read_bytes", "disk_read_bytes", NULL},
    {"block_writes", "disk_writes", NULL},
    {"block_written_bytes", "disk_written_bytes", NULL},
    {"block_errors", "disk_errors", NULL},
    {"net_user_frames_in", "net_received_frames", "net_link_frames_in"},
    {"net_user_bytes_in", "net_received_bytes", "net_link_bytes_in"},
    {"net_user_frames_out", "net_sent_frames", "net_link_frames_out"},
    {"net_user_bytes_out", "net_sent_bytes", "net_link_bytes_out"},
    {"vcpu_halts", "halts", NULL},
    {"lapic_interrupts", "interrupts", NULL},
    {"virtio_kicks", "kicks", NULL},
    {"io_accesses", "exits", NULL},
};

static const char *const latencies[USAGE_LATENCIES] = {"disk_read", "disk_write", "disk_flush"};

struct waiter {
    struct usages *all;
    struct waiter *next, **link;
    struct http_exchange *x;
    struct usage_ask ask;
};

struct usages {
    struct manager *m;
    struct waiter *first;
    bool asking;
    unsigned round, pending;
    int64_t at; /* when the last round ended, by the monotonic clock; 0: never */
    struct timer timer;
};

const char *usage_counter_field(unsigned i) { return counters[i].field; }

const char *usage_latency_field(unsigned i) { return latencies[i]; }

json_t *usage_question(void) {
    struct buf names = {0};
    json_t *o;

    for (unsigned i = 0; i < USAGE_COUNTERS; i++)
        buf_printf(&names, "%s%s%s%s", i ? "," : "", counters[i].counter,
                   counters[i].also ? "," : "", counters[i].also ? counters[i].also : "");
    buf_put(&names, "", 1);
    o = json_pack("{s:s}", "names", (const char *)names.data);
    buf_done(&names);
    return o;
}

/* A machine that was broken into says any number, and sums of many machines' are made of it. */
static int64_t positive(const json_t *v) {
    const json_int_t most = 1ll << 53;
    json_int_t n = json_integer_value(v);

    return n < 0 ? 0 : n < most ? n : most;
}

static void read_latency(struct usage *u, unsigned i, const json_t *v) {
    const json_t *counts = json_object_get(v, "counts");

    u->latency_first = (unsigned)positive(json_object_get(v, "first")) % 32;
    u->latency[i].sum_us = positive(json_object_get(v, "sum_us"));
    for (unsigned k = 0; k < USAGE_BUCKETS; k++)
        u->latency[i].count[k] = positive(json_array_get(counts, k));
}

static void read_counter(struct usage *u, const char *name, const json_t *value) {
    for (unsigned i = 0; i < USAGE_COUNTERS; i++)
        if ((!strcmp(name, counters[i].counter) ||
             (counters[i].also && !strcmp(name, counters[i].also))) &&
            u->counter[i] < 1ll << 53)
            u->counter[i] += positive(value);
}

void usage_read(struct usage *u, const json_t *result) {
    double seconds = json_number_value(json_object_get(result, "cpu_seconds"));
    const json_t *one;
    size_t i;

    *u = (struct usage){.known = true,
                        .time = units_now_ms(),
                        .resident = positive(json_object_get(result, "resident_bytes")),
                        .usable = positive(json_object_get(result, "balloon_bytes"))};
    if (seconds > 0 && seconds < 1e12)
        u->cpu_ms = (int64_t)(seconds * 1000);
    json_array_foreach(json_object_get(result, "counters"), i, one)
        read_counter(u, row_text(one, "name"), json_object_get(one, "value"));
    for (unsigned k = 0; k < USAGE_LATENCIES; k++)
        read_latency(u, k, json_object_get(json_object_get(result, "latency"), latencies[k]));
}

/* ------------------------------------------------------------------ rounds */

struct usages *usages_new(struct manager *m) {
    struct usages *u = calloc(1, sizeof(*u));

    if (u)
        u->m = m;
    return u;
}

void usages_free(struct usages *u) {
    struct waiter *next;

    if (!u)
        return;
    timer_stop(&u->timer);
    for (struct waiter *w = u->first; w; w = next) {
        next = w->next;
        free(w);
    }
    free(u);
}

static void unlink_waiter(struct waiter *w) {
    *w->link = w->next;
    if (w->next)
        w->next->link = w->link;
}

static void gone(void *opaque) {
    struct waiter *w = opaque;

    unlink_waiter(w);
    free(w);
}

static void end_round(void *opaque) {
    struct usages *u = opaque;
    struct waiter *w;

    timer_stop(&u->timer);
    u->asking = false;
    u->at = timer_now_ms();
    while ((w = u->first)) {
        u->first = w->next;
        unlink_waiter(w);
        w->ask.answer(u->m, w->x, &w->ask);
        free(w);
    }
}

void usage_came(struct usages *u, unsigned round) {
    if (u->asking && round == u->round && --u->pending == 0)
        end_round(u);
}

static void begin_round(struct usages *u) {
    u->asking = true;
    u->round++;
    u->pending = machines_ask_usage(u->m->machines, u->round);
    if (u->pending)
        timer_start(u->m->timers, &u->timer, PATIENCE_MS, end_round, u);
    else
        end_round(u);
}

bool usage_ask(struct manager *m, struct http_exchange *x, const struct usage_ask *ask) {
    struct usages *u = m->usages;
    struct waiter *w;

    if (!u->asking && u->at && timer_now_ms() - u->at < FRESH_MS) {
        ask->answer(m, x, ask);
        return true;
    }
    w = calloc(1, sizeof(*w));
    if (!w)
        return false;
    *w = (struct waiter){.all = u, .next = u->first, .link = &u->first, .x = x, .ask = *ask};
    if (w->next)
        w->next->link = &w->next;
    u->first = w;
    if (x)
        http_set_gone(x, gone, w);
    if (!u->asking)
        begin_round(u);
    return true;
}

/* ------------------------------------------------------------------ rows */

struct rows {
    struct manager *m;
    struct usage_row *row;
    unsigned count, room;
    bool failed;
};

static void fill_row(struct manager *m, struct usage_row *r, const struct store_text *t) {
    json_t *spec = json_loads(t->spec, 0, NULL), *status = json_loads(t->status, 0, NULL);
    const struct usage *u = machine_usage(m->machines, t->id);

    *r = (struct usage_row){.cpus = row_number(spec, "cpus"),
                            .memory = row_number(spec, "memory"),
                            .restarts = row_number(status, "restarts")};
    snprintf(r->name, sizeof(r->name), "%s", t->name);
    snprintf(r->id, sizeof(r->id), "%s", t->id);
    snprintf(r->tenant, sizeof(r->tenant), "%s", t->tenant);
    snprintf(r->state, sizeof(r->state), "%s", row_text(status, "state"));
    if (u)
        r->usage = *u;
    json_decref(spec);
    json_decref(status);
}

static bool add_row(void *opaque, const struct store_text *t) {
    struct rows *rows = opaque;

    if (rows->count == rows->room) {
        unsigned room = rows->room ? 2 * rows->room : 16;
        struct usage_row *row = reallocarray(rows->row, room, sizeof(*row));

        rows->failed = !row;
        if (!row)
            return false;
        rows->row = row;
        rows->room = room;
    }
    fill_row(rows->m, &rows->row[rows->count++], t);
    return true;
}

int usage_rows(struct manager *m, const char *tenant, const char *after, unsigned limit,
               struct usage_row **ret) {
    struct store_query q = {.kind = "vm", .tenant = tenant, .after = after, .limit = limit};
    struct rows rows = {.m = m};

    if (store_list(m->store, &q, add_row, &rows) < 0 || rows.failed) {
        free(rows.row);
        return -1;
    }
    *ret = rows.row;
    return (int)rows.count;
}

int usage_more_rows(struct manager *m, struct usage_row **rows, unsigned count, unsigned limit) {
    struct store_query q = {.kind = "vm", .limit = limit};
    struct rows all = {.m = m, .row = *rows, .count = count, .room = count};
    struct usage_row last;

    if (count) {
        last = (*rows)[count - 1];
        q.after = last.name;
        q.after_tenant = last.tenant;
    }
    if (store_list(m->store, &q, add_row, &all) < 0 || all.failed) {
        *rows = all.row;
        return -1;
    }
    *rows = all.row;
    return (int)(all.count - count);
}

/* ------------------------------------------------------------------ answers */

static json_t *latency_json(const struct usage *u, unsigned i) {
    json_t *counts = json_array();

    for (unsigned k = 0; k < USAGE_BUCKETS; k++)
        json_array_append_new(counts, json_integer(u->latency[i].count[k]));
    return json_pack("{s:i, s:I, s:o}", "first", (int)u->latency_first, "sum_us",
                     (json_int_t)u->latency[i].sum_us, "counts", counts);
}

static json_t *row_json(const struct usage_row *r) {
    const struct usage *u = &r->usage;
    json_t *o = json_pack("{s:s, s:s, s:s, s:I, s:I}", "name", r->name, "id", r->id, "state",
                          r->state, "cpus", (json_int_t)r->cpus, "memory", (json_int_t)r->memory);

    if (!o || !u->known)
        return o;
    row_set_time(o, "time", u->time);
    row_set_number(o, "resident", u->resident);
    if (u->usable)
        row_set_number(o, "usable", u->usable);
    row_set_number(o, "cpu_ms", u->cpu_ms);
    if (u->group.memory)
        row_set_number(o, "group_memory", u->group.memory);
    if (u->group.cpu_ms)
        row_set_number(o, "group_cpu_ms", u->group.cpu_ms);
    for (unsigned i = 0; i < USAGE_COUNTERS; i++)
        row_set_number(o, counters[i].field, u->counter[i]);
    for (unsigned i = 0; i < USAGE_LATENCIES; i++) {
        char name[40];

        snprintf(name, sizeof(name), "%s_latency", latencies[i]);
        json_object_set_new(o, name, latency_json(u, i));
    }
    return o;
}

static void send_json(struct http_exchange *x, json_t *o) {
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;

    http_answer(x, text ? 200 : 500, "application/json", text, text ? strlen(text) : 0);
    free(text);
    json_decref(o);
}

static void cannot(struct http_exchange *x, enum failure kind, const char *reason) {
    struct api_failure f = {.kind = kind};

    snprintf(f.reason, sizeof(f.reason), "%s", reason);
    api_send_failure(x, &f);
}

static void answer_list(struct manager *m, struct http_exchange *x, const struct usage_ask *ask) {
    struct usage_row *rows = NULL;
    int n = usage_rows(m, ask->tenant, ask->after, ask->limit + 1, &rows);
    unsigned shown = n < 0 ? 0 : (unsigned)n < ask->limit ? (unsigned)n : ask->limit;
    json_t *items, *o;

    if (n < 0) {
        cannot(x, FAILURE_FAILED, "the store cannot be read");
        return;
    }
    items = json_array();
    for (unsigned i = 0; i < shown; i++)
        json_array_append_new(items, row_json(&rows[i]));
    o = json_pack("{s:o}", "items", items);
    if ((unsigned)n > shown)
        json_object_set_new(o, "next", json_string(rows[shown - 1].name));
    send_json(x, o);
    free(rows);
}

static void answer_one(struct manager *m, struct http_exchange *x, const struct usage_ask *ask) {
    struct store_row row = {0};
    struct usage_row r = {0};

    if (store_get(m->store, "vm", ask->id, &row) < 0) {
        cannot(x, FAILURE_NOT_FOUND, "the machine was deleted");
        return;
    }
    r = (struct usage_row){.cpus = row_number(row.spec, "cpus"),
                           .memory = row_number(row.spec, "memory")};
    snprintf(r.name, sizeof(r.name), "%s", row.name);
    snprintf(r.id, sizeof(r.id), "%s", row.id);
    snprintf(r.state, sizeof(r.state), "%s", row_text(row.status, "state"));
    if (machine_usage(m->machines, ask->id))
        r.usage = *machine_usage(m->machines, ask->id);
    send_json(x, row_json(&r));
    store_row_done(&row);
}

static int begin(struct api_call *call, struct usage_ask *ask) {
    snprintf(ask->tenant, sizeof(ask->tenant), "%s", call->tenant);
    return usage_ask(call->m, call->x, ask)
               ? 1
               : api_fail(call, FAILURE_FAILED, "", "", "out of memory");
}

static int list(struct api_call *call) {
    struct usage_ask ask = {.answer = answer_list,
                            .limit = (unsigned)row_number(call->args, "limit")};

    snprintf(ask.after, sizeof(ask.after), "%s", row_text(call->args, "after"));
    return begin(call, &ask);
}

static int get(struct api_call *call) {
    struct usage_ask ask = {.answer = answer_one};
    struct store_row row = {0};
    int r = store_find(call->m->store, "vm", call->tenant, call->name, &row);

    snprintf(ask.id, sizeof(ask.id), "%s", row.id);
    store_row_done(&row);
    if (r == -ENOENT)
        return api_fail(call, FAILURE_NOT_FOUND, "name", "look at the list of all",
                        "there is no machine '%.100s'", call->name);
    if (r < 0)
        return api_fail(call, FAILURE_FAILED, "", "look at vivd.log", "the store cannot be read");
    return begin(call, &ask);
}

const struct api_handler usage_handlers[] = {{"list", list}, {"get", get}, {NULL, NULL}};

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Events: lists of them, and followers (server-sent events, WHATWG HTML section 9.2). A follower is
 * a place in the table of events: it reads on from there whenever something was added, so that
 * nothing is missed or told twice, also across a restart of the manager (Last-Event-ID).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/api.h"
#include "proto/units.h"

enum { MOST = 64, BATCH = 200, BACKLOG = 64 * 1024 };

struct follow {
    struct follows *all;
    struct follow *next, **link;
    struct http_exchange *x;
    struct store_query query;
    json_t *args; /* holds the query's values */
};

struct follows {
    struct manager *m;
    struct follow *first;
    unsigned count;
};

struct follows *follows_new(struct manager *m) {
    struct follows *f = calloc(1, sizeof(*f));

    if (f)
        f->m = m;
    return f;
}

unsigned follows_count(const struct follows *f) { return f->count; }

static void forget(struct follow *f) {
    *f->link = f->next;
    if (f->next)
        f->next->link = f->link;
    f->all->count--;
    json_decref(f->args);
    free(f);
}

void follows_free(struct follows *f) {
    struct follow *next;

    for (struct follow *one = f ? f->first : NULL; one; one = next) {
        next = one->next;
        json_decref(one->args);
        free(one);
    }
    free(f);
}

static json_t *event_json(const struct store_event *e) {
    char time[UNITS_TIME_SIZE];

    units_put_time(e->time, time);
    return json_pack("{s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "seq", (json_int_t)e->seq, "time",
                     time, "tenant", e->tenant, "kind", e->kind, "id", e->id, "name", e->name,
                     "what", e->what, "text", e->text);
}

/* ------------------------------------------------------------------ following */

struct batch {
    struct buf out;
    int64_t last;
    unsigned count;
};

static bool add_message(void *opaque, const struct store_event *e) {
    struct batch *b = opaque;
    json_t *o = event_json(e);
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;

    if (text)
        buf_printf(&b->out, "id: %lld\nevent: %s\ndata: %s\n\n", (long long)e->seq, e->what, text);
    free(text);
    json_decref(o);
    b->last = e->seq;
    b->count++;
    return true;
}

static void pump(void *opaque);

static void gone(void *opaque) { forget(opaque); }

/* Sends what is new, as far as the client takes it. */
static void pump(void *opaque) {
    struct follow *f = opaque;
    struct batch b = {.last = f->query.after_seq};

    if (http_backlog(f->x) > BACKLOG) {
        http_set_ready(f->x, pump, f);
        return;
    }
    f->query.limit = BATCH;
    if (store_event_list(f->all->m->store, &f->query, add_message, &b) == 0 && b.count) {
        f->query.after_seq = b.last;
        if (b.count == BATCH)
            http_set_ready(f->x, pump, f);
        http_put(f->x, b.out.data, b.out.len); /* f may be gone now */
    }
    buf_done(&b.out);
}

void follows_look(struct follows *all) {
    struct follow *next;

    for (struct follow *f = all->first; f; f = next) {
        next = f->next;
        pump(f);
    }
}

static bool take_first(void *opaque, const struct store_event *e) {
    *(int64_t *)opaque = e->seq;
    return false;
}

/* Without a place to begin at: only what comes from now on, and with `newest` the last ones first.
 */
static int64_t first_seq(struct api_call *call, const struct store_query *query) {
    int64_t end = store_event_last(call->m->store), first = end + 1;
    struct store_query q = *query;
    const char *last = http_find_header(http_request(call->x), "Last-Event-ID");

    if (last)
        return strtoll(last, NULL, 10);
    if (json_object_get(call->args, "after"))
        return strtoll(row_text(call->args, "after"), NULL, 10);
    q.newest = true;
    if (json_is_true(json_object_get(call->args, "newest")) &&
        store_event_list(call->m->store, &q, take_first, &first) == 0)
        return first - 1;
    return end;
}

static int begin_following(struct api_call *call) {
    struct follows *all = call->m->follows;
    struct follow *f;

    if (all->count >= MOST)
        return api_fail(call, FAILURE_LIMIT, "", "close some of them",
                        "%d callers follow the events already", MOST);
    f = calloc(1, sizeof(*f));
    if (!f)
        return api_fail(call, FAILURE_FAILED, "", "", "out of memory");
    *f = (struct follow){.all = all, .next = all->first, .link = &all->first, .x = call->x};
    api_list_query(call, &f->query);
    f->query.tenant = "default"; /* outlives the call; see check_caller */
    f->query.after_seq = first_seq(call, &f->query);
    f->args = json_incref(call->args);
    if (f->next)
        f->next->link = &f->next;
    all->first = f;
    all->count++;
    http_stream(f->x, "text/event-stream");
    http_set_gone(f->x, gone, f);
    http_put(f->x, ": events follow\n\n", strlen(": events follow\n\n"));
    pump(f);
    return 1;
}

/* ------------------------------------------------------------------ lists */

struct listing {
    struct buf out;
    unsigned count, limit;
    int64_t last;
};

static bool add_item(void *opaque, const struct store_event *e) {
    struct listing *l = opaque;
    json_t *o;
    char *text;

    if (l->count == l->limit) {
        buf_printf(&l->out, "],\"next\":\"%lld\"}", (long long)l->last);
        l->count++;
        return false;
    }
    o = event_json(e);
    text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    if (text)
        buf_printf(&l->out, "%s%s", l->count++ ? "," : "", text);
    l->last = e->seq;
    free(text);
    json_decref(o);
    return true;
}

static int list(struct api_call *call) {
    struct listing l = {0};
    struct store_query q;

    if (http_header_has(http_request(call->x), "Accept", "text/event-stream"))
        return begin_following(call);
    api_list_query(call, &q);
    q.newest = json_is_true(json_object_get(call->args, "newest"));
    l.limit = q.limit;
    if (!q.newest)
        q.limit++; /* tells whether there is a next page */
    buf_printf(&l.out, "{\"items\":[");
    if (store_event_list(call->m->store, &q, add_item, &l) < 0) {
        buf_done(&l.out);
        return api_fail(call, FAILURE_FAILED, "", "look at vivd.log", "the store cannot be read");
    }
    if (l.count <= l.limit)
        buf_printf(&l.out, "]}");
    http_answer(call->x, 200, "application/json", l.out.data, l.out.len);
    buf_done(&l.out);
    return 1;
}

const struct api_handler event_handlers[] = {{"list", list}, {NULL, NULL}};

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the API says: rows, lists and failures as JSON. */
#include "host/api_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/lines.h"
#include "proto/units.h"

/* ------------------------------------------------------------------ failures */

int api_fail(struct api_call *call, enum failure kind, const char *field, const char *remedy,
             const char *fmt, ...) {
    struct api_failure *f = &call->failure;
    va_list ap;

    f->kind = kind;
    snprintf(f->field, sizeof(f->field), "%s", field);
    snprintf(f->remedy, sizeof(f->remedy), "%s", remedy);
    va_start(ap, fmt);
    vsnprintf(f->reason, sizeof(f->reason), fmt, ap);
    va_end(ap);
    return -EINVAL;
}

/* Sentences of struct error say the remedy behind a colon or semicolon already. */
int api_fail_error(struct api_call *call, const struct error *err) {
    enum failure kind = err->code == -EEXIST   ? FAILURE_EXISTS
                        : err->code == -ENOENT ? FAILURE_NOT_FOUND
                        : err->code == -EINVAL ? FAILURE_INVALID
                                               : FAILURE_FAILED;

    return api_fail(call, kind, kind == FAILURE_EXISTS ? "name" : "", "", "%s", err->text);
}

char *api_failure_body(const struct api_failure *f) {
    json_t *o = json_pack("{s:s, s:o, s:o, s:o}", "code", failure_word(f->kind), "field",
                          message_text(f->field), "reason", message_text(f->reason), "remedy",
                          message_text(f->remedy));
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;

    json_decref(o);
    return text;
}

char *api_parse_failure_body(int status, const char *why) {
    struct api_failure f = {.kind = FAILURE_INVALID};

    if (status == 413 || status == 431)
        f.kind = FAILURE_TOO_LARGE;
    if (status == 429)
        f.kind = FAILURE_LIMIT;
    snprintf(f.reason, sizeof(f.reason), "%s", why);
    return api_failure_body(&f);
}

void api_send_failure(struct http_exchange *x, const struct api_failure *f) {
    char *body = api_failure_body(f);

    http_answer(x, failure_status(f->kind), "application/json", body, body ? strlen(body) : 0);
    free(body);
}

/* ------------------------------------------------------------------ answers */

/* Kinds, ids, tenants and names are made of characters that JSON leaves alone. */
void api_put_text(struct buf *out, const struct store_text *t) {
    char time[UNITS_TIME_SIZE];

    units_put_time(t->created, time);
    buf_printf(out,
               "{\"kind\":\"%s\",\"id\":\"%s\",\"name\":\"%s\",\"tenant\":\"%s\",\"revision\":%lld,"
               "\"created\":\"%s\",\"spec\":",
               t->kind, t->id, t->name, t->tenant, (long long)t->revision, time);
    buf_put(out, t->spec, strlen(t->spec));
    buf_printf(out, ",\"status\":");
    buf_put(out, t->status, strlen(t->status));
    buf_put(out, "}", 1);
}

void api_put_row(struct buf *out, const struct store_row *row) {
    char *spec = json_dumps(row->spec, JSON_COMPACT),
         *status = json_dumps(row->status, JSON_COMPACT);
    struct store_text t = {.kind = row->kind,
                           .id = row->id,
                           .tenant = row->tenant,
                           .name = row->name,
                           .revision = row->revision,
                           .created = row->created,
                           .spec = spec ? spec : "{}",
                           .status = status ? status : "{}"};

    api_put_text(out, &t);
    free(spec);
    free(status);
}

void api_send_row(struct http_exchange *x, int status, const struct store_row *row) {
    struct buf body = {0};

    api_put_row(&body, row);
    http_add_header(x, "ETag: \"%lld\"", (long long)row->revision);
    http_answer(x, status, "application/json", body.data, body.len);
    buf_done(&body);
}

/* ------------------------------------------------------------------ lists */

const struct field *api_find_filter(const struct resource *r, const char *name) {
    const struct field *f = field_find(r->fields, name);

    return f && f->flags & FIELD_FILTER ? f : NULL;
}

void api_list_query(const struct api_call *call, struct store_query *q) {
    const char *key;
    json_t *v;

    *q = (struct store_query){.kind = call->resource->name,
                              .tenant = call->tenant,
                              .limit = (unsigned)row_number(call->args, "limit")};
    if (call->resource->plain)
        q->after_seq = strtoll(row_text(call->args, "after"), NULL, 10);
    else
        q->after = row_text(call->args, "after");
    json_object_foreach(call->args, key, v) {
        const struct field *f = api_find_filter(call->resource, key);

        if (f && q->filters < STORE_MAX_FILTERS)
            q->filter[q->filters++] =
                (struct store_filter){f->place == FIELD_SPEC ? "spec" : "status", f->name, v};
    }
}

struct listing {
    struct buf out;
    unsigned count, limit;
    char next[STORE_WORD];
};

static bool add_item(void *opaque, const struct store_text *t) {
    struct listing *l = opaque;

    if (l->count == l->limit) { /* one more than wanted: there is a next page */
        buf_printf(&l->out, "],\"next\":\"%s\"}", l->next);
        l->count++;
        return false;
    }
    if (l->count++)
        buf_put(&l->out, ",", 1);
    api_put_text(&l->out, t);
    snprintf(l->next, sizeof(l->next), "%s", t->name);
    return true;
}

int api_send_list(struct api_call *call) {
    struct listing l = {0};
    struct store_query q;

    api_list_query(call, &q);
    l.limit = q.limit++;
    buf_printf(&l.out, "{\"items\":[");
    if (store_list(call->m->store, &q, add_item, &l) < 0) {
        buf_done(&l.out);
        return api_fail(call, FAILURE_FAILED, "", "look at vivd.log", "the store cannot be read");
    }
    if (l.count <= l.limit)
        buf_printf(&l.out, "]}");
    http_answer_buf(call->x, 200, "application/json", &l.out);
    return 1;
}

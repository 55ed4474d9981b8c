/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Doing what is asked for: callers, permission, transactions, repeats. */
#include "host/api.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/api_internal.h"
#include "host/auth.h"
#include "host/files.h"
#include "host/portal.h"
#include "host/ticket.h"
#include "host/usage.h"
#include "proto/lines.h"
#include "proto/units.h"

enum { KEY_MAX = 128 };

static const struct {
    const char *name;
    const struct api_handler *handlers;
} handled[] = {
#define RESOURCE(name) {#name, name##_handlers},
#include "proto/resources.def"
#undef RESOURCE
};

/* ------------------------------------------------------------------ callers */

static int check_caller(struct api_call *call) {
    struct caller who;
    int r = auth_check(call->m->auth, call->x, &who, &call->failure);

    if (r < 0)
        return r;
    snprintf(call->caller, sizeof(call->caller), "%s", who.name);
    snprintf(call->caller_id, sizeof(call->caller_id), "%s", who.id);
    snprintf(call->tenant, sizeof(call->tenant), "%s", who.tenant);
    call->role = who.role;
    return 0;
}

static int check_permission(struct api_call *call) {
    if (role_may(call->role, call->op->permission))
        return 0;
    return api_fail(call, FAILURE_FORBIDDEN, "", "use a token of another role",
                    "%s has the role %s, which may not do this: it needs %s", call->caller,
                    role_word(call->role), call->op->permission);
}

bool api_is_local_admin(const struct api_call *call) {
    return !*call->caller_id && call->role == ROLE_ADMIN;
}

/* A guest that gets a folder of the host hands it to whoever has the guest: that is for those to
 * decide who could hand it out anyway. */
static int check_local(struct api_call *call, const json_t *spec) {
    for (const struct field *f = call->resource->fields; f->type != FIELD_END; f++)
        if (f->flags & FIELD_LOCAL && json_array_size(json_object_get(spec, f->name)) &&
            !api_is_local_admin(call))
            return api_fail(call, FAILURE_FORBIDDEN, "spec",
                            "ask an admin, who does it on the host",
                            "%s may not hand out folders and priorities of the manager's host (%s)",
                            call->caller, f->name);
    return 0;
}

/* Pages, processors and memory that one machine holds are not there for those of others. */
static int check_admin(struct api_call *call, const json_t *spec) {
    for (const struct field *f = call->resource->fields; f->type != FIELD_END; f++) {
        const json_t *value = json_object_get(spec, f->name);

        if (f->flags & FIELD_ADMIN && value && !json_is_null(value) &&
            !field_is_standard(f, value) && call->role != ROLE_ADMIN)
            return api_fail(call, FAILURE_FORBIDDEN, "spec", "ask an admin, or leave it out",
                            "%s may not take pages, memory, processors or devices of the "
                            "manager's host for one machine (%s)",
                            call->caller, f->name);
    }
    return 0;
}

void api_forget_forbidden(const struct api_call *call, json_t *spec) {
    for (const struct field *f = call->resource->fields; f->type != FIELD_END; f++)
        if (json_object_get(spec, f->name) &&
            ((f->flags & FIELD_LOCAL && !api_is_local_admin(call)) ||
             (f->flags & FIELD_ADMIN && call->role != ROLE_ADMIN)))
            json_object_set_new(spec, f->name, json_loads(f->standard, JSON_DECODE_ANY, NULL));
}

/* What of the host the call names, or takes. */
static int check_host(struct api_call *call) {
    const json_t *spec = json_object_get(call->body, "spec");

    if (check_local(call, spec) < 0 || check_admin(call, spec) < 0)
        return -EINVAL;
    return files_check(call);
}

/* ------------------------------------------------------------------ doing it */

static api_fn *find_handler(const struct api_call *call) {
    for (unsigned i = 0; i < sizeof(handled) / sizeof(handled[0]); i++) {
        if (strcmp(handled[i].name, call->resource->name) != 0)
            continue;
        for (const struct api_handler *h = handled[i].handlers; h->op; h++)
            if (!strcmp(h->op, call->op->name))
                return h->fn;
    }
    return NULL;
}

static bool changes(enum op_shape shape) {
    return shape == OP_CREATE || shape == OP_UPDATE || shape == OP_DELETE || shape == OP_ACTION;
}

/* Several etags may be given, as may '*' (RFC 9110, 13.1). */
static bool etag_matches(const char *given, int64_t revision) {
    char own[32];

    snprintf(own, sizeof(own), "\"%lld\"", (long long)revision);
    return !strcmp(given, "*") || strstr(given, own);
}

static int find_item(struct api_call *call) {
    const char *match = http_find_header(http_request(call->x), "If-Match");
    int r = store_find(call->m->store, call->resource->name, call->tenant, call->name, &call->row);

    if (r == -ENOENT)
        return api_fail(call, FAILURE_NOT_FOUND, "name", "look at the list of all",
                        "there is no %s '%.100s'", call->resource->noun, call->name);
    if (r < 0)
        return api_fail(call, FAILURE_FAILED, "", "look at vivd.log", "the store cannot be read");
    if (match && !etag_matches(match, call->row.revision))
        return api_fail(call, FAILURE_CHANGED, "revision", "get it again and look at what changed",
                        "'%s' has changed: it is at revision %lld", call->row.name,
                        (long long)call->row.revision);
    return 0;
}

int api_answer_unchanged(struct api_call *call) {
    const char *none = http_find_header(http_request(call->x), "If-None-Match");

    if (call->op->shape != OP_GET || !none || !etag_matches(none, call->row.revision))
        return 0;
    http_add_header(call->x, "ETag: \"%lld\"", (long long)call->row.revision);
    http_answer(call->x, 304, NULL, NULL, 0);
    return 1;
}

static int perform(struct api_call *call) {
    api_fn *fn = find_handler(call);
    int r = 0;

    if (api_has_item(call->op->shape) && !call->resource->plain)
        r = find_item(call);
    if (r < 0)
        return r;
    if (fn)
        return fn(call);
    if (call->op->shape == OP_LIST)
        return api_send_list(call);
    assert(call->op->shape == OP_GET && !call->resource->plain);
    return api_answer_unchanged(call);
}

static void answer_text(struct api_call *call, struct buf *out) {
    if (call->result) {
        char *text = json_dumps(call->result, JSON_COMPACT);

        buf_put(out, text, text ? strlen(text) : 0);
        free(text);
    } else {
        api_put_row(out, &call->row);
    }
}

static void send_text(struct api_call *call, int status, const char *body, size_t len) {
    if (call->row.revision)
        http_add_header(call->x, "ETag: \"%lld\"", (long long)call->row.revision);
    if (call->op->shape == OP_CREATE && *call->row.name)
        http_add_header(call->x, "Location: /v1/%s/%s", call->resource->plural, call->row.name);
    http_answer(call->x, status, "application/json", body, len);
}

/* The answer as it is given now, with what it holds only once. */
static void add_once(struct api_call *call, struct buf *out) {
    if (!call->once)
        return;
    json_object_update(call->result ? call->result : call->row.status, call->once);
    buf_done(out);
    answer_text(call, out);
    buf_put(out, "", 1);
    http_add_header(call->x, "Cache-Control: no-store");
}

static int read_only(struct api_call *call) {
    struct buf body = {0};
    int r = perform(call);

    if (r != 0)
        return r;
    answer_text(call, &body);
    send_text(call, call->op->status, (const char *)body.data, body.len);
    buf_done(&body);
    return 1;
}

/* FNV-1a; a key that is used for two requests is a caller's mistake, not an attack on others. */
static uint64_t fingerprint(const struct http_request *r) {
    const char *parts[] = {r->method, r->path, r->query, r->body};
    uint64_t h = 0xcbf29ce484222325ull;

    for (unsigned i = 0; i < 4; i++)
        for (const char *p = parts[i];; p++) {
            h = (h ^ (unsigned char)*p) * 0x100000001b3ull;
            if (!*p)
                break;
        }
    return h >> 1; /* the store's numbers are signed */
}

static int repeat_answer(struct api_call *call, const char *key) {
    uint64_t request = 0;
    char *body = NULL;
    int status = 0, r;

    if (!*key || strlen(key) > KEY_MAX)
        return api_fail(call, FAILURE_INVALID, "Idempotency-Key", "take a random one",
                        "the Idempotency-Key has 1 to %d characters", KEY_MAX);
    r = store_answer_find(call->m->store, call->caller, key, &request, &status, &body);
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return api_fail(call, FAILURE_FAILED, "", "look at vivd.log", "the store cannot be read");
    if (request != fingerprint(http_request(call->x)))
        r = api_fail(call, FAILURE_KEY_REUSED, "Idempotency-Key", "take a new key for it",
                     "this Idempotency-Key was used for another request");
    else {
        http_add_header(call->x, "Idempotent-Replayed: true");
        http_answer(call->x, status, "application/json", body, strlen(body));
        r = 1;
    }
    free(body);
    return r;
}

static int change(struct api_call *call) {
    const char *key = http_find_header(http_request(call->x), "Idempotency-Key");
    struct store *s = call->m->store;
    struct buf body = {0};
    struct error e = {0};
    int r = key ? repeat_answer(call, key) : 0;

    if (r != 0)
        return r;
    if (store_begin(s, STORE_PROMISE, &e) < 0)
        return api_fail_error(call, &e);
    r = perform(call);
    if (r == 1) { /* it changes nothing in the store, and answers later */
        store_rollback(s);
        return 1;
    }
    if (r == 0) {
        answer_text(call, &body);
        buf_put(&body, "", 1);
        if (key && store_answer_put(s, call->caller, key, fingerprint(http_request(call->x)),
                                    call->op->status, (const char *)body.data, &e) < 0)
            r = api_fail_error(call, &e);
    }
    if (r < 0)
        store_rollback(s);
    else if (store_commit(s, &e) < 0)
        r = api_fail_error(call, &e);
    else {
        add_once(call, &body);
        send_text(call, call->op->status, (const char *)body.data, body.len - 1);
    }
    buf_done(&body);
    return r < 0 ? r : 1;
}

/* What needs no permission, or asks for it in its own way. */
static int answer_anybody(struct api_call *call) {
    const char *path = http_request(call->x)->path, *method = http_request(call->x)->method;
    const char *text;
    size_t len;

    if (!strcmp(path, "/v1/session"))
        auth_session(call->m->auth, call->x);
    else if (!strncmp(path, "/v1/ws/", 7))
        ticket_use(call->m->tickets, call->x);
    else if (!strcmp(path, "/openapi.json") && !strcmp(method, "GET")) {
        if (auth_admit(call->m->auth, call->x, &call->failure) < 0)
            return -EINVAL;
        text = api_openapi(&len);
        http_answer(call->x, 200, "application/json", text, len);
    } else if (portal_is_at(http_request(call->x))) {
        if (auth_admit(call->m->auth, call->x, &call->failure) < 0)
            return -EINVAL;
        portal_answer(call->x);
    } else
        return 0;
    return 1;
}

/* What is no resource. */
static bool answer_document(struct manager *m, struct http_exchange *x) {
    const struct http_request *r = http_request(x);

    if (strcmp(r->path, "/metrics") != 0 || strcmp(r->method, "GET") != 0)
        return false;
    return metrics_answer(m, x);
}

void api_handle(void *opaque, struct http_exchange *x) {
    struct api_call call = {.m = opaque, .x = x, .args = json_object()};
    int r;

    call.m->idle_since = timer_now_ms();
    call.m->requests++;
    r = answer_anybody(&call);
    if (r == 0)
        r = check_caller(&call);
    if (r == 0 && answer_document(call.m, x))
        r = 1;
    if (r == 0)
        r = api_route(&call);
    if (r == 0)
        r = check_permission(&call);
    if (r == 0)
        r = api_read_arguments(&call);
    if (r == 0)
        r = check_host(&call);
    if (r == 0)
        r = changes(call.op->shape) ? change(&call) : read_only(&call);
    if (r < 0) {
        call.m->refusals++;
        api_send_failure(x, &call.failure);
    }
    store_row_done(&call.row);
    json_decref(call.args);
    json_decref(call.body);
    json_decref(call.result);
    json_decref(call.once);
}

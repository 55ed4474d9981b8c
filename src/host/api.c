/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests to operations: routes, permission, arguments, transactions, answers. */
#include "host/api.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/auth.h"
#include "host/portal.h"
#include "host/ticket.h"
#include "host/usage.h"
#include "proto/lines.h"
#include "proto/units.h"

enum { MAX_DEPTH = 16, LIST_STANDARD = 1000, LIST_MAX = 10000, KEY_MAX = 128 };

static const struct field list_args[] = {
    {.name = "limit",
     .type = FIELD_INT,
     .min = 1,
     .max = LIST_MAX,
     .standard = "1000",
     .help = "items at most"},
    {.name = "after",
     .type = FIELD_STRING,
     .min = 1,
     .max = 63,
     .help = "begin behind this one: `next` of the answer before"},
    {0},
};

static const struct {
    const char *name;
    const struct api_handler *handlers;
} handled[] = {
#define RESOURCE(name) {#name, name##_handlers},
#include "proto/resources.def"
#undef RESOURCE
};

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

static void put_row(struct buf *out, const struct store_row *row) {
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

    put_row(&body, row);
    http_add_header(x, "ETag: \"%lld\"", (long long)row->revision);
    http_answer(x, status, "application/json", body.data, body.len);
    buf_done(&body);
}

/* ------------------------------------------------------------------ lists */

static const struct field *find_filter(const struct resource *r, const char *name) {
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
        const struct field *f = find_filter(call->resource, key);

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

static int send_list(struct api_call *call) {
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

/* ------------------------------------------------------------------ routes */

/* The part of the path up to the next slash, decoded, into out; NULL: it is malformed. */
static const char *take_part(const char *path, char *out, size_t size) {
    size_t n = strcspn(path, "/");

    if (!n || n >= size)
        return NULL;
    memcpy(out, path, n);
    out[n] = 0;
    if (!http_decode(out, false))
        return NULL;
    return path + n + (path[n] == '/');
}

static const char *method_of(enum op_shape shape) {
    switch (shape) {
    case OP_CREATE:
    case OP_ACTION:
        return "POST";
    case OP_UPDATE:
        return "PATCH";
    case OP_DELETE:
        return "DELETE";
    default:
        return "GET";
    }
}

static bool has_item(enum op_shape shape) { return shape != OP_LIST && shape != OP_CREATE; }

static bool has_verb(enum op_shape shape) { return shape == OP_ACTION || shape == OP_LOOK; }

static int find_operation(struct api_call *call, const char *verb) {
    const char *method = http_request(call->x)->method;
    bool other = false;

    for (const struct operation *o = call->resource->ops; o->shape != OP_END; o++) {
        if (has_item(o->shape) != (*call->name != 0) || has_verb(o->shape) != (*verb != 0) ||
            (*verb && strcmp(verb, o->name) != 0))
            continue;
        if (!strcmp(method_of(o->shape), method)) {
            call->op = o;
            return 0;
        }
        other = true;
    }
    if (other)
        return api_fail(call, FAILURE_NOT_ALLOWED, "", "GET /openapi.json tells what there is",
                        "this path does not take %s", method);
    return api_fail(call, FAILURE_NOT_FOUND, "", "GET /openapi.json tells what there is",
                    "the operation '%s' of a %s is unknown", verb, call->resource->noun);
}

static int route(struct api_call *call) {
    const char *path = http_request(call->x)->path;
    char plural[40], verb[40] = "";

    if (!strncmp(path, "/v1/", 4) && (path = take_part(path + 4, plural, sizeof(plural))))
        call->resource = resource_by_plural(plural);
    if (!call->resource)
        return api_fail(call, FAILURE_NOT_FOUND, "", "GET /openapi.json tells what there is",
                        "there is nothing at this path");
    if (*path)
        path = take_part(path, call->name, sizeof(call->name));
    if (path && *path)
        path = take_part(path, verb, sizeof(verb));
    if (!path || *path)
        return api_fail(call, FAILURE_NOT_FOUND, "", "GET /openapi.json tells what there is",
                        "there is nothing at this path");
    return find_operation(call, verb);
}

/* ------------------------------------------------------------------ arguments */

static const struct field *find_arg(const struct api_call *call, const char *name) {
    const struct field *f = field_find(call->op->args, name);

    if (!f && call->op->shape == OP_LIST)
        f = field_find(list_args, name);
    return !f && call->op->shape == OP_LIST ? find_filter(call->resource, name) : f;
}

static int add_query_arg(struct api_call *call, char *pair) {
    char *value = strchr(pair, '=');
    const struct field *f;
    struct error e = {0};
    json_t *v;

    if (value)
        *value++ = 0;
    if (!http_decode(pair, true) || (value && !http_decode(value, true)))
        return api_fail(call, FAILURE_INVALID, "", "encode it with percent signs",
                        "the query is malformed");
    f = find_arg(call, pair);
    if (!f)
        return api_fail(call, FAILURE_INVALID, pair, "leave it out", "there is no argument '%.60s'",
                        pair);
    v = field_read(f, value ? value : f->type == FIELD_BOOL ? "true" : "", &e);
    if (!v)
        return api_fail(call, FAILURE_INVALID, pair, "", "%s", e.text);
    json_object_set_new(call->args, f->name, v);
    return 0;
}

static int read_query(struct api_call *call) {
    char *query = strdup(http_request(call->x)->query), *save = NULL;
    int r = query ? 0 : -ENOMEM;

    for (char *pair = query ? strtok_r(query, "&", &save) : NULL; pair && r == 0;
         pair = strtok_r(NULL, "&", &save))
        r = add_query_arg(call, pair);
    free(query);
    return r;
}

static void add_standards(const struct field *fields, json_t *args) {
    for (const struct field *f = fields; f->type != FIELD_END; f++)
        if (f->standard && !json_object_get(args, f->name))
            json_object_set_new(args, f->name, json_loads(f->standard, JSON_DECODE_ANY, NULL));
}

/* Nothing of ours is deep, and what is would be walked by recursion. */
static bool too_deep(const char *s, size_t n) {
    bool string = false;
    int depth = 0;

    for (size_t i = 0; i < n; i++) {
        if (string)
            i += s[i] == '\\', string = i < n && s[i] != '"';
        else if (s[i] == '"')
            string = true;
        else if ((s[i] == '{' || s[i] == '[') && ++depth > MAX_DEPTH)
            return true;
        else if (s[i] == '}' || s[i] == ']')
            depth--;
    }
    return false;
}

static int read_body(struct api_call *call, json_t **ret) {
    const struct http_request *r = http_request(call->x);
    struct error e = {0};

    if (too_deep(r->body, r->body_len))
        return api_fail(call, FAILURE_INVALID, "", "flatten it",
                        "the body is nested more than %d levels deep", MAX_DEPTH);
    *ret = message_parse(r->body, r->body_len, &e);
    return *ret ? 0 : api_fail(call, FAILURE_INVALID, "", "send a JSON object", "%s", e.text);
}

static int fail_field(struct api_call *call, const char *field, const struct error *e) {
    return api_fail(call, FAILURE_INVALID, field, "GET /openapi.json tells what is possible", "%s",
                    e->text);
}

static int read_arguments(struct api_call *call) {
    enum op_shape shape = call->op->shape;
    char field[FIELD_PATH_MAX];
    struct error e = {0};
    int r = read_query(call);

    if (r == 0 && shape == OP_ACTION && http_request(call->x)->body_len) {
        json_t *body = NULL;

        r = read_body(call, &body);
        if (r == 0 && fields_check_args(call->op->args, body, field, &e) < 0)
            r = fail_field(call, field, &e);
        if (r == 0)
            json_object_update(call->args, body);
        json_decref(body);
    }
    if (r == 0 && (shape == OP_CREATE || shape == OP_UPDATE)) {
        r = read_body(call, &call->body);
        if (r == 0 &&
            (shape == OP_CREATE ? resource_check_create(call->resource, call->body, field, &e)
                                : resource_check_update(call->resource, call->body, field, &e)) < 0)
            r = fail_field(call, field, &e);
    }
    if (r == 0 && shape == OP_LIST)
        add_standards(list_args, call->args);
    if (r == 0)
        add_standards(call->op->args, call->args);
    return r;
}

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

/* The manager reads and writes files of its host with the rights of its user. */
static int check_files(struct api_call *call) {
    const json_t *spec = json_object_get(call->body, "spec");

    if (role_names_files(call->role))
        return 0;
    for (const struct field *f = call->op->args; f->type != FIELD_END; f++)
        if (field_is_host_file(f) && *row_text(call->args, f->name) == '/')
            return api_fail(call, FAILURE_FORBIDDEN, f->name, "ask an admin",
                            "%s may not name files of the manager's host", call->caller);
    for (const struct field *f = call->resource->fields; f->type != FIELD_END; f++)
        if (f->place == FIELD_SPEC && field_is_host_file(f) && *row_text(spec, f->name) == '/')
            return api_fail(call, FAILURE_FORBIDDEN, "spec", "ask an admin",
                            "%s may not name files of the manager's host (%s)", call->caller,
                            f->name);
    return 0;
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

    if (has_item(call->op->shape) && !call->resource->plain)
        r = find_item(call);
    if (r < 0)
        return r;
    if (fn)
        return fn(call);
    if (call->op->shape == OP_LIST)
        return send_list(call);
    assert(call->op->shape == OP_GET && !call->resource->plain);
    return api_answer_unchanged(call);
}

static void answer_text(struct api_call *call, struct buf *out) {
    if (call->result) {
        char *text = json_dumps(call->result, JSON_COMPACT);

        buf_put(out, text, text ? strlen(text) : 0);
        free(text);
    } else {
        put_row(out, &call->row);
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
        r = route(&call);
    if (r == 0)
        r = check_permission(&call);
    if (r == 0)
        r = read_arguments(&call);
    if (r == 0)
        r = check_files(&call);
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

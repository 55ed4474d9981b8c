/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a request to an operation, and its arguments checked against the declaration. */
#include "host/api_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/lines.h"
#include "proto/units.h"

enum { MAX_DEPTH = 16 };

static const struct field list_args[] = {
    {.name = "limit",
     .type = FIELD_INT,
     .min = 1,
     .max = API_LIST_MAX,
     .standard = "1000",
     .help = "items at most"},
    {.name = "after",
     .type = FIELD_STRING,
     .min = 1,
     .max = 63,
     .help = "begin behind this one: `next` of the answer before"},
    {0},
};

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

bool api_has_item(enum op_shape shape) { return shape != OP_LIST && shape != OP_CREATE; }

static bool has_verb(enum op_shape shape) { return shape == OP_ACTION || shape == OP_LOOK; }

static int find_operation(struct api_call *call, const char *verb) {
    const char *method = http_request(call->x)->method;
    bool other = false;

    for (const struct operation *o = call->resource->ops; o->shape != OP_END; o++) {
        if (api_has_item(o->shape) != (*call->name != 0) || has_verb(o->shape) != (*verb != 0) ||
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

int api_route(struct api_call *call) {
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
    return !f && call->op->shape == OP_LIST ? api_find_filter(call->resource, name) : f;
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

int api_read_arguments(struct api_call *call) {
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

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The OpenAPI 3.1 document, out of the declarations of the resources. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/version.h"
#include "host/api.h"
#include "host/openapi_internal.h"

/* Takes the value; a NULL one (out of memory) leaves the member out. */
static void set(json_t *o, const char *name, json_t *value) { json_object_set_new(o, name, value); }

static json_t *reference(const char *what, const char *name) {
    return json_pack("{s:o}", "$ref", json_sprintf("#/components/%s/%s", what, name));
}

/* "enum": one of these; "examples": they are offered. */
static void add_choices(json_t *schema, const char *key, const char *choices) {
    json_t *list = json_array();
    size_t n;

    for (;; choices += n + 1) {
        n = strcspn(choices, "|");
        json_array_append_new(list, json_stringn(choices, n));
        if (!choices[n])
            break;
    }
    set(schema, key, list);
}

static void add_text_limits(json_t *schema, const struct field *f) {
    if (f->type == FIELD_STRING || f->type == FIELD_TEXT) {
        set(schema, "minLength", json_integer(f->min));
        set(schema, "maxLength", json_integer(f->max));
    }
    if (f->pattern)
        set(schema, "pattern", json_string(f->pattern));
}

static json_t *schema_of(const struct field *f) {
    static const char *const types[] = {
        [FIELD_STRING] = "string", [FIELD_INT] = "integer",   [FIELD_SIZE] = "integer",
        [FIELD_BOOL] = "boolean",  [FIELD_CHOICE] = "string", [FIELD_TIME] = "string",
        [FIELD_STRINGS] = "array", [FIELD_OBJECT] = "object", [FIELD_TEXT] = "string"};
    json_t *schema = json_pack("{s:s, s:s}", "type", types[f->type], "description", f->help);

    switch (f->type) {
    case FIELD_INT:
    case FIELD_SIZE:
        set(schema, "minimum", json_integer(f->min));
        set(schema, "maximum", json_integer(f->max));
        break;
    case FIELD_CHOICE:
        add_choices(schema, "enum", f->choices);
        break;
    case FIELD_TIME:
        set(schema, "format", json_string("date-time"));
        break;
    case FIELD_STRINGS: {
        json_t *items =
            json_pack("{s:s, s:i, s:i}", "type", "string", "minLength", 1, "maxLength", 200);

        add_text_limits(items, f);
        set(schema, "items", items);
        set(schema, "maxItems", json_integer(f->max));
        break;
    }
    default:
        add_text_limits(schema, f);
        if (f->choices)
            add_choices(schema, "examples", f->choices);
    }
    /* For those who draw tables and forms out of the document. */
    if (f->type == FIELD_SIZE)
        set(schema, "x-unit", json_string("bytes"));
    if (f->column)
        set(schema, "x-column", json_string(f->column));
    if (f->standard)
        set(schema, "default", json_loads(f->standard, JSON_DECODE_ANY, NULL));
    return schema;
}

/* An object of those fields of `place` that have one of `flags` (0: all). */
static json_t *object_of(const struct field *fields, enum field_place place, unsigned flags,
                         unsigned required) {
    json_t *properties = json_object(), *needed = json_array(), *schema;

    for (const struct field *f = fields; f->type != FIELD_END; f++) {
        if (f->place != place || (flags && !(f->flags & flags)))
            continue;
        set(properties, f->name, schema_of(f));
        if (f->flags & required)
            json_array_append_new(needed, json_string(f->name));
    }
    schema = json_pack("{s:s, s:o, s:b}", "type", "object", "properties", properties,
                       "additionalProperties", 0);
    if (json_array_size(needed))
        set(schema, "required", json_incref(needed));
    json_decref(needed);
    return schema;
}

/* In a patch nothing is filled in. */
static json_t *without_standards(json_t *schema) {
    const char *key;
    json_t *property;

    json_object_foreach(json_object_get(schema, "properties"), key, property)
        json_object_del(property, "default");
    return schema;
}

static json_t *item_schema(const struct resource *r) {
    json_t *schema, *properties, *needed;

    if (r->plain) {
        schema = object_of(r->fields, FIELD_META, 0, FIELD_ALWAYS);
    } else {
        schema = object_of(resource_common, FIELD_META, 0, FIELD_ALWAYS);
        properties = json_object_get(schema, "properties");
        needed = json_object_get(schema, "required");
        set(properties, "spec", object_of(r->fields, FIELD_SPEC, 0, FIELD_ALWAYS));
        set(properties, "status", object_of(r->fields, FIELD_STATUS, 0, FIELD_ALWAYS));
        json_array_append_new(needed, json_string("spec"));
        json_array_append_new(needed, json_string("status"));
    }
    set(schema, "description", json_string(r->help));
    return schema;
}

static json_t *list_schema(const char *name) {
    return json_pack("{s:s, s:{s:{s:s, s:o}, s:{s:s, s:s}}, s:[s], s:b}", "type", "object",
                     "properties", "items", "type", "array", "items", reference("schemas", name),
                     "next", "type", "string", "description",
                     "there are more: ask again with after=this", "required", "items",
                     "additionalProperties", 0);
}

static json_t *create_schema(const struct resource *r) {
    json_t *spec = object_of(r->fields, FIELD_SPEC, FIELD_CREATE, FIELD_REQUIRED);
    json_t *needed = json_pack("[s]", "name");

    if (json_object_get(spec, "required"))
        json_array_append_new(needed, json_string("spec"));
    return json_pack("{s:s, s:{s:o, s:o}, s:o, s:b}", "type", "object", "properties", "name",
                     schema_of(field_find(resource_common, "name")), "spec", spec, "required",
                     needed, "additionalProperties", 0);
}

static json_t *update_schema(const struct resource *r) {
    return json_pack("{s:s, s:{s:o}, s:[s], s:b}", "type", "object", "properties", "spec",
                     without_standards(object_of(r->fields, FIELD_SPEC, FIELD_UPDATE, 0)),
                     "required", "spec", "additionalProperties", 0);
}

static json_t *failure_schema(void) {
    json_t *words = json_array();

    for (enum failure f = FAILURE_NONE + 1; *failure_word(f); f++) {
        json_array_append_new(words, json_string(failure_word(f)));
        if (f == FAILURE_TIMEOUT)
            break;
    }
    return json_pack("{s:s, s:{s:{s:s, s:o}, s:{s:s}, s:{s:s}, s:{s:s}}, s:[s,s,s,s], s:b}", "type",
                     "object", "properties", "code", "type", "string", "enum", words, "field",
                     "type", "string", "reason", "type", "string", "remedy", "type", "string",
                     "required", "code", "field", "reason", "remedy", "additionalProperties", 0);
}

/* "Vm", "VmList". */
static void schema_name(const struct resource *r, const char *end, char *out, size_t size) {
    snprintf(out, size, "%s%s", r->name, end);
    out[0] = (char)toupper((unsigned char)out[0]);
}

/* ------------------------------------------------------------------ operations */

static json_t *parameter(const struct field *f, const char *in) {
    return json_pack("{s:s, s:s, s:s, s:b, s:o}", "name", f->name, "in", in, "description", f->help,
                     "required", (int)((f->flags & FIELD_REQUIRED) != 0), "schema", schema_of(f));
}

static json_t *header_parameter(const char *name, const char *help) {
    return json_pack("{s:s, s:s, s:s, s:{s:s}}", "name", name, "in", "header", "description", help,
                     "schema", "type", "string");
}

static void add_parameters(json_t *list, const struct resource *r, const struct operation *o) {
    static const struct field limit = {.name = "limit",
                                       .type = FIELD_INT,
                                       .min = 1,
                                       .max = 10000,
                                       .standard = "1000",
                                       .help = "items at most"};
    static const struct field after = {.name = "after",
                                       .type = FIELD_STRING,
                                       .min = 1,
                                       .max = 63,
                                       .help =
                                           "begin behind this one: `next` of the answer before"};

    if (o->shape == OP_LIST) {
        json_array_append_new(list, parameter(&limit, "query"));
        json_array_append_new(list, parameter(&after, "query"));
        for (const struct field *f = r->fields; f->type != FIELD_END; f++)
            if (f->flags & FIELD_FILTER) {
                struct field plain = *f;

                plain.flags = 0;
                plain.standard = NULL;
                json_array_append_new(list, parameter(&plain, "query"));
            }
    }
    if (o->shape != OP_ACTION)
        for (const struct field *f = o->args; f->type != FIELD_END; f++)
            json_array_append_new(list, parameter(f, "query"));
    if (o->shape == OP_GET && !r->plain)
        json_array_append_new(list, header_parameter("If-None-Match", "ETag that is known"));
    if (o->shape == OP_CREATE || o->shape == OP_DELETE || o->shape == OP_ACTION)
        json_array_append_new(
            list, header_parameter("Idempotency-Key",
                                   "a request that is repeated with the same key is done once"));
    if (o->shape == OP_UPDATE || o->shape == OP_DELETE || o->shape == OP_ACTION)
        json_array_append_new(list, header_parameter("If-Match", "only if this is its ETag"));
}

static json_t *json_content(json_t *schema) {
    return json_pack("{s:{s:o}}", "application/json", "schema", schema);
}

static json_t *request_body(const struct resource *r, const struct operation *o) {
    char name[64];

    if (o->shape == OP_ACTION)
        return json_pack("{s:b, s:o}", "required", 0, "content",
                         json_content(object_of(o->args, FIELD_META, 0, FIELD_REQUIRED)));
    schema_name(r, o->shape == OP_CREATE ? "Create" : "Update", name, sizeof(name));
    return json_pack("{s:b, s:o}", "required", 1, "content",
                     json_content(reference("schemas", name)));
}

static json_t *answers(const struct resource *r, const struct operation *o) {
    json_t *all = json_object(), *good = json_pack("{s:s}", "description", "done");
    char name[64], status[8];

    schema_name(r, o->answer == ANSWER_LIST || o->answer == ANSWER_STREAM ? "List" : "", name,
                sizeof(name));
    if (o->result)
        set(good, "content", json_content(object_of(o->result, FIELD_META, 0, FIELD_ALWAYS)));
    else if (o->answer == ANSWER_TEXT)
        set(good, "content", json_pack("{s:{s:{s:s}}}", "text/plain", "schema", "type", "string"));
    else if (o->answer == ANSWER_PICTURE)
        set(good, "content",
            json_pack("{s:{s:{s:s, s:s}}}", "image/png", "schema", "type", "string",
                      "contentMediaType", "image/png"));
    else if (o->answer != ANSWER_BYTES)
        set(good, "content", json_content(reference("schemas", name)));
    if (o->answer == ANSWER_STREAM) {
        schema_name(r, "", name, sizeof(name));
        set(json_object_get(good, "content"), "text/event-stream",
            json_pack("{s:{s:s, s:s}}", "schema", "type", "string", "description",
                      "server-sent events; `data` of each is an item"));
    }
    snprintf(status, sizeof(status), "%d", o->status);
    set(all, status, good);
    if (o->shape == OP_GET && !r->plain)
        set(all, "304", json_pack("{s:s}", "description", "it is as the caller knows it"));
    openapi_add_failures(all);
    return all;
}

static json_t *operation_of(const struct resource *r, const struct operation *o) {
    json_t *parameters = json_array();
    json_t *op = json_pack("{s:o, s:s, s:[s], s:s, s:o}", "operationId",
                           json_sprintf("%s.%s", r->name, o->name), "summary", o->help, "tags",
                           r->name, "x-permission", o->permission, "responses", answers(r, o));

    add_parameters(parameters, r, o);
    if (json_array_size(parameters))
        set(op, "parameters", json_incref(parameters));
    json_decref(parameters);
    if (o->shape == OP_CREATE || o->shape == OP_UPDATE ||
        (o->shape == OP_ACTION && o->args[0].type != FIELD_END))
        set(op, "requestBody", request_body(r, o));
    return op;
}

static void add_operation(json_t *paths, const struct resource *r, const struct operation *o) {
    static const char *const methods[] = {
        [OP_LIST] = "get",      [OP_GET] = "get",     [OP_CREATE] = "post", [OP_UPDATE] = "patch",
        [OP_DELETE] = "delete", [OP_ACTION] = "post", [OP_LOOK] = "get"};
    bool item = o->shape != OP_LIST && o->shape != OP_CREATE;
    bool verb = o->shape == OP_ACTION || o->shape == OP_LOOK;
    char path[128];
    json_t *at;

    snprintf(path, sizeof(path), "/v1/%s%s%s%s", r->plural, item ? "/{name}" : "", verb ? "/" : "",
             verb ? o->name : "");
    at = json_object_get(paths, path);
    if (!at) {
        at = json_object();
        if (item)
            set(at, "parameters",
                json_pack("[{s:s, s:s, s:b, s:s, s:{s:s}}]", "name", "name", "in", "path",
                          "required", 1, "description", "its name or id", "schema", "type",
                          "string"));
        set(paths, path, at);
    }
    set(at, methods[o->shape], operation_of(r, o));
}

static json_t *document(void) {
    json_t *paths = json_object(), *schemas = json_object();
    char name[64];

    for (const struct resource *const *p = resources; *p; p++) {
        const struct resource *r = *p;

        schema_name(r, "", name, sizeof(name));
        set(schemas, name, item_schema(r));
        for (const struct operation *o = r->ops; o->shape != OP_END; o++) {
            char list[64];

            add_operation(paths, r, o);
            schema_name(r, "List", list, sizeof(list));
            if (o->shape == OP_LIST)
                set(schemas, list, list_schema(name));
            schema_name(r, "Create", list, sizeof(list));
            if (o->shape == OP_CREATE)
                set(schemas, list, create_schema(r));
            schema_name(r, "Update", list, sizeof(list));
            if (o->shape == OP_UPDATE)
                set(schemas, list, update_schema(r));
        }
    }
    set(schemas, "Failure", failure_schema());
    openapi_add_sessions(paths, schemas);
    return json_pack("{s:s, s:{s:s, s:s, s:s, s:{s:s, s:s}}, s:[{s:s}], s:o, s:o, s:{s:o, s:o}}",
                     "openapi", "3.1.0", "info", "title", "Vivarium", "version", VIVARIUM_VERSION,
                     "description", "Virtual machines and what they need", "license", "name",
                     "GPL-2.0-or-later", "identifier", "GPL-2.0-or-later", "servers", "url", "/",
                     "security", openapi_security(), "paths", paths, "components", "schemas",
                     schemas, "securitySchemes", openapi_security_schemes());
}

const char *api_openapi(size_t *ret_len) {
    static char *text; /* the same for everybody, and as long as the program */

    if (!text) {
        json_t *o = document();

        text = o ? json_dumps(o, JSON_COMPACT) : NULL;
        json_decref(o);
    }
    *ret_len = text ? strlen(text) : 0;
    return text;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The list of resources, and what all of them have. */
#include "proto/resource.h"

#include <string.h>
#include <strings.h>

#define RESOURCE(name) extern const struct resource resource_##name;
#include "proto/resources.def"
#undef RESOURCE

const struct resource *const resources[] = {
#define RESOURCE(name) &resource_##name,
#include "proto/resources.def"
#undef RESOURCE
    NULL,
};

const struct field resource_common[] = {
    {.name = "kind",
     .type = FIELD_STRING,
     .flags = FIELD_ALWAYS,
     .min = 1,
     .max = 32,
     .help = "what it is"},
    {.name = "id",
     .type = FIELD_STRING,
     .flags = FIELD_ALWAYS,
     .min = 1,
     .max = 64,
     .help = "never changes and is never used again"},
    {.name = "name",
     .type = FIELD_STRING,
     .flags = FIELD_ALWAYS | FIELD_CREATE,
     .min = 1,
     .max = 63,
     .pattern = "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$",
     .column = "NAME",
     .help = "small letters, digits, '-' and '.'; one name once in a tenant"},
    {.name = "tenant",
     .type = FIELD_STRING,
     .flags = FIELD_ALWAYS,
     .min = 1,
     .max = 63,
     .help = "whose it is"},
    {.name = "revision",
     .type = FIELD_INT,
     .flags = FIELD_ALWAYS,
     .min = 1,
     .max = INT64_MAX,
     .help = "grows with every change; the ETag of it"},
    {.name = "created", .type = FIELD_TIME, .flags = FIELD_ALWAYS, .help = "when it was made"},
    {0},
};

const struct resource *resource_find(const char *name) {
    for (const struct resource *const *r = resources; *r; r++)
        if (!strcmp((*r)->name, name))
            return *r;
    return NULL;
}

const struct resource *resource_by_plural(const char *plural) {
    for (const struct resource *const *r = resources; *r; r++)
        if (!strcmp((*r)->plural, plural))
            return *r;
    return NULL;
}

const struct operation *resource_op(const struct resource *r, const char *name) {
    for (const struct operation *o = r->ops; o->shape != OP_END; o++)
        if (!strcmp(o->name, name))
            return o;
    return NULL;
}

const struct field *field_find(const struct field *fields, const char *name) {
    for (; fields->type != FIELD_END; fields++)
        if (!strcmp(fields->name, name))
            return fields;
    return NULL;
}

const char *field_host_path(const struct field *f, const char *value) {
    static const char scheme[] = "file://";

    if (!field_is_host_file(f))
        return NULL;
    if (!strncasecmp(value, scheme, strlen(scheme)))
        return value + strlen(scheme);
    return *value == '/' ? value : NULL;
}

bool field_is_host_file(const struct field *f) {
    return f->type == FIELD_STRING &&
           (f->flags & FIELD_FILE || (f->pattern && !strcmp(f->pattern, "^/")));
}

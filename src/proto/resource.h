/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Declarations of the manager's resources: fields, operations and their permissions, each once and
 * without behaviour. Routes, validation, the OpenAPI document, the flags, columns and help of viv
 * are derived from them. resources.def lists them; docs/manager.md is for people.
 *
 * A resource is JSON: what names it, `spec` (what is wanted) and `status` (what is seen).
 */
#ifndef PROTO_RESOURCE_H
#define PROTO_RESOURCE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum field_type {
    FIELD_END,    /* ends a list of fields */
    FIELD_STRING, /* min .. max bytes, `pattern` if there is one */
    FIELD_TEXT,   /* the same with lines; on a command line the name of a file with it */
    FIELD_INT,    /* min .. max */
    FIELD_SIZE,   /* bytes, min .. max; viv reads and shows 512M */
    FIELD_BOOL,
    FIELD_CHOICE,  /* one of `choices`, which are separated by '|' */
    FIELD_TIME,    /* RFC 3339, in UTC; viv shows it as people say it */
    FIELD_STRINGS, /* an array of at most `max` strings of `pattern` */
    FIELD_OBJECT,  /* of any fields: only in answers */
};

enum field_place { FIELD_META, FIELD_SPEC, FIELD_STATUS };

enum field_flags {
    FIELD_REQUIRED = 1, /* of a creation or of an operation's arguments */
    FIELD_CREATE = 2,   /* may be given when it is created */
    FIELD_UPDATE = 4,   /* may be changed later */
    FIELD_FILTER = 8,   /* lists may be cut down to one value of it */
    FIELD_ALWAYS = 16,  /* is in every answer; others may be left out */
    FIELD_REPEAT = 32,  /* a flag of viv alone that may be given several times: an array then */
    FIELD_JOIN = 64, /* a string of words with commas; on a command line also given several times */
    FIELD_FILE = 128,   /* a word, or the path of a file on the manager's host */
    FIELD_LOCAL = 1024, /* paths of this host that its guest gets at: for local callers alone */
    FIELD_START = 256,  /* of a machine: one that runs has it from its next start on */
    FIELD_WHOLE =
        2048,         /* an array of strings with commas: a word of a command line is one string */
    FIELD_LIVE = 512, /* of a machine: one that runs has it soon, or its status says why not */
    FIELD_ADMIN =
        4096, /* takes from others on the host: any value but the standard is for admins */
};

struct field {
    const char *name; /* words joined by '_' in JSON, by '-' on a command line */
    enum field_type type;
    enum field_place place;
    unsigned flags;
    int64_t min, max;
    const char *choices;  /* of a string: what a command line offers; it may be another */
    const char *pattern;  /* a POSIX extended expression that is an ECMAScript one as well */
    const char *standard; /* the value that holds when none is given, as JSON */
    const char *column;   /* heading in lists of viv, NULL: not shown there */
    const char *refers;   /* the kind of resource that a value is the name of; NULL: of none */
    const char *help;     /* half a sentence, no full stop */
};

enum op_shape {
    OP_END,
    OP_LIST,   /* GET /v1/things */
    OP_GET,    /* GET /v1/things/NAME */
    OP_CREATE, /* POST /v1/things */
    OP_UPDATE, /* PATCH /v1/things/NAME, a merge patch (RFC 7396) of spec */
    OP_DELETE, /* DELETE /v1/things/NAME */
    OP_ACTION, /* POST /v1/things/NAME/VERB */
    OP_LOOK,   /* GET /v1/things/NAME/VERB */
};

enum op_answer {
    ANSWER_ITEM,
    ANSWER_LIST,
    ANSWER_STREAM,  /* lists that may follow: server-sent events, one item each */
    ANSWER_TEXT,    /* plain text */
    ANSWER_PICTURE, /* PNG */
    ANSWER_BYTES,   /* the connection becomes a stream of bytes (Upgrade) */
};

enum { OP_MAX_ARGS = 6 };

struct operation {
    const char *name; /* the verb */
    enum op_shape shape;
    enum op_answer answer;
    int status;                         /* of an answer that went well: 200, 201, 202 */
    const char *permission;             /* what a caller must have */
    const char *help;                   /* one or more sentences without the last full stop */
    struct field args[OP_MAX_ARGS + 1]; /* in the body of an action, else in the query */
    const struct field *result;         /* of an answer that is no item: its fields; else NULL */
};

struct resource {
    const char *name, *plural; /* "vm", "vms" */
    const char *noun;          /* in sentences: "machine" */
    const char *help;
    bool plain; /* items have no spec and status: fields stand side by side */
    const struct field *fields;
    const struct operation *ops;
};

extern const struct resource *const resources[]; /* ends with NULL */
/* id, name, tenant ...: in front of the fields of every resource that is not plain. */
extern const struct field resource_common[];

const struct resource *resource_find(const char *name);
const struct resource *resource_by_plural(const char *plural);
const struct operation *resource_op(const struct resource *r, const char *name);
const struct field *field_find(const struct field *fields, const char *name);

/* ---- checks: 0, or -EINVAL with a sentence; `ret_field` gets the path of what is wrong ---- */

enum { FIELD_PATH_MAX = 100 };

int field_check(const struct field *f, const json_t *v, struct error *err);
/* From the words of a query or a command line: "512M", "true", "a,b". NULL with a sentence. */
json_t *field_read(const struct field *f, const char *word, struct error *err);
/* The arguments of an operation, as one object. */
int fields_check_args(const struct field *args, const json_t *v, char *ret_field,
                      struct error *err);
/* The body of a creation: name and spec. */
int resource_check_create(const struct resource *r, const json_t *v, char *ret_field,
                          struct error *err);
/* The body of an update: a merge patch of spec. */
int resource_check_update(const struct resource *r, const json_t *v, char *ret_field,
                          struct error *err);
/* The spec that results: what is not given becomes its standard value. */
void resource_fill(const struct resource *r, json_t *spec);
/* Is that what holds when nothing is given? */
bool field_is_standard(const struct field *f, const json_t *value);
/* Is it, or may it be, the name of a file on the manager's host? */
bool field_is_host_file(const struct field *f);
/* The path that a value of it names, also as file://PATH; NULL: none. */
const char *field_host_path(const struct field *f, const char *value);
/* Where either may stand: a word, such as "bios", and no path that begins in some folder. */
bool field_is_word(const struct field *f, const char *text);
/* What a value may be, for people: "16M to 128G", "one of a, b". */
void field_limits(const struct field *f, char *out, size_t size);

#endif

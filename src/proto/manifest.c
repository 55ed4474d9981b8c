/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From documents to what is wanted. */
#include "proto/manifest.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/document.h"
#include "proto/lines.h"
#include "proto/units.h"

enum { MOST_MISTAKES = 50, MOST_ITEMS = 10000, MOST_RANK = 16 };

bool manifest_takes(const struct resource *r) { return !r->plain && resource_op(r, "create"); }

void manifest_init(struct manifest *m) { *m = (struct manifest){.mistakes = json_array()}; }

void manifest_done(struct manifest *m) {
    for (size_t i = 0; i < m->count; i++) {
        free(m->item[i].file);
        json_decref(m->item[i].spec);
        json_decref(m->item[i].lines);
    }
    free(m->item);
    json_decref(m->mistakes);
    *m = (struct manifest){0};
}

struct place {
    struct manifest *m;
    const char *file;
};

static void mistake(const struct place *p, unsigned line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void mistake(const struct place *p, unsigned line, const char *fmt, ...) {
    char text[900];
    size_t n = (size_t)snprintf(text, sizeof(text), "%.300s:%u: ", p->file, line);
    va_list ap;

    if (json_array_size(p->m->mistakes) == MOST_MISTAKES)
        return;
    va_start(ap, fmt);
    vsnprintf(text + n, sizeof(text) - n, fmt, ap);
    va_end(ap);
    json_array_append_new(p->m->mistakes, message_text(text));
}

void manifest_place(const struct manifest_item *i, const char *field, char *out, size_t size) {
    json_int_t line = json_integer_value(json_object_get(i->lines, field));

    snprintf(out, size, "%s:%lld", i->file, line ? (long long)line : (long long)i->line);
}

const struct manifest_item *manifest_find(const struct manifest *m, const char *kind,
                                          const char *name) {
    for (size_t i = 0; i < m->count; i++)
        if (!strcmp(m->item[i].resource->name, kind) && !strcmp(m->item[i].name, name))
            return &m->item[i];
    return NULL;
}

/* ------------------------------------------------------------------ values */

/* Of a path in the file: seen from the file's folder, or from here on standard input. */
static json_t *whole_path(const char *file, const char *path) {
    const char *slash = strcmp(file, "-") ? strrchr(file, '/') : NULL;
    char here[PATH_MAX] = "";

    if (*path == '/')
        return json_string(path);
    if (*file != '/' && !getcwd(here, sizeof(here)))
        return json_string(path);
    return json_sprintf("%s%s%.*s%s%s", here, *here ? "/" : "", slash ? (int)(slash - file) : 0,
                        file, slash ? "/" : "", path);
}

static json_t *read_number(const char *text) {
    char *end;
    long long n;

    errno = 0;
    n = strtoll(text, &end, 10);
    return errno || end == text || *end ? json_string(text) : json_integer(n);
}

static json_t *read_scalar(const struct place *p, const struct field *f,
                           const struct document_node *n, struct error *err) {
    const char *t = n->text;
    int64_t bytes;

    switch (f->type) {
    case FIELD_SIZE:
        return units_read_size(t, &bytes, err) < 0 ? NULL : json_integer(bytes);
    case FIELD_INT:
        return read_number(t);
    case FIELD_BOOL:
        if (n->plain && (!strcasecmp(t, "true") || !strcasecmp(t, "false")))
            return json_boolean((*t | 0x20) == 't');
        return json_string(t);
    default:
        return field_is_host_file(f) && *t && !field_is_word(f, t) ? whole_path(p->file, t)
                                                                   : json_string(t);
    }
}

static json_t *read_list(const struct document_node *n) {
    json_t *list = json_array();

    for (const struct document_node *c = n->first; c; c = c->next)
        if (c->type != DOCUMENT_SCALAR || document_is_null(c) ||
            json_array_append_new(list, json_string(c->text)) < 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

/* NULL with a sentence. */
static json_t *read_value(const struct place *p, const struct field *f,
                          const struct document_node *n, struct error *err) {
    struct error own = {0};
    json_t *v = NULL;

    if (document_is_null(n)) {
        error_set(err, -EINVAL, "'%s' has no value: leave the line out, or write %s", f->name,
                  f->type == FIELD_STRINGS ? "[]" : "one (\"\" is an empty text)");
        return NULL;
    }
    if (f->type == FIELD_STRINGS && n->type == DOCUMENT_LIST)
        v = read_list(n);
    else if (n->type == DOCUMENT_SCALAR && f->type != FIELD_STRINGS && f->type != FIELD_OBJECT)
        v = read_scalar(p, f, n, &own);
    else
        error_set(&own, -EINVAL, "it must be %s",
                  f->type == FIELD_STRINGS ? "a list of strings" : "one value");
    if (!v)
        error_set(err, -EINVAL, "'%s': %s", f->name,
                  own.code ? own.text : "it must be a list of strings in UTF-8");
    if (v && field_check(f, v, err) < 0) {
        json_decref(v);
        return NULL;
    }
    return v;
}

static void read_spec(const struct place *p, struct manifest_item *i,
                      const struct document_node *spec) {
    if (spec->type != DOCUMENT_MAP) {
        if (!document_is_null(spec))
            mistake(p, spec->line, "'spec' must be a map of fields");
        return;
    }
    for (const struct document_node *n = spec->first; n; n = n->next) {
        const struct field *f = field_find(i->resource->fields, n->key);
        struct error err = {0};
        json_t *v;

        if (!f || f->place != FIELD_SPEC) {
            mistake(p, n->line,
                    "a %s has no field '%.60s': 'viv %s --help' and the API's "
                    "document tell what there is",
                    i->resource->noun, n->key, !strcmp(i->resource->name, "vm") ? "create" : "");
            continue;
        }
        v = read_value(p, f, n, &err);
        if (!v) {
            mistake(p, n->line, "%s", err.text);
            continue;
        }
        json_object_set_new(i->spec, f->name, v);
        json_object_set_new(i->lines, f->name, json_integer(n->line));
    }
}

/* ------------------------------------------------------------------ documents */

static const struct resource *read_kind(const struct place *p, const struct document_node *doc) {
    const struct document_node *kind = document_member(doc, "kind");
    const struct resource *r =
        kind && kind->type == DOCUMENT_SCALAR ? resource_find(kind->text) : NULL;
    char list[300] = "";
    size_t at = 0;

    if (r && manifest_takes(r))
        return r;
    for (const struct resource *const *k = resources; *k && at < sizeof(list); k++)
        if (manifest_takes(*k))
            at +=
                (size_t)snprintf(list + at, sizeof(list) - at, "%s%s", at ? ", " : "", (*k)->name);
    if (!kind)
        mistake(p, doc->line, "'kind' is missing: one of %s", list);
    else
        mistake(p, kind->line, "'%.60s' is no kind of thing that can be made: choose one of %s",
                kind->type == DOCUMENT_SCALAR ? kind->text : "a list or map", list);
    return NULL;
}

static const char *read_name(const struct place *p, const struct resource *r,
                             const struct document_node *doc) {
    const struct document_node *name = document_member(doc, "name");
    struct error err = {0};
    json_t *v;

    if (!name) {
        mistake(p, doc->line, "'name' is missing: every %s has one", r->noun);
        return NULL;
    }
    v = read_value(p, field_find(resource_common, "name"), name, &err);
    if (!v)
        mistake(p, name->line, "%s", err.text);
    json_decref(v);
    return v ? name->text : NULL;
}

static void check_members(const struct place *p, const struct document_node *doc) {
    static const char *const wanted[] = {"kind", "name", "spec"}, *const seen[] = {"status"};

    for (const struct document_node *n = doc->first; n; n = n->next) {
        bool known = field_find(resource_common, n->key);

        for (unsigned i = 0; i < 3; i++)
            known |= !strcmp(n->key, wanted[i]);
        if (!known && strcmp(n->key, seen[0]) != 0)
            mistake(p, n->line, "there is no '%.60s' here: a document has kind, name and spec",
                    n->key);
    }
}

static void add_item(const struct place *p, const struct document_node *doc) {
    struct manifest *m = p->m;
    const struct document_node *spec = document_member(doc, "spec");
    const struct resource *r;
    const struct manifest_item *before;
    struct manifest_item *i;
    const char *name;

    if (doc->type != DOCUMENT_MAP) {
        mistake(p, doc->line, "a document must be a map with kind, name and spec");
        return;
    }
    check_members(p, doc);
    r = read_kind(p, doc);
    name = r ? read_name(p, r, doc) : NULL;
    if (!name)
        return;
    before = manifest_find(m, r->name, name);
    if (before) {
        mistake(p, doc->line, "the %s '%s' stands in %s:%u already", r->noun, name, before->file,
                before->line);
        return;
    }
    if (m->count == MOST_ITEMS || !(i = reallocarray(m->item, m->count + 1, sizeof(*m->item)))) {
        mistake(p, doc->line, "more than %d documents are not taken at a time", MOST_ITEMS);
        return;
    }
    m->item = i;
    i = &m->item[m->count++];
    *i = (struct manifest_item){.resource = r,
                                .file = strdup(p->file),
                                .line = doc->line,
                                .spec = json_object(),
                                .lines = json_object()};
    if (!i->file)
        abort(); /* a few bytes: no host goes on without them */
    snprintf(i->name, sizeof(i->name), "%s", name);
    if (spec)
        read_spec(p, i, spec);
}

static void add_documents(const struct place *p, const struct document_node *doc) {
    const struct document_node *items = document_member(doc, "items");

    if (doc->type == DOCUMENT_LIST)
        items = doc;
    if (items && items->type == DOCUMENT_LIST && !document_member(doc, "kind"))
        for (const struct document_node *n = items->first; n; n = n->next)
            add_item(p, n);
    else
        add_item(p, doc);
}

void manifest_read(struct manifest *m, const char *file, const char *text, size_t len) {
    struct place p = {m, file};
    struct error err = {0};
    unsigned line;
    struct document_node *docs = document_read(text, len, &line, &err);

    if (!docs && err.code)
        mistake(&p, line, "%s", err.text);
    for (const struct document_node *d = docs; d; d = d->next)
        add_documents(&p, d);
    document_free(docs);
}

/* ------------------------------------------------------------------ order */

/* How long the longest way over references is. */
static unsigned rank(const struct resource *r, unsigned most) {
    unsigned n = 0;

    for (const struct field *f = r->fields; most && f->type != FIELD_END; f++) {
        const struct resource *to = f->refers ? resource_find(f->refers) : NULL;
        unsigned k = to && to != r ? rank(to, most - 1) + 1 : 0;

        n = k > n ? k : n;
    }
    return n;
}

void manifest_order(struct manifest *m) {
    struct manifest_item *sorted = calloc(m->count ? m->count : 1, sizeof(*sorted));
    size_t at = 0;

    if (!sorted)
        return;
    for (unsigned k = 0; at < m->count; k++)
        for (size_t i = 0; i < m->count; i++)
            if (rank(m->item[i].resource, MOST_RANK) == k)
                sorted[at++] = m->item[i];
    free(m->item);
    m->item = sorted;
}

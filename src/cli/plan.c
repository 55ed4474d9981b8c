/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading what files want, and comparing it with what there is. */
#include "cli/plan.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "proto/document.h"

/* ------------------------------------------------------------------ files */

static int cannot_read(struct cli *c, const char *path, int error) {
    return remote_fail(&c->failure, FAILURE_INVALID, "", "the file '%.300s' cannot be read: %s",
                       path, strerror(error));
}

static int read_file(struct cli *c, struct manifest *m, const char *path) {
    size_t room = DOCUMENT_BYTES + 1, n;
    FILE *in = strcmp(path, "-") ? fopen(path, "re") : stdin;
    char *text = in ? malloc(room) : NULL;
    int r = 0;

    if (!in || !text)
        return cannot_read(c, path, errno);
    n = fread(text, 1, room, in);
    if (ferror(in))
        r = cannot_read(c, path, errno);
    else
        manifest_read(m, path, text, n);
    if (in != stdin)
        fclose(in);
    free(text);
    return r;
}

static int is_manifest(const struct dirent *e) {
    const char *dot = strrchr(e->d_name, '.');

    return e->d_name[0] != '.' && dot &&
           (!strcmp(dot, ".yaml") || !strcmp(dot, ".yml") || !strcmp(dot, ".json"));
}

static int read_folder(struct cli *c, struct manifest *m, const char *path) {
    struct dirent **name = NULL;
    int n = scandir(path, &name, is_manifest, alphasort), r = 0;

    if (n < 0)
        return cannot_read(c, path, errno);
    if (!n)
        r = remote_fail(&c->failure, FAILURE_INVALID, "",
                        "the folder '%.300s' has no file that ends in .yaml, .yml or .json", path);
    for (int i = 0; i < n; i++) {
        char file[PATH_MAX];

        snprintf(file, sizeof(file), "%s/%s", path, name[i]->d_name);
        if (r == 0)
            r = read_file(c, m, file);
        free(name[i]);
    }
    free(name);
    return r;
}

static int read_path(struct cli *c, struct manifest *m, const char *path) {
    struct stat st;

    return strcmp(path, "-") != 0 && stat(path, &st) == 0 && S_ISDIR(st.st_mode)
               ? read_folder(c, m, path)
               : read_file(c, m, path);
}

/* All mistakes are told, before anything is done. */
static int tell_mistakes(struct cli *c, const struct manifest *m) {
    size_t n = json_array_size(m->mistakes), i;
    const json_t *one;

    if (n > 1)
        json_array_foreach(m->mistakes, i, one)
            show_note(c, "%s", json_string_value(one));
    if (n == 1)
        return remote_fail(&c->failure, FAILURE_INVALID, "", "%s",
                           json_string_value(json_array_get(m->mistakes, 0)));
    return remote_fail(&c->failure, FAILURE_INVALID, "", "%zu mistakes, the first one is %s", n,
                       json_string_value(json_array_get(m->mistakes, 0)));
}

int plan_read(struct cli *c, struct manifest *m) {
    const json_t *files = json_object_get(c->flags, "file"), *one;
    size_t i;
    int r = 0;

    manifest_init(m);
    if (json_is_string(files))
        r = read_path(c, m, json_string_value(files));
    json_array_foreach(files, i, one)
        if (r == 0)
            r = read_path(c, m, json_string_value(one));
    if (r == 0 && !files)
        r = remote_fail(&c->failure, FAILURE_INVALID, "", "'viv %s' needs -f FILE, as in 'viv %s'",
                        c->command->words, c->command->example);
    if (r == 0 && json_array_size(m->mistakes))
        r = tell_mistakes(c, m);
    if (r == 0 && !m->count)
        r = remote_fail(&c->failure, FAILURE_INVALID, "",
                        "nothing stands in what -f names: a document has kind, name and spec");
    if (r == 0)
        manifest_order(m);
    return r;
}

/* ------------------------------------------------------------------ comparison */

static bool is_empty(const json_t *v) {
    return (json_is_string(v) && !json_string_length(v)) ||
           (json_is_array(v) && !json_array_size(v));
}

/* What was never said is its standard value, or nothing. */
static bool is_same(const struct field *f, const json_t *live, const json_t *wanted) {
    json_t *standard;
    bool same;

    if (live)
        return json_equal(live, wanted);
    if (is_empty(wanted))
        return true;
    standard = f->standard ? json_loads(f->standard, JSON_DECODE_ANY, NULL) : NULL;
    same = standard && json_equal(standard, wanted);
    json_decref(standard);
    return same;
}

static void compare(struct plan *p) {
    const struct resource *r = p->item->resource;
    const json_t *live = json_object_get(p->live, "spec");
    bool update = resource_op(r, "update");

    for (const struct field *f = r->fields; f->type != FIELD_END; f++) {
        json_t *to = json_object_get(p->item->spec, f->name),
               *from = json_object_get(live, f->name);
        bool in_place = !p->live || (update && f->flags & FIELD_UPDATE);
        json_t *change;

        if (!to || (p->live && is_same(f, from, to)))
            continue;
        change = json_pack("{s:s, s:O, s:b}", "field", f->name, "to", to, "in_place", in_place);
        if (from)
            json_object_set(change, "from", from);
        json_array_append_new(p->changes, change);
        if (!in_place)
            p->action = PLAN_REFUSED;
        else if (p->action == PLAN_SAME)
            p->action = PLAN_CHANGE;
    }
}

/* What must be said when it is made, and what can only be said later. */
static void check_new(struct plan *p) {
    char place[400];

    for (const struct field *f = p->item->resource->fields; f->type != FIELD_END; f++) {
        bool given = json_object_get(p->item->spec, f->name);

        if (given && !(f->flags & FIELD_CREATE)) {
            manifest_place(p->item, f->name, place, sizeof(place));
            remote_fail(&p->failure, FAILURE_INVALID, "", "%s: '%s' cannot be set when it is made",
                        place, f->name);
        } else if (!given && f->flags & FIELD_REQUIRED && f->place == FIELD_SPEC) {
            manifest_place(p->item, "", place, sizeof(place));
            remote_fail(&p->failure, FAILURE_INVALID, "", "%s: '%s' is missing: %s", place, f->name,
                        f->help);
        } else {
            continue;
        }
        p->action = PLAN_FAILED;
        return;
    }
}

static void refuse(struct plan *p) {
    char place[400], fields[200] = "";
    const json_t *one;
    size_t i, at = 0;

    json_array_foreach(p->changes, i, one)
        if (!json_is_true(json_object_get(one, "in_place"))) {
            if (!at)
                manifest_place(p->item, item_text(one, NULL, "field"), place, sizeof(place));
            if (at < sizeof(fields))
                at += (size_t)snprintf(fields + at, sizeof(fields) - at, "%s'%s'", at ? ", " : "",
                                       item_text(one, NULL, "field"));
        }
    remote_fail(
        &p->failure, FAILURE_CONFLICT, "delete it and apply again, or write what is there",
        "%s: %s of the %s '%s' cannot be changed later; it is chosen when the thing is made", place,
        fields, p->item->resource->noun, p->item->name);
}

/* An image that could not be made is made again by asking for it again. */
static bool is_failed_image(const struct plan *p) {
    return p->live && !strcmp(p->item->resource->name, "image") &&
           !strcmp(item_text(p->live, "status", "state"), "failed");
}

void plan_make(struct cli *c, const struct manifest_item *i, struct plan *ret) {
    *ret = (struct plan){.item = i, .changes = json_array()};
    if (remote_call(c->remote, "GET", NULL, &ret->live, &ret->failure, "/v1/%s/%s",
                    i->resource->plural, i->name) < 0 &&
        ret->failure.kind != FAILURE_NOT_FOUND) {
        ret->action = PLAN_FAILED;
        return;
    }
    ret->failure = (struct remote_failure){0};
    if (is_failed_image(ret)) {
        json_decref(ret->live);
        ret->live = NULL;
    }
    compare(ret);
    if (!ret->live) {
        ret->action = PLAN_CREATE;
        check_new(ret);
    } else if (ret->action == PLAN_REFUSED) {
        refuse(ret);
    }
}

void plan_done(struct plan *p) {
    json_decref(p->live);
    json_decref(p->changes);
    p->live = p->changes = NULL;
}

json_t *plan_json(const struct plan *p, const char *result) {
    json_t *o = json_pack("{s:s, s:s, s:s, s:O}", "kind", p->item->resource->name, "name",
                          p->item->name, "result", result, "changes", p->changes);

    if (p->failure.kind != FAILURE_NONE)
        json_object_set_new(o, "failure",
                            json_pack("{s:s, s:s, s:s, s:s}", "code", failure_word(p->failure.kind),
                                      "field", p->failure.field, "reason", p->failure.reason,
                                      "remedy", p->failure.remedy));
    return o;
}

void plan_fields(const struct plan *p, char *out, size_t size) {
    const json_t *one;
    size_t i, at = 0;

    *out = 0;
    json_array_foreach(p->changes, i, one)
        if (at < size)
            at += (size_t)snprintf(out + at, size - at, "%s%s", i ? ", " : "",
                                   item_text(one, NULL, "field"));
}

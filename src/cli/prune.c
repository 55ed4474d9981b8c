/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/prune.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/sha256.h"

enum { MEMBER = 200, HASH_SHOWN = 8, NAME_SHOWN = 40 };

/* ------------------------------------------------------------------ the set's name */

/* The files as they are called from everywhere, with commas between. */
static json_t *source_of(struct cli *c) {
    const json_t *files = json_object_get(c->flags, "file"), *one;
    json_t *list = json_is_array(files) ? json_incref((json_t *)files) : json_pack("[O]", files);
    json_t *text = json_string("");
    size_t i;

    json_array_foreach(list, i, one) {
        const char *path = json_string_value(one);
        char real[PATH_MAX];
        json_t *longer = json_sprintf("%s%s%.3000s", json_string_value(text), i ? "," : "",
                                      realpath(path, real) ? real : path);

        json_decref(text);
        text = longer ? longer : json_string("");
    }
    json_decref(list);
    return text;
}

/* "web-1a2b3c4d" of /srv/web.yaml. */
static void name_of(const char *source, char out[64]) {
    const char *slash = strrchr(source, '/'), *s = slash ? slash + 1 : source;
    char hash[SHA256_TEXT];
    struct sha256 state;
    size_t n = 0;

    for (; *s && *s != '.' && n < NAME_SHOWN; s++) {
        char ch = *s >= 'A' && *s <= 'Z' ? (char)(*s | 0x20) : *s;

        if ((ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9') || (n && ch == '-'))
            out[n++] = ch;
    }
    sha256_begin(&state);
    sha256_put(&state, source, strlen(source));
    sha256_end_text(&state, hash);
    snprintf(out + n, 64 - n, "%s%.*s", n ? "-" : "", HASH_SHOWN, hash);
}

static int choose_name(struct cli *c, struct prune *p) {
    p->source = source_of(c);
    if (cli_given(c, "set"))
        snprintf(p->set, sizeof(p->set), "%s", cli_text(c, "set"));
    else if (strcmp(json_string_value(p->source), "-") != 0)
        name_of(json_string_value(p->source), p->set);
    else if (cli_true(c, "prune"))
        return remote_fail(&c->failure, FAILURE_INVALID, "say --set NAME",
                           "what standard input made earlier is known only by the name of a set");
    return 0;
}

/* ------------------------------------------------------------------ members */

struct member {
    char kind[32], name[64], id[64];
    bool made;
};

static bool read_member(const json_t *v, struct member *ret) {
    const char *s = json_string_value(v);
    char word[8];

    *ret = (struct member){.made = false};
    if (sscanf(s ? s : "", "%31[^/]/%63[^/]/%63[^/]/%7s", ret->kind, ret->name, ret->id, word) != 4)
        return false; /* one without an id */
    ret->made = !strcmp(word, "made");
    return true;
}

static json_t *members_of(const json_t *set) {
    return json_object_get(json_object_get(set, "spec"), "members");
}

/* The id under which the set has it; "": it does not. */
static bool find_member(const json_t *set, const char *kind, const char *name, struct member *ret) {
    const json_t *one;
    size_t i;

    json_array_foreach(members_of(set), i, one)
        if (read_member(one, ret) && !strcmp(ret->kind, kind) && !strcmp(ret->name, name))
            return true;
    return false;
}

static void add_member(json_t *list, const char *kind, const char *name, const char *id,
                       bool made) {
    char text[MEMBER];

    snprintf(text, sizeof(text), "%.31s/%.63s/%.63s/%s", kind, name, id, made ? "made" : "found");
    json_array_append_new(list, json_string(text));
}

/* ------------------------------------------------------------------ what goes */

/* What refers to others goes before them. */
static int depth(const struct resource *r) {
    int most = 0;

    for (const struct field *f = r->fields; f->type != FIELD_END; f++) {
        const struct resource *to =
            f->refers && f->place == FIELD_SPEC ? resource_find(f->refers) : NULL;
        int d = to && to != r ? depth(to) + 1 : 0;

        most = d > most ? d : most;
    }
    return most;
}

static int compare(const void *a, const void *b) {
    const struct prune_one *x = a, *y = b;
    int d = depth(y->resource) - depth(x->resource);

    return d ? d : strcmp(x->name, y->name);
}

/* Another set that has it; NULL: none. */
static const char *other_set(const json_t *sets, const char *own, const struct member *m) {
    const json_t *set;
    struct member n;
    size_t i;

    json_array_foreach(sets, i, set)
        if (strcmp(item_text(set, NULL, "name"), own) != 0 &&
            find_member(set, m->kind, m->name, &n) && !strcmp(n.id, m->id))
            return item_text(set, NULL, "name");
    return NULL;
}

static int consider(struct cli *c, struct prune *p, const json_t *sets, const struct member *m) {
    const struct resource *r = resource_find(m->kind);
    const char *other = other_set(sets, p->set, m);
    struct prune_one *one = &p->one[p->count];
    json_t *live = NULL;

    if (!r || !resource_op(r, "delete"))
        return 0;
    if (other) {
        show_note(c, "%s/%s stays: the set '%s' has it as well", m->kind, m->name, other);
        return 0;
    }
    if (remote_call(c->remote, "GET", NULL, &live, &c->failure, "/v1/%s/%s", r->plural, m->name) <
        0) {
        bool gone = c->failure.kind == FAILURE_NOT_FOUND;

        if (gone)
            c->failure = (struct remote_failure){0};
        return gone ? 0 : -1;
    }
    if (!strcmp(item_text(live, NULL, "id"), m->id)) {
        *one = (struct prune_one){.resource = r};
        snprintf(one->name, sizeof(one->name), "%s", m->name);
        snprintf(one->id, sizeof(one->id), "%s", m->id);
        one->runs = json_object_get(json_object_get(live, "status"), "pid");
        p->count++;
    }
    json_decref(live);
    return 0;
}

static int find_all(struct cli *c, const struct manifest *m, struct prune *p) {
    json_t *members = members_of(p->live), *sets = NULL, *one;
    struct member member;
    int r = remote_call(c->remote, "GET", NULL, &sets, &c->failure, "/v1/sets?limit=10000");
    size_t i;

    p->one = calloc(json_array_size(members) + 1, sizeof(*p->one));
    if (!p->one)
        abort();
    json_array_foreach(members, i, one)
        if (r == 0 && read_member(one, &member) && member.made &&
            !manifest_find(m, member.kind, member.name))
            r = consider(c, p, json_object_get(sets, "items"), &member);
    json_decref(sets);
    qsort(p->one, p->count, sizeof(*p->one), compare);
    return r;
}

int prune_open(struct cli *c, const struct manifest *m, struct prune *p) {
    *p = (struct prune){.count = 0};
    if (choose_name(c, p) < 0)
        return -1;
    if (!*p->set)
        return 0;
    if (remote_call(c->remote, "GET", NULL, &p->live, &c->failure, "/v1/sets/%s", p->set) < 0) {
        if (c->failure.kind != FAILURE_NOT_FOUND)
            return -1;
        c->failure = (struct remote_failure){0};
    }
    return cli_true(c, "prune") && p->live ? find_all(c, m, p) : 0;
}

void prune_done(struct prune *p) {
    json_decref(p->live);
    json_decref(p->source);
    free(p->one);
}

json_t *prune_json(const struct prune_one *o, const char *result) {
    return json_pack("{s:s, s:s, s:s, s:[]}", "kind", o->resource->name, "name", o->name, "result",
                     result, "changes");
}

int prune_confirm(struct cli *c, const struct prune *p) {
    char answer[16] = "";

    if (!p->count || cli_true(c, "yes") || cli_true(c, "dry_run"))
        return 0;
    fflush(stdout);
    for (size_t i = 0; i < p->count; i++)
        fprintf(stderr, "%s/%s would be deleted%s\n", p->one[i].resource->name, p->one[i].name,
                p->one[i].runs                                ? "; it runs, and is ended first"
                : !strcmp(p->one[i].resource->name, "volume") ? ", with what is on it"
                                                              : "");
    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
        return remote_fail(&c->failure, FAILURE_INVALID,
                           "say --yes, or look first with --dry-run; nothing was done",
                           "--prune would delete %zu things", p->count);
    fprintf(stderr, "Apply, and delete these %zu things of the set '%s'? [y/N] ", p->count, p->set);
    fflush(stderr);
    if (fgets(answer, sizeof(answer), stdin) && (*answer == 'y' || *answer == 'Y'))
        return 0;
    return remote_fail(&c->failure, FAILURE_CONFLICT, "", "nothing was done");
}

/* ------------------------------------------------------------------ writing it down */

static int save(struct cli *c, struct prune *p, json_t *members) {
    json_t *spec = json_pack("{s:O, s:o}", "source", p->source, "members", members), *answer = NULL;
    bool same = p->live && json_equal(members, members_of(p->live)) &&
                !strcmp(item_text(p->live, "spec", "source"), json_string_value(p->source));
    int r = 0;

    if (same)
        json_decref(spec);
    else if (p->live)
        r = remote_call(c->remote, "PATCH", json_pack("{s:o}", "spec", spec), &answer, &c->failure,
                        "/v1/sets/%s", p->set);
    else
        r = remote_call(c->remote, "POST", json_pack("{s:s, s:o}", "name", p->set, "spec", spec),
                        &answer, &c->failure, "/v1/sets");
    if (answer) {
        json_decref(p->live);
        p->live = answer;
    }
    return r;
}

/* Members that the files do not name stay, until they are deleted. */
static json_t *others_of(const struct prune *p, const struct manifest *m) {
    json_t *list = json_array(), *one;
    struct member member;
    size_t i;

    json_array_foreach(members_of(p->live), i, one)
        if (read_member(one, &member) && !manifest_find(m, member.kind, member.name))
            json_array_append(list, one);
    return list;
}

int prune_begin(struct cli *c, struct prune *p, const struct manifest *m, const bool *made) {
    json_t *list;
    bool news = false;

    if (!*p->set)
        return 0;
    list = others_of(p, m);
    for (size_t i = 0; i < m->count; i++) {
        const struct manifest_item *x = &m->item[i];
        struct member old;
        bool known = find_member(p->live, x->resource->name, x->name, &old);

        news |= made[i];
        if (made[i])
            add_member(list, x->resource->name, x->name, "", true);
        else if (known)
            add_member(list, x->resource->name, x->name, old.id, old.made);
    }
    if (news)
        return save(c, p, list);
    json_decref(list);
    return 0;
}

int prune_note(struct cli *c, struct prune *p, const struct manifest *m, json_t *const *live,
               const bool *made) {
    json_t *list;

    if (!*p->set)
        return 0;
    list = others_of(p, m);
    for (size_t i = 0; i < m->count; i++) {
        const struct manifest_item *x = &m->item[i];
        const char *id = item_text(live[i], NULL, "id");
        struct member old;
        bool same =
            find_member(p->live, x->resource->name, x->name, &old) && (!*id || !strcmp(old.id, id));

        if (same)
            add_member(list, x->resource->name, x->name, old.id, old.made || made[i]);
        else if (*id)
            add_member(list, x->resource->name, x->name, id, made[i]);
    }
    return save(c, p, list);
}

static int delete_one(struct cli *c, const struct prune_one *o) {
    bool vm = !strcmp(o->resource->name, "vm");
    int r = remote_call(c->remote, "DELETE", NULL, NULL, &c->failure, "/v1/%s/%s%s",
                        o->resource->plural, o->name, vm ? "?force=true" : "");

    return r == 0 && vm ? cli_gone(c, o->name) : r;
}

int prune_delete(struct cli *c, struct prune *p, json_t *results) {
    json_t *list = json_deep_copy(members_of(p->live)), *one;
    struct remote_failure first = {0};
    struct member m;
    size_t i;

    for (size_t k = 0; k < p->count; k++) {
        const struct prune_one *o = &p->one[k];
        bool good = delete_one(c, o) == 0;

        if (!good && first.kind == FAILURE_NONE)
            first = c->failure;
        if (results)
            json_array_append_new(results, prune_json(o, good ? "deleted" : "failed"));
        else if (good)
            printf("%s/%s deleted\n", o->resource->name, o->name);
        else
            show_note(c, "%s/%s cannot be deleted: %s", o->resource->name, o->name,
                      c->failure.reason);
        json_array_foreach(list, i, one)
            if (good && read_member(one, &m) && !strcmp(m.id, o->id)) {
                json_array_remove(list, i);
                break;
            }
    }
    c->failure = (struct remote_failure){0};
    if (save(c, p, list) < 0)
        return -1;
    c->failure = first;
    return first.kind == FAILURE_NONE ? 0 : -1;
}

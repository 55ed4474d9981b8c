/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * viv apply: what files want is made, or changed in place. All files are read and checked before
 * anything is done; what fails then is told and does not hold up what does not need it.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/plan.h"
#include "cli/prune.h"

struct applied {
    struct plan plan;
    const char *result; /* NULL: not done yet */
    bool pending;       /* asked for, and not waited for yet */
    bool failed;
    json_t *secret; /* an answer of something that is told once */
};

struct apply {
    struct cli *c;
    struct manifest manifest;
    struct applied *of; /* one for each item */
    struct prune prune;
    bool *made;     /* the same: it is created, not found */
    json_t *pruned; /* what became of what is deleted, for --json */
    size_t failures;
    enum failure first; /* the kind of the first of them */
};

static void tell(const struct apply *a, const struct applied *x, const char *word,
                 const char *more) {
    if (!a->c->json)
        printf("%s/%s %s%s%s\n", x->plan.item->resource->name, x->plan.item->name, word,
               *more ? ": " : "", more);
}

static void fail(struct apply *a, struct applied *x, const char *result) {
    const struct remote_failure *f = &x->plan.failure;

    x->failed = true;
    x->pending = false;
    x->result = result;
    if (!a->failures++)
        a->first = f->kind;
    fflush(stdout);
    show_note(a->c, "%s/%s %s: %s%s%s", x->plan.item->resource->name, x->plan.item->name, result,
              f->reason, *f->remedy ? ": " : "", f->remedy);
}

/* ------------------------------------------------------------------ waiting */

static void finish(struct apply *a, struct applied *x) {
    const struct manifest_item *i = x->plan.item;
    const char *job = item_text(x->plan.live, "status", "job");
    struct cli *c = a->c;
    int r = 0;

    if (!x->pending)
        return;
    x->pending = false;
    c->failure = (struct remote_failure){0};
    if (*job)
        r = cli_wait_job(c, job, i->name);
    else if (resource_op(i->resource, "wait"))
        r = cli_wait_ready(c, i->resource, i->name, NULL);
    if (r < 0) {
        x->plan.failure = c->failure;
        fail(a, x, "failed");
    }
}

/* ------------------------------------------------------------------ doing */

static struct applied *find(struct apply *a, const char *kind, const char *name) {
    const struct manifest_item *i = manifest_find(&a->manifest, kind, name);

    return i ? &a->of[i - a->manifest.item] : NULL;
}

static bool needs(struct apply *a, struct applied *x, const char *kind, const char *name) {
    struct applied *y = find(a, kind, name);

    if (!y || y == x)
        return true;
    finish(a, y);
    if (!y->failed)
        return true;
    remote_fail(&x->plan.failure, FAILURE_CONFLICT, "", "it needs the %s '%s', which failed",
                y->plan.item->resource->noun, y->plan.item->name);
    return false;
}

/* Names with commas between, and words about each behind a slash. */
static bool needs_all(struct apply *a, struct applied *x, const char *kind, const char *list) {
    char name[64];

    for (; *list; list += strcspn(list, ","), list += *list == ',') {
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(list, ",/"), list);
        if (!needs(a, x, kind, name))
            return false;
    }
    return true;
}

/* What it refers to is there, as far as the files have it. */
static bool has_needs(struct apply *a, struct applied *x) {
    const struct manifest_item *i = x->plan.item;

    for (const struct field *f = i->resource->fields; f->type != FIELD_END; f++) {
        const json_t *v = json_object_get(i->spec, f->name), *one;
        size_t k;

        if (!f->refers || !v)
            continue;
        if (json_is_string(v) && !needs_all(a, x, f->refers, json_string_value(v)))
            return false;
        json_array_foreach(v, k, one)
            if (json_is_string(one) && !needs(a, x, f->refers, json_string_value(one)))
                return false;
    }
    return true;
}

static json_t *changed_spec(const struct plan *p) {
    json_t *spec = json_object();
    const json_t *one;
    size_t i;

    json_array_foreach(p->changes, i, one)
        json_object_set(spec, item_text(one, NULL, "field"), json_object_get(one, "to"));
    return spec;
}

/* 0 and the item as it is now. */
static int request(struct apply *a, struct applied *x, json_t **ret) {
    const struct manifest_item *i = x->plan.item;
    struct remote_failure *f = &x->plan.failure;

    if (x->plan.action == PLAN_CREATE)
        return remote_call(a->c->remote, "POST",
                           json_pack("{s:s, s:O}", "name", i->name, "spec", i->spec), ret, f,
                           "/v1/%s", i->resource->plural);
    return remote_call(a->c->remote, "PATCH", json_pack("{s:o}", "spec", changed_spec(&x->plan)),
                       ret, f, "/v1/%s/%s", i->resource->plural, i->name);
}

/* A machine that runs goes on with what it was started with. */
static bool holds_later(const struct applied *x) {
    const char *state = item_text(x->plan.live, "status", "state");
    const json_t *first = json_array_get(x->plan.changes, 0);
    bool power =
        json_array_size(x->plan.changes) == 1 && !strcmp(item_text(first, NULL, "field"), "power");

    return !strcmp(x->plan.item->resource->name, "vm") && !power &&
           (!strcmp(state, "running") || !strcmp(state, "paused"));
}

static void tell_secret(const struct apply *a, struct applied *x, const json_t *answer) {
    const char *secret = item_text(answer, "status", "secret");

    if (!*secret)
        secret = item_text(answer, NULL, "secret");
    if (!*secret)
        return;
    if (a->c->json)
        x->secret = json_string(secret);
    else
        printf("%s/%s secret, told only now: %s\n", x->plan.item->resource->name,
               x->plan.item->name, secret);
}

static void perform(struct apply *a, struct applied *x, bool dry) {
    bool create = x->plan.action == PLAN_CREATE;
    json_t *answer = NULL;
    char fields[300];

    plan_fields(&x->plan, fields, sizeof(fields));
    if (dry) {
        x->result = create ? "would be created" : "would be changed";
        tell(a, x, x->result, create ? "" : fields);
        return;
    }
    if (!has_needs(a, x)) {
        fail(a, x, "left out");
        return;
    }
    if (request(a, x, &answer) < 0) {
        fail(a, x, "failed");
        return;
    }
    tell_secret(a, x, answer);
    json_decref(x->plan.live);
    x->plan.live = answer;
    x->pending = !cli_true(a->c, "no_wait");
    x->result = create ? "created" : "changed";
    if (!create && holds_later(x))
        strncat(fields, " (from its next start)", sizeof(fields) - strlen(fields) - 1);
    tell(a, x, x->result, create ? "" : fields);
}

static void apply_one(struct apply *a, struct applied *x) {
    switch (x->plan.action) {
    case PLAN_SAME:
        x->result = "unchanged";
        tell(a, x, x->result, "");
        break;
    case PLAN_REFUSED:
    case PLAN_FAILED:
        fail(a, x, "failed");
        break;
    default:
        perform(a, x, cli_true(a->c, "dry_run"));
    }
}

static void show_results(const struct apply *a) {
    json_t *all = json_array();

    for (size_t i = 0; i < a->manifest.count; i++) {
        json_t *o = plan_json(&a->of[i].plan, a->of[i].result);

        if (a->of[i].secret)
            json_object_set(o, "secret", a->of[i].secret);
        json_array_append_new(all, o);
    }
    json_array_extend(all, a->pruned);
    show_json(all);
    json_decref(all);
}

/* Nothing is deleted when something is not as the files want it. */
static int prune(struct apply *a, json_t *const *live) {
    struct cli *c = a->c;
    struct prune *p = &a->prune;
    bool dry = cli_true(c, "dry_run");
    int r = dry ? 0 : prune_note(c, p, &a->manifest, live, a->made);

    if (r < 0 || !p->count)
        return r;
    if (a->failures) {
        show_note(c, "nothing is deleted, since not everything was applied");
        return 0;
    }
    if (!dry)
        return prune_delete(c, p, c->json ? a->pruned : NULL);
    for (size_t i = 0; i < p->count; i++)
        if (c->json)
            json_array_append_new(a->pruned, prune_json(&p->one[i], "would be deleted"));
        else
            printf("%s/%s would be deleted\n", p->one[i].resource->name, p->one[i].name);
    return 0;
}

/* True: the failure of c is of another kind than those of things. */
static bool begin(struct apply *a) {
    struct cli *c = a->c;

    for (size_t i = 0; i < a->manifest.count; i++) {
        plan_make(c, &a->manifest.item[i], &a->of[i].plan);
        a->made[i] = a->of[i].plan.action == PLAN_CREATE;
    }
    return prune_confirm(c, &a->prune) == 0 &&
           (cli_true(c, "dry_run") || prune_begin(c, &a->prune, &a->manifest, a->made) == 0);
}

static int apply_all(struct apply *a) {
    size_t n = a->manifest.count;
    struct cli *c = a->c;
    json_t **live = calloc(n, sizeof(json_t *));
    struct remote_failure late = {0};
    int r = 0;

    if (!live)
        abort();
    for (size_t i = 0; i < n; i++)
        apply_one(a, &a->of[i]);
    for (size_t i = 0; i < n; i++)
        finish(a, &a->of[i]);
    for (size_t i = 0; i < n; i++)
        live[i] = a->of[i].plan.live;
    c->failure = (struct remote_failure){0};
    r = prune(a, live);
    late = c->failure;
    free(live);
    if (c->json)
        show_results(a);
    fflush(stdout);
    c->failure = late;
    if (!a->failures)
        return r;
    return remote_fail(&c->failure, a->first, "", "%zu of %zu things %s", a->failures, n,
                       cli_true(c, "dry_run") ? "could not be applied" : "were not applied");
}

int do_apply(struct cli *c) {
    struct apply a = {.c = c};
    int r = plan_read(c, &a.manifest);
    size_t n = r == 0 ? a.manifest.count : 0;

    if (r == 0)
        r = prune_open(c, &a.manifest, &a.prune);
    a.of = calloc(n + 1, sizeof(*a.of));
    a.made = calloc(n + 1, sizeof(*a.made));
    a.pruned = json_array();
    if (!a.of || !a.made)
        abort();
    if (r == 0)
        r = begin(&a) ? apply_all(&a) : -1;
    for (size_t i = 0; i < n; i++) {
        plan_done(&a.of[i].plan);
        json_decref(a.of[i].secret);
    }
    free(a.of);
    free(a.made);
    json_decref(a.pruned);
    prune_done(&a.prune);
    manifest_done(&a.manifest);
    return r;
}

int do_set_rm(struct cli *c) {
    for (unsigned i = 0; i < c->names; i++) {
        if (remote_call(c->remote, "DELETE", NULL, NULL, &c->failure, "/v1/sets/%s", c->name[i]) <
            0)
            return -1;
        show_note(c, "'%s' is forgotten; what was in it stays", c->name[i]);
    }
    show_names(c, "deleted");
    return 0;
}

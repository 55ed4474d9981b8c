/* SPDX-License-Identifier: GPL-2.0-or-later */
/* viv diff: how what files want differs from what there is. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/plan.h"
#include "cli/prune.h"

enum { CODE_DIFFERENT = 1, CODE_FAILED = 2 /* at least */ };

struct painter {
    bool colours;
};

static void line(const struct painter *p, char sign, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void line(const struct painter *p, char sign, const char *fmt, ...) {
    const char *on = sign == '-' ? "\033[31m" : sign == '+' ? "\033[32m" : "\033[1m";
    va_list ap;

    fputs(p->colours ? on : "", stdout);
    if (sign != ' ')
        printf("%c ", sign);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    puts(p->colours ? "\033[m" : "");
}

static const char *next_line(const char *s, size_t *ret_len) {
    *ret_len = strcspn(s, "\n");
    return s + *ret_len + (s[*ret_len] == '\n');
}

/* The lines of a text that the other has not at the same end. */
static void put_lines(const struct painter *p, char sign, const char *s, size_t skip, size_t most) {
    for (size_t n, i = 0; *s && i < skip + most; i++) {
        const char *next = next_line(s, &n);

        if (i >= skip)
            line(p, sign, "    %.*s", (int)n, s);
        s = next;
    }
}

static size_t count_lines(const char *s) {
    size_t n = 0, len;

    while (*s) {
        s = next_line(s, &len);
        n++;
    }
    return n;
}

static size_t same_start(const char *a, const char *b) {
    size_t same = 0, n, k;

    while (*a && *b) {
        const char *next_a = next_line(a, &n), *next_b = next_line(b, &k);

        if (n != k || memcmp(a, b, n) != 0)
            break;
        same++;
        a = next_a;
        b = next_b;
    }
    return same;
}

static bool is_line_end(const char *start, const char *p) { return p == start || p[-1] == '\n'; }

static size_t same_end(const char *a, const char *b) {
    const char *p = a + strlen(a), *q = b + strlen(b);
    size_t same = 0;

    while (p > a && q > b && p[-1] == q[-1]) {
        p--;
        q--;
        if (is_line_end(a, p) && is_line_end(b, q))
            same++;
    }
    return same;
}

/* What is between the lines that begin both and the lines that end both. */
static void diff_text(const struct painter *p, const char *field, const char *a, const char *b) {
    size_t na = count_lines(a), nb = count_lines(b), start = same_start(a, b);
    size_t least = na < nb ? na : nb, end = same_end(a, b);

    if (end > least - start)
        end = least - start;
    if (*a)
        line(p, ' ', "  %s: from line %zu on", field, start + 1);
    else
        line(p, '+', "  %s:", field);
    put_lines(p, '-', a, start, na - start - end);
    put_lines(p, '+', b, start, nb - start - end);
}

static void put_change(const struct painter *p, const struct field *f, const json_t *change,
                       bool create) {
    const json_t *from = json_object_get(change, "from"), *to = json_object_get(change, "to");
    const char *a = json_string_value(from), *b = json_string_value(to);
    bool in_place = json_is_true(json_object_get(change, "in_place"));
    char was[600], is[600];

    if (f->type == FIELD_TEXT && b && (!from || a) &&
        (strchr(a ? a : "", '\n') || strchr(b, '\n'))) {
        diff_text(p, f->name, a ? a : "", b);
    } else {
        show_value(f, from, was, sizeof(was));
        show_value(f, to, is, sizeof(is));
        if (from)
            line(p, '-', "  %s: %s", f->name, was);
        line(p, '+', "  %s: %s", f->name, is);
    }
    if (!in_place && !create)
        printf("    (%s cannot be changed later: delete it and make it again)\n", f->name);
}

static void put_plan(const struct painter *p, const struct plan *plan) {
    const struct resource *r = plan->item->resource;
    bool create = plan->action == PLAN_CREATE;
    const json_t *one;
    size_t i;

    if (plan->action == PLAN_SAME || plan->action == PLAN_FAILED)
        return;
    line(p, ' ', "%s/%s%s", r->name, plan->item->name, create ? " would be created" : "");
    json_array_foreach(plan->changes, i, one)
        put_change(p, field_find(r->fields, item_text(one, NULL, "field")), one, create);
}

static bool wants_colours(const struct cli *c) {
    const char *no = getenv("NO_COLOR"), *when = cli_text(c, "color");

    if (!strcmp(when, "always") || !strcmp(when, "never"))
        return *when == 'a';
    return isatty(STDOUT_FILENO) && !(no && *no);
}

static const char *const words[] = {[PLAN_SAME] = "same",
                                    [PLAN_CREATE] = "create",
                                    [PLAN_CHANGE] = "change",
                                    [PLAN_REFUSED] = "replace",
                                    [PLAN_FAILED] = "failed"};

static int diff_all(struct cli *c, const struct manifest *m) {
    struct painter p = {wants_colours(c)};
    json_t *all = json_array();
    struct prune prune;
    bool different = false;
    int r = 0;

    if (prune_open(c, m, &prune) < 0) {
        prune_done(&prune);
        json_decref(all);
        return -1;
    }
    for (size_t i = 0; i < prune.count; i++) {
        different = true;
        if (c->json)
            json_array_append_new(all, prune_json(&prune.one[i], "delete"));
        else
            line(&p, '-', "%s/%s would be deleted", prune.one[i].resource->name, prune.one[i].name);
    }
    prune_done(&prune);
    for (size_t i = 0; i < m->count; i++) {
        struct plan plan;

        plan_make(c, &m->item[i], &plan);
        if (plan.action == PLAN_FAILED) {
            if (r < 0)
                show_failure(c); /* the one before; the last one is told at the end */
            c->failure = plan.failure;
            r = -1;
        }
        different |= plan.action != PLAN_SAME;
        if (c->json)
            json_array_append_new(all, plan_json(&plan, words[plan.action]));
        else
            put_plan(&p, &plan);
        plan_done(&plan);
    }
    if (c->json)
        show_json(all);
    json_decref(all);
    if (r == 0)
        c->code = different ? CODE_DIFFERENT : 0;
    return r;
}

int do_diff(struct cli *c) {
    struct manifest m;
    int r = plan_read(c, &m);

    if (r == 0)
        r = diff_all(c, &m);
    manifest_done(&m);
    if (r < 0 && failure_exit_code(c->failure.kind) < CODE_FAILED)
        c->code = CODE_FAILED;
    return r;
}

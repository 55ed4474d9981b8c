/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Results for people: tables and items by the declarations, sizes and times as people say them. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "proto/units.h"

enum { MOST_COLUMNS = 12, CELL = 120, BAR = 30 };

/* Guests, and machines that were broken into, chose some of what is shown, and a terminal obeys
 * control characters: those of ASCII, and of C1 as UTF-8 has them. */
static char *clean(char *text) {
    for (unsigned char *p = (unsigned char *)text; *p; p++) {
        if ((*p < 0x20 && *p != '\n' && *p != '\t') || *p == 0x7f)
            *p = '?';
        else if (p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0)
            p[0] = p[1] = '?';
    }
    return text;
}

static void put(FILE *to, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void put_v(FILE *to, const char *fmt, va_list ap) {
    char *text;

    if (vasprintf(&text, fmt, ap) < 0)
        return;
    fputs(clean(text), to);
    free(text);
}

static void put(FILE *to, const char *fmt, ...) {
    va_list ap;

    va_start(ap, fmt);
    put_v(to, fmt, ap);
    va_end(ap);
}

void show_json(const json_t *v) {
    json_dumpf(v, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
    putchar('\n');
}

void show_names(const struct cli *c, const char *word) {
    json_t *names = json_array(), *all;

    for (unsigned i = 0; i < c->names; i++)
        json_array_append_new(names, json_string(c->name[i]));
    all = json_pack("{s:o}", word, names);
    if (c->json)
        show_json(all);
    json_decref(all);
}

static const json_t *member(const json_t *item, const struct resource *r, const struct field *f) {
    if (!r->plain && f->place != FIELD_META)
        item = json_object_get(item, f->place == FIELD_SPEC ? "spec" : "status");
    return json_object_get(item, f->name);
}

static void put_list(const json_t *v, char *out, size_t size) {
    const json_t *one;
    size_t i, at = 0;

    *out = 0;
    json_array_foreach(v, i, one)
        if (at < size && json_is_string(one))
            at += (size_t)snprintf(out + at, size - at, "%s%s", i ? ", " : "",
                                   json_string_value(one));
}

/* "lan 02:00:00:00:00:01 10.77.0.10, dmz ..." */
static void put_object(const json_t *v, char *out, size_t size) {
    const char *key, *inner_key;
    json_t *one, *inner;
    size_t at = 0;

    *out = 0;
    json_object_foreach((json_t *)v, key, one) {
        if (at < size)
            at += (size_t)snprintf(out + at, size - at, "%s%s", at ? ", " : "", key);
        if (at < size && json_is_string(one))
            at += (size_t)snprintf(out + at, size - at, " %s", json_string_value(one));
        json_object_foreach(one, inner_key, inner)
            if (at < size && json_is_string(inner))
                at += (size_t)snprintf(out + at, size - at, " %s", json_string_value(inner));
    }
}

void show_value(const struct field *f, const json_t *v, char *out, size_t size) {
    int64_t ms;

    *out = 0;
    if (!v)
        return;
    switch (f->type) {
    case FIELD_SIZE:
        units_put_size(json_integer_value(v), out, size);
        break;
    case FIELD_INT:
        snprintf(out, size, "%lld", (long long)json_integer_value(v));
        break;
    case FIELD_BOOL:
        snprintf(out, size, "%s", json_is_true(v) ? "yes" : "no");
        break;
    case FIELD_TIME:
        if (json_is_string(v) && units_read_time(json_string_value(v), &ms, NULL) == 0)
            units_put_ago(ms, units_now_ms(), out, size);
        break;
    case FIELD_STRINGS:
        put_list(v, out, size);
        break;
    case FIELD_OBJECT:
        put_object(v, out, size);
        break;
    default:
        snprintf(out, size, "%s", json_is_string(v) ? json_string_value(v) : "");
    }
    clean(out);
}

/* ------------------------------------------------------------------ tables */

struct table {
    const struct field *column[MOST_COLUMNS];
    unsigned columns;
    int width[MOST_COLUMNS];
};

static void add_columns(struct table *t, const struct field *fields) {
    for (const struct field *f = fields; f->type != FIELD_END; f++)
        if (f->column && t->columns < MOST_COLUMNS)
            t->column[t->columns++] = f;
}

void show_table(const struct resource *r, const json_t *items) {
    struct table t = {0};
    const json_t *item;
    char cell[CELL];
    size_t i;

    if (!r->plain)
        add_columns(&t, resource_common);
    add_columns(&t, r->fields);
    for (unsigned k = 0; k < t.columns; k++)
        t.width[k] = (int)strlen(t.column[k]->column);
    json_array_foreach(items, i, item)
        for (unsigned k = 0; k < t.columns; k++) {
            show_value(t.column[k], member(item, r, t.column[k]), cell, sizeof(cell));
            if ((int)strlen(cell) > t.width[k])
                t.width[k] = (int)strlen(cell);
        }
    for (unsigned k = 0; k < t.columns; k++)
        printf("%-*s%s", k + 1 < t.columns ? t.width[k] : 0, t.column[k]->column,
               k + 1 < t.columns ? "  " : "\n");
    json_array_foreach(items, i, item)
        for (unsigned k = 0; k < t.columns; k++) {
            show_value(t.column[k], member(item, r, t.column[k]), cell, sizeof(cell));
            printf("%-*s%s", k + 1 < t.columns ? t.width[k] : 0, *cell ? cell : "-",
                   k + 1 < t.columns ? "  " : "\n");
        }
}

/* Names of fields stand in a column of their own. */
static int name_width(const struct resource *r) {
    size_t width = 11;

    for (const struct field *f = r->fields; f->type != FIELD_END; f++)
        if (strlen(f->name) > width)
            width = strlen(f->name);
    return (int)width;
}

static void show_field(const struct resource *r, const struct field *f, const json_t *item) {
    const json_t *v = member(item, r, f);
    char value[4200];

    show_value(f, v, value, sizeof(value));
    if (!*value)
        return;
    printf("%-*s ", name_width(r), f->name);
    for (const char *p = value; *p; p++) { /* lines of a log stand below each other */
        putchar(*p);
        if (*p == '\n')
            printf("%-*s ", name_width(r), "");
    }
    if (f->type == FIELD_TIME)
        printf(" (%s)", json_string_value(v));
    putchar('\n');
}

void show_item(const struct resource *r, const json_t *item) {
    for (const struct field *f = resource_common; !r->plain && f->type != FIELD_END; f++)
        show_field(r, f, item);
    for (const struct field *f = r->fields; f->type != FIELD_END; f++)
        show_field(r, f, item);
}

void show_fields(const struct resource *r, const char *first, const json_t *item) {
    for (const struct field *f = field_find(r->fields, first); f && f->type != FIELD_END; f++)
        show_field(r, f, item);
}

void show_event(const json_t *e) {
    const char *time = item_text(e, NULL, "time");

    put(stdout, "%.10s %.8s  %-6s %-20s %-11s %s\n", time, strlen(time) > 19 ? time + 11 : "",
        item_text(e, NULL, "kind"), item_text(e, NULL, "name"), item_text(e, NULL, "what"),
        item_text(e, NULL, "text"));
}

/* ------------------------------------------------------------------ notes and failures */

void show_note(const struct cli *c, const char *fmt, ...) {
    va_list ap;

    if (c->json)
        return;
    va_start(ap, fmt);
    put_v(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

void show_progress(struct cli *c, const char *what, int percent, const char *stage) {
    char bar[BAR + 1];

    if (!c->progress || c->json)
        return;
    for (int i = 0; i < BAR; i++)
        bar[i] = i < percent * BAR / 100 ? '#' : ' ';
    bar[BAR] = 0;
    fputs("\r\033[K", stderr);
    put(stderr, "%s [%s] %3d%%  %.60s", what, bar, percent, stage);
    fflush(stderr);
}

void show_progress_end(struct cli *c) {
    if (c->progress && !c->json)
        fputs("\r\033[K", stderr);
}

int show_failure(const struct cli *c) {
    const struct remote_failure *f = &c->failure;

    if (c->json) {
        json_t *o = json_pack("{s:s, s:s, s:s, s:s}", "code", failure_word(f->kind), "field",
                              f->field, "reason", f->reason, "remedy", f->remedy);

        json_dumpf(o, stderr, JSON_COMPACT);
        fputc('\n', stderr);
        json_decref(o);
    } else {
        put(stderr, "viv: %s%s%s\n", f->reason, *f->remedy ? ": " : "", f->remedy);
    }
    return failure_exit_code(f->kind);
}

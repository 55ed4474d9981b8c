/* SPDX-License-Identifier: GPL-2.0-or-later */
/* JSON for people. Strings come from the machine, and with them from guests and file names: what
 * could command a terminal is shown as question marks. */
#include "tools/ctl/show.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { COLUMN_MAX = 60, COLUMNS = 16, REAL_DIGITS = 12 };

static void put_text(const char *s, FILE *f) {
    for (; *s; s++)
        fputc((unsigned char)*s < 0x20 || *s == 0x7f ? '?' : *s, f);
}

/* A value in one line. */
static char *flat(const json_t *v) {
    if (json_is_string(v))
        return strdup(json_string_value(v));
    return json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(REAL_DIGITS));
}

static int width_of(const json_t *v) {
    char *s = v ? flat(v) : NULL;
    int n = s ? (int)strlen(s) : 0;

    free(s);
    return n;
}

static void put_value(const json_t *v, int width, FILE *f) {
    char *s = v ? flat(v) : NULL;
    int n = s ? (int)strlen(s) : 0;

    if (s)
        put_text(s, f);
    fprintf(f, "%*s", n < width ? width - n : 0, "");
    free(s);
}

static bool is_table(const json_t *v) {
    const json_t *row;
    size_t i;

    if (!json_array_size(v))
        return false;
    json_array_foreach(v, i, row) {
        if (!json_is_object(row))
            return false;
    }
    return true;
}

/* The columns are the fields of the first row. */
static void show_table(const json_t *list, FILE *f) {
    const char *names[COLUMNS], *key;
    int widths[COLUMNS];
    unsigned n = 0;
    const json_t *row;
    json_t *v;
    size_t i;

    json_object_foreach(json_array_get(list, 0), key, v) {
        if (n == COLUMNS)
            break;
        names[n] = key;
        widths[n] = (int)strlen(key);
        json_array_foreach(list, i, row) {
            int width = width_of(json_object_get(row, key));

            if (width > widths[n])
                widths[n] = width < COLUMN_MAX ? width : COLUMN_MAX;
        }
        n++;
    }
    for (unsigned c = 0; c < n; c++)
        fprintf(f, "%s%-*s", c ? "  " : "", c + 1 < n ? widths[c] : 0, names[c]);
    fputc('\n', f);
    json_array_foreach(list, i, row) {
        for (unsigned c = 0; c < n; c++) {
            fputs(c ? "  " : "", f);
            put_value(json_object_get(row, names[c]), c + 1 < n ? widths[c] : 0, f);
        }
        fputc('\n', f);
    }
}

static void show_nested(const char *key, const json_t *v, FILE *f) {
    char *text = json_dumps(v, JSON_INDENT(2) | JSON_ENCODE_ANY);

    fprintf(f, "%s:\n%s\n", key, text ? text : "");
    free(text);
}

void show_result(const json_t *result, FILE *f) {
    const char *key;
    json_t *v;
    bool alone = json_object_size(result) == 1;

    json_object_foreach((json_t *)result, key, v) {
        if (is_table(v)) {
            if (!alone)
                fprintf(f, "%s:\n", key);
            show_table(v, f);
        } else if (json_is_object(v)) {
            show_nested(key, v, f);
        } else {
            fprintf(f, "%s: ", key);
            put_value(v, 0, f);
            fputc('\n', f);
        }
    }
}

void show_event(const char *name, const json_t *data, FILE *f) {
    char stamp[32] = "";
    time_t now = time(NULL);
    struct tm tm;
    const char *key;
    json_t *v;

    if (localtime_r(&now, &tm))
        strftime(stamp, sizeof(stamp), "%H:%M:%S ", &tm);
    fputs(stamp, f);
    put_text(name, f);
    json_object_foreach((json_t *)data, key, v) {
        fprintf(f, " %s=", key);
        put_value(v, 0, f);
    }
    fputc('\n', f);
}

void show_progress(const json_t *job, FILE *f) {
    double done = (double)json_integer_value(json_object_get(job, "done"));
    double total = (double)json_integer_value(json_object_get(job, "total"));
    const char *state = json_string_value(json_object_get(job, "state"));
    bool over = state && strcmp(state, "preparing") != 0 && strcmp(state, "running") != 0 &&
                strcmp(state, "ready") != 0;

    fprintf(f, "\r%s %3.0f%%%s", json_string_value(json_object_get(job, "kind")),
            total > 0 ? 100 * done / total : 0.0, over ? "\n" : "");
    fflush(f);
}

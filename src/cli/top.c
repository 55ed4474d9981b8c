/* SPDX-License-Identifier: GPL-2.0-or-later */
/* viv top: what machines use, as rates between two looks at their figures. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "proto/units.h"

enum { RATES = 6, CELL = 32, INTERVAL = 2 };

static const struct {
    const char *field, *heading;
    bool bytes;
} rates[RATES] = {
    {"disk_read_bytes", "READ/S", true},        {"disk_written_bytes", "WRITTEN/S", true},
    {"net_received_bytes", "RECEIVED/S", true}, {"net_sent_bytes", "SENT/S", true},
    {"interrupts", "INTERRUPTS/S", false},      {"halts", "HALTS/S", false},
};

struct line {
    const json_t *now;
    double cpu;         /* of one processor, in percent; negative: not known */
    double rate[RATES]; /* a second */
};

static const json_t *find(const json_t *items, const char *id) {
    const json_t *one;
    size_t i;

    json_array_foreach(items, i, one)
        if (!strcmp(item_text(one, NULL, "id"), id))
            return one;
    return NULL;
}

static int64_t number(const json_t *item, const char *name) {
    return json_integer_value(json_object_get(item, name));
}

/* A process that began anew counts from 0 again, and a clock may be set back: no rate then. */
static void fill(struct line *l, const json_t *before, const json_t *now) {
    int64_t t0 = 0, t1 = 0, cpu = number(now, "cpu_ms") - number(before, "cpu_ms");

    *l = (struct line){.now = now, .cpu = -1};
    if (units_read_time(item_text(before, NULL, "time"), &t0, NULL) < 0 ||
        units_read_time(item_text(now, NULL, "time"), &t1, NULL) < 0 || t1 <= t0 || cpu < 0)
        return;
    l->cpu = 100.0 * (double)cpu / (double)(t1 - t0);
    for (unsigned i = 0; i < RATES; i++) {
        int64_t n = number(now, rates[i].field) - number(before, rates[i].field);

        l->rate[i] = n < 0 ? 0 : 1000.0 * (double)n / (double)(t1 - t0);
    }
}

static int busier(const void *a, const void *b) {
    const struct line *x = a, *y = b;

    if (x->cpu > y->cpu || x->cpu < y->cpu)
        return x->cpu > y->cpu ? -1 : 1;
    return strcmp(item_text(x->now, NULL, "name"), item_text(y->now, NULL, "name"));
}

static void put_size(const json_t *item, const char *name, char out[CELL]) {
    snprintf(out, CELL, "-");
    if (json_object_get(item, name))
        units_put_size(number(item, name), out, CELL);
}

static void show_line(const struct line *l, int width) {
    char cpu[CELL] = "-", memory[CELL], resident[CELL], rate[CELL];

    if (l->cpu >= 0)
        snprintf(cpu, sizeof(cpu), "%.1f", l->cpu);
    put_size(l->now, "resident", resident);
    put_size(l->now, json_object_get(l->now, "usable") ? "usable" : "memory", memory);
    printf("%-*s  %-10s %7s %9s %8s", width, item_text(l->now, NULL, "name"),
           item_text(l->now, NULL, "state"), cpu, resident, memory);
    for (unsigned i = 0; i < RATES; i++) {
        snprintf(rate, sizeof(rate), "-");
        if (l->cpu >= 0 && rates[i].bytes)
            units_put_size((int64_t)l->rate[i], rate, sizeof(rate));
        else if (l->cpu >= 0)
            snprintf(rate, sizeof(rate), "%.0f", l->rate[i]);
        printf(" %12s", rate);
    }
    putchar('\n');
}

static int name_width(const json_t *items) {
    const json_t *one;
    size_t i, width = strlen("NAME");

    json_array_foreach(items, i, one)
        if (strlen(item_text(one, NULL, "name")) > width)
            width = strlen(item_text(one, NULL, "name"));
    return (int)width;
}

static void show(const json_t *before, const json_t *now) {
    size_t n = json_array_size(now), i;
    struct line *lines = calloc(n ? n : 1, sizeof(*lines));
    int width = name_width(now);
    const json_t *one;

    if (!lines)
        return;
    json_array_foreach(now, i, one)
        fill(&lines[i], find(before, item_text(one, NULL, "id")), one);
    qsort(lines, n, sizeof(*lines), busier);
    printf("%-*s  %-10s %7s %9s %8s", width, "NAME", "STATE", "CPU %", "RESIDENT", "MEMORY");
    for (i = 0; i < RATES; i++)
        printf(" %12s", rates[i].heading);
    putchar('\n');
    for (i = 0; i < n; i++)
        show_line(&lines[i], width);
    free(lines);
}

static int watch(struct cli *c) {
    unsigned interval = (unsigned)cli_number(c, "interval", INTERVAL);
    bool once = cli_true(c, "once"), screen = isatty(STDOUT_FILENO) && !once;
    json_t *before = NULL, *now = NULL;
    int r = cli_list(c, &before);

    if (r == 0 && c->json)
        show_json(before);
    while (r == 0 && !c->json) {
        sleep(interval);
        r = cli_list(c, &now);
        if (r < 0)
            break;
        if (screen)
            fputs("\033[H\033[J", stdout);
        show(before, now);
        if (fflush(stdout) == EOF || once)
            break;
        json_decref(before);
        before = now;
        now = NULL;
    }
    json_decref(before);
    json_decref(now);
    return r;
}

int do_top(struct cli *c) { return cli_true(c, "history") ? cli_top_history(c) : watch(c); }

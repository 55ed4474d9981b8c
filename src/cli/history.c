/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The kept history for people: means, greatest values and a line of small bars. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "proto/units.h"

enum { BARS = 30, CELL = 32 };

static const json_t *series(const json_t *history, const char *field, const char *which) {
    return json_object_get(json_object_get(json_object_get(history, "series"), field), which);
}

static double mean(const json_t *list, double *ret_most) {
    double sum = 0;
    const json_t *one;
    size_t i, n = 0;

    *ret_most = 0;
    json_array_foreach(list, i, one)
        if (json_is_number(one)) {
            double v = json_number_value(one);

            *ret_most = v > *ret_most ? v : *ret_most;
            sum += v;
            n++;
        }
    return n ? sum / (double)n : -1;
}

/* A bar for each part of the time, up to the greatest value; a blank where nothing is known. */
static void put_bars(const json_t *list, double most, char *out, size_t size) {
    static const char *const bars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    size_t n = json_array_size(list), at = 0;

    *out = 0;
    for (size_t k = 0; k < BARS && at < size; k++) {
        double sum = 0;
        size_t known = 0;

        for (size_t i = k * n / BARS; i < (k + 1) * n / BARS; i++)
            if (json_is_number(json_array_get(list, i))) {
                sum += json_number_value(json_array_get(list, i));
                known++;
            }
        at += (size_t)snprintf(
            out + at, size - at, "%s",
            known ? bars[most > 0 ? (int)(sum / (double)known / most * 7.99) & 7 : 0] : " ");
    }
}

static int get(struct cli *c, const char *name, int64_t last, json_t **ret) {
    return remote_call(c->remote, "GET", NULL, ret, &c->failure,
                       "/v1/vms/%s/history?last=%lld&step=%lld", name, (long long)last,
                       (long long)(last + 119) / 120);
}

static void put_size(const json_t *history, const char *field, char out[CELL]) {
    double most, v = mean(series(history, field, "avg"), &most);

    if (v < 0)
        snprintf(out, CELL, "-");
    else
        units_put_size((int64_t)v, out, CELL);
}

static void show_line(const json_t *history, const char *name, int width) {
    static const char *const sizes[] = {"resident", "disk_read_bytes", "disk_written_bytes",
                                        "net_received_bytes", "net_sent_bytes"};
    const json_t *cpu = series(history, "cpu", "avg");
    char bars[BARS * 4 + 1], cell[CELL];
    double most, v = mean(cpu, &most), highest;

    put_bars(cpu, most, bars, sizeof(bars));
    mean(series(history, "cpu", "max"), &highest);
    if (v < 0)
        printf("%-*s  %7s %7s", width, name, "-", "-");
    else
        printf("%-*s  %7.1f %7.1f", width, name, 100 * v, 100 * highest);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        put_size(history, sizes[i], cell);
        printf(" %10s", cell);
    }
    printf("  %s\n", v < 0 ? "" : bars);
}

int cli_top_history(struct cli *c) {
    int64_t last = cli_number(c, "last", 3600);
    json_t *items = NULL, *one, *all = json_array();
    int r = cli_list(c, &items), width = 4;
    size_t i;

    json_array_foreach(items, i, one) {
        int n = (int)strlen(item_text(one, NULL, "name"));

        width = n > width ? n : width;
    }
    if (r == 0 && !c->json)
        printf("%-*s  %7s %7s %10s %10s %10s %10s %10s  %s\n", width, "NAME", "CPU %", "MOST %",
               "RESIDENT", "READ/S", "WRITTEN/S", "RECEIVED/S", "SENT/S", "CPU");
    json_array_foreach(items, i, one) {
        const char *name = item_text(one, NULL, "name");
        json_t *history = NULL;

        if (r == 0)
            r = get(c, name, last, &history);
        if (r == 0 && !c->json)
            show_line(history, name, width);
        if (history)
            json_array_append_new(all, history);
    }
    if (r == 0 && c->json)
        show_json(all);
    json_decref(items);
    json_decref(all);
    return r;
}

void cli_show_history(struct cli *c, const char *name, int width) {
    struct remote_failure before = c->failure;
    json_t *history = NULL;
    char bars[BARS * 4 + 1];
    double most, highest, v;

    if (get(c, name, 3600, &history) == 0) {
        v = mean(series(history, "cpu", "avg"), &most);
        mean(series(history, "cpu", "max"), &highest);
        put_bars(series(history, "cpu", "avg"), most, bars, sizeof(bars));
        if (v >= 0)
            printf("%-*s cpu %.1f %% of a processor, at most %.1f  %s\n", width, "last_hour",
                   100 * v, 100 * highest, bars);
    }
    c->failure = before; /* an older manager has no history */
    json_decref(history);
}

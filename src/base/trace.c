/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Trace events and counters: the tables that the build collected from all trace.def and stats.def
 * files. */
#include "base/trace.h"

#include <fnmatch.h>
#include <stdarg.h>
#include <time.h>

#include "base/log.h"

struct event {
    const char *name, *text;
};

static const struct event trace_table[] = {
#include "trace_table.inc"
    {NULL, NULL},
};

static const struct event stats_table[] = {
#include "stats_table.inc"
    {NULL, NULL},
};

uint8_t trace_on[TRACE_COUNT + 1];
uint64_t stat_counts[STAT_COUNT + 1];

static FILE *trace_file;

void trace_set_output(FILE *f) { __atomic_store_n(&trace_file, f, __ATOMIC_RELEASE); }

void trace_emit(unsigned id, const char *fmt, ...) {
    FILE *f = __atomic_load_n(&trace_file, __ATOMIC_ACQUIRE);
    struct timespec now;
    char text[400];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    clock_gettime(CLOCK_MONOTONIC, &now);
    /* One call a line: stdio's lock keeps lines of several threads whole. */
    fprintf(f ? f : stderr, "%lld.%06ld %s %s%s", (long long)now.tv_sec, now.tv_nsec / 1000,
            trace_table[id].name, text, f ? "\n" : log_line_end());
}

unsigned trace_enable(const char *pattern) {
    unsigned matched = 0;

    for (unsigned i = 0; trace_table[i].name; i++) {
        if (fnmatch(pattern, trace_table[i].name, 0))
            continue;
        __atomic_store_n(&trace_on[i], 1, __ATOMIC_RELAXED);
        matched++;
    }
    return matched;
}

void trace_list(FILE *f) {
    for (const struct event *e = trace_table; e->name; e++)
        fprintf(f, "%s %s\n", e->name, e->text);
}

void stats_each(void (*fn)(void *opaque, const char *name, const char *help, uint64_t value),
                void *opaque) {
    for (unsigned i = 0; stats_table[i].name; i++) {
        uint64_t n = __atomic_load_n(&stat_counts[i], __ATOMIC_RELAXED);

        if (n)
            fn(opaque, stats_table[i].name, stats_table[i].text, n);
    }
}

static void print_one(void *opaque, const char *name, const char *help, uint64_t value) {
    fprintf(opaque, "%14llu  %s (%s)\n", (unsigned long long)value, name, help);
}

void stats_print(FILE *f) { stats_each(print_one, f); }

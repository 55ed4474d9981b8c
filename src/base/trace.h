/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Trace events and counters, declared one line each in the trace.def and stats.def beside the code:
 *     TRACE(pit_write, "port=0x%x value=0x%x")      used as  trace(pit_write, port, value);
 *     STAT(cpu_exits_pio, "port accesses")          used as  stat_inc(cpu_exits_pio);
 * The build collects the lines of all folders. Any thread; an event that is off costs one load.
 */
#ifndef BASE_TRACE_H
#define BASE_TRACE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "stats_events.h"
#include "trace_events.h"

extern uint8_t trace_on[];     /* indexed by enum TRACE_* */
extern uint64_t stat_counts[]; /* indexed by enum STAT_* */

#define trace(name, ...)                                                                           \
    do {                                                                                           \
        if (__builtin_expect(trace_on[TRACE_##name], 0))                                           \
            trace_emit(TRACE_##name, TRACE_FMT_##name, ##__VA_ARGS__);                             \
    } while (0)

#define stat_add(name, n) __atomic_fetch_add(&stat_counts[STAT_##name], (n), __ATOMIC_RELAXED)
#define stat_inc(name)    stat_add(name, 1)

void trace_emit(unsigned id, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Switches on all events whose name matches a shell pattern ("pit_*", "*"); returns how many
 * matched. */
unsigned trace_enable(const char *pattern);
void trace_set_output(FILE *f); /* default stderr */
void trace_list(FILE *f);
/* Every non-zero counter. */
void stats_each(void (*fn)(void *opaque, const char *name, const char *help, uint64_t value),
                void *opaque);
void stats_print(FILE *f); /* every non-zero counter with its help */

#endif

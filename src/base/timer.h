/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Timers of an event loop's thread, by the monotonic clock.
 *
 * Contract: the loop's thread alone. A timer is embedded in whatever it belongs to, zeroed before
 * its first use, and stopped before that goes away. Its function may start and stop any timer.
 */
#ifndef BASE_TIMER_H
#define BASE_TIMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct loop;
struct timers;

struct timer {
    void (*fn)(void *opaque);
    void *opaque;
    int64_t due; /* ns; these three are the timers' */
    size_t at;   /* place in the heap, from 1 on; 0: not running */
    struct timers *timers;
};

struct timers *timers_new(struct loop *loop, struct error *err);
void timers_free(struct timers *t); /* accepts NULL */

/* Calls fn(opaque) once, in that many ms or a little later; one that runs is started anew. */
void timer_start(struct timers *t, struct timer *timer, int64_t ms, void (*fn)(void *opaque),
                 void *opaque);
void timer_stop(struct timer *timer); /* also one that does not run */
bool timer_runs(const struct timer *timer);

int64_t timer_now_ms(void);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtual clock of a machine, in nanoseconds since it was made, and timers on it.
 *
 * Contract: clock_now from any thread; the rest with the machine lock held. Timers fire on the
 * event loop's thread, or on one that has borrowed the clock, under the machine lock, never early,
 * in order of their deadlines. A paused clock stands still and fires nothing. A stepped clock
 * (tests) moves only by clock_step.
 */
#ifndef BUS_CLOCK_H
#define BUS_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct clock;
struct loop;

/* Embedded in devices; never saved (save the deadline that the chip defines). */
struct clock_timer {
    struct clock *clock;
    void (*fn)(void *opaque);
    void *opaque;
    uint64_t deadline;
    uint64_t order;      /* among equal deadlines the one armed first fires first */
    unsigned heap_index; /* 0 = not armed */
};

struct clock *clock_new(struct loop *loop, struct error *err); /* starts paused at 0 */
/* One that clock_restore is called for before it runs: the rate of its TSC, which takes time to
 * find, is found then. Until then it is 0, and so is the TSC. */
struct clock *clock_new_restored(struct loop *loop, struct error *err);
struct clock *clock_new_stepped(void);
void clock_free(struct clock *clock); /* accepts NULL; after everything that has timers on it */

uint64_t clock_now(const struct clock *clock);
bool clock_running(const struct clock *clock);
void clock_start(struct clock *clock);
void clock_pause(struct clock *clock);
void clock_set(struct clock *clock, uint64_t now); /* only while paused */
/* Goes on where a saved clock stood, with its TSC; only while paused. If the host's TSC runs at
 * another rate than the saved one did, the guest's is made from the clock, at the saved rate. */
void clock_restore(struct clock *clock, uint64_t now, uint64_t tsc, uint64_t tsc_hz);
/* Stepped clocks only: fires what falls due on the way. */
void clock_step(struct clock *clock, uint64_t ns);

/* Guest TSC frequency in Hz, and the guest TSC now: in step with clock_now to within the host's own
 * error. */
uint64_t clock_tsc_hz(const struct clock *clock);
uint64_t clock_tsc(const struct clock *clock);
/* True if guest TSC = host RDTSC + offset while running (then offset is given): CPUs use it to skip
 * calls. */
bool clock_tsc_offset(const struct clock *clock, uint64_t *ret_offset);

/* Another value whenever the clock has been paused, set or restored since: what was derived from it
 * is to be derived anew. */
unsigned clock_generation(const struct clock *clock);

/*
 * A processor that sleeps can wait for the next timer itself, which saves setting the host's timer
 * and waking the loop. `promise` is asked before the host's timer is set: true means that the
 * calling thread will soon, whatever happens, call clock_settle or clock_borrow.
 */
void clock_set_promise(struct clock *clock, bool (*promise)(void *opaque), void *opaque);
void clock_settle(struct clock *clock); /* sets the host's timer, if that was put off */
/* Puts the timers into the caller's hands: it must call clock_return at the returned time
 * (CLOCK_MONOTONIC, ns) or before. UINT64_MAX: nothing to wait for, and nothing was borrowed. */
uint64_t clock_borrow(struct clock *clock, const void *who);
void clock_return(struct clock *clock, const void *who); /* fires what is due */

void clock_timer_init(struct clock_timer *t, struct clock *clock, void (*fn)(void *), void *opaque);
void clock_timer_arm(struct clock_timer *t, uint64_t deadline); /* absolute; re-arms if armed */
void clock_timer_disarm(struct clock_timer *t);
bool clock_timer_armed(const struct clock_timer *t);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The timer of the local APIC. Source: Intel SDM vol. 3, 11.5.4.
 *
 * Theory of operation: the counter is a function of the clock (1 GHz before the divider, so that a
 * tick of a divide-by-one timer is a nanosecond); a host timer is armed only while an expiry would
 * interrupt. Periods are counted from the start, so they do not drift. TSC deadlines are converted
 * to clock time when written and checked against the TSC when they fire: never early.
 *
 * Late expiries: periods that passed while the host was late become one interrupt, as they would
 * with a CPU that had interrupts off. Interrupts of a periodic timer are at least LAPIC_MIN_SPACING
 * apart.
 */
#include "base/trace.h"
#include "devices/lapic_internal.h"
#include "devices/ticks.h"

enum { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_TSC };
enum { LAPIC_MIN_SPACING = 20000 /* ns */ };

static unsigned mode_of(uint32_t lvt) { return lvt >> 17 & 3; }

static unsigned shift_of(const struct lapic *l) {
    unsigned code = (l->timer_divide & 3) | (l->timer_divide >> 1 & 4);

    return (code + 1) & 7;
}

static uint64_t period_of(const struct lapic *l) { return (uint64_t)l->timer_count << shift_of(l); }

/* The start may lie before time 0 (a slower divider stretches what has been counted), hence the
 * sign. */
static uint64_t elapsed_of(const struct lapic *l) {
    int64_t elapsed = (int64_t)(clock_now(l->dev.env.clock) - l->timer_start);

    return elapsed > 0 ? (uint64_t)elapsed : 0;
}

static void arm(struct lapic *l, uint64_t deadline) {
    l->timer_deadline = deadline;
    if (!deadline) {
        clock_timer_disarm(&l->timer);
        return;
    }
    if (lapic_is_elsewhere(l))
        return; /* only what is saved */
    trace(lapic_timer_arm, l->id, deadline);
    clock_timer_arm(&l->timer, deadline);
}

static void fire(struct lapic *l) {
    uint32_t lvt = l->lvt[LVT_TIMER];

    if (lvt & LVT_MASKED)
        return;
    trace(lapic_timer_fire, l->id, lvt & 0xff);
    stat_inc(lapic_timer_fires);
    lapic_accept_vector(l, lvt & 0xff, false);
}

static void arm_tsc(struct lapic *l) {
    struct clock *clock = l->dev.env.clock;
    uint64_t tsc = clock_tsc(clock);

    if (l->tsc_deadline > tsc) {
        arm(l,
            ticks_add(clock_now(clock), ticks_to_ns(l->tsc_deadline - tsc, clock_tsc_hz(clock))));
        return;
    }
    l->tsc_deadline = 0;
    arm(l, 0);
    fire(l);
}

static void expire(void *opaque) {
    struct lapic *l = opaque;
    uint64_t period = period_of(l), now = clock_now(l->dev.env.clock), next;

    l->timer_deadline = 0;
    switch (mode_of(l->lvt[LVT_TIMER])) {
    case TIMER_TSC:
        if (l->tsc_deadline)
            arm_tsc(l); /* fires, unless the TSC says that it is too early */
        break;
    case TIMER_PERIODIC:
        if (!period)
            break;
        l->timer_start += elapsed_of(l) / period * period;
        next = ticks_add(now, period - elapsed_of(l) % period);
        arm(l, next > now + LAPIC_MIN_SPACING ? next : now + LAPIC_MIN_SPACING);
        fire(l);
        break;
    default:
        fire(l);
        break;
    }
}

void lapic_timer_settle(struct lapic *l) {
    if (!l->timer_deadline || l->timer_deadline > clock_now(l->dev.env.clock))
        return;
    clock_timer_disarm(&l->timer);
    expire(l);
}

/* Arms for the next expiry if there is one that interrupts. What expires while masked is lost; a
 * one-shot timer that was armed and runs out between two looks at the clock is only late. */
void lapic_timer_update(struct lapic *l) {
    uint32_t lvt = l->lvt[LVT_TIMER];
    uint64_t period = period_of(l), now = clock_now(l->dev.env.clock), elapsed;

    if (lvt & LVT_MASKED) {
        arm(l, 0);
        return;
    }
    if (mode_of(lvt) == TIMER_TSC) {
        if (l->tsc_deadline)
            arm_tsc(l);
        else
            arm(l, 0);
        return;
    }
    elapsed = elapsed_of(l);
    if (period && mode_of(lvt) == TIMER_PERIODIC)
        elapsed %= period;
    if (elapsed < period)
        arm(l, ticks_add(now, period - elapsed));
    else
        arm(l, l->timer_deadline ? now : 0);
}

void lapic_timer_lvt_written(struct lapic *l, uint32_t was) {
    uint32_t lvt = l->lvt[LVT_TIMER];

    if ((mode_of(was) == TIMER_TSC) != (mode_of(lvt) == TIMER_TSC)) {
        l->timer_count = 0; /* changing to or from TSC-deadline mode disarms */
        l->tsc_deadline = 0;
    }
    if ((was & LVT_MASKED) && !(lvt & LVT_MASKED))
        l->tsc_deadline = lapic_timer_tsc_deadline(l); /* passed while masked: lost */
    lapic_timer_update(l);
}

uint32_t lapic_timer_current(const struct lapic *l) {
    uint64_t period = period_of(l), elapsed = elapsed_of(l);
    unsigned mode = mode_of(l->lvt[LVT_TIMER]);

    if (!period || mode == TIMER_TSC)
        return 0;
    if (mode == TIMER_PERIODIC)
        elapsed %= period;
    return elapsed >= period ? 0 : l->timer_count - (uint32_t)(elapsed >> shift_of(l));
}

void lapic_timer_set_count(struct lapic *l, uint32_t count) {
    if (mode_of(l->lvt[LVT_TIMER]) == TIMER_TSC)
        return;
    lapic_timer_settle(l);
    l->timer_count = count;
    l->timer_start = clock_now(l->dev.env.clock);
    l->timer_deadline = count ? ticks_add(l->timer_start, period_of(l)) : 0;
    lapic_timer_update(l);
}

void lapic_timer_set_divide(struct lapic *l, uint32_t value) {
    uint32_t done;

    lapic_timer_settle(l);
    done = l->timer_count - lapic_timer_current(l);
    l->timer_divide = (uint8_t)value;
    /* What has been counted stays counted, the rest goes at the new speed. */
    l->timer_start = clock_now(l->dev.env.clock) - ((uint64_t)done << shift_of(l));
    lapic_timer_update(l);
}

uint64_t lapic_timer_tsc_deadline(const struct lapic *l) {
    bool passed = !l->timer_deadline && clock_tsc(l->dev.env.clock) >= l->tsc_deadline;

    return passed ? 0 : l->tsc_deadline;
}

void lapic_timer_set_tsc_deadline(struct lapic *l, uint64_t value) {
    if (mode_of(l->lvt[LVT_TIMER]) != TIMER_TSC)
        return;
    lapic_timer_settle(l);
    l->tsc_deadline = value;
    lapic_timer_update(l);
}

void lapic_timer_reset(struct lapic *l) {
    l->timer_count = 0;
    l->timer_divide = 0;
    l->timer_start = 0;
    l->tsc_deadline = 0;
    arm(l, 0);
}

void lapic_timer_set_left(struct lapic *l, uint32_t count, uint32_t divide, uint32_t left,
                          uint64_t tsc_deadline) {
    uint64_t now = clock_now(l->dev.env.clock), tsc = clock_tsc(l->dev.env.clock);
    uint32_t lvt = l->lvt[LVT_TIMER];

    l->timer_count = count;
    l->timer_divide = (uint8_t)(divide & 0xb);
    l->timer_start = now - ((uint64_t)(count - left) << shift_of(l));
    l->tsc_deadline = tsc_deadline;
    if (lvt & LVT_MASKED)
        l->timer_deadline = 0;
    else if (mode_of(lvt) == TIMER_TSC)
        l->timer_deadline =
            tsc_deadline
                ? now + (tsc_deadline > tsc
                             ? ticks_to_ns(tsc_deadline - tsc, clock_tsc_hz(l->dev.env.clock))
                             : 0)
                : 0;
    else
        l->timer_deadline = left ? ticks_add(now, (uint64_t)left << shift_of(l)) : 0;
}

void lapic_timer_loaded(struct lapic *l) { arm(l, l->timer_deadline); }

void lapic_timer_init(struct lapic *l) { clock_timer_init(&l->timer, l->dev.env.clock, expire, l); }

void lapic_timer_done(struct lapic *l) { clock_timer_disarm(&l->timer); }

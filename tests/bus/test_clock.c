/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the virtual clock: order and times on a stepped one, pausing and the TSC on a real one.
 */
#include "bus/clock.h"

#include <stdlib.h>
#include <time.h>
#include <x86intrin.h>

#include "base/loop.h"
#include "base/trace.h"
#include "support/test.h"

struct alarm {
    struct clock_timer timer;
    struct clock *clock;
    char *log; /* each alarm that fires appends its letter */
    char letter;
    uint64_t fired_at, period;
    unsigned fired;
    struct clock_timer *disarms;
};

static void ring(void *opaque) {
    struct alarm *a = opaque;

    a->fired++;
    a->fired_at = clock_now(a->clock);
    assert_true(a->fired_at >= a->timer.deadline);
    if (a->log) {
        size_t n = 0;

        while (a->log[n])
            n++;
        a->log[n] = a->letter;
    }
    if (a->disarms)
        clock_timer_disarm(a->disarms);
    if (a->period)
        clock_timer_arm(&a->timer, a->timer.deadline + a->period);
}

static void set_up(struct alarm *a, struct clock *c, char *log, char letter) {
    *a = (struct alarm){.clock = c, .log = log, .letter = letter};
    clock_timer_init(&a->timer, c, ring, a);
}

static void a_stepped_clock_moves_only_by_steps(void **state) {
    struct clock *c = clock_new_stepped();

    assert_true(clock_now(c) == 0);
    clock_step(c, 5);
    clock_step(c, 0);
    assert_true(clock_now(c) == 5);
    clock_step(c, UINT64_MAX - 3);
    assert_true(clock_now(c) == UINT64_MAX);
    clock_step(c, 1);
    assert_true(clock_now(c) == UINT64_MAX);
    clock_free(c);
}

static void timers_fire_in_order_of_deadline_then_of_arming(void **state) {
    struct clock *c = clock_new_stepped();
    struct alarm a, b, d, e;
    char log[8] = "";

    set_up(&a, c, log, 'a');
    set_up(&b, c, log, 'b');
    set_up(&d, c, log, 'd');
    set_up(&e, c, log, 'e');
    clock_timer_arm(&a.timer, 300);
    clock_timer_arm(&b.timer, 100);
    clock_timer_arm(&d.timer, 300);
    clock_timer_arm(&e.timer, 200);
    clock_step(c, 99);
    assert_string_equal(log, "");
    clock_step(c, 1);
    assert_string_equal(log, "b");
    assert_false(clock_timer_armed(&b.timer));
    clock_step(c, 1000);
    assert_string_equal(log, "bead");
    assert_true(a.fired_at == 300 && e.fired_at == 200);
    assert_true(clock_now(c) == 1100);
    clock_free(c);
}

static void arming_again_moves_a_timer_both_ways(void **state) {
    struct clock *c = clock_new_stepped();
    struct alarm a;

    set_up(&a, c, NULL, 0);
    clock_timer_arm(&a.timer, 100);
    clock_timer_arm(&a.timer, 200);
    clock_step(c, 150);
    assert_int_equal(a.fired, 0);
    clock_timer_arm(&a.timer, 160);
    clock_step(c, 10);
    assert_int_equal(a.fired, 1);
    clock_step(c, 1000);
    assert_int_equal(a.fired, 1);
    clock_free(c);
}

static void a_deadline_in_the_past_fires_at_the_next_step_and_time_never_goes_back(void **state) {
    struct clock *c = clock_new_stepped();
    struct alarm a;

    set_up(&a, c, NULL, 0);
    clock_step(c, 500);
    clock_timer_arm(&a.timer, 100);
    clock_step(c, 0);
    assert_int_equal(a.fired, 1);
    assert_true(a.fired_at == 500);
    clock_free(c);
}

static void a_timer_that_arms_itself_fires_on_every_period_of_a_long_step(void **state) {
    struct clock *c = clock_new_stepped();
    struct alarm a;

    set_up(&a, c, NULL, 0);
    a.period = 10;
    clock_timer_arm(&a.timer, 10);
    clock_step(c, 1005);
    assert_int_equal(a.fired, 100);
    assert_true(a.fired_at == 1000);
    clock_free(c);
}

static void a_callback_may_disarm_another_timer(void **state) {
    struct clock *c = clock_new_stepped();
    struct alarm a, b;

    set_up(&a, c, NULL, 0);
    set_up(&b, c, NULL, 0);
    a.disarms = &b.timer;
    clock_timer_arm(&a.timer, 10);
    clock_timer_arm(&b.timer, 10);
    clock_step(c, 10);
    assert_int_equal(a.fired, 1);
    assert_int_equal(b.fired, 0);
    clock_timer_disarm(&b.timer); /* of one not armed: nothing */
    clock_free(c);
}

static void many_timers_armed_and_disarmed_at_random_fire_as_a_plain_list_says(void **state) {
    enum { N = 200 };
    struct clock *c = clock_new_stepped();
    struct alarm *a = calloc(N, sizeof(*a));
    unsigned expected[N] = {0};
    uint64_t due[N] = {0};
    struct rng rng = rng_seed(7);

    for (unsigned i = 0; i < N; i++)
        set_up(&a[i], c, NULL, 0);
    for (unsigned round = 0; round < 20000; round++) {
        unsigned i = (unsigned)rng_below(&rng, N);
        uint64_t step = rng_below(&rng, 4);

        if (rng_below(&rng, 4)) {
            due[i] = clock_now(c) + 1 + rng_below(&rng, 100);
            clock_timer_arm(&a[i].timer, due[i]);
        } else {
            due[i] = 0;
            clock_timer_disarm(&a[i].timer);
        }
        clock_step(c, step);
        for (i = 0; i < N; i++) {
            if (due[i] && due[i] <= clock_now(c)) {
                assert_true(a[i].fired_at == due[i]);
                expected[i]++;
                due[i] = 0;
            }
            assert_int_equal(a[i].fired, expected[i]);
            assert_int_equal(clock_timer_armed(&a[i].timer), due[i] != 0);
        }
    }
    free(a);
    clock_free(c);
}

static void a_paused_stepped_clock_stands_still_and_fires_nothing(void **state) {
    struct clock *c = clock_new_stepped();
    struct alarm a;

    set_up(&a, c, NULL, 0);
    clock_timer_arm(&a.timer, 10);
    clock_pause(c);
    clock_step(c, 100);
    assert_true(clock_now(c) == 0);
    assert_int_equal(a.fired, 0);
    clock_set(c, 5);
    clock_start(c);
    clock_step(c, 5);
    assert_int_equal(a.fired, 1);
    clock_free(c);
}

static void a_stepped_clock_has_a_tsc_of_one_tick_a_nanosecond(void **state) {
    struct clock *c = clock_new_stepped();
    uint64_t offset;

    clock_step(c, 12345);
    assert_true(clock_tsc_hz(c) == 1000000000);
    assert_true(clock_tsc(c) == 12345);
    assert_false(clock_tsc_offset(c, &offset));
    clock_free(c);
}

/* ------------------------------------------------------------------ the real clock */

struct machine {
    struct loop *loop;
    struct clock *clock;
};

static struct machine new_machine(void) {
    struct error err = {0};
    struct machine m = {.loop = loop_new(NULL, &err)};

    assert_non_null(m.loop);
    m.clock = clock_new(m.loop, &err);
    assert_non_null(m.clock);
    return m;
}

static void free_machine(struct machine *m) {
    clock_free(m->clock);
    loop_free(m->loop);
}

static void wait_ms(long ms) {
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&ts, NULL);
}

static void a_new_clock_stands_at_zero_until_started(void **state) {
    struct machine m = new_machine();

    wait_ms(2);
    assert_true(clock_now(m.clock) == 0);
    assert_true(clock_tsc(m.clock) == 0);
    clock_start(m.clock);
    clock_start(m.clock);
    wait_ms(2);
    assert_true(clock_now(m.clock) >= 2000000);
    assert_true(clock_tsc(m.clock) > 0);
    free_machine(&m);
}

static void a_clock_that_is_to_be_restored_finds_its_rate_then(void **state) {
    struct machine m = new_machine();
    uint64_t hz = clock_tsc_hz(m.clock), other;

    clock_free(m.clock);
    m.clock = clock_new_restored(m.loop, &(struct error){0});
    assert_non_null(m.clock);
    assert_true(clock_tsc_hz(m.clock) == 0 && clock_tsc(m.clock) == 0 && clock_now(m.clock) == 0);
    clock_restore(m.clock, 1000, 5000, hz);
    other = clock_tsc_hz(m.clock);
    assert_true((other > hz ? other - hz : hz - other) <= hz / 2500);
    assert_true(clock_now(m.clock) == 1000 && clock_tsc(m.clock) == 5000);
    clock_start(m.clock);
    wait_ms(1);
    assert_true(clock_tsc(m.clock) > 5000);
    clock_free(m.clock);
    m.clock = clock_new_restored(m.loop, &(struct error){0});
    clock_restore(m.clock, 1000, 5000, hz * 3); /* of another host */
    assert_true(clock_tsc_hz(m.clock) == hz * 3);
    free_machine(&m);
}

static void a_pause_leaves_no_trace_in_time_or_tsc(void **state) {
    struct machine m = new_machine();
    uint64_t now, tsc;

    clock_start(m.clock);
    wait_ms(1);
    clock_pause(m.clock);
    now = clock_now(m.clock);
    tsc = clock_tsc(m.clock);
    wait_ms(30);
    assert_true(clock_now(m.clock) == now);
    assert_true(clock_tsc(m.clock) == tsc);
    clock_start(m.clock);
    assert_true(clock_now(m.clock) >= now);
    assert_true(clock_tsc(m.clock) >= tsc);
    /* Both went on together: the 30 ms are in neither. (The TSC first: a busy host may wait
     * between.) */
    tsc = clock_tsc(m.clock);
    now = clock_now(m.clock);
    assert_true((double)tsc / (double)clock_tsc_hz(m.clock) * 1e9 < (double)now + 15e6);
    free_machine(&m);
}

static void a_timer_fires_on_the_loop_not_early(void **state) {
    struct machine m = new_machine();
    struct alarm a;

    set_up(&a, m.clock, NULL, 0);
    clock_start(m.clock);
    clock_timer_arm(&a.timer, clock_now(m.clock) + 5000000);
    while (!a.fired)
        assert_true(loop_step(m.loop, 5000));
    assert_true(a.fired_at >= a.timer.deadline);
    free_machine(&m);
}

static void a_timer_armed_while_paused_fires_after_the_start_only(void **state) {
    struct machine m = new_machine();
    struct alarm a;

    set_up(&a, m.clock, NULL, 0);
    clock_set(m.clock, 1000000000000);
    clock_timer_arm(&a.timer, 1000000000000 + 1000000);
    assert_false(loop_step(m.loop, 10));
    clock_start(m.clock);
    clock_pause(m.clock);
    loop_step(m.loop, 10);
    assert_int_equal(a.fired, 0);
    clock_start(m.clock);
    while (!a.fired)
        assert_true(loop_step(m.loop, 5000));
    assert_true(a.fired_at < 1000000000000 + 3000000000);
    free_machine(&m);
}

static void a_deadline_before_the_start_of_the_host_is_due_now(void **state) {
    struct machine m = new_machine();
    struct alarm a;

    set_up(&a, m.clock, NULL, 0);
    clock_set(m.clock, 1ull << 62); /* 146 years: later than any host's clock */
    clock_timer_arm(&a.timer, 1000);
    clock_start(m.clock);
    assert_true(loop_step(m.loop, 1000));
    assert_int_equal(a.fired, 1);
    clock_timer_arm(&a.timer, UINT64_MAX);
    clock_timer_arm(&a.timer, UINT64_MAX - 1);
    assert_false(loop_step(m.loop, 1));
    assert_int_equal(a.fired, 1);
    free_machine(&m);
}

static void moving_a_deadline_later_costs_no_system_call(void **state) {
    struct machine m = new_machine();
    struct alarm a;
    uint64_t start, before = stat_counts[STAT_clock_programmed];

    set_up(&a, m.clock, NULL, 0);
    clock_start(m.clock);
    start = clock_now(m.clock);
    for (unsigned i = 0; i < 10000; i++)
        clock_timer_arm(&a.timer, start + 20000000 + i);
    assert_true(stat_counts[STAT_clock_programmed] - before == 1);
    while (!a.fired)
        assert_true(loop_step(m.loop, 5000));
    assert_true(a.fired_at >= start + 20000000 + 9999);
    free_machine(&m);
}

static bool say(void *opaque) { return *(bool *)opaque; }

static void a_promise_puts_off_the_hosts_timer_until_it_is_settled(void **state) {
    struct machine m = new_machine();
    struct alarm a, b;
    bool promise = true;

    set_up(&a, m.clock, NULL, 0);
    set_up(&b, m.clock, NULL, 0);
    clock_set_promise(m.clock, say, &promise);
    clock_start(m.clock);
    clock_timer_arm(&a.timer, clock_now(m.clock) + 1000000);
    assert_false(loop_step(m.loop, 20)); /* nobody was told */
    promise = false;
    clock_timer_arm(&b.timer, 0); /* earlier: it waits for the same promise */
    assert_false(loop_step(m.loop, 20));
    clock_settle(m.clock);
    assert_true(loop_step(m.loop, 5000));
    assert_int_equal(a.fired + b.fired, 2);
    clock_timer_arm(&a.timer, clock_now(m.clock) + 1000000); /* without a promise, as ever */
    assert_true(loop_step(m.loop, 5000));
    assert_int_equal(a.fired, 2);
    free_machine(&m);
}

static void who_borrows_the_clock_fires_what_is_due(void **state) {
    struct machine m = new_machine();
    struct alarm a, b;
    bool promise = true;
    uint64_t until;

    set_up(&a, m.clock, NULL, 0);
    set_up(&b, m.clock, NULL, 0);
    clock_start(m.clock);
    assert_true(clock_borrow(m.clock, &m) == UINT64_MAX); /* nothing to wait for */
    clock_set_promise(m.clock, say, &promise);
    clock_timer_arm(&a.timer, clock_now(m.clock) + 5000000);
    promise = false;
    until = clock_borrow(m.clock, &m);
    assert_true(until != UINT64_MAX);
    assert_true(clock_borrow(m.clock, &a) == UINT64_MAX); /* only once */
    clock_return(m.clock, &a);                            /* who is not the borrower */
    clock_timer_arm(&b.timer, clock_now(m.clock) + 1000000);
    assert_true(loop_step(m.loop, 5000)); /* an earlier one is the loop's */
    assert_int_equal(b.fired, 1);
    assert_int_equal(a.fired, 0);
    assert_false(loop_step(m.loop, 20)); /* this one is not */
    clock_return(m.clock, &m);
    assert_int_equal(a.fired, 1);
    clock_timer_arm(&a.timer, clock_now(m.clock) + 1000000);
    assert_true(clock_borrow(m.clock, &m) == UINT64_MAX); /* the host's timer is set already */
    assert_true(loop_step(m.loop, 5000));
    assert_int_equal(a.fired, 2);
    free_machine(&m);
}

static void a_pause_takes_the_clock_back(void **state) {
    struct machine m = new_machine();
    struct alarm a;
    bool promise = true;

    set_up(&a, m.clock, NULL, 0);
    clock_set_promise(m.clock, say, &promise);
    clock_start(m.clock);
    clock_timer_arm(&a.timer, clock_now(m.clock) + 1000000);
    assert_true(clock_borrow(m.clock, &m) != UINT64_MAX);
    clock_pause(m.clock);
    promise = false;
    clock_start(m.clock);
    clock_return(m.clock, &m); /* too late: not its any more */
    while (!a.fired)
        assert_true(loop_step(m.loop, 5000));
    promise = true;
    clock_timer_arm(&a.timer, clock_now(m.clock) + 1000000);
    clock_pause(m.clock);
    promise = false;
    clock_start(m.clock); /* with it the promise is gone */
    while (a.fired < 2)
        assert_true(loop_step(m.loop, 5000));
    free_machine(&m);
}

static void a_timer_that_is_always_due_does_not_starve_the_loop(void **state) {
    struct machine m = new_machine();
    struct alarm a;
    unsigned fired;

    set_up(&a, m.clock, NULL, 0);
    a.period = 1; /* a nanosecond: due again whenever it fires */
    clock_start(m.clock);
    clock_timer_arm(&a.timer, 1);
    assert_true(loop_step(m.loop, 1000));
    fired = a.fired;
    assert_true(fired > 0 && fired < 1000);
    assert_true(loop_step(m.loop, 1000));
    assert_true(a.fired > fired);
    free_machine(&m);
}

static void the_tsc_keeps_step_with_the_clock_within_100_ppm(void **state) {
    struct machine m = new_machine();
    uint64_t now[2], tsc[2], offset;
    double ns, ppm;

    assert_false(clock_tsc_offset(m.clock, &offset)); /* paused */
    clock_start(m.clock);
    for (int i = 0; i < 2; i++) {
        uint64_t best = UINT64_MAX;

        for (int j = 0; j < 50; j++) { /* the reading least disturbed */
            uint64_t before = clock_now(m.clock), t = clock_tsc(m.clock),
                     after = clock_now(m.clock);

            if (after - before < best) {
                best = after - before;
                now[i] = before + best / 2;
                tsc[i] = t;
            }
        }
        if (i == 0)
            wait_ms(300);
    }
    ns = (double)(tsc[1] - tsc[0]) * 1e9 / (double)clock_tsc_hz(m.clock);
    ppm = (ns - (double)(now[1] - now[0])) / (double)(now[1] - now[0]) * 1e6;
    assert_true(ppm > -100 && ppm < 100);
    if (clock_tsc_offset(m.clock, &offset)) {
        uint64_t before = __rdtsc() + offset, t = clock_tsc(m.clock), after = __rdtsc() + offset;

        assert_true(before <= t && t <= after);
    }
    free_machine(&m);
}

struct race {
    struct clock *clock;
    bool stop;
};

static void *watch_time(void *opaque) {
    struct race *r = opaque;
    uint64_t last = 0;

    while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE)) {
        uint64_t now = clock_now(r->clock);

        if (now < last)
            return r;
        last = now;
    }
    return NULL;
}

static void time_never_goes_back_for_other_threads_while_it_pauses_and_starts(void **state) {
    struct machine m = new_machine();
    struct race r = {.clock = m.clock};
    void *failed;
    pthread_t id;

    pthread_create(&id, NULL, watch_time, &r);
    for (int i = 0; i < 50000; i++) {
        clock_start(m.clock);
        clock_pause(m.clock);
    }
    __atomic_store_n(&r.stop, true, __ATOMIC_RELEASE);
    pthread_join(id, &failed);
    assert_null(failed);
    free_machine(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stepped_clock_moves_only_by_steps),
        cmocka_unit_test(timers_fire_in_order_of_deadline_then_of_arming),
        cmocka_unit_test(arming_again_moves_a_timer_both_ways),
        cmocka_unit_test(a_deadline_in_the_past_fires_at_the_next_step_and_time_never_goes_back),
        cmocka_unit_test(a_timer_that_arms_itself_fires_on_every_period_of_a_long_step),
        cmocka_unit_test(a_callback_may_disarm_another_timer),
        cmocka_unit_test(many_timers_armed_and_disarmed_at_random_fire_as_a_plain_list_says),
        cmocka_unit_test(a_paused_stepped_clock_stands_still_and_fires_nothing),
        cmocka_unit_test(a_stepped_clock_has_a_tsc_of_one_tick_a_nanosecond),
        cmocka_unit_test(a_new_clock_stands_at_zero_until_started),
        cmocka_unit_test(a_clock_that_is_to_be_restored_finds_its_rate_then),
        cmocka_unit_test(a_pause_leaves_no_trace_in_time_or_tsc),
        cmocka_unit_test(a_timer_fires_on_the_loop_not_early),
        cmocka_unit_test(a_timer_armed_while_paused_fires_after_the_start_only),
        cmocka_unit_test(a_deadline_before_the_start_of_the_host_is_due_now),
        cmocka_unit_test(moving_a_deadline_later_costs_no_system_call),
        cmocka_unit_test(a_promise_puts_off_the_hosts_timer_until_it_is_settled),
        cmocka_unit_test(who_borrows_the_clock_fires_what_is_due),
        cmocka_unit_test(a_pause_takes_the_clock_back),
        cmocka_unit_test(a_timer_that_is_always_due_does_not_starve_the_loop),
        cmocka_unit_test(the_tsc_keeps_step_with_the_clock_within_100_ppm),
        cmocka_unit_test(time_never_goes_back_for_other_threads_while_it_pauses_and_starts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

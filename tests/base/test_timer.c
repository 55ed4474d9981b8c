/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Timers of a loop: order, stopping, restarting; against a model of many. */
#include <string.h>

#include "base/loop.h"
#include "base/timer.h"
#include "support/test.h"

enum { MANY = 300 };

static struct {
    struct loop *loop;
    struct timers *timers;
    int order[MANY], count;
} t;

struct one {
    struct timer timer;
    int number;
};

static int setup(void **state) {
    struct error err = {0};

    t.loop = loop_new(NULL, &err);
    t.timers = timers_new(t.loop, &err);
    t.count = 0;
    assert_non_null(t.timers);
    return 0;
}

static int teardown(void **state) {
    timers_free(t.timers);
    loop_free(t.loop);
    return 0;
}

static void fired(void *opaque) { t.order[t.count++] = ((struct one *)opaque)->number; }

static void run_until(int count) {
    while (t.count < count)
        loop_step(t.loop, 1000);
}

static void timers_fire_in_the_order_of_their_times(void **state) {
    struct one one[3] = {{.number = 0}, {.number = 1}, {.number = 2}};

    timer_start(t.timers, &one[0].timer, 30, fired, &one[0]);
    timer_start(t.timers, &one[1].timer, 1, fired, &one[1]);
    timer_start(t.timers, &one[2].timer, 15, fired, &one[2]);
    run_until(3);
    assert_int_equal(t.order[0], 1);
    assert_int_equal(t.order[1], 2);
    assert_int_equal(t.order[2], 0);
}

static void a_stopped_timer_does_not_fire_and_a_restarted_one_fires_once(void **state) {
    struct one one[3] = {{.number = 0}, {.number = 1}, {.number = 2}};

    timer_start(t.timers, &one[0].timer, 1, fired, &one[0]);
    timer_start(t.timers, &one[1].timer, 1, fired, &one[1]);
    timer_start(t.timers, &one[1].timer, 20, fired, &one[1]);
    timer_start(t.timers, &one[2].timer, 30, fired, &one[2]);
    timer_stop(&one[0].timer);
    timer_stop(&one[0].timer);
    assert_false(timer_runs(&one[0].timer));
    assert_true(timer_runs(&one[1].timer));
    run_until(2);
    assert_int_equal(t.order[0], 1);
    assert_int_equal(t.order[1], 2);
    assert_false(timer_runs(&one[1].timer));
}

static void many_timers_that_come_and_go_fire_each_once(void **state) {
    static struct one one[MANY];
    struct rng rng = rng_seed(7);
    bool wanted[MANY] = {0}, seen[MANY] = {0};
    int left = 0;

    memset(one, 0, sizeof(one));
    for (int i = 0; i < 4 * MANY; i++) {
        unsigned k = (unsigned)rng_below(&rng, MANY);

        one[k].number = (int)k;
        if (rng_below(&rng, 3)) {
            timer_start(t.timers, &one[k].timer, 1 + (int64_t)rng_below(&rng, 20), fired, &one[k]);
            wanted[k] = true;
        } else {
            timer_stop(&one[k].timer);
            wanted[k] = false;
        }
    }
    for (unsigned k = 0; k < MANY; k++)
        left += wanted[k];
    run_until(left);
    assert_false(loop_step(t.loop, 0));
    for (int i = 0; i < t.count; i++) {
        assert_true(wanted[t.order[i]]);
        assert_false(seen[t.order[i]]);
        seen[t.order[i]] = true;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(timers_fire_in_the_order_of_their_times, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_stopped_timer_does_not_fire_and_a_restarted_one_fires_once, setup, teardown),
        cmocka_unit_test_setup_teardown(many_timers_that_come_and_go_fire_each_once, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

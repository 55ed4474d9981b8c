/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What every device class must do, whatever it is: each test runs over all classes of devices.def.
 * A failure prints class and seed; DEVICES_SEED=n DEVICES_CLASS=name repeats it, DEVICES_LOG=1
 * prints every act.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/block.h"
#include "devices/rig.h"
#include "support/test.h"

enum { MEMORY = 256 * 1024 /* larger windows are memory */, MEMORY_STEP = 61 };

enum { SEEDS = 6, ACTS = 1500, TIME_LIMIT = 60 /* seconds for one class and seed */ };

static char now_running[200]; /* for the signal handler */

static void out_of_time(int signo) {
    static const char text[] = " hangs\n";

    if (write(STDERR_FILENO, now_running, strlen(now_running)) < 0 ||
        write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
        _exit(2);
    _exit(1);
}

typedef void class_test(const struct device_class *cls, uint64_t seed);

/* Runs `test` for all classes; on failure cmocka shows the line, the last line on stderr the class.
 */
static void for_all(class_test *test, unsigned seeds) {
    const char *one_seed = getenv("DEVICES_SEED"), *one_class = getenv("DEVICES_CLASS");

    for (unsigned i = 0; device_classes[i]; i++) {
        const struct device_class *cls = device_classes[i];

        if (one_class && strcmp(one_class, cls->name))
            continue;
        for (uint64_t seed = 1; seed <= (one_seed ? 1 : seeds); seed++) {
            uint64_t used = one_seed ? strtoull(one_seed, NULL, 0) : seed;

            snprintf(now_running, sizeof(now_running), "DEVICES_CLASS=%s DEVICES_SEED=%llu",
                     cls->name, (unsigned long long)used);
            alarm(TIME_LIMIT);
            test(cls, used);
            alarm(0);
        }
    }
    now_running[0] = 0;
}

static uint64_t act(struct rig *r, const struct rig_act *a) {
    uint64_t seen;

    if (getenv("DEVICES_LOG"))
        rig_print_act(r, a);
    seen = rig_do(r, a);
    if (r->flooded) {
        fprintf(stderr, "%s: a timer fires more than once a microsecond\n", now_running);
        fail();
    }
    return seen;
}

static void act_randomly(struct rig *r, struct rng *rng, unsigned n) {
    struct choices c = {.rng = rng};

    while (n--) {
        struct rig_act a = rig_draw(r, &c);

        act(r, &a);
    }
}

/* Without the host and the other chips. */
static void act_as_guest(struct rig *r, struct rng *rng, unsigned n) {
    struct choices c = {.rng = rng};

    while (n--) {
        struct rig_act a = rig_draw(r, &c);

        if (a.kind != RIG_POKE)
            act(r, &a);
    }
}

static struct buf save(const struct rig *r) {
    struct buf out = {0};

    if (r->block) /* as a machine does before it saves */
        block_drain(r->block);
    state_save(r->cls->state, r->dev, &out);
    return out;
}

static void expect_equal(const struct rig *a, const struct rig *b, const char *what) {
    struct buf diff = {0};

    if (state_diff(a->cls->state, a->dev, b->dev, &diff)) {
        buf_put(&diff, "", 1);
        fprintf(stderr, "%s: %s, but\n%s", now_running, what, (char *)diff.data);
        fail();
    }
    buf_done(&diff);
}

/* Loads, and says whether it was accepted; a refusal must have changed nothing and give a sentence.
 */
static bool load(struct rig *r, const void *bytes, size_t n) {
    struct buf before = save(r), after;
    struct error err = {0};
    bool taken = state_load(r->cls->state, r->dev, bytes, n, &err) == 0;

    after = save(r);
    if (!taken) {
        assert_true(err.code < 0 && err.text[0]);
        assert_int_equal(before.len, after.len);
        assert_memory_equal(before.data, after.data, after.len);
    }
    buf_done(&before);
    buf_done(&after);
    return taken;
}

/* ------------------------------------------------------------------ */

static void every_class_says_what_it_is_and_no_two_share_a_name(void **state) {
    assert_non_null(device_classes[0]);
    for (unsigned i = 0; device_classes[i]; i++) {
        const struct device_class *c = device_classes[i];

        assert_true(c->name && c->name[0] && c->help && c->help[0]);
        assert_non_null(c->state);
        assert_non_null(c->reset);
        assert_true(c->size >= sizeof(struct device));
        assert_true(!c->state->struct_size || c->state->struct_size == c->size);
        assert_ptr_equal(device_class_find(c->name), c);
    }
    assert_null(device_class_find("no such device"));
}

static void stays_equal_when_reset_again(const struct device_class *cls, uint64_t seed) {
    struct rng rng = rng_seed(seed);
    struct buf once, twice;
    struct rig r;

    rig_open(&r, cls, 1000, true);
    act_randomly(&r, &rng, ACTS / 4);
    device_reset(r.dev);
    once = save(&r);
    device_reset(r.dev);
    twice = save(&r);
    assert_int_equal(once.len, twice.len);
    assert_memory_equal(once.data, twice.data, once.len);
    buf_done(&once);
    buf_done(&twice);
    rig_close(&r);
}

static void a_second_reset_changes_nothing(void **state) {
    for_all(stays_equal_when_reset_again, SEEDS);
}

/* As far as the guest made it: levels of input wires are the business of those who drive them. */
static void forgets_everything_at_reset(const struct device_class *cls, uint64_t seed) {
    struct rng rng = rng_seed(seed);
    struct rig used, fresh;

    if (!strcmp(cls->name, "rtc")) /* CMOS RAM and the date outlive a reset */
        return;
    rig_open(&used, cls, 1000, true);
    act_as_guest(&used, &rng, ACTS / 2);
    rig_open(&fresh, cls, clock_now(used.clock), true);
    device_reset(used.dev);
    device_reset(fresh.dev);
    expect_equal(&used, &fresh, "a reset device must be like a new one");
    rig_close(&fresh);
    rig_close(&used);
}

static void a_reset_device_is_like_a_new_one(void **state) {
    for_all(forgets_everything_at_reset, SEEDS);
}

static void makes_the_round_trip(const struct device_class *cls, uint64_t seed) {
    struct rng rng = rng_seed(seed);
    struct rig a, b;

    rig_open(&a, cls, 1000, true);
    rig_open(&b, cls, 1000, true);
    for (unsigned round = 0; round < 8; round++) {
        struct buf bytes;

        act_randomly(&a, &rng, ACTS / 8);
        bytes = save(&a);
        rig_copy_world(&b, &a);
        assert_true(load(&b, bytes.data, bytes.len));
        expect_equal(&a, &b, "what was loaded must be what was saved");
        buf_done(&bytes);
    }
    rig_close(&a);
    rig_close(&b);
}

static void what_is_saved_at_any_moment_is_loaded_the_same(void **state) {
    for_all(makes_the_round_trip, SEEDS);
}

static bool is_virtio(const struct rig *r) { return !strncmp(r->cls->name, "virtio", 6); }

static void act_alike(struct rig *a, struct rig *b, const struct rig_act *deed) {
    uint64_t seen = act(a, deed);

    if (act(b, deed) == seen)
        return;
    rig_print_act(a, deed);
    fprintf(stderr, "%s: the guest sees a difference after a load\n", now_running);
    fail();
}

/* Every register as it reads now, side effects and all. Of windows that are memory, every so many
 * words: what a
 * load forgets there it forgets in whole pages. */
static void read_everything_alike(struct rig *a, struct rig *b) {
    for (unsigned w = 0; w < a->windows; w++) {
        unsigned size = a->window[w].space == RIG_PIO ? 1 : 4;

        uint64_t step = a->window[w].size > MEMORY ? MEMORY_STEP * size : size;

        for (uint64_t at = 0; at < a->window[w].size; at += step) {
            struct rig_act read = {.kind = RIG_READ, .window = w, .offset = at, .size = size};

            act_alike(a, b, &read);
        }
    }
}

static void forget_signals(struct rig *r) { r->irq_changes = r->messages = r->power_requests = 0; }

/*
 * Two devices with different pasts load the same state and then live through the same. If a table
 * lacks a field, or something derived is not rebuilt, they part.
 */
static void depends_on_the_state_alone(const struct device_class *cls, uint64_t seed) {
    struct rng rng = rng_seed(seed), same = rng_seed(seed + 1);
    struct rig_act drive = {.kind = RIG_DRIVE, .value = seed};
    struct choices c = {.rng = &same};
    struct rig a, b;
    struct buf bytes;

    rig_open(&a, cls, 1000, true);
    act(&a, &drive);
    act_randomly(&a, &rng, 30 + 40 * (unsigned)(seed % 8));
    rig_open(&b, cls, 1000, true);
    drive.value++;
    act(&b, &drive);
    act_randomly(&b, &rng, 30 + 40 * (unsigned)(seed % 5));
    bytes = save(&a);
    rig_copy_world(&b, &a);
    /* Virtio looks into its queues once after a load; so must the one that saved. */
    if (is_virtio(&a))
        assert_true(load(&a, bytes.data, bytes.len));
    assert_true(load(&b, bytes.data, bytes.len));
    buf_done(&bytes);
    forget_signals(&a);
    forget_signals(&b);
    if (seed % 2)
        read_everything_alike(&a, &b);
    for (unsigned n = 0; n < ACTS / 10; n++) {
        struct rig_act deed = rig_draw(&a, &c);

        act_alike(&a, &b, &deed);
        if (n % 16 == 0)
            expect_equal(&a, &b, "after a load both must go on alike");
    }
    read_everything_alike(&a, &b);
    expect_equal(&a, &b, "after a load both must go on alike");
    assert_int_equal(a.irq_levels, b.irq_levels);
    assert_int_equal(a.irq_changes, b.irq_changes);
    assert_int_equal(a.messages, b.messages);
    assert_int_equal(a.power_requests, b.power_requests);
    assert_int_equal(a.entropy, b.entropy);
    assert_true(rig_same_memory(&a, &b));
    rig_close(&a);
    rig_close(&b);
}

static void a_loaded_device_goes_on_as_the_one_that_was_saved(void **state) {
    for_all(depends_on_the_state_alone,
            getenv("VIV_SANITIZED") ? 20 : 60); /* the plain build has all */
}

static void refuses_damage(const struct device_class *cls, uint64_t seed) {
    struct rng rng = rng_seed(seed);
    struct buf bytes;
    struct rig r;

    rig_open(&r, cls, 1000, true);
    act_randomly(&r, &rng, ACTS / 8);
    bytes = save(&r);
    act_randomly(&r, &rng, ACTS / 8);
    for (size_t n = 0; n < bytes.len; n += 1 + (bytes.len > 600 ? rng_below(&rng, 40) : 0)) {
        uint8_t *exact = malloc(n ? n : 1);

        memcpy(exact, bytes.data, n);
        assert_false(load(&r, exact, n));
        free(exact);
    }
    for (unsigned i = 0; i < 50; i++) {
        uint8_t junk[300];
        size_t n = rng_below(&rng, sizeof(junk));

        for (size_t j = 0; j < n; j++)
            junk[j] = (uint8_t)rng_next(&rng);
        assert_false(load(&r, junk, n));
    }
    buf_put(&bytes, "", 1);
    assert_false(load(&r, bytes.data, bytes.len));
    buf_done(&bytes);
    act_randomly(&r, &rng, ACTS / 8);
    rig_close(&r);
}

static void truncated_and_random_state_is_refused_and_changes_nothing(void **state) {
    for_all(refuses_damage, 2);
}

/* A snapshot is input: every combination of values that passes the checks must be harmless. */
static void survives_hostile_state(const struct device_class *cls, uint64_t seed) {
    struct rng rng = rng_seed(seed);
    struct device *draft = malloc(cls->size);
    unsigned taken = 0;
    struct rig r;

    assert_non_null(draft);
    rig_open(&r, cls, 1000, true);
    for (unsigned round = 0; round < 60; round++) {
        struct buf bytes = {0};

        act_randomly(&r, &rng, 20);
        memcpy(draft, r.dev, cls->size); /* only the fields of the table are used of it */
        for (uint64_t n = 1 + rng_below(&rng, 12); n; n--)
            rig_disturb(cls->state, draft, &rng);
        state_save(cls->state, draft, &bytes);
        taken += load(&r, bytes.data, bytes.len);
        buf_done(&bytes);
        act_randomly(&r, &rng, 20);
    }
    assert_true(taken > 0); /* else nothing was tested */
    free(draft);
    rig_close(&r);
}

static void hostile_state_that_passes_the_checks_is_harmless(void **state) {
    for_all(survives_hostile_state, SEEDS);
}

static void survives_all_accesses(const struct device_class *cls, uint64_t seed) {
    struct rng rng = rng_seed(seed + 100);
    struct rig r;

    rig_open(&r, cls, 1000, true);
    act_randomly(&r, &rng, 4 * ACTS);
    rig_close(&r);
}

static void random_accesses_and_times_neither_crash_nor_hang(void **state) {
    for_all(survives_all_accesses, SEEDS);
}

static void lives_without_anything_connected(const struct device_class *cls, uint64_t seed) {
    struct rng rng = rng_seed(seed + 200);
    struct rig r;

    rig_open(&r, cls, 0, false);
    act_as_guest(&r, &rng, ACTS);
    assert_int_equal(r.irq_changes + r.messages + r.power_requests, 0);
    rig_close(&r);
}

static void defaults_and_open_wires_are_enough(void **state) {
    for_all(lives_without_anything_connected, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_class_says_what_it_is_and_no_two_share_a_name),
        cmocka_unit_test(a_second_reset_changes_nothing),
        cmocka_unit_test(a_reset_device_is_like_a_new_one),
        cmocka_unit_test(what_is_saved_at_any_moment_is_loaded_the_same),
        cmocka_unit_test(a_loaded_device_goes_on_as_the_one_that_was_saved),
        cmocka_unit_test(truncated_and_random_state_is_refused_and_changes_nothing),
        cmocka_unit_test(hostile_state_that_passes_the_checks_is_harmless),
        cmocka_unit_test(random_accesses_and_times_neither_crash_nor_hang),
        cmocka_unit_test(defaults_and_open_wires_are_enough),
    };

    signal(SIGALRM, out_of_time);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

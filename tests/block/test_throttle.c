/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the limits of a disk: the arithmetic over stepped time, and requests that wait. */
#include "block/throttle.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/loop.h"
#include "block/block_help.h"
#include "support/test.h"

#define SECOND 1000000000ull

/* A user with more requests than may go, each as soon as it may; counts those of `seconds`. */
static uint64_t greedy(struct throttle *t, bool write, uint64_t bytes, uint64_t *now,
                       unsigned seconds, uint64_t late) {
    uint64_t end = *now + seconds * SECOND, count = 0;

    while (*now < end) {
        uint64_t wait = throttle_wait(t, write, *now);

        if (wait) {
            *now += wait + late;
            continue;
        }
        throttle_charge(t, write, bytes, *now);
        count++;
    }
    return count;
}

static void assert_near(uint64_t got, uint64_t want, double share) {
    if ((double)got < (double)want * (1 - share) || (double)got > (double)want * (1 + share))
        fail_msg("%llu instead of %llu", (unsigned long long)got, (unsigned long long)want);
}

static void requests_keep_their_number_a_second(void **state) {
    static const uint64_t rates[] = {1, 10, 333, 5000, 1000000};

    for (unsigned i = 0; i < 5; i++) {
        struct throttle t;
        uint64_t now = 77 * SECOND;

        throttle_set(&t, &(struct block_limits){.iops = {rates[i]}}, now);
        assert_near(greedy(&t, i & 1, 4096, &now, 20, 0), rates[i] * 20, 0.05);
    }
}

static void bytes_keep_their_number_a_second_whatever_the_requests(void **state) {
    static const uint64_t sizes[] = {512, 4096, 65536, 1 << 20, 8 << 20};

    for (unsigned i = 0; i < 5; i++) {
        struct throttle t;
        uint64_t now = SECOND, count;

        throttle_set(&t, &(struct block_limits){.bps = {10 << 20}}, now);
        count = greedy(&t, true, sizes[i], &now, 30, 0);
        assert_near(count * sizes[i], 30ull * (10 << 20), 0.05);
    }
}

static void timers_that_come_late_cost_no_throughput(void **state) {
    struct throttle t;
    uint64_t now = SECOND;

    throttle_set(&t, &(struct block_limits){.iops = {20000}}, now);
    assert_near(greedy(&t, false, 512, &now, 10, 700000), 200000, 0.05);
}

static void a_burst_is_what_was_not_used_before(void **state) {
    struct throttle t;
    uint64_t now = 100 * SECOND;

    throttle_set(&t, &(struct block_limits){.iops = {100}, .burst_ns = 5 * SECOND}, now);
    assert_near(greedy(&t, false, 512, &now, 1, 0), 600, 0.05);
    assert_near(greedy(&t, false, 512, &now, 10, 0), 1000, 0.05);
    now += 3 * SECOND; /* saved up again */
    assert_near(greedy(&t, false, 512, &now, 1, 0), 400, 0.05);
    now += 60 * SECOND; /* no more than the burst */
    assert_near(greedy(&t, false, 512, &now, 1, 0), 600, 0.05);
}

static void reads_and_writes_have_limits_of_their_own(void **state) {
    struct throttle t;
    uint64_t now = SECOND, later;

    throttle_set(&t, &(struct block_limits){.iops = {0, 0, 50}, .bps = {0, 1 << 20, 0}}, now);
    assert_true(throttle_active(&t));
    later = now;
    assert_near(greedy(&t, true, 1 << 20, &later, 10, 0), 500, 0.05);
    later = now;
    assert_near(greedy(&t, false, 4096, &later, 10, 0), 2560, 0.05);
    throttle_set(&t, &(struct block_limits){.burst_ns = 5}, now);
    assert_false(throttle_active(&t));
    assert_int_equal(throttle_wait(&t, true, now), 0);
}

static void the_largest_numbers_overflow_nothing(void **state) {
    struct throttle t;
    uint64_t now = 1;

    throttle_set(
        &t, &(struct block_limits){.iops = {1}, .bps = {UINT64_MAX}, .burst_ns = UINT64_MAX}, now);
    assert_int_equal(throttle_wait(&t, true, now), 0);
    throttle_charge(&t, true, UINT64_MAX, now);
    assert_true(throttle_wait(&t, true, now) <= 2 * SECOND);
    throttle_set(&t, &(struct block_limits){.bps = {1}}, now);
    throttle_charge(&t, true, 4ull << 40, now); /* a transfer is never larger than memory */
    assert_true(throttle_wait(&t, true, now) > SECOND);
}

/* ------------------------------------------------------------------ on a disk */

enum { COUNT = 60 };

struct io {
    struct block_request req;
    struct iovec iov;
    uint8_t data[4096];
};

static struct io ios[2 * COUNT];
static struct loop *loop;
static unsigned finished[2];

static int make(void **state) {
    loop = loop_new(NULL, NULL);
    finished[0] = finished[1] = 0;
    return loop ? 0 : -1;
}

static int unmake(void **state) {
    image_options = (struct block_options){0};
    loop_free(loop);
    block_help_clean();
    return 0;
}

static struct block *open_limited(const struct block_limits *limits) {
    const char *path = image_path("limited.raw");

    image_make(path, COUNT * 4096);
    image_options.limits = *limits;
    return image_open(loop, path, false);
}

static void done(struct block_request *req, int result) {
    assert_int_equal(result, 0);
    finished[req->op == BLOCK_WRITE]++;
}

static void start_op(struct block *b, struct io *io, enum block_op op, unsigned i) {
    io->iov = (struct iovec){io->data, sizeof(io->data)};
    io->req = (struct block_request){.op = op,
                                     .offset = i * sizeof(io->data),
                                     .length = sizeof(io->data),
                                     .iov = &io->iov,
                                     .iov_count = 1,
                                     .done = done};
    block_submit(b, &io->req);
}

static void start(struct block *b, struct io *io, bool write, unsigned i) {
    start_op(b, io, write ? BLOCK_WRITE : BLOCK_READ, i);
}

static uint64_t now_ns(void) {
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static void wait_all(unsigned reads, unsigned writes) {
    for (int i = 0; i < 5000 && (finished[0] < reads || finished[1] < writes); i++)
        loop_step(loop, 10);
    assert_int_equal(finished[0], reads);
    assert_int_equal(finished[1], writes);
}

static void requests_wait_until_they_may_go(void **state) {
    uint64_t begin = now_ns(), rate = 200;
    struct block *b = open_limited(&(struct block_limits){.iops = {rate}});

    for (unsigned i = 0; i < COUNT; i++)
        start(b, &ios[i], i & 1, i);
    wait_all(COUNT / 2, COUNT / 2);
    /* Never faster: 10 ms of allowance at the start, and the one that is let through last. */
    assert_true(now_ns() - begin >= (COUNT - 1 - rate / 100) * SECOND / rate);
    block_close(b);
}

static void a_limit_on_writes_does_not_hold_reads_up(void **state) {
    struct block *b = open_limited(&(struct block_limits){.iops = {0, 0, 1}});

    for (unsigned i = 0; i < COUNT; i++)
        start(b, &ios[i], true, i);
    for (unsigned i = 0; i < COUNT; i++)
        start(b, &ios[COUNT + i], false, i);
    for (int i = 0; i < 2000 && finished[0] < COUNT; i++)
        loop_step(loop, 10);
    assert_int_equal(finished[0], COUNT);
    assert_true(finished[1] < COUNT / 2); /* a second each: 20 would take this test 20 seconds */
    block_close(b);                       /* does not wait half a minute: it drains */
    assert_int_equal(finished[1], COUNT);
}

static void both_directions_get_their_turn(void **state) {
    struct block *b = open_limited(&(struct block_limits){.iops = {100}});

    for (unsigned i = 0; i < COUNT; i++)
        start(b, &ios[i], true, i);
    for (unsigned i = 0; i < COUNT / 6; i++)
        start(b, &ios[COUNT + i], false, i);
    for (int i = 0; i < 2000 && finished[0] < COUNT / 6; i++)
        loop_step(loop, 10);
    assert_int_equal(finished[0], COUNT / 6);
    assert_true(finished[1] <= COUNT / 2); /* not all the writes first */
    block_close(b);
}

static void limits_change_while_requests_wait(void **state) {
    struct block *b = open_limited(&(struct block_limits){.iops = {1}});

    for (unsigned i = 0; i < COUNT; i++)
        start(b, &ios[i], true, i);
    loop_step(loop, 20);
    assert_true(finished[1] < COUNT);
    assert_int_equal(block_set_limits(b, &(struct block_limits){0}, NULL), 0);
    wait_all(0, COUNT);
    assert_int_equal(block_set_limits(b, &(struct block_limits){.bps = {1 << 30}}, NULL), 0);
    for (unsigned i = 0; i < COUNT; i++)
        start(b, &ios[i], false, i);
    wait_all(COUNT, COUNT);
    block_close(b);
}

static void flushes_and_what_is_refused_do_not_wait(void **state) {
    struct block *b = open_limited(&(struct block_limits){.iops = {1}});
    uint8_t s[512] = {0};

    for (unsigned i = 0; i < 5; i++)
        start(b, &ios[i], true, i);
    assert_int_equal(do_request(loop, b, BLOCK_FLUSH, 0, NULL, 0), 0);
    assert_true(do_request(loop, b, BLOCK_READ, COUNT * 4096, s, 512) < 0);
    assert_true(finished[1] < 5);
    block_close(b);
}

/* What frees or zeroes a range is a write, however large the range is, and moves no bytes. */
static void discards_and_zeroes_count_as_writes_without_bytes(void **state) {
    static const enum block_op ops[] = {BLOCK_DISCARD, BLOCK_WRITE_ZEROES};
    struct block *b = open_limited(&(struct block_limits){.bps = {1}});

    for (unsigned i = 0; i < COUNT; i++)
        start_op(b, &ios[i], ops[i & 1], i);
    wait_all(COUNT, 0);
    assert_int_equal(block_set_limits(b, &(struct block_limits){.iops = {0, 0, 1}}, NULL), 0);
    for (unsigned i = 0; i < COUNT; i++)
        start_op(b, &ios[i], ops[i & 1], i);
    for (unsigned i = 0; i < 5; i++)
        loop_step(loop, 10);
    assert_true(finished[0] < COUNT + COUNT / 2); /* a second each */
    block_close(b);
    assert_int_equal(finished[0], 2 * COUNT);
}

static void what_the_cache_holds_counts_too(void **state) {
    struct block *b = open_limited(&(struct block_limits){.iops = {1}});
    int result;

    start(b, &ios[0], true, 0);
    wait_all(0, 1);
    ios[0].req.op = BLOCK_READ;
    assert_false(block_try(b, &ios[0].req, &result)); /* over the limit, though in the cache */
    block_close(b);
}

#define T(f) cmocka_unit_test_setup_teardown(f, make, unmake)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_keep_their_number_a_second),
        cmocka_unit_test(bytes_keep_their_number_a_second_whatever_the_requests),
        cmocka_unit_test(timers_that_come_late_cost_no_throughput),
        cmocka_unit_test(a_burst_is_what_was_not_used_before),
        cmocka_unit_test(reads_and_writes_have_limits_of_their_own),
        cmocka_unit_test(the_largest_numbers_overflow_nothing),
        T(requests_wait_until_they_may_go),
        T(a_limit_on_writes_does_not_hold_reads_up),
        T(both_directions_get_their_turn),
        T(limits_change_while_requests_wait),
        T(flushes_and_what_is_refused_do_not_wait),
        T(discards_and_zeroes_count_as_writes_without_bytes),
        T(what_the_cache_holds_counts_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

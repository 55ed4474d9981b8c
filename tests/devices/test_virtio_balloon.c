/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the memory balloon. */
#include "devices/virtio/virtio_balloon.h"

#include <string.h>

#include "base/bytes.h"
#include "devices/virtio_driver.h"
#include "support/test.h"

enum { DEVFN = 0x08, MIB = 1 << 20, RAM = 8 * MIB };
enum { INFLATE, DEFLATE, STATS, REPORTS, QUEUES };
enum { NUM_PAGES = 0, ACTUAL = 4, POISON = 12 };
#define F_STATS   (1ull << 1)
#define F_POISON  (1ull << 4)
#define F_REPORTS (1ull << 5)

static struct board b;
static struct device *dev;
static struct driver d;

static void start(uint64_t features) {
    test_board_init(&b, RAM);
    dev = board_add(&b, "virtio_balloon", NULL, DEVFN);
    driver_start(&d, &b, DEVFN, features, QUEUES, false);
}

static int make(void **state) {
    start(F_STATS | F_REPORTS | VIRTIO_F_EVENT_IDX);
    return 0;
}

static int drop(void **state) {
    clock_step(b.clock, 1000000000); /* what is to be done soon */
    test_board_done(&b);
    device_free(dev);
    return 0;
}

static void fill(gpa at, unsigned pages) {
    for (unsigned i = 0; i < pages; i++)
        board_store32(&b, at + (gpa)i * MEM_PAGE_SIZE, 0x11111111);
}

static void is_filled(gpa at, unsigned pages, bool yes) {
    for (unsigned i = 0; i < pages; i++)
        assert_int_equal(board_load32(&b, at + (gpa)i * MEM_PAGE_SIZE), yes ? 0x11111111 : 0);
}

static void give(unsigned queue, const uint32_t *pfn, unsigned count) {
    gpa at = board_alloc(&b, count * 4, 4);
    const struct driver_buf buf = {at, count * 4, false};
    uint16_t head;
    uint32_t len;

    for (unsigned i = 0; i < count; i++)
        board_store32(&b, at + i * 4, pfn[i]);
    driver_add(&d, queue, &buf, 1);
    driver_kick(&d, queue);
    assert_true(driver_used(&d, queue, &head, &len));
    assert_int_equal(len, 0);
}

static struct virtio_balloon_status look(void) {
    struct virtio_balloon_status s;

    virtio_balloon_status(dev, &s);
    return s;
}

static void the_driver_is_told_of_a_target(void **state) {
    assert_true(look().driver);
    assert_int_equal(driver_config(&d, NUM_PAGES, 4), 0);
    driver_isr(&d);
    virtio_balloon_set(dev, 3 * MIB);
    assert_int_equal(driver_isr(&d), 2);
    assert_int_equal(driver_config(&d, NUM_PAGES, 4), 768);
    assert_int_equal(look().target, 3 * MIB);
    driver_config_write(&d, ACTUAL, 4, 512);
    assert_int_equal(look().actual, 2 * MIB);
    driver_config_write(&d, NUM_PAGES, 4, 1); /* not the driver's */
    assert_int_equal(driver_config(&d, NUM_PAGES, 4), 768);
    device_reset(dev);
    assert_int_equal(look().actual, 0);
    assert_int_equal(look().target, 3 * MIB); /* the host's wish stays */
}

static void pages_in_the_balloon_are_gone_in_whatever_order_they_came(void **state) {
    const uint32_t pfn[] = {1030, 1031, 1032, 1029, 1028, 1100, 1099};

    fill(4 * MIB, 128);
    give(INFLATE, pfn, 7);
    is_filled(4 * MIB, 4, true);
    is_filled(4 * MIB + 4 * 4096, 5, false);
    is_filled(4 * MIB + 9 * 4096, 66, true);
    is_filled(4 * MIB + 75 * 4096, 2, false);
    is_filled(4 * MIB + 77 * 4096, 51, true);
    assert_int_equal(look().returned, 7 * 4096);
    give(DEFLATE, pfn, 7);
    assert_int_equal(look().returned, 7 * 4096);
}

static void pages_that_are_no_memory_change_nothing(void **state) {
    const uint32_t pfn[] = {RAM / 4096, 0xffffffff, 0xfee00, 0xfffff};

    give(INFLATE, pfn, 4);
    give(DEFLATE, pfn, 4);
    assert_int_equal(look().returned, 0);
    assert_true(look().driver);
}

static void reported_ranges_are_gone(uint64_t features, bool poison, bool gone) {
    const struct driver_buf bufs[] = {{4 * MIB, 2 * MIB, true}, {7 * MIB + 100, 3 * 4096, true}};
    uint16_t head;
    uint32_t len;

    drop(NULL);
    start(features);
    if (features & F_POISON)
        driver_config_write(&d, POISON, 4, poison ? 0xaaaaaaaa : 0);
    fill(4 * MIB, 1024);
    driver_add(&d, REPORTS, bufs, 2);
    driver_kick(&d, REPORTS);
    assert_true(driver_used(&d, REPORTS, &head, &len));
    is_filled(4 * MIB, 512, !gone);
    is_filled(6 * MIB, 257, true);
    is_filled(7 * MIB + 4096, 2, !gone); /* whole pages only */
    is_filled(7 * MIB + 3 * 4096, 253, true);
    assert_int_equal(look().returned, gone ? 2 * MIB + 2 * 4096 : 0);
}

static void free_memory_that_is_reported_goes_back(void **state) {
    reported_ranges_are_gone(F_REPORTS | F_STATS, false, true);
    reported_ranges_are_gone(F_REPORTS | F_STATS | F_POISON, false, true);
    reported_ranges_are_gone(F_REPORTS | F_STATS | F_POISON, true, false); /* 5.5.6.7.2 */
}

static void statistics_come_when_they_are_asked_for(void **state) {
    gpa at = board_alloc(&b, 30, 4);
    const struct driver_buf buf = {at, 30, false};
    const uint8_t stats[30] = {4, 0, 0x00, 0x10, 0, 0, 0, 0, 0, 0,  /* free */
                               9, 9, 1,    1,    1, 1, 1, 1, 1, 1,  /* nobody knows */
                               5, 0, 0x00, 0x00, 1, 0, 0, 0, 0, 0}; /* total */
    uint16_t head;
    uint32_t len;

    assert_int_equal(look().stats, 0);
    assert_int_equal(mem_write(&b.mem, at, stats, sizeof(stats)), 0);
    driver_add(&d, STATS, &buf, 1);
    driver_kick(&d, STATS);
    assert_false(driver_used(&d, STATS, &head, &len)); /* kept */
    assert_int_equal(look().stats, 1 << 4 | 1 << 5);
    assert_true(driver_used(&d, STATS, &head, &len)); /* new ones are wanted */
    assert_int_equal(look().stat[4], 0x1000);
    assert_int_equal(look().stat[5], 0x10000);
    assert_false(driver_used(&d, STATS, &head, &len)); /* the driver has it */
    driver_add(&d, STATS, &buf, 1);
    assert_int_equal(board_load16(&b, d.q[STATS].used + 4 + 8 * d.q[STATS].size),
                     1); /* a kick is wanted */
    board_store32(&b, at + 2, 0x2000);
    driver_kick(&d, STATS);
    assert_int_equal(look().stat[4], 0x2000);
    assert_string_equal(virtio_balloon_stat_name(4), "free");
    assert_null(virtio_balloon_stat_name(VIRTIO_BALLOON_STATS));
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, make, drop)
    const struct CMUnitTest tests[] = {
        T(the_driver_is_told_of_a_target),
        T(pages_in_the_balloon_are_gone_in_whatever_order_they_came),
        T(pages_that_are_no_memory_change_nothing),
        T(free_memory_that_is_reported_goes_back),
        T(statistics_come_when_they_are_asked_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When machines expire, with times that are handed in. */
#include <stdio.h>
#include <string.h>

#include "host/expiry.h"
#include "support/test.h"

#define HOUR (3600 * 1000ll)
#define DAY  (24 * HOUR)

enum { BEGIN = 1000000 };

static struct store_row vm;

static void begin(const char *expire, const char *unused) {
    store_row_done(&vm);
    vm = (struct store_row){
        .kind = "vm", .spec = json_object(), .status = json_object(), .wanted = json_object()};
    row_set_text(vm.spec, "expire", expire);
    row_set_text(vm.spec, "expire_unused", unused);
    expiry_begin(&vm, BEGIN);
}

static enum expiry_step at(int64_t ms) {
    int64_t due = 0;
    enum expiry_step step = expiry_decide(&vm, BEGIN + ms, &due);

    if (step == EXPIRY_LATER)
        assert_true(due > BEGIN + ms);
    return step;
}

static void test_a_week_is_warned_of_then_archived_then_over(void **state) {
    begin("7d", NULL);
    assert_int_equal(at(0), EXPIRY_LATER);
    assert_int_equal(at(6 * DAY - 1), EXPIRY_LATER);
    assert_int_equal(at(6 * DAY), EXPIRY_WARN);
    assert_int_equal(at(7 * DAY - 1), EXPIRY_LATER);
    assert_false(expiry_archived(&vm));
    assert_int_equal(at(7 * DAY), EXPIRY_ARCHIVE);
    assert_true(expiry_archived(&vm));
    assert_int_equal(at(14 * DAY - 1), EXPIRY_LATER);
    assert_int_equal(at(14 * DAY), EXPIRY_DELETE);
}

static void test_what_is_extended_is_kept(void **state) {
    begin("7d", NULL);
    assert_int_equal(at(6 * DAY), EXPIRY_WARN);
    expiry_begin(&vm, BEGIN + 6 * DAY);
    assert_int_equal(at(6 * DAY + 1), EXPIRY_KEEP);
    assert_int_equal(at(7 * DAY), EXPIRY_LATER);
    assert_int_equal(at(12 * DAY), EXPIRY_WARN);
    assert_int_equal(at(13 * DAY), EXPIRY_ARCHIVE);
    row_set_text(vm.spec, "expire", "never");
    expiry_begin(&vm, BEGIN + 14 * DAY);
    assert_int_equal(at(14 * DAY), EXPIRY_KEEP);
    assert_false(expiry_archived(&vm));
    assert_int_equal(at(1000 * DAY), EXPIRY_NEVER);
}

static void test_use_keeps_a_machine_and_the_first_of_both_counts(void **state) {
    begin("30d", "3d");
    for (int day = 0; day < 20; day += 2) {
        expiry_used(&vm, BEGIN + day * DAY);
        assert_int_equal(at(day * DAY + 1), EXPIRY_LATER);
    }
    assert_int_equal(at(20 * DAY + 7 * HOUR), EXPIRY_WARN);
    assert_int_equal(at(21 * DAY), EXPIRY_ARCHIVE);
    expiry_used(&vm, BEGIN + 22 * DAY);
    assert_int_equal(at(22 * DAY), EXPIRY_KEEP);
    for (int day = 23; day < 30; day++)
        expiry_used(&vm, BEGIN + day * DAY);
    assert_int_equal(at(29 * DAY), EXPIRY_WARN);
    assert_int_equal(at(30 * DAY), EXPIRY_ARCHIVE); /* used or not */
}

/* A host whose clock is years ahead when it begins: nothing is lost at once. */
static void test_there_is_always_time_to_read_the_warning(void **state) {
    begin("7d", NULL);
    assert_int_equal(at(3650 * DAY), EXPIRY_WARN);
    assert_int_equal(at(3650 * DAY + 11 * HOUR), EXPIRY_LATER);
    assert_int_equal(at(8 * HOUR), EXPIRY_KEEP); /* and the clock is put right */
    assert_int_equal(at(6 * DAY), EXPIRY_WARN);
    assert_int_equal(at(3650 * DAY), EXPIRY_ARCHIVE);
    assert_int_equal(at(3650 * DAY + 7 * DAY - 1), EXPIRY_LATER);
}

static void test_a_clock_that_is_set_moves_what_is_due(void **state) {
    struct expiry_clock a = {"boot", 1000, BEGIN}, b = {"boot", 61000, BEGIN + 60000};

    assert_int_equal(expiry_jump(&a, &b), 0);
    b.wall += DAY;
    assert_int_equal(expiry_jump(&a, &b), DAY);
    b.wall -= 3 * DAY;
    assert_int_equal(expiry_jump(&a, &b), -2 * DAY);
    snprintf(b.boot, sizeof(b.boot), "other");
    assert_int_equal(expiry_jump(&a, &b), -2 * DAY + 60000); /* no host is off for so long */
    b.wall = BEGIN + DAY;
    assert_int_equal(expiry_jump(&a, &b), 0); /* this may be */
    *a.boot = 0;
    assert_int_equal(expiry_jump(&a, &b), 0);

    begin("7d", "5d");
    expiry_shift(&vm, 100 * DAY);
    assert_int_equal(at(103 * DAY), EXPIRY_LATER);
    assert_int_equal(at(104 * DAY), EXPIRY_WARN);
    expiry_shift(&vm, -100 * DAY);
    assert_int_equal(at(5 * DAY - 1), EXPIRY_LATER);
    assert_int_equal(at(5 * DAY), EXPIRY_ARCHIVE);
}

static void test_without_an_end_nothing_is_ever_due(void **state) {
    begin(NULL, NULL);
    assert_int_equal(at(100000 * DAY), EXPIRY_NEVER);
    assert_false(json_object_size(vm.wanted));
    store_row_done(&vm);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_week_is_warned_of_then_archived_then_over),
        cmocka_unit_test(test_what_is_extended_is_kept),
        cmocka_unit_test(test_use_keeps_a_machine_and_the_first_of_both_counts),
        cmocka_unit_test(test_there_is_always_time_to_read_the_warning),
        cmocka_unit_test(test_a_clock_that_is_set_moves_what_is_due),
        cmocka_unit_test(test_without_an_end_nothing_is_ever_due),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

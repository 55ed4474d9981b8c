/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of subnets. */
#include "proto/subnet.h"
#include "support/test.h"

static void subnets_are_read_and_refused(void **state) {
    static const char *const bad[] = {"",
                                      "10.0.0.0",
                                      "10.0.0.0/",
                                      "10.0.0.0/8",
                                      "10.0.0.0/30",
                                      "10.0.0.1/24",
                                      "127.0.0.0/24",
                                      "0.0.0.0/24",
                                      "224.0.0.0/24",
                                      "10.0.0.0/24x",
                                      "10.0.0/24",
                                      "1.2.3.400/24",
                                      "10.0.0.0/-4"};
    struct subnet s = {0};

    assert_int_equal(subnet_parse("192.168.16.0/20", &s, NULL), 0);
    assert_int_equal(s.network, 0xc0a81000);
    assert_int_equal(s.prefix, 20);
    assert_int_equal(subnet_last(&s), 0xc0a81fff);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_true(subnet_parse(bad[i], &s, NULL) < 0);
    assert_int_equal(s.prefix, 20); /* as it was */
}

static void what_a_machine_may_have_lies_behind_the_services(void **state) {
    struct subnet s = {0x0a000000, 24};

    assert_false(subnet_usable(&s, 0x0a000000));
    assert_false(subnet_usable(&s, 0x0a000002));
    assert_true(subnet_usable(&s, 0x0a000003));
    assert_true(subnet_usable(&s, 0x0a0000fe));
    assert_false(subnet_usable(&s, 0x0a0000ff));
    assert_false(subnet_usable(&s, 0x0a000110));
}

static void overlaps_are_seen_from_both_sides(void **state) {
    const struct subnet wide = {0x0a000000, 16}, in = {0x0a001000, 24}, beside = {0x0a010000, 24};

    assert_true(subnet_overlap(&wide, &in) && subnet_overlap(&in, &wide));
    assert_true(subnet_overlap(&in, &in));
    assert_false(subnet_overlap(&wide, &beside) || subnet_overlap(&beside, &wide));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(subnets_are_read_and_refused),
        cmocka_unit_test(what_a_machine_may_have_lies_behind_the_services),
        cmocka_unit_test(overlaps_are_seen_from_both_sides),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

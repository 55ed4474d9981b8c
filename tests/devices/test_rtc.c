/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the real-time clock by the MC146818A data sheet, with stepped time. */
#include "devices/rtc.h"

#include <time.h>

#include "devices/chip.h"

extern const struct device_class rtc_class;

enum { A = 10, B = 11, C = 12, D = 13, CENTURY = 0x32 };
enum { SET = 0x80, PIE = 0x40, AIE = 0x20, UIE = 0x10, BINARY = 4, H24 = 2 };
#define SECOND 1000000000ull
#define MS     1000000ull

static uint8_t get(struct chip *c, uint8_t index) {
    chip_out(c, 0, 0, index);
    return chip_in(c, 0, 1);
}

static void put(struct chip *c, uint8_t index, uint8_t value) {
    chip_out(c, 0, 0, index);
    chip_out(c, 0, 1, value);
}

/* 2024-02-28 23:59:50, a Wednesday before a leap day. */
static void bench(struct chip *c) {
    struct rtc_config config = {.utc_given = true, .utc = 1709164790};

    chip_open(c, &rtc_class, &config);
}

static void expect_date(struct chip *c, unsigned century, unsigned year, unsigned month,
                        unsigned day, unsigned hour, unsigned min, unsigned sec) {
    assert_int_equal(get(c, CENTURY), century);
    assert_int_equal(get(c, 9), year);
    assert_int_equal(get(c, 8), month);
    assert_int_equal(get(c, 7), day);
    assert_int_equal(get(c, 4), hour);
    assert_int_equal(get(c, 2), min);
    assert_int_equal(get(c, 0), sec);
}

static void set_date(struct chip *c, unsigned century, unsigned year, unsigned month, unsigned day,
                     unsigned hour, unsigned min, unsigned sec) {
    uint8_t b = get(c, B);

    put(c, B, b | SET);
    put(c, CENTURY, (uint8_t)century);
    put(c, 9, (uint8_t)year);
    put(c, 8, (uint8_t)month);
    put(c, 7, (uint8_t)day);
    put(c, 4, (uint8_t)hour);
    put(c, 2, (uint8_t)min);
    put(c, 0, (uint8_t)sec);
    put(c, B, b);
}

static void it_comes_up_in_bcd_with_the_date_it_was_given(void **state) {
    struct chip c;

    bench(&c);
    assert_int_equal(get(&c, A), 0x26);
    assert_int_equal(get(&c, B), 0x02);
    assert_int_equal(get(&c, D), 0x80);
    expect_date(&c, 0x20, 0x24, 0x02, 0x28, 0x23, 0x59, 0x50);
    assert_int_equal(get(&c, 6), 4); /* Wednesday */
    chip_close(&c);
}

static void without_a_date_it_has_the_hosts(void **state) {
    struct chip c;

    chip_open(&c, &rtc_class, NULL);
    assert_in_range(rtc_utc(c.dev), time(NULL) - 2,
                    time(NULL) + 1); /* time() reads a clock some ms behind */
    chip_close(&c);
}

static void days_months_and_leap_years_roll_over(void **state) {
    struct chip c;

    bench(&c);
    chip_step(&c, 9 * SECOND);
    expect_date(&c, 0x20, 0x24, 0x02, 0x28, 0x23, 0x59, 0x59);
    chip_step(&c, SECOND);
    expect_date(&c, 0x20, 0x24, 0x02, 0x29, 0x00, 0x00, 0x00);
    chip_step(&c, 86400 * SECOND);
    expect_date(&c, 0x20, 0x24, 0x03, 0x01, 0x00, 0x00, 0x00);
    assert_int_equal(get(&c, 6), 6);
    set_date(&c, 0x20, 0x99, 0x12, 0x31, 0x23, 0x59, 0x59);
    chip_step(&c, SECOND);
    expect_date(&c, 0x21, 0x00, 0x01, 0x01, 0x00, 0x00, 0x00);
    set_date(&c, 0x21, 0x00, 0x02, 0x28, 0x23, 0x59, 0x59);
    chip_step(&c, SECOND); /* 2100 is no leap year */
    expect_date(&c, 0x21, 0x00, 0x03, 0x01, 0x00, 0x00, 0x00);
    chip_close(&c);
}

static void every_day_of_four_centuries_agrees_with_the_c_library(void **state) {
    struct chip c;

    bench(&c);
    put(&c, B, BINARY | H24);
    for (int64_t day = -25567; day < 4 * 36525; day += chip_reload ? 97 : 7) {
        time_t t = day * 86400 + 3661;
        struct tm tm;

        rtc_set_utc(c.dev, t);
        gmtime_r(&t, &tm);
        expect_date(&c, (unsigned)(tm.tm_year + 1900) / 100, (unsigned)(tm.tm_year + 1900) % 100,
                    (unsigned)tm.tm_mon + 1, (unsigned)tm.tm_mday, 1, 1, 1);
        assert_int_equal(get(&c, 6), tm.tm_wday + 1);
    }
    chip_close(&c);
}

static void twelve_hours_and_binary_are_formats_of_the_same_time(void **state) {
    static const struct {
        uint8_t hour, bcd12;
    } hours[] = {{0, 0x12}, {1, 0x01}, {11, 0x11}, {12, 0x92}, {13, 0x81}, {23, 0x91}};
    struct chip c;

    bench(&c);
    for (unsigned i = 0; i < 6; i++) {
        rtc_set_utc(c.dev, hours[i].hour * 3600);
        put(&c, B, BINARY | H24);
        assert_int_equal(get(&c, 4), hours[i].hour);
        put(&c, B, 0);
        assert_int_equal(get(&c, 4), hours[i].bcd12);
        put(&c, B, SET);
        put(&c, 4, hours[i].bcd12);
        put(&c, B, 0);
        assert_int_equal(rtc_utc(c.dev), hours[i].hour * 3600);
    }
    chip_close(&c);
}

static void set_holds_the_date_and_lets_it_go_on_from_there(void **state) {
    struct chip c;

    bench(&c);
    put(&c, B, H24 | SET);
    chip_step(&c, 100 * SECOND);
    expect_date(&c, 0x20, 0x24, 0x02, 0x28, 0x23, 0x59, 0x50);
    put(&c, 0, 0x10);
    chip_step(&c, 100 * SECOND);
    assert_int_equal(get(&c, 0), 0x10);
    put(&c, B, H24);
    chip_step(&c, SECOND);
    assert_int_equal(get(&c, 0), 0x11);
    chip_close(&c);
}

static void a_field_written_on_the_run_counts_at_once(void **state) {
    struct chip c;

    bench(&c);
    put(&c, 4, 0x11);
    expect_date(&c, 0x20, 0x24, 0x02, 0x28, 0x11, 0x59, 0x50);
    chip_step(&c, 10 * SECOND);
    expect_date(&c, 0x20, 0x24, 0x02, 0x28, 0x12, 0x00, 0x00);
    chip_close(&c);
}

static void the_divider_starts_with_half_a_second(void **state) {
    struct chip c;

    bench(&c);
    chip_step(&c, 123 * MS);
    put(&c, B, H24 | SET);
    put(&c, A, 0x76); /* as Linux does to set the clock exactly */
    put(&c, 0, 0x30);
    put(&c, B, H24);
    chip_step(&c, 5 * SECOND);
    assert_int_equal(get(&c, 0), 0x30);
    put(&c, A, 0x26);
    chip_step(&c, 499 * MS);
    assert_int_equal(get(&c, 0), 0x30);
    chip_step(&c, 2 * MS);
    assert_int_equal(get(&c, 0), 0x31);
    chip_close(&c);
}

static void uip_announces_the_update(void **state) {
    struct chip c;

    bench(&c);
    chip_step(&c, SECOND - 2229000);
    assert_int_equal(get(&c, A) & 0x80, 0);
    chip_step(&c, 2000);
    assert_int_equal(get(&c, A) & 0x80, 0x80);
    assert_int_equal(get(&c, 0), 0x50);
    chip_step(&c, 2226999);
    assert_int_equal(get(&c, A) & 0x80, 0x80);
    chip_step(&c, 1);
    assert_int_equal(get(&c, A) & 0x80, 0);
    assert_int_equal(get(&c, 0), 0x51);
    put(&c, B, SET);
    chip_step(&c, SECOND - 1000000);
    assert_int_equal(get(&c, A) & 0x80, 0);
    chip_close(&c);
}

static void the_update_interrupt_comes_with_every_second(void **state) {
    struct chip c;

    bench(&c);
    get(&c, C);
    put(&c, B, H24 | UIE);
    for (unsigned i = 0; i < 5; i++) {
        chip_step(&c, SECOND - 1);
        assert_false(c.level[0]);
        chip_step(&c, 1);
        assert_true(c.level[0]);
        assert_int_equal(get(&c, C), 0xd0); /* and the periodic flag, at 1024 Hz */
        assert_false(c.level[0]);
        assert_int_equal(get(&c, C), 0);
    }
    put(&c, B, H24 | UIE | SET); /* SET switches it off */
    assert_int_equal(get(&c, B), H24 | SET);
    chip_close(&c);
}

static void the_periodic_interrupt_keeps_its_rate(void **state) {
    static const struct {
        uint8_t rs;
        unsigned hz;
    } rates[] = {{1, 256}, {2, 128}, {3, 8192}, {6, 1024}, {10, 64}, {15, 2}};

    for (unsigned i = 0; i < 6; i++) {
        unsigned n = 0;
        struct chip c;

        bench(&c);
        put(&c, A, 0x20 | rates[i].rs);
        get(&c, C);
        put(&c, B, H24 | PIE);
        for (uint64_t t = 0; t < SECOND; t += 50000) {
            chip_step(&c, 50000);
            if (c.level[0]) {
                assert_int_equal(get(&c, C) & 0xc0, 0xc0);
                n++;
            }
        }
        assert_int_equal(n, rates[i].hz);
        chip_close(&c);
    }
}

static void flags_are_raised_without_interrupts_too(void **state) {
    struct chip c;

    bench(&c);
    get(&c, C);
    chip_step(&c, 1 * MS);
    assert_int_equal(get(&c, C), 0x40); /* periodic, 1024 Hz */
    chip_step(&c, SECOND);
    assert_int_equal(get(&c, C), 0x50);
    assert_int_equal(c.rises[0], 0);
    chip_close(&c);
}

static void the_alarm_rings_at_its_time_every_day(void **state) {
    struct chip c;

    bench(&c);
    put(&c, 5, 0x00);
    put(&c, 3, 0x00);
    put(&c, 1, 0x05);
    get(&c, C);
    put(&c, B, H24 | AIE);
    chip_step(&c, 15 * SECOND - 1);
    assert_false(c.level[0]);
    chip_step(&c, 1);
    assert_true(c.level[0]);
    assert_int_equal(get(&c, C) & 0xa0, 0xa0);
    chip_step(&c, 86400 * SECOND - 1);
    assert_false(c.level[0]);
    chip_step(&c, 1);
    assert_true(c.level[0]);
    chip_close(&c);
}

static void the_alarm_has_dont_care_fields(void **state) {
    struct chip c;

    bench(&c);
    put(&c, 5, 0xff);
    put(&c, 3, 0xc0);
    put(&c, 1, 0x30);
    get(&c, C);
    put(&c, B, H24 | AIE);
    for (unsigned i = 0; i < 3; i++) { /* every minute */
        chip_step(&c, (i ? 60 : 40) * SECOND - 1);
        assert_false(c.level[0]);
        chip_step(&c, 1);
        assert_true(c.level[0]);
        get(&c, C);
    }
    put(&c, 1, 0x77); /* no such second */
    chip_step(&c, 2 * 86400 * SECOND);
    assert_int_equal(get(&c, C) & 0x20, 0);
    chip_close(&c);
}

static void an_alarm_in_12_hour_format_knows_noon_from_midnight(void **state) {
    struct chip c;

    bench(&c);
    put(&c, B, 0);
    put(&c, 5, 0x92);
    put(&c, 3, 0x00);
    put(&c, 1, 0x00);
    get(&c, C);
    put(&c, B, AIE);
    chip_step(&c, 10 * SECOND + 12 * 3600 * SECOND - 1);
    assert_false(c.level[0]);
    chip_step(&c, 1);
    assert_true(c.level[0]);
    chip_close(&c);
}

static void memory_survives_reset_and_interrupt_enables_do_not(void **state) {
    struct chip c;

    bench(&c);
    put(&c, 0x0f, 0x5a);
    put(&c, 0x7f, 0xa5);
    chip_out(&c, 1, 0, 0x7f);
    chip_out(&c, 1, 1, 0x33);
    put(&c, B, PIE | BINARY | H24);
    chip_step(&c, 10 * MS);
    assert_true(c.level[0]);
    device_reset(c.dev);
    assert_false(c.level[0]);
    assert_int_equal(get(&c, B), BINARY | H24);
    assert_int_equal(get(&c, 0x0f), 0x5a);
    assert_int_equal(get(&c, 0x7f), 0xa5);
    chip_out(&c, 1, 0, 0x7f);
    assert_int_equal(chip_in(&c, 1, 1), 0x33);
    assert_int_equal(rtc_cmos_get(c.dev, 0x0f), 0x5a);
    assert_int_equal(rtc_cmos_get(c.dev, 0xff), 0x33);
    rtc_cmos_set(c.dev, 0x3d, 0x21);
    assert_int_equal(get(&c, 0x3d), 0x21);
    chip_close(&c);
}

static void memory_sizes_stand_where_firmware_looks(void **state) {
    struct rtc_config config = {.memory_low = 3ull << 30, .memory_high = 5ull << 30};
    struct chip c;

    chip_open(&c, &rtc_class, &config);
    assert_int_equal(get(&c, 0x15) | get(&c, 0x16) << 8, 640);
    assert_int_equal(get(&c, 0x17) | get(&c, 0x18) << 8, 0xffff);
    assert_int_equal(get(&c, 0x30) | get(&c, 0x31) << 8, 0xffff);
    assert_int_equal(get(&c, 0x34) | get(&c, 0x35) << 8, ((3ull << 30) - (16 << 20)) >> 16);
    assert_int_equal(get(&c, 0x5b) | get(&c, 0x5c) << 8 | get(&c, 0x5d) << 16, (5ull << 30) >> 16);
    chip_close(&c);
    config = (struct rtc_config){.memory_low = 8 << 20};
    chip_open(&c, &rtc_class, &config);
    assert_int_equal(get(&c, 0x17) | get(&c, 0x18) << 8, 7 << 10);
    assert_int_equal(get(&c, 0x34) | get(&c, 0x35) << 8, 0);
    chip_close(&c);
}

static void nonsense_in_the_date_becomes_the_nearest_date(void **state) {
    struct chip c;

    bench(&c);
    set_date(&c, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff);
    assert_int_equal(get(&c, 8), 0x12);
    assert_int_equal(get(&c, 7), 0x31);
    assert_int_equal(get(&c, 2), 0x59);
    set_date(&c, 0x20, 0x24, 0, 0, 0, 0, 0);
    expect_date(&c, 0x20, 0x24, 0x01, 0x01, 0, 0, 0);
    chip_close(&c);
}

static void the_index_cannot_be_read(void **state) {
    struct chip c;

    bench(&c);
    chip_out(&c, 0, 0, 0x8d); /* with the NMI mask */
    assert_int_equal(chip_in(&c, 0, 1), 0x80);
    assert_int_equal(chip_in(&c, 0, 0), 0xff);
    chip_close(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_comes_up_in_bcd_with_the_date_it_was_given),
        cmocka_unit_test(without_a_date_it_has_the_hosts),
        cmocka_unit_test(days_months_and_leap_years_roll_over),
        cmocka_unit_test(every_day_of_four_centuries_agrees_with_the_c_library),
        cmocka_unit_test(twelve_hours_and_binary_are_formats_of_the_same_time),
        cmocka_unit_test(set_holds_the_date_and_lets_it_go_on_from_there),
        cmocka_unit_test(a_field_written_on_the_run_counts_at_once),
        cmocka_unit_test(the_divider_starts_with_half_a_second),
        cmocka_unit_test(uip_announces_the_update),
        cmocka_unit_test(the_update_interrupt_comes_with_every_second),
        cmocka_unit_test(the_periodic_interrupt_keeps_its_rate),
        cmocka_unit_test(flags_are_raised_without_interrupts_too),
        cmocka_unit_test(the_alarm_rings_at_its_time_every_day),
        cmocka_unit_test(the_alarm_has_dont_care_fields),
        cmocka_unit_test(an_alarm_in_12_hour_format_knows_noon_from_midnight),
        cmocka_unit_test(memory_survives_reset_and_interrupt_enables_do_not),
        cmocka_unit_test(memory_sizes_stand_where_firmware_looks),
        cmocka_unit_test(nonsense_in_the_date_becomes_the_nearest_date),
        cmocka_unit_test(the_index_cannot_be_read),
    };

    return chip_run(tests);
}

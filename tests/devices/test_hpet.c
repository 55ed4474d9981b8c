/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The HPET by its registers: the counter, comparators once and periodic, in place of PIT and RTC,
 * levels. Expectations from the IA-PC HPET Specification 1.0a. */
#include "devices/hpet.h"

#include "devices/chip.h"

enum {
    CONFIG = 0x10,
    STATUS = 0x20,
    COUNTER = 0xf0,
    T0 = 0x100,
    T1 = 0x120,
    T2 = 0x140,
    COMPARE = 8,
    STEP = 0x20
};
enum { ENABLE = 4, PERIODIC = 8, LEVEL = 2, SET = 0x40, NARROW = 0x100 };
#define US 1000ull
#define MS (1000 * US)

static struct chip c;

static int setup(void **state) {
    chip_open(&c, device_class_find("hpet"), NULL);
    return 0;
}

static int teardown(void **state) {
    chip_close(&c);
    return 0;
}

static uint64_t get(unsigned at) { return chip_read(&c, 0, at, 8); }
static void set(unsigned at, uint64_t v) { chip_write(&c, 0, at, 8, v); }

static void the_capabilities_tell_what_there_is(void **state) {
    uint64_t id = get(0);

    assert_int_equal(id >> 32, 69841279);
    assert_int_equal(id & 0xffff, 0xa201); /* legacy routes, 64 bits, three comparators */
    assert_int_equal(chip_read(&c, 0, 4, 4), 69841279);
    for (unsigned n = 0; n < 3; n++) {
        assert_int_equal(get(T0 + STEP * n) & 0x8030, 0x30);
        assert_int_equal(get(T0 + STEP * n) >> 32, 0xf00000);
    }
}

static void the_counter_counts_while_it_is_enabled(void **state) {
    chip_step(&c, 10 * MS);
    assert_int_equal(get(COUNTER), 0);
    set(CONFIG, 1);
    chip_step(&c, 1000 * MS);
    assert_in_range(get(COUNTER), 14318179, 14318181);
    set(CONFIG, 0);
    chip_step(&c, 10 * MS);
    assert_in_range(get(COUNTER), 14318179, 14318181);
    set(COUNTER, 0x123456789);
    assert_int_equal(chip_read(&c, 0, COUNTER + 4, 4), 1);
    chip_write(&c, 0, COUNTER + 4, 4, 2);
    assert_int_equal(get(COUNTER), 0x223456789);
}

static void a_comparator_interrupts_once(void **state) {
    set(CONFIG, 1);
    set(T1 + COMPARE, 14318);
    set(T1, ENABLE | 21 << 9);
    chip_step(&c, 999 * US);
    assert_int_equal(c.rises[HPET_IRQ_PINS + 1], 0);
    chip_step(&c, 2 * US);
    assert_int_equal(c.rises[HPET_IRQ_PINS + 1], 1);
    chip_step(&c, 1000 * MS);
    assert_int_equal(c.rises[HPET_IRQ_PINS + 1], 1);
    set(T1 + COMPARE, get(COUNTER)); /* too late: after a round of 2^64 */
    chip_step(&c, 1000 * MS);
    assert_int_equal(c.rises[HPET_IRQ_PINS + 1], 1);
}

static void narrow_comparators_come_around(void **state) {
    set(COUNTER, 0x5ffffff00);
    set(T2, ENABLE | NARROW | 20 << 9);
    set(T2 + COMPARE, 0x100000100);
    set(CONFIG, 1);
    chip_step(&c, 30 * US);
    assert_int_equal(c.rises[HPET_IRQ_PINS], 0);
    chip_step(&c, 10 * US);
    assert_int_equal(c.rises[HPET_IRQ_PINS], 1);
}

static void it_takes_the_place_of_pit_and_rtc(void **state) {
    assert_false(hpet_is_legacy(c.dev));
    set(T0, ENABLE | PERIODIC | SET);
    set(T0 + COMPARE, 14318);
    set(T0 + COMPARE, 143182); /* the period only */
    set(T1, ENABLE | 21 << 9);
    set(T1 + COMPARE, 28636);
    set(CONFIG, 3);
    assert_true(hpet_is_legacy(c.dev));
    chip_step(&c, 1100 * US);
    assert_int_equal(c.rises[HPET_IRQ_0], 1);
    for (unsigned i = 0; i < 10; i++)
        chip_step(&c, 10 * MS);
    assert_int_equal(c.rises[HPET_IRQ_0], 11);
    assert_int_equal(c.rises[HPET_IRQ_8], 1);
    assert_int_equal(c.rises[HPET_IRQ_PINS + 1], 0);
    chip_step(&c, 95 * MS); /* the host was late: one for all */
    assert_in_range(c.rises[HPET_IRQ_0], 12, 21);
}

static void levels_last_until_they_are_cleared(void **state) {
    set(CONFIG, 1);
    set(T0, ENABLE | LEVEL | 22 << 9);
    set(T0 + COMPARE, 14318);
    chip_step(&c, 2 * MS);
    assert_true(c.level[HPET_IRQ_PINS + 2]);
    assert_int_equal(get(STATUS), 1);
    chip_write(&c, 0, STATUS, 4, 2);
    assert_true(c.level[HPET_IRQ_PINS + 2]);
    chip_write(&c, 0, STATUS, 4, 1);
    assert_false(c.level[HPET_IRQ_PINS + 2]);
    assert_int_equal(get(STATUS), 0);
}

static void short_periods_do_not_flood_the_host(void **state) {
    set(T0, ENABLE | PERIODIC | SET | 20 << 9);
    set(T0 + COMPARE, 1);
    set(CONFIG, 1);
    chip_step(&c, 10 * MS);
    assert_in_range(c.rises[HPET_IRQ_PINS], 100, 510);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(the_capabilities_tell_what_there_is), T(the_counter_counts_while_it_is_enabled),
        T(a_comparator_interrupts_once),        T(narrow_comparators_come_around),
        T(it_takes_the_place_of_pit_and_rtc),   T(levels_last_until_they_are_cleared),
        T(short_periods_do_not_flood_the_host),
    };

    return chip_run(tests);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the ACPI fixed hardware by ACPI 6.5, section 4.8. */
#include "devices/acpi_pm.h"

#include "devices/chip.h"
#include "devices/ticks.h"

extern const struct device_class acpi_pm_class;

enum { EVT, CNT, TMR, GPE };
enum { TMR_STS = 1, PWRBTN = 0x100, SLPBTN = 0x200 };
#define WRAP_NS ticks_to_ns(1 << 24, ACPI_PM_TIMER_HZ)

static uint32_t timer(struct chip *c) { return (uint32_t)chip_read(c, TMR, 0, 4); }

static void the_timer_counts_and_wraps_at_24_bits(void **state) {
    struct chip c;

    chip_open(&c, &acpi_pm_class, NULL);
    assert_int_equal(timer(&c), 0);
    chip_step(&c, 1000000000);
    assert_int_equal(timer(&c), ACPI_PM_TIMER_HZ);
    chip_step(&c, WRAP_NS - 1 - clock_now(c.clock));
    assert_int_equal(timer(&c), 0xffffff);
    chip_step(&c, 1);
    assert_int_equal(timer(&c), 0);
    chip_step(&c, 1000ull * 3600 * 1000000000);
    assert_int_equal(timer(&c), (ticks_from_ns(clock_now(c.clock), ACPI_PM_TIMER_HZ) & 0xffffff));
    chip_write(&c, TMR, 0, 4, 0); /* read-only */
    assert_int_equal(timer(&c), (ticks_from_ns(clock_now(c.clock), ACPI_PM_TIMER_HZ) & 0xffffff));
    chip_close(&c);
}

static void the_timer_never_runs_backwards_or_drifts(void **state) {
    struct chip c;

    chip_open(&c, &acpi_pm_class, NULL);
    for (uint64_t n = 1; n < 3000; n++) {
        uint64_t due = ticks_to_ns(n * 1237, ACPI_PM_TIMER_HZ);

        chip_step(&c, due - 1 - clock_now(c.clock));
        assert_int_equal(timer(&c), n * 1237 - 1);
        chip_step(&c, 1);
        assert_int_equal(timer(&c), n * 1237);
    }
    chip_close(&c);
}

static void the_carry_of_bit_23_interrupts_twice_a_turn(void **state) {
    uint64_t half = ticks_to_ns(1 << 23, ACPI_PM_TIMER_HZ);
    struct chip c;

    chip_open(&c, &acpi_pm_class, NULL);
    chip_write(&c, EVT, 2, 2, TMR_STS);
    for (unsigned i = 1; i <= 4; i++) {
        chip_step(&c, ticks_to_ns((uint64_t)i << 23, ACPI_PM_TIMER_HZ) - 1 - clock_now(c.clock));
        assert_false(c.level[0]);
        chip_step(&c, 1);
        assert_true(c.level[0]);
        chip_write(&c, EVT, 0, 2, TMR_STS);
        assert_false(c.level[0]);
    }
    chip_write(&c, EVT, 2, 2, 0);
    chip_step(&c, 3 * half);
    assert_false(c.level[0]);
    assert_int_equal(chip_read(&c, EVT, 0, 2),
                     TMR_STS); /* the status comes without interrupt too */
    chip_close(&c);
}

static void sci_en_is_always_set(void **state) {
    struct chip c;

    chip_open(&c, &acpi_pm_class, NULL);
    assert_int_equal(chip_read(&c, CNT, 0, 2), 1);
    chip_write(&c, CNT, 0, 2, 0);
    assert_int_equal(chip_read(&c, CNT, 0, 2), 1);
    chip_write(&c, CNT, 0, 2, 0xdfff);
    assert_int_equal(chip_read(&c, CNT, 0, 2), 0x1c03);
    chip_close(&c);
}

static void the_power_button_raises_sci_if_it_is_enabled(void **state) {
    struct chip c;

    chip_open(&c, &acpi_pm_class, NULL);
    acpi_pm_power_button(c.dev);
    assert_false(c.level[0]);
    assert_int_equal(chip_read(&c, EVT, 0, 2), PWRBTN);
    chip_write(&c, EVT, 2, 2, PWRBTN | 0x20);
    assert_true(c.level[0]);
    assert_int_equal(chip_read(&c, EVT, 0, 4), 0x01200100);
    assert_int_equal(chip_in(&c, EVT, 1), 0x01);
    chip_write(&c, EVT, 0, 2, 0xffff & ~PWRBTN); /* clears what is written as one */
    assert_true(c.level[0]);
    chip_out(&c, EVT, 1, PWRBTN >> 8);
    assert_false(c.level[0]);
    acpi_pm_sleep_button(c.dev);
    assert_false(c.level[0]);
    chip_out(&c, EVT, 3, SLPBTN >> 8);
    assert_true(c.level[0]);
    chip_write(&c, EVT, 0, 4, (uint32_t)SLPBTN << 16 | SLPBTN);
    assert_false(c.level[0]);
    chip_close(&c);
}

static void soft_off_powers_off_and_other_states_do_not(void **state) {
    struct chip c;

    chip_open(&c, &acpi_pm_class, NULL);
    chip_write(&c, CNT, 0, 2, 1 << 13 | 1 << 10);
    chip_write(&c, CNT, 0, 2, 1 << 13 | 7 << 10);
    chip_write(&c, CNT, 0, 2, ACPI_PM_SLP_TYP_S5 << 10 | 1);
    assert_int_equal(c.requests, 0);
    chip_write(&c, CNT, 0, 2, 1 << 13 | ACPI_PM_SLP_TYP_S5 << 10 | 1);
    assert_int_equal(c.requests, 1);
    assert_int_equal(c.event, POWER_OFF);
    assert_int_equal(chip_read(&c, CNT, 0, 2), 1); /* SLP_EN reads 0 */
    chip_write(&c, CNT, 1, 1, 0x20);               /* by bytes */
    assert_int_equal(c.requests, 2);
    chip_close(&c);
}

static void general_purpose_events_have_status_and_enable(void **state) {
    struct chip c;

    chip_open(&c, &acpi_pm_class, NULL);
    acpi_pm_gpe(c.dev, 13);
    acpi_pm_gpe(c.dev, 64); /* there is none */
    assert_int_equal(chip_in(&c, GPE, 1), 0x20);
    assert_false(c.level[0]);
    chip_out(&c, GPE, 9, 0x20);
    assert_int_equal(chip_in(&c, GPE, 9), 0x20);
    assert_true(c.level[0]);
    chip_out(&c, GPE, 1, 0xdf);
    assert_true(c.level[0]);
    chip_out(&c, GPE, 1, 0x20);
    assert_false(c.level[0]);
    chip_close(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_timer_counts_and_wraps_at_24_bits),
        cmocka_unit_test(the_timer_never_runs_backwards_or_drifts),
        cmocka_unit_test(the_carry_of_bit_23_interrupts_twice_a_turn),
        cmocka_unit_test(sci_en_is_always_set),
        cmocka_unit_test(the_power_button_raises_sci_if_it_is_enabled),
        cmocka_unit_test(soft_off_powers_off_and_other_states_do_not),
        cmocka_unit_test(general_purpose_events_have_status_and_enable),
    };

    return chip_run(tests);
}

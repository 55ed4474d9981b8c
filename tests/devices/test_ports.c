/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the devices that are one port each: reset control, port 92h, debug console and exit,
 * POST code, pvpanic. */
#include "devices/chip.h"
#include "devices/debugcon.h"
#include "devices/reset_ctl.h"

extern const struct device_class debug_exit_class, debugcon_class, port92_class, postcode_class,
    pvpanic_class, reset_ctl_class;

static void reset_control_resets_on_the_rising_edge(void **state) {
    struct chip c;

    chip_open(&c, &reset_ctl_class, NULL);
    chip_out(&c, 0, 0, 0x02);
    assert_int_equal(chip_in(&c, 0, 0), 0x02);
    assert_int_equal(c.requests, 0);
    chip_out(&c, 0, 0, 0x06);
    assert_int_equal(c.requests, 1);
    assert_int_equal(c.event, POWER_RESET);
    chip_out(&c, 0, 0, 0x06);
    assert_int_equal(c.requests, 1);
    reset_ctl_write(c.dev, 0x00);
    reset_ctl_write(c.dev, 0x0e);
    assert_int_equal(c.requests, 2);
    assert_int_equal(reset_ctl_read(c.dev), 0x0e);
    chip_close(&c);
}

static void port_92_gates_a20_and_resets(void **state) {
    struct chip c;

    chip_open(&c, &port92_class, NULL);
    assert_int_equal(chip_in(&c, 0, 0), 0x02);
    assert_true(c.level[0]);
    chip_out(&c, 0, 0, 0x00);
    assert_false(c.level[0]);
    chip_out(&c, 0, 0, 0x02);
    assert_true(c.level[0]);
    assert_int_equal(c.requests, 0);
    chip_out(&c, 0, 0, 0x03);
    assert_int_equal(c.requests, 1);
    assert_int_equal(c.event, POWER_RESET);
    chip_out(&c, 0, 0, 0x03);
    assert_int_equal(c.requests, 1);
    chip_close(&c);
}

static void debug_exit_gives_an_odd_exit_code(void **state) {
    struct chip c;

    chip_open(&c, &debug_exit_class, NULL);
    chip_write(&c, 0, 0, 4, 0x10);
    assert_int_equal(c.requests, 1);
    assert_int_equal(c.event, POWER_EXIT);
    assert_int_equal(c.code, 0x21);
    chip_write(&c, 0, 0, 1, 0);
    assert_int_equal(c.code, 1);
    assert_int_equal(chip_read(&c, 0, 0, 4), 0);
    chip_close(&c);
}

static char console[16];
static void console_write(void *opaque, uint8_t byte) {
    unsigned *n = opaque;

    console[(*n)++ % sizeof(console)] = (char)byte;
}

static void the_debug_console_answers_and_writes(void **state) {
    unsigned n = 0;
    struct debugcon_config config = {console_write, &n};
    struct chip c;

    chip_open(&c, &debugcon_class, &config);
    assert_int_equal(chip_in(&c, 0, 0), 0xe9);
    chip_out(&c, 0, 0, 'o');
    chip_out(&c, 0, 0, 'k');
    assert_int_equal(n, 2);
    assert_memory_equal(console, "ok", 2);
    chip_close(&c);
}

static void the_post_code_is_kept(void **state) {
    struct chip c;

    chip_open(&c, &postcode_class, NULL);
    chip_out(&c, 0, 0, 0x5a);
    assert_int_equal(chip_in(&c, 0, 0), 0x5a);
    chip_close(&c);
}

static void pvpanic_reports_a_crash(void **state) {
    struct chip c;

    chip_open(&c, &pvpanic_class, NULL);
    assert_int_equal(chip_in(&c, 0, 0), 3);
    chip_out(&c, 0, 0, 2);
    assert_int_equal(c.requests, 0);
    chip_out(&c, 0, 0, 1);
    assert_int_equal(c.requests, 1);
    assert_int_equal(c.event, POWER_PANIC);
    chip_close(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reset_control_resets_on_the_rising_edge),
        cmocka_unit_test(port_92_gates_a20_and_resets),
        cmocka_unit_test(debug_exit_gives_an_odd_exit_code),
        cmocka_unit_test(the_debug_console_answers_and_writes),
        cmocka_unit_test(the_post_code_is_kept),
        cmocka_unit_test(pvpanic_reports_a_crash),
    };

    return chip_run(tests);
}

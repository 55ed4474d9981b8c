/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the keyboard controller by the PS/2 reference, in the order in which firmware and
 * kernels talk to it. */
#include "devices/i8042.h"

#include "devices/chip.h"

extern const struct device_class i8042_class;

enum { OBF = 1, SYS = 4, AUX = 0x20, TIMEOUT = 0x40 };

static uint8_t status(struct chip *c) { return chip_in(c, 1, 0); }
static void command(struct chip *c, uint8_t v) { chip_out(c, 1, 0, v); }
static void data(struct chip *c, uint8_t v) { chip_out(c, 0, 0, v); }

static uint8_t answer(struct chip *c) {
    assert_int_equal(status(c) & OBF, OBF);
    return chip_in(c, 0, 0);
}

static void silent(struct chip *c) { assert_int_equal(status(c) & OBF, 0); }

static void keys(struct chip *c, const char *codes, size_t n) {
    assert_int_equal(i8042_keys(c->dev, (const uint8_t *)codes, n), n);
    chip_refresh(c);
}

static void the_controller_passes_its_tests(void **state) {
    struct chip c;

    chip_open(&c, &i8042_class, NULL);
    silent(&c);
    command(&c, 0xaa);
    assert_int_equal(answer(&c), 0x55);
    command(&c, 0xab);
    assert_int_equal(answer(&c), 0x00);
    command(&c, 0xa9);
    assert_int_equal(answer(&c), 0x00);
    assert_int_equal(status(&c) & SYS, SYS);
    silent(&c);
    chip_close(&c);
}

static void the_configuration_byte_is_ram(void **state) {
    struct chip c;

    chip_open(&c, &i8042_class, NULL);
    command(&c, 0x20);
    assert_int_equal(answer(&c), 0x65);
    command(&c, 0x60);
    data(&c, 0xff);
    command(&c, 0x20);
    assert_int_equal(answer(&c), 0x77);
    command(&c, 0xad);
    command(&c, 0xa8);
    command(&c, 0x20);
    assert_int_equal(answer(&c), 0x57);
    command(&c, 0x65);
    data(&c, 0xab);
    command(&c, 0x25);
    assert_int_equal(answer(&c), 0xab);
    chip_close(&c);
}

static void the_keyboard_resets_as_seabios_wants_it(void **state) {
    struct chip c;

    chip_open(&c, &i8042_class, NULL);
    data(&c, 0xff);
    assert_int_equal(answer(&c), 0xfa);
    assert_int_equal(answer(&c), 0xaa);
    data(&c, 0xf5);
    assert_int_equal(answer(&c), 0xfa);
    data(&c, 0xf0);
    assert_int_equal(answer(&c), 0xfa);
    data(&c, 0x02);
    assert_int_equal(answer(&c), 0xfa);
    data(&c, 0xf4);
    assert_int_equal(answer(&c), 0xfa);
    silent(&c);
    chip_close(&c);
}

static void the_keyboard_names_itself(void **state) {
    struct chip c;

    chip_open(&c, &i8042_class, NULL);
    data(&c, 0xf2);
    assert_int_equal(answer(&c), 0xfa);
    assert_int_equal(answer(&c), 0xab);
    assert_int_equal(answer(&c), 0x41); /* 0x83 translated */
    data(&c, 0xee);
    assert_int_equal(answer(&c), 0xee);
    data(&c, 0xfe);
    assert_int_equal(answer(&c), 0xee);
    data(&c, 0xed);
    assert_int_equal(answer(&c), 0xfa);
    data(&c, 0x07);
    assert_int_equal(answer(&c), 0xfa);
    data(&c, 0x07); /* is no command */
    assert_int_equal(answer(&c), 0xfe);
    chip_close(&c);
}

static void keys_are_translated_into_set_1(void **state) {
    struct chip c;

    chip_open(&c, &i8042_class, NULL);
    keys(&c, "\x1c\xf0\x1c\xe0\x75\xe0\xf0\x75", 8); /* A, cursor up */
    assert_int_equal(answer(&c), 0x1e);
    assert_int_equal(answer(&c), 0x9e);
    assert_int_equal(answer(&c), 0xe0);
    assert_int_equal(answer(&c), 0x48);
    assert_int_equal(answer(&c), 0xe0);
    assert_int_equal(answer(&c), 0xc8);
    silent(&c);
    command(&c, 0x60);
    data(&c, 0x25); /* untranslated */
    keys(&c, "\x1c\xf0\x1c", 3);
    assert_int_equal(answer(&c), 0x1c);
    assert_int_equal(answer(&c), 0xf0);
    assert_int_equal(answer(&c), 0x1c);
    chip_close(&c);
}

static void every_byte_interrupts_if_it_is_enabled(void **state) {
    struct chip c;

    chip_open(&c, &i8042_class, NULL);
    keys(&c, "\x1c\x32", 2);
    assert_true(c.level[0]);
    answer(&c);
    assert_int_equal(c.rises[0], 2); /* it fell in between */
    answer(&c);
    assert_false(c.level[0]);
    command(&c, 0x60);
    data(&c, 0x64);
    keys(&c, "\x1c", 1);
    assert_false(c.level[0]);
    assert_int_equal(answer(&c), 0x1e);
    assert_int_equal(c.rises[0], 2);
    chip_close(&c);
}

static void a_disabled_interface_or_keyboard_is_silent(void **state) {
    struct chip c;

    chip_open(&c, &i8042_class, NULL);
    command(&c, 0xad);
    keys(&c, "\x1c", 1);
    silent(&c);
    command(&c, 0xae);
    assert_int_equal(answer(&c), 0x1e);
    data(&c, 0xf5);
    answer(&c);
    keys(&c, "\x1c", 1);
    silent(&c);
    chip_close(&c);
}

static void more_keys_than_fit_are_left_to_the_host(void **state) {
    uint8_t many[100] = {0};
    struct chip c;
    size_t taken;

    chip_open(&c, &i8042_class, NULL);
    taken = i8042_keys(c.dev, many, sizeof(many));
    assert_in_range(taken, 16, 32);
    chip_close(&c);
}

static void a_mouse_is_missing_without_a_wait(void **state) {
    struct chip c;

    chip_open(&c, &i8042_class, NULL);
    command(&c, 0x60);
    data(&c, 0x47);
    command(&c, 0xd4);
    data(&c, 0xf2);
    assert_int_equal(status(&c) & (OBF | AUX | TIMEOUT), OBF | AUX | TIMEOUT);
    assert_true(c.level[1]);
    assert_int_equal(answer(&c), 0xfe);
    assert_int_equal(status(&c) & (OBF | AUX | TIMEOUT), 0);
    assert_false(c.level[1]);
    command(&c, 0xd3); /* loop of the mouse's buffer, which drivers test */
    data(&c, 0x5a);
    assert_int_equal(status(&c) & (OBF | AUX | TIMEOUT), OBF | AUX);
    assert_int_equal(answer(&c), 0x5a);
    command(&c, 0xd2);
    data(&c, 0x5b);
    assert_int_equal(status(&c) & (OBF | AUX), OBF);
    assert_int_equal(answer(&c), 0x5b);
    chip_close(&c);
}

static void it_resets_the_machine(void **state) {
    struct chip c;

    chip_open(&c, &i8042_class, NULL);
    command(&c, 0xff); /* pulses nothing */
    command(&c, 0xf1);
    assert_int_equal(c.requests, 0);
    command(&c, 0xfe);
    assert_int_equal(c.requests, 1);
    assert_int_equal(c.event, POWER_RESET);
    command(&c, 0xd1);
    data(&c, 0xfe);
    assert_int_equal(c.requests, 2);
    chip_close(&c);
}

static void it_gates_a20(void **state) {
    struct chip c;

    chip_open(&c, &i8042_class, NULL);
    assert_true(c.level[2]);
    command(&c, 0xd1);
    data(&c, 0xdd);
    assert_false(c.level[2]);
    command(&c, 0xd0);
    assert_int_equal(answer(&c), 0xdd);
    command(&c, 0xdf);
    assert_true(c.level[2]);
    command(&c, 0xdd);
    assert_false(c.level[2]);
    command(&c, 0xd1);
    data(&c, 0xdf);
    assert_true(c.level[2]);
    assert_int_equal(c.requests, 0);
    chip_close(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_controller_passes_its_tests),
        cmocka_unit_test(the_configuration_byte_is_ram),
        cmocka_unit_test(the_keyboard_resets_as_seabios_wants_it),
        cmocka_unit_test(the_keyboard_names_itself),
        cmocka_unit_test(keys_are_translated_into_set_1),
        cmocka_unit_test(every_byte_interrupts_if_it_is_enabled),
        cmocka_unit_test(a_disabled_interface_or_keyboard_is_silent),
        cmocka_unit_test(more_keys_than_fit_are_left_to_the_host),
        cmocka_unit_test(a_mouse_is_missing_without_a_wait),
        cmocka_unit_test(it_resets_the_machine),
        cmocka_unit_test(it_gates_a20),
    };

    return chip_run(tests);
}

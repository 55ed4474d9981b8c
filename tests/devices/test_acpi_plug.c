/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the hot-plug registers by acpi_plug.h. */
#include "devices/acpi_plug.h"

#include "devices/chip.h"

extern const struct device_class acpi_plug_class;

static unsigned ejected, refused; /* slots + 1 */

static void note_ejected(void *opaque, unsigned slot) { ejected = ejected * 100 + slot + 1; }

static void note_refused(void *opaque, unsigned slot) { refused = slot + 1; }

static void open_chip(struct chip *c) {
    static const struct acpi_plug_config config = {.ejected = note_ejected,
                                                   .refused = note_refused};

    ejected = refused = 0;
    chip_open(c, &acpi_plug_class, &config);
}

static uint32_t get(struct chip *c, unsigned reg) { return (uint32_t)chip_read(c, 0, reg, 4); }

static void what_comes_is_told_once(void **state) {
    struct chip c;

    open_chip(&c);
    acpi_plug_add(c.dev, 3);
    acpi_plug_add(c.dev, 31);
    assert_true(c.level[0]);
    assert_int_equal(get(&c, ACPI_PLUG_DOWN), 0);
    assert_int_equal(get(&c, ACPI_PLUG_UP), 1u << 3 | 1u << 31);
    assert_false(c.level[0]);
    assert_int_equal(get(&c, ACPI_PLUG_UP), 0);
    assert_int_equal(acpi_plug_asked(c.dev), 0);
    chip_close(&c);
}

static void what_is_to_go_is_ejected_by_the_guest(void **state) {
    struct chip c;

    open_chip(&c);
    acpi_plug_ask(c.dev, 5);
    assert_true(c.level[0]);
    assert_int_equal(get(&c, ACPI_PLUG_DOWN), 1 << 5);
    assert_int_equal(acpi_plug_asked(c.dev), 1 << 5); /* still */
    acpi_plug_ask(c.dev, 5);
    assert_int_equal(get(&c, ACPI_PLUG_DOWN), 1 << 5); /* again */
    chip_write(&c, 0, ACPI_PLUG_EJECT, 4, 1 << 5 | 1 << 7);
    assert_int_equal(ejected, 608);
    acpi_plug_gone(c.dev, 5);
    assert_int_equal(acpi_plug_asked(c.dev), 0);
    chip_close(&c);
}

static void what_is_there_is_remembered_over_a_reset(void **state) {
    const struct acpi_plug_config config = {.ejected = note_ejected, .present = 7};
    struct chip c;

    chip_open(&c, &acpi_plug_class, &config);
    assert_int_equal(get(&c, ACPI_PLUG_PRESENT), 7);
    acpi_plug_add(c.dev, 31);
    acpi_plug_gone(c.dev, 1);
    assert_int_equal(get(&c, ACPI_PLUG_PRESENT), 1u << 31 | 5);
    device_reset(c.dev);
    assert_int_equal(get(&c, ACPI_PLUG_PRESENT), 1u << 31 | 5);
    assert_int_equal(acpi_plug_present(c.dev), 1u << 31 | 5);
    assert_int_equal(get(&c, ACPI_PLUG_UP), 0);
    chip_close(&c);
}

static void what_was_asked_for_may_be_taken_back(void **state) {
    struct chip c;

    open_chip(&c);
    acpi_plug_ask(c.dev, 4);
    acpi_plug_unask(c.dev, 4);
    assert_false(c.level[0]);
    assert_int_equal(get(&c, ACPI_PLUG_DOWN), 0);
    assert_int_equal(acpi_plug_asked(c.dev), 0);
    chip_close(&c);
}

static uint32_t outcome(unsigned slot, unsigned event, unsigned status) {
    return slot | event << 8 | status << 16;
}

static void a_refusal_is_told_and_ends_the_request(void **state) {
    struct chip c;

    open_chip(&c);
    chip_write(&c, 0, ACPI_PLUG_OUTCOME, 4, outcome(2, 3, 0x80)); /* nobody has asked */
    acpi_plug_ask(c.dev, 2);
    chip_write(&c, 0, ACPI_PLUG_OUTCOME, 4, outcome(2, 3, 0));    /* done */
    chip_write(&c, 0, ACPI_PLUG_OUTCOME, 4, outcome(2, 3, 0x84)); /* in progress */
    chip_write(&c, 0, ACPI_PLUG_OUTCOME, 4, outcome(2, 1, 0x80)); /* of another event */
    chip_write(&c, 0, ACPI_PLUG_OUTCOME, 4, outcome(200, 3, 0x80));
    assert_int_equal(refused, 0);
    assert_int_equal(acpi_plug_asked(c.dev), 1 << 2);
    chip_write(&c, 0, ACPI_PLUG_OUTCOME, 4, outcome(2, 3, 0x82)); /* busy */
    assert_int_equal(refused, 3);
    assert_int_equal(acpi_plug_asked(c.dev), 0);
    chip_close(&c);
}

static void a_slot_that_is_empty_asks_for_nothing(void **state) {
    struct chip c;

    open_chip(&c);
    acpi_plug_add(c.dev, 9);
    acpi_plug_ask(c.dev, 9);
    acpi_plug_gone(c.dev, 9);
    assert_false(c.level[0]);
    assert_int_equal(get(&c, ACPI_PLUG_UP) | get(&c, ACPI_PLUG_DOWN), 0);
    chip_write(&c, 0, ACPI_PLUG_UP, 4, ~0u); /* read-only */
    assert_int_equal(get(&c, ACPI_PLUG_UP), 0);
    assert_int_equal(get(&c, ACPI_PLUG_EJECT) | get(&c, ACPI_PLUG_OUTCOME), 0);
    chip_close(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_comes_is_told_once),
        cmocka_unit_test(what_is_to_go_is_ejected_by_the_guest),
        cmocka_unit_test(what_is_there_is_remembered_over_a_reset),
        cmocka_unit_test(what_was_asked_for_may_be_taken_back),
        cmocka_unit_test(a_refusal_is_told_and_ends_the_request),
        cmocka_unit_test(a_slot_that_is_empty_asks_for_nothing),
    };

    return chip_run(tests);
}

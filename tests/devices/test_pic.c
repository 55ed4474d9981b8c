/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the 8259A pair by the datasheet (Intel order 231468). */
#include "devices/pic.h"

#include "devices/chip.h"

extern const struct device_class pic_class;

enum { MASTER, SLAVE, ELCR };
enum { EOI = 0x20, EOI_ROTATE = 0xa0, READ_IRR = 0x0a, READ_ISR = 0x0b, POLL = 0x0c };

static void start_chip(struct chip *c, unsigned which, uint8_t base, uint8_t icw4) {
    chip_out(c, which, 0, 0x11);
    chip_out(c, which, 1, base);
    chip_out(c, which, 1, which == MASTER ? 4 : 2);
    chip_out(c, which, 1, icw4);
}

/* As a BIOS does: vectors 8 and 70h, everything unmasked. */
static void bench(struct chip *c) {
    chip_open(c, &pic_class, NULL);
    start_chip(c, MASTER, 0x08, 1);
    start_chip(c, SLAVE, 0x70, 1);
}

static void wire(struct chip *c, unsigned n, bool level) {
    struct irq irq = pic_irq_wire(c->dev, n);

    irq_set(&irq, level);
    chip_refresh(c);
}

static void pulse(struct chip *c, unsigned n) {
    wire(c, n, true);
    wire(c, n, false);
}

static int ack(struct chip *c) {
    int vector = pic_ack(c->dev);

    chip_refresh(c);
    return vector;
}

static uint8_t isr(struct chip *c, unsigned which) {
    chip_out(c, which, 0, READ_ISR);
    return chip_in(c, which, 0);
}

static uint8_t irr(struct chip *c, unsigned which) {
    chip_out(c, which, 0, READ_IRR);
    return chip_in(c, which, 0);
}

static void an_uninitialised_chip_stays_silent(void **state) {
    struct chip c;

    chip_open(&c, &pic_class, NULL);
    for (unsigned n = 0; n < 16; n++)
        pulse(&c, n);
    assert_int_equal(c.rises[0], 0);
    chip_close(&c);
}

static void masks_read_back_as_a_kernel_probes_them(void **state) {
    struct chip c;

    bench(&c);
    chip_out(&c, MASTER, 1, 0xfb);
    chip_out(&c, SLAVE, 1, 0xff);
    assert_int_equal(chip_in(&c, MASTER, 1), 0xfb);
    assert_int_equal(chip_in(&c, SLAVE, 1), 0xff);
    chip_close(&c);
}

static void a_request_goes_from_irr_to_isr_and_out_with_the_eoi(void **state) {
    struct chip c;

    bench(&c);
    wire(&c, 1, true);
    assert_true(c.level[0] && pic_pending(c.dev));
    assert_int_equal(irr(&c, MASTER), 0x02);
    assert_int_equal(ack(&c), 0x09);
    assert_false(c.level[0]);
    assert_int_equal(irr(&c, MASTER), 0);
    assert_int_equal(isr(&c, MASTER), 0x02);
    chip_out(&c, MASTER, 0, EOI);
    assert_int_equal(isr(&c, MASTER), 0);
    wire(&c, 1, false);
    assert_false(c.level[0]);
    chip_close(&c);
}

static void an_edge_that_has_passed_is_not_lost(void **state) {
    struct chip c;

    bench(&c);
    chip_out(&c, MASTER, 1, 0x01);
    pulse(&c, 0);
    assert_false(c.level[0]);
    chip_out(&c, MASTER, 1, 0x00);
    assert_true(c.level[0]);
    assert_int_equal(ack(&c), 0x08);
    chip_close(&c);
}

static void a_held_edge_line_interrupts_once(void **state) {
    struct chip c;

    bench(&c);
    wire(&c, 3, true);
    assert_int_equal(ack(&c), 0x0b);
    chip_out(&c, MASTER, 0, EOI);
    assert_false(c.level[0]);
    wire(&c, 3, true);
    assert_false(c.level[0]);
    wire(&c, 3, false);
    wire(&c, 3, true);
    assert_true(c.level[0]);
    chip_close(&c);
}

static void a_level_line_interrupts_until_it_falls(void **state) {
    struct chip c;

    bench(&c);
    chip_out(&c, ELCR, 1, 0x0c);
    assert_int_equal(chip_in(&c, ELCR, 1), 0x0c);
    wire(&c, 10, true);
    for (int i = 0; i < 3; i++) {
        assert_true(c.level[0]);
        assert_int_equal(ack(&c), 0x72);
        chip_out(&c, SLAVE, 0, EOI);
        chip_out(&c, MASTER, 0, EOI);
    }
    wire(&c, 10, false);
    assert_false(c.level[0]);
    chip_close(&c);
}

static void pins_of_the_board_cannot_be_made_level_triggered(void **state) {
    struct chip c;

    bench(&c);
    chip_out(&c, ELCR, 0, 0xff);
    chip_out(&c, ELCR, 1, 0xff);
    assert_int_equal(chip_in(&c, ELCR, 0), 0xf8);
    assert_int_equal(chip_in(&c, ELCR, 1), 0xde);
    chip_close(&c);
}

static void a_level_that_went_away_gives_the_spurious_vector(void **state) {
    struct chip c;

    bench(&c);
    chip_out(&c, ELCR, 0, 0x20);
    chip_out(&c, ELCR, 1, 0x02);
    wire(&c, 5, true);
    wire(&c, 5, false);
    assert_int_equal(ack(&c), 0x0f);
    assert_int_equal(isr(&c, MASTER), 0); /* no EOI is due */
    chip_close(&c);
}

static void a_request_of_the_slave_that_went_away_is_spurious_too(void **state) {
    struct chip c;

    bench(&c);
    wire(&c, 12, true);
    chip_out(&c, SLAVE, 1, 0x10);
    assert_false(c.level[0]);
    assert_int_equal(ack(&c), 0x0f);
    chip_out(&c, SLAVE, 1, 0x00);
    assert_int_equal(ack(&c), 0x74);
    chip_close(&c);
}

static void higher_priorities_interrupt_lower_ones_and_not_the_reverse(void **state) {
    struct chip c;

    bench(&c);
    pulse(&c, 4);
    assert_int_equal(ack(&c), 0x0c);
    pulse(&c, 6);
    assert_false(c.level[0]);
    pulse(&c, 4);
    assert_false(c.level[0]);
    pulse(&c, 1);
    assert_true(c.level[0]);
    assert_int_equal(ack(&c), 0x09);
    assert_int_equal(isr(&c, MASTER), 0x12);
    chip_out(&c, MASTER, 0, EOI); /* of 1 */
    assert_int_equal(isr(&c, MASTER), 0x10);
    assert_false(c.level[0]);
    chip_out(&c, MASTER, 0, EOI); /* of 4 */
    assert_int_equal(ack(&c), 0x0c);
    chip_out(&c, MASTER, 0, EOI);
    assert_int_equal(ack(&c), 0x0e);
    chip_close(&c);
}

static void the_slave_sits_between_pins_1_and_3(void **state) {
    struct chip c;

    bench(&c);
    pulse(&c, 3);
    pulse(&c, 15);
    pulse(&c, 8);
    pulse(&c, 1);
    assert_int_equal(ack(&c), 0x09);
    chip_out(&c, MASTER, 0, EOI);
    assert_int_equal(ack(&c), 0x70);
    assert_int_equal(isr(&c, MASTER), 0x04);
    assert_int_equal(isr(&c, SLAVE), 0x01);
    chip_out(&c, SLAVE, 0, EOI);
    chip_out(&c, MASTER, 0, EOI);
    assert_int_equal(ack(&c), 0x77);
    chip_out(&c, SLAVE, 0, EOI);
    chip_out(&c, MASTER, 0, EOI);
    assert_int_equal(ack(&c), 0x0b);
    chip_close(&c);
}

static void the_special_fully_nested_master_lets_the_slave_nest(void **state) {
    struct chip c;

    chip_open(&c, &pic_class, NULL);
    start_chip(&c, MASTER, 0x08, 0x11);
    start_chip(&c, SLAVE, 0x70, 0x01);
    pulse(&c, 12);
    assert_int_equal(ack(&c), 0x74);
    pulse(&c, 9);
    assert_true(c.level[0]);
    assert_int_equal(ack(&c), 0x71);
    chip_close(&c);

    bench(&c); /* without it the slave's higher priority waits for the master's EOI */
    pulse(&c, 12);
    assert_int_equal(ack(&c), 0x74);
    pulse(&c, 9);
    assert_false(c.level[0]);
    chip_out(&c, MASTER, 0, EOI);
    assert_int_equal(ack(&c), 0x71);
    chip_close(&c);
}

static void the_cascade_pin_is_nobodys(void **state) {
    struct chip c;

    bench(&c);
    assert_null(pic_irq_wire(c.dev, 2).fn);
    assert_null(pic_irq_wire(c.dev, 16).fn);
    chip_close(&c);
}

static void special_mask_mode_lets_lower_priorities_in(void **state) {
    struct chip c;

    bench(&c);
    pulse(&c, 1);
    ack(&c);
    pulse(&c, 5);
    assert_false(c.level[0]);
    chip_out(&c, MASTER, 1, 0x02);
    chip_out(&c, MASTER, 0, 0x68);
    assert_true(c.level[0]);
    assert_int_equal(ack(&c), 0x0d);
    chip_out(&c, MASTER, 0, EOI); /* does not touch the masked one */
    assert_int_equal(isr(&c, MASTER), 0x02);
    chip_out(&c, MASTER, 0, 0x61); /* specific */
    assert_int_equal(isr(&c, MASTER), 0);
    chip_close(&c);
}

static void automatic_eoi_leaves_nothing_in_service(void **state) {
    struct chip c;

    chip_open(&c, &pic_class, NULL);
    start_chip(&c, MASTER, 0x20, 3);
    pulse(&c, 6);
    pulse(&c, 7);
    assert_int_equal(ack(&c), 0x26);
    assert_int_equal(isr(&c, MASTER), 0);
    assert_int_equal(ack(&c), 0x27);
    chip_close(&c);
}

static void rotation_gives_everyone_a_turn(void **state) {
    struct chip c;

    bench(&c);
    pulse(&c, 0);
    pulse(&c, 1);
    assert_int_equal(ack(&c), 0x08);
    chip_out(&c, MASTER, 0, EOI_ROTATE); /* 0 is lowest now */
    pulse(&c, 0);
    pulse(&c, 7);
    assert_int_equal(ack(&c), 0x09);
    chip_out(&c, MASTER, 0, EOI);
    assert_int_equal(ack(&c), 0x0f);
    chip_out(&c, MASTER, 0, EOI);
    assert_int_equal(ack(&c), 0x08);
    chip_out(&c, MASTER, 0, EOI);

    chip_out(&c, MASTER, 0, 0xc4); /* set priority: 4 lowest, 5 highest */
    pulse(&c, 4);
    pulse(&c, 5);
    assert_int_equal(ack(&c), 0x0d);
    chip_close(&c);
}

static void a_poll_acknowledges_and_names_the_pin(void **state) {
    struct chip c;

    bench(&c);
    chip_out(&c, MASTER, 0, POLL);
    assert_int_equal(chip_in(&c, MASTER, 0) & 0x80, 0);
    pulse(&c, 5);
    chip_out(&c, MASTER, 0, POLL);
    assert_int_equal(chip_in(&c, MASTER, 0), 0x85);
    assert_false(c.level[0]);
    assert_int_equal(isr(&c, MASTER), 0x20);
    chip_close(&c);
}

static void a_queue_of_requests_makes_an_edge_for_each(void **state) {
    struct chip c;

    chip_open(&c, &pic_class, NULL);
    start_chip(&c, MASTER, 0x20, 3);
    pulse(&c, 3);
    pulse(&c, 4);
    pulse(&c, 5);
    assert_int_equal(c.rises[0], 1);
    ack(&c);
    ack(&c);
    assert_int_equal(c.rises[0], 3); /* an IOAPIC pin in edge mode sees them all */
    chip_close(&c);
}

static void icw1_forgets_edges_and_masks(void **state) {
    struct chip c;

    bench(&c);
    wire(&c, 1, true);
    chip_out(&c, MASTER, 1, 0xaa);
    start_chip(&c, MASTER, 0x30, 1);
    assert_int_equal(chip_in(&c, MASTER, 1), 0);
    assert_false(c.level[0]); /* the line is still high, but makes no edge */
    wire(&c, 1, false);
    wire(&c, 1, true);
    assert_int_equal(ack(&c), 0x31);
    chip_close(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_uninitialised_chip_stays_silent),
        cmocka_unit_test(masks_read_back_as_a_kernel_probes_them),
        cmocka_unit_test(a_request_goes_from_irr_to_isr_and_out_with_the_eoi),
        cmocka_unit_test(an_edge_that_has_passed_is_not_lost),
        cmocka_unit_test(a_held_edge_line_interrupts_once),
        cmocka_unit_test(a_level_line_interrupts_until_it_falls),
        cmocka_unit_test(pins_of_the_board_cannot_be_made_level_triggered),
        cmocka_unit_test(a_level_that_went_away_gives_the_spurious_vector),
        cmocka_unit_test(a_request_of_the_slave_that_went_away_is_spurious_too),
        cmocka_unit_test(higher_priorities_interrupt_lower_ones_and_not_the_reverse),
        cmocka_unit_test(the_slave_sits_between_pins_1_and_3),
        cmocka_unit_test(the_special_fully_nested_master_lets_the_slave_nest),
        cmocka_unit_test(the_cascade_pin_is_nobodys),
        cmocka_unit_test(special_mask_mode_lets_lower_priorities_in),
        cmocka_unit_test(automatic_eoi_leaves_nothing_in_service),
        cmocka_unit_test(rotation_gives_everyone_a_turn),
        cmocka_unit_test(a_poll_acknowledges_and_names_the_pin),
        cmocka_unit_test(a_queue_of_requests_makes_an_edge_for_each),
        cmocka_unit_test(icw1_forgets_edges_and_masks),
    };

    return chip_run(tests);
}

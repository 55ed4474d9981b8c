/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the I/O APIC by the 82093AA datasheet, with its messages caught on the way. */
#include "devices/ioapic.h"

#include "devices/chip.h"

extern const struct device_class ioapic_class;

enum { SELECT = 0, WINDOW = 0x10, EOI = 0x40 };
enum { LOGICAL = 1 << 11, REMOTE_IRR = 1 << 14, LEVEL = 1 << 15, MASKED = 1 << 16 };

static uint32_t get(struct chip *c, unsigned index) {
    chip_write(c, 0, SELECT, 4, index);
    return (uint32_t)chip_read(c, 0, WINDOW, 4);
}

static void put(struct chip *c, unsigned index, uint32_t value) {
    chip_write(c, 0, SELECT, 4, index);
    chip_write(c, 0, WINDOW, 4, value);
}

static void entry(struct chip *c, unsigned pin, uint32_t low, uint8_t dest) {
    put(c, 0x11 + 2 * pin, (uint32_t)dest << 24);
    put(c, 0x10 + 2 * pin, low);
}

static void wire(struct chip *c, unsigned pin, bool level) {
    struct irq irq = ioapic_irq_wire(c->dev, pin);

    irq_set(&irq, level);
    chip_refresh(c);
}

static void eoi(struct chip *c, uint8_t vector) {
    ioapic_eoi(c->dev, vector);
    chip_refresh(c);
}

static void it_comes_up_as_kernels_expect_it(void **state) {
    struct ioapic_config config = {.id = 3};
    struct chip c;

    chip_open(&c, &ioapic_class, &config);
    assert_int_equal(get(&c, 0), 3 << 24);
    assert_int_equal(get(&c, 1), 0x170020);
    assert_int_equal(get(&c, 2), 3 << 24);
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        assert_int_equal(get(&c, 0x10 + 2 * pin), MASKED);
        assert_int_equal(get(&c, 0x11 + 2 * pin), 0);
    }
    assert_int_equal(get(&c, 0x40), 0xffffffff);
    assert_int_equal(chip_read(&c, 0, SELECT, 4), 0x40);
    put(&c, 0, 0xff000000);
    assert_int_equal(get(&c, 0), 0x0f000000);
    chip_close(&c);
}

static void an_edge_becomes_one_message(void **state) {
    struct chip c;

    chip_open(&c, &ioapic_class, NULL);
    entry(&c, 4, 0x31, 2);
    wire(&c, 4, true);
    wire(&c, 4, true);
    assert_int_equal(c.messages, 1);
    assert_int_equal(c.addr, 0xfee02000);
    assert_int_equal(c.data, 0x4031);
    wire(&c, 4, false);
    assert_int_equal(c.messages, 1);
    wire(&c, 4, true);
    assert_int_equal(c.messages, 2);
    chip_close(&c);
}

static void destination_and_delivery_mode_reach_the_message(void **state) {
    struct chip c;

    chip_open(&c, &ioapic_class, NULL);
    entry(&c, 9, LOGICAL | LEVEL | 1 << 8 | 0x55, 0xff);
    wire(&c, 9, true);
    assert_int_equal(c.addr, 0xfeeff004);
    assert_int_equal(c.data, 0xc155);
    entry(&c, 5, 4 << 8, 1);
    wire(&c, 5, true);
    assert_int_equal(c.addr, 0xfee01000);
    assert_int_equal(c.data, 0x4400); /* NMI */
    chip_close(&c);
}

static void a_level_is_sent_again_after_the_eoi_while_it_lasts(void **state) {
    struct chip c;

    chip_open(&c, &ioapic_class, NULL);
    entry(&c, 10, LEVEL | 0x60, 0);
    wire(&c, 10, true);
    assert_int_equal(c.messages, 1);
    assert_int_equal(get(&c, 0x24) & REMOTE_IRR, REMOTE_IRR);
    eoi(&c, 0x61);
    assert_int_equal(c.messages, 1);
    eoi(&c, 0x60);
    assert_int_equal(c.messages, 2);
    chip_write(&c, 0, EOI, 4, 0x60); /* the register does the same */
    assert_int_equal(c.messages, 3);
    wire(&c, 10, false);
    assert_int_equal(get(&c, 0x24) & REMOTE_IRR, REMOTE_IRR);
    eoi(&c, 0x60);
    assert_int_equal(c.messages, 3);
    assert_int_equal(get(&c, 0x24) & REMOTE_IRR, 0);
    wire(&c, 10, true);
    assert_int_equal(c.messages, 4);
    chip_close(&c);
}

static void a_level_that_toggles_before_the_eoi_is_sent_once(void **state) {
    struct chip c;

    chip_open(&c, &ioapic_class, NULL);
    entry(&c, 10, LEVEL | 0x60, 0);
    for (int i = 0; i < 5; i++) {
        wire(&c, 10, true);
        wire(&c, 10, false);
    }
    assert_int_equal(c.messages, 1);
    wire(&c, 10, true);
    eoi(&c, 0x60);
    assert_int_equal(c.messages, 2);
    chip_close(&c);
}

static void masked_edges_are_ignored_and_masked_levels_wait(void **state) {
    struct chip c;

    chip_open(&c, &ioapic_class, NULL);
    entry(&c, 4, MASKED | 0x31, 0);
    wire(&c, 4, true);
    entry(&c, 4, 0x31, 0);
    assert_int_equal(c.messages, 0);

    entry(&c, 10, MASKED | LEVEL | 0x60, 0);
    wire(&c, 10, true);
    assert_int_equal(c.messages, 0);
    entry(&c, 10, LEVEL | 0x60, 0);
    assert_int_equal(c.messages, 1);
    put(&c, 0x24, MASKED | LEVEL | 0x60);
    eoi(&c, 0x60); /* masked meanwhile */
    assert_int_equal(c.messages, 1);
    put(&c, 0x24, LEVEL | 0x60);
    assert_int_equal(c.messages, 2);
    chip_close(&c);
}

static void unmasking_does_not_send_what_has_not_been_ended(void **state) {
    struct chip c;

    chip_open(&c, &ioapic_class, NULL);
    entry(&c, 10, LEVEL | 0x60, 0);
    wire(&c, 10, true);
    put(&c, 0x24, MASKED | LEVEL | 0x60);
    put(&c, 0x24, LEVEL | 0x60);
    assert_int_equal(c.messages, 1);
    chip_close(&c);
}

static void switching_to_edge_and_back_clears_remote_irr(void **state) {
    struct chip c;

    chip_open(&c, &ioapic_class, NULL);
    entry(&c, 10, LEVEL | 0x60, 0);
    wire(&c, 10, true);
    wire(&c, 10, false);
    put(&c, 0x24, MASKED | 0x60);
    put(&c, 0x24, MASKED | LEVEL | 0x60);
    assert_int_equal(get(&c, 0x24), MASKED | LEVEL | 0x60);
    put(&c, 0x24, LEVEL | 0x60);
    wire(&c, 10, true);
    assert_int_equal(c.messages, 2);
    chip_close(&c);
}

static void read_only_bits_cannot_be_written(void **state) {
    struct chip c;

    chip_open(&c, &ioapic_class, NULL);
    put(&c, 0x10, 0xffffffff);
    put(&c, 0x11, 0xffffffff);
    assert_int_equal(get(&c, 0x10), 0x1afff);
    assert_int_equal(get(&c, 0x11), 0xff000000);
    put(&c, 1, 0);
    assert_int_equal(get(&c, 1), 0x170020);
    chip_close(&c);
}

static void two_pins_with_one_vector_are_both_ended(void **state) {
    struct chip c;

    chip_open(&c, &ioapic_class, NULL);
    entry(&c, 10, LEVEL | 0x60, 0);
    entry(&c, 11, LEVEL | 0x60, 0);
    wire(&c, 10, true);
    wire(&c, 11, true);
    assert_int_equal(c.messages, 2);
    eoi(&c, 0x60);
    assert_int_equal(c.messages, 4);
    chip_close(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_comes_up_as_kernels_expect_it),
        cmocka_unit_test(an_edge_becomes_one_message),
        cmocka_unit_test(destination_and_delivery_mode_reach_the_message),
        cmocka_unit_test(a_level_is_sent_again_after_the_eoi_while_it_lasts),
        cmocka_unit_test(a_level_that_toggles_before_the_eoi_is_sent_once),
        cmocka_unit_test(masked_edges_are_ignored_and_masked_levels_wait),
        cmocka_unit_test(unmasking_does_not_send_what_has_not_been_ended),
        cmocka_unit_test(switching_to_edge_and_back_clears_remote_irr),
        cmocka_unit_test(read_only_bits_cannot_be_written),
        cmocka_unit_test(two_pins_with_one_vector_are_both_ended),
    };

    return chip_run(tests);
}

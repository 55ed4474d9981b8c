/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The AML writer against the encodings that ACPI 6.5 section 20.2 and 6.4 give. */
#include "machine/aml.h"

#include <string.h>

#include "support/test.h"

#define ASSERT_BYTES(b, ...)                                                                       \
    do {                                                                                           \
        const uint8_t want_[] = {__VA_ARGS__};                                                     \
        assert_int_equal((b)->len, sizeof(want_));                                                 \
        assert_memory_equal((b)->data, want_, sizeof(want_));                                      \
        buf_done(b);                                                                               \
    } while (0)

static void integers_take_the_shortest_form(void **state) {
    struct buf b = {0};

    aml_integer(&b, 0);
    aml_integer(&b, 1);
    ASSERT_BYTES(&b, 0x00, 0x01);
    aml_integer(&b, 2);
    aml_integer(&b, 0xff);
    ASSERT_BYTES(&b, 0x0a, 0x02, 0x0a, 0xff);
    aml_integer(&b, 0x100);
    aml_integer(&b, 0xffff);
    ASSERT_BYTES(&b, 0x0b, 0x00, 0x01, 0x0b, 0xff, 0xff);
    aml_integer(&b, 0x10000);
    aml_integer(&b, 0xffffffff);
    ASSERT_BYTES(&b, 0x0c, 0x00, 0x00, 0x01, 0x00, 0x0c, 0xff, 0xff, 0xff, 0xff);
    aml_integer(&b, 0x123456789a);
    ASSERT_BYTES(&b, 0x0e, 0x9a, 0x78, 0x56, 0x34, 0x12, 0x00, 0x00, 0x00);
}

static void names_are_filled_up_with_underscores(void **state) {
    struct buf b = {0};

    aml_name(&b, "_S5");
    ASSERT_BYTES(&b, 0x08, '_', 'S', '5', '_');
    aml_name(&b, "\\_SB");
    ASSERT_BYTES(&b, 0x08, '\\', '_', 'S', 'B', '_');
    aml_name(&b, "PCI0");
    ASSERT_BYTES(&b, 0x08, 'P', 'C', 'I', '0');
}

static void strings_and_eisa_ids(void **state) {
    struct buf b = {0};

    aml_string(&b, "QEMU0001");
    ASSERT_BYTES(&b, 0x0d, 'Q', 'E', 'M', 'U', '0', '0', '0', '1', 0);
    aml_eisa_id(&b, "PNP0A03"); /* the example of section 19.3.4 */
    ASSERT_BYTES(&b, 0x0c, 0x41, 0xd0, 0x0a, 0x03);
}

static void lengths_count_themselves_and_what_they_enclose(void **state) {
    struct buf b = {0};
    size_t scope = aml_scope(&b, "\\_SB"), device = aml_device(&b, "DEV0"), p;

    aml_name(&b, "_ADR");
    aml_integer(&b, 0);
    aml_close(&b, device);
    aml_close(&b, scope);
    /* 3 bytes of length each: 0x80 | low 4 bits, then bits 4-11, then bits 12-19. */
    ASSERT_BYTES(&b, 0x10, 0x87, 0x01, 0x00, '\\', '_', 'S', 'B', '_', 0x5b, 0x82, 0x8d, 0x00, 0x00,
                 'D', 'E', 'V', '0', 0x08, '_', 'A', 'D', 'R', 0x00);
    p = aml_package(&b, 2);
    for (unsigned i = 0; i < 5000; i++)
        aml_integer(&b, 0);
    aml_close(&b, p);
    assert_int_equal(b.data[1] & 0xc0, 0x80);
    assert_int_equal((b.data[1] & 15) | b.data[2] << 4 | b.data[3] << 12, b.len - 1);
    buf_done(&b);
}

static void a_method_returns_an_argument(void **state) {
    struct buf b = {0};
    size_t m = aml_method(&b, "_OSC", 4);

    aml_return_arg(&b, 3);
    aml_close(&b, m);
    ASSERT_BYTES(&b, 0x14, 0x8a, 0x00, 0x00, '_', 'O', 'S', 'C', 4, 0xa4, 0x6b);
}

static void a_method_keeps_its_argument_and_chooses_by_it(void **state) {
    struct buf b = {0};
    size_t m;

    aml_store_arg(&b, 0, "PICF");
    m = aml_if(&b, "PICF");
    aml_return_name(&b, "PRTA");
    aml_close(&b, m);
    ASSERT_BYTES(&b, 0x70, 0x68, 'P', 'I', 'C', 'F', 0xa0, 0x8c, 0x00, 0x00, 'P', 'I', 'C', 'F',
                 0xa4, 'P', 'R', 'T', 'A');
}

static void resources_are_a_buffer_with_an_end_tag(void **state) {
    struct buf b = {0};
    size_t r = aml_resources(&b);

    aml_io(&b, 0x3f8, 8);
    aml_irq(&b, 4);
    aml_close_resources(&b, r);
    ASSERT_BYTES(&b, 0x11, 0x83, 0x01, 0x00, 0x0b, 0x0d, 0x00, /* 13 bytes follow */
                 0x47, 1, 0xf8, 0x03, 0xf8, 0x03, 1, 8, 0x22, 0x10, 0x00, 0x79, 0x00);
}

static void address_ranges(void **state) {
    struct buf b = {0};

    aml_bus_range(&b, 0, 0xff);
    ASSERT_BYTES(&b, 0x88, 13, 0, 2, 0x0c, 0, 0, 0, 0, 0, 0xff, 0, 0, 0, 0x00, 0x01);
    aml_io_range(&b, 0xd00, 0xffff);
    ASSERT_BYTES(&b, 0x88, 13, 0, 1, 0x0c, 3, 0, 0, 0x00, 0x0d, 0xff, 0xff, 0, 0, 0x00, 0xf3);
    aml_memory_range32(&b, 0xc0000000, 0xfebfffff);
    ASSERT_BYTES(&b, 0x87, 23, 0, 0, 0x0c, 1, 0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff, 0xbf, 0xfe, 0,
                 0, 0, 0, 0, 0, 0xc0, 0x3e);
    aml_memory_range64(&b, 1ull << 40, (1ull << 40) + 0xfff);
    ASSERT_BYTES(&b, 0x8a, 43, 0, 0, 0x0c, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0xff,
                 0x0f, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x10, 0, 0, 0, 0, 0, 0);
    aml_fixed_memory(&b, 0xb0000000, 0x10000000);
    ASSERT_BYTES(&b, 0x86, 9, 0, 1, 0, 0, 0, 0xb0, 0, 0, 0, 0x10);
}

static void ports_have_fields_that_methods_use(void **state) {
    static const char *const names[] = {"AAAA", "BBB"};
    struct buf b = {0};
    size_t mark;

    aml_ports(&b, "REGS", 0xae00, 16); /* 20.2.5.2, DefOpRegion */
    ASSERT_BYTES(&b, 0x5b, 0x80, 'R', 'E', 'G', 'S', 1, 0x0b, 0x00, 0xae, 0x0a, 16);
    aml_fields32(&b, "REGS", names, 2); /* DefField: 32-bit access, no lock, others written as 0 */
    ASSERT_BYTES(&b, 0x5b, 0x81, 0x82, 0x01, 0, 'R', 'E', 'G', 'S', 0x43, 'A', 'A', 'A', 'A', 32,
                 'B', 'B', 'B', '_', 32);
    aml_store_integer(&b, 4, "AAAA");
    ASSERT_BYTES(&b, 0x70, 0x0a, 4, 'A', 'A', 'A', 'A');
    aml_store_local(&b, "AAAA", 2);
    ASSERT_BYTES(&b, 0x70, 'A', 'A', 'A', 'A', 0x62);
    mark = aml_if_bits(&b, 0, 0x10000);
    aml_notify_near(&b, "S01", 3);
    aml_close(&b, mark);
    ASSERT_BYTES(&b, 0xa0, 0x82, 0x01, 0, 0x7b, 0x60, 0x0c, 0, 0, 1, 0, 0, 0x86, 'S', '0', '1', '_',
                 0x0a, 3);
    aml_call(&b, "PCI0", "PHNT");
    ASSERT_BYTES(&b, '\\', 0x2f, 3, '_', 'S', 'B', '_', 'P', 'C', 'I', '0', 'P', 'H', 'N', 'T');
    aml_store_packed(&b, 5, "AAAA");
    ASSERT_BYTES(&b, 0x70, 0x7d, 0x7d, 0x0a, 5, 0x79, 0x7b, 0x68, 0x0a, 0xff, 0, 0x0a, 8, 0, 0,
                 0x79, 0x7b, 0x69, 0x0a, 0xff, 0, 0x0a, 16, 0, 0, 'A', 'A', 'A', 'A');
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_take_the_shortest_form),
        cmocka_unit_test(names_are_filled_up_with_underscores),
        cmocka_unit_test(strings_and_eisa_ids),
        cmocka_unit_test(lengths_count_themselves_and_what_they_enclose),
        cmocka_unit_test(a_method_returns_an_argument),
        cmocka_unit_test(a_method_keeps_its_argument_and_chooses_by_it),
        cmocka_unit_test(resources_are_a_buffer_with_an_end_tag),
        cmocka_unit_test(address_ranges),
        cmocka_unit_test(ports_have_fields_that_methods_use),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of loads and stores, the growable buffer and the reader. */
#include "base/bytes.h"

#include "support/test.h"

static void loads_and_stores_know_both_byte_orders_at_any_address(void **state) {
    uint8_t b[16] = {0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88};

    assert_int_equal(load_le16(b + 1), 0x2211);
    assert_int_equal(load_be16(b + 1), 0x1122);
    assert_int_equal(load_le32(b + 1), 0x44332211);
    assert_int_equal(load_be32(b + 1), 0x11223344);
    assert_true(load_le64(b + 1) == 0x8877665544332211ull);
    assert_true(load_be64(b + 1) == 0x1122334455667788ull);
    store_be32(b + 3, 0xa1b2c3d4);
    assert_int_equal(b[3], 0xa1);
    assert_int_equal(b[6], 0xd4);
    store_le64(b + 3, 0x0102030405060708ull);
    assert_int_equal(b[3], 8);
    assert_int_equal(b[10], 1);
}

static void a_buffer_keeps_what_was_put_however_much_it_grows(void **state) {
    struct buf b = {0};

    for (uint32_t i = 0; i < 10000; i++)
        buf_put_le32(&b, i);
    assert_int_equal(b.len, 40000);
    for (uint32_t i = 0; i < 10000; i++)
        assert_int_equal(load_le32(b.data + 4 * i), i);
    buf_done(&b);
    assert_null(b.data);
    assert_int_equal(b.len, 0);
}

static void grown_bytes_are_zero(void **state) {
    struct buf b = {0};
    uint8_t *p;

    memset(buf_grow(&b, 64), 0xff, 64);
    b.len = 10; /* what lay behind was used once */
    p = buf_grow(&b, 50);
    for (int i = 0; i < 50; i++)
        assert_int_equal(p[i], 0);
    buf_done(&b);
}

static void text_is_appended_without_its_terminator(void **state) {
    struct buf b = {0};

    for (int i = 0; i < 100; i++)
        buf_printf(&b, "%d,", i % 10);
    buf_printf(&b, "%s", "");
    assert_int_equal(b.len, 200);
    assert_memory_equal(b.data, "0,1,2,", 6);
    buf_put(&b, NULL, 0);
    assert_int_equal(b.len, 200);
    buf_done(&b);
}

static void a_reader_gives_zero_and_stays_bad_past_the_end(void **state) {
    const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7};
    struct reader r = {.p = bytes, .left = sizeof(bytes)};

    assert_int_equal(reader_u8(&r), 1);
    assert_int_equal(reader_le16(&r), 0x0302);
    assert_int_equal(reader_le32(&r), 0x07060504);
    assert_false(r.bad);
    assert_int_equal(reader_u8(&r), 0);
    assert_true(r.bad);

    r = (struct reader){.p = bytes, .left = sizeof(bytes)};
    assert_true(reader_le64(&r) == 0);
    assert_true(r.bad);
    assert_int_equal(reader_u8(&r), 0); /* although bytes are left */
    assert_null(reader_take(&r, 0));

    r = (struct reader){.p = bytes, .left = sizeof(bytes)};
    assert_null(reader_take(&r, SIZE_MAX));
    assert_true(r.bad);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loads_and_stores_know_both_byte_orders_at_any_address),
        cmocka_unit_test(a_buffer_keeps_what_was_put_however_much_it_grows),
        cmocka_unit_test(grown_bytes_are_zero),
        cmocka_unit_test(text_is_appended_without_its_terminator),
        cmocka_unit_test(a_reader_gives_zero_and_stays_bad_past_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of port and MMIO dispatch: limits, splits, edges, wraps, maps that change under way. */
#include "bus/io.h"

#include <errno.h>
#include <string.h>

#include "support/test.h"

/* Bytes with a log of the accesses that reached them. */
struct chip {
    uint8_t bytes[64];
    struct access {
        uint64_t offset, value;
        unsigned size;
        bool write;
    } log[32];
    unsigned count;
    struct io_space *space;
    struct io_region *unmaps; /* on any access */
};

static void note(struct chip *c, uint64_t offset, unsigned size, bool write, uint64_t value) {
    assert_true(c->count < 32);
    assert_true(offset + size <= sizeof(c->bytes));
    c->log[c->count++] = (struct access){offset, value, size, write};
    if (c->unmaps)
        io_unmap(c->space, c->unmaps);
}

static uint64_t chip_read(void *dev, uint64_t offset, unsigned size) {
    struct chip *c = dev;
    uint64_t v = UINT64_MAX << (8 * size - 1) << 1; /* rubbish above what was asked for */

    note(c, offset, size, false, 0);
    memcpy(&v, c->bytes + offset, size);
    return v;
}

static void chip_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct chip *c = dev;

    note(c, offset, size, true, value);
    memcpy(c->bytes + offset, &value, size);
}

static const struct io_ops any_ops = {chip_read, chip_write, 0, 0};
static const struct io_ops byte_ops = {chip_read, chip_write, 1, 1};
static const struct io_ops word_ops = {chip_read, chip_write, 2, 2};
static const struct io_ops dword_ops = {chip_read, chip_write, 4, 4};
static const struct io_ops no_ops = {NULL, NULL, 0, 0};

static struct io_space space;
static struct chip chip, other;

static int make(void **state) {
    memset(&chip, 0, sizeof(chip));
    memset(&other, 0, sizeof(other));
    for (unsigned i = 0; i < sizeof(chip.bytes); i++) {
        chip.bytes[i] = (uint8_t)(0x10 + i);
        other.bytes[i] = (uint8_t)(0x80 + i);
    }
    chip.space = other.space = &space;
    return 0;
}

static int unmake(void **state) {
    io_space_done(&space);
    return 0;
}

static struct io_region region(uint64_t base, uint64_t size, const struct io_ops *ops,
                               struct chip *c) {
    return (struct io_region){.base = base, .size = size, .ops = ops, .dev = c, .name = "r"};
}

static void map(struct io_region *r) {
    struct error err = {0};

    assert_int_equal(io_map(&space, r, &err), 0);
}

static void expect(const struct chip *c, unsigned i, bool write, uint64_t offset, unsigned size,
                   uint64_t value) {
    assert_true(i < c->count);
    assert_int_equal(c->log[i].write, write);
    assert_true(c->log[i].offset == offset);
    assert_int_equal(c->log[i].size, size);
    if (write)
        assert_true(c->log[i].value == value);
}

static void nobody_answers_with_ones_of_the_size(void **state) {
    assert_true(io_read(&space, 0x80, 1) == 0xff);
    assert_true(io_read(&space, 0x80, 2) == 0xffff);
    assert_true(io_read(&space, 0x80, 4) == 0xffffffff);
    assert_true(io_read(&space, 0x80, 8) == UINT64_MAX);
    assert_true(io_read(&space, UINT64_MAX, 8) == UINT64_MAX);
    io_write(&space, 0x80, 4, 1);
    io_write(&space, UINT64_MAX - 2, 8, 1);
    assert_null(io_find(&space, 0x80));
}

static void an_access_that_fits_goes_through_as_it_is(void **state) {
    struct io_region r = region(0x1000, 16, &any_ops, &chip);

    map(&r);
    assert_true(io_read(&space, 0x1001, 4) == 0x14131211); /* cut to its size, unaligned */
    io_write(&space, 0x1008, 8, 0x1122334455667788);
    io_write(&space, 0x100f, 1, 0xabcd);
    assert_int_equal(chip.count, 3);
    expect(&chip, 0, false, 1, 4, 0);
    expect(&chip, 1, true, 8, 8, 0x1122334455667788);
    expect(&chip, 2, true, 15, 1, 0xcd);
}

static void a_wider_access_is_split_low_address_first(void **state) {
    struct io_region r = region(0x3f8, 8, &byte_ops, &chip);

    map(&r);
    assert_true(io_read(&space, 0x3f8, 4) == 0x13121110);
    io_write(&space, 0x3fa, 2, 0xbbaa);
    assert_int_equal(chip.count, 6);
    for (unsigned i = 0; i < 4; i++)
        expect(&chip, i, false, i, 1, 0);
    expect(&chip, 4, true, 2, 1, 0xaa);
    expect(&chip, 5, true, 3, 1, 0xbb);
    assert_true(io_read(&space, 0x3f8, 8) == 0x17161514bbaa1110);
}

static void a_narrower_access_than_declared_reads_ones_and_writes_nothing(void **state) {
    struct io_region r = region(0, 16, &dword_ops, &chip);

    map(&r);
    assert_true(io_read(&space, 0, 1) == 0xff);
    assert_true(io_read(&space, 2, 2) == 0xffff);
    io_write(&space, 4, 2, 0);
    assert_int_equal(chip.count, 0);
    assert_true(io_read(&space, 4, 8) == 0x1b1a191817161514);
    assert_int_equal(chip.count, 2);
}

static void an_access_over_the_edge_is_shared_out(void **state) {
    struct io_region a = region(0x10, 3, &any_ops, &chip), b = region(0x14, 2, &byte_ops, &other);

    map(&b);
    map(&a);
    assert_true(io_read(&space, 0x11, 4) == 0x80ff1211);
    assert_int_equal(chip.count, 1);
    expect(&chip, 0, false, 1, 2, 0); /* the half that fits stays whole */
    io_write(&space, 0x0e, 8, 0x8877665544332211);
    expect(&chip, 1, true, 0, 2, 0x4433);
    expect(&chip, 2, true, 2, 1, 0x55);
    expect(&other, 1, true, 0, 1, 0x77);
    expect(&other, 2, true, 1, 1, 0x88);
    assert_int_equal(chip.count, 3);
    assert_int_equal(other.count, 3);
}

static void pieces_smaller_than_declared_are_lost_at_the_edge(void **state) {
    struct io_region r = region(1, 4, &word_ops, &chip);

    map(&r);
    /* Bytes 0, 1: 1 alone is too small a piece. Bytes 2, 3: a word at offset 1. */
    assert_true(io_read(&space, 0, 4) == 0x1211ffff);
    assert_int_equal(chip.count, 1);
}

static void the_last_addresses_do_not_wrap_to_the_first(void **state) {
    struct io_region first = region(0, 4, &any_ops, &chip);
    struct io_region last = region(UINT64_MAX - 3, 4, &any_ops, &other);

    map(&first);
    map(&last);
    assert_true(io_read(&space, UINT64_MAX, 1) == 0x83);
    assert_true(io_read(&space, UINT64_MAX - 1, 4) == 0xffff8382);
    io_write(&space, UINT64_MAX - 3, 8, 0);
    assert_int_equal(chip.count, 0);
    expect(&other, 2, true, 0, 4, 0);
    assert_true(io_read(&space, UINT64_MAX - 7, 8) == 0xffffffff);
}

static void regions_that_overlap_wrap_or_are_empty_are_refused(void **state) {
    struct io_region a = region(0x100, 0x10, &any_ops, &chip);
    static const uint64_t bad[][2] = {{0x100, 0x10},   {0xff, 2},       {0x10f, 1},
                                      {0xf0, 0x100},   {0x104, 1},      {0x200, 0},
                                      {UINT64_MAX, 2}, {1, UINT64_MAX}, {0x80, UINT64_MAX - 0x7e}};
    struct io_region before = region(0xf0, 0x10, &any_ops, &chip);
    struct io_region after = region(0x110, 0x10, &any_ops, &chip);

    map(&a);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct io_region r = region(bad[i][0], bad[i][1], &any_ops, &other);
        struct error err = {0};

        assert_true(io_map(&space, &r, &err) < 0);
        assert_true(err.text[0]);
        assert_int_equal(space.count, 1);
    }
    map(&before);
    map(&after);
    assert_int_equal(space.count, 3);
}

static void an_unmapped_region_is_gone_also_from_the_cache(void **state) {
    struct io_region r = region(0x10, 4, &any_ops, &chip);

    map(&r);
    assert_ptr_equal(io_find(&space, 0x13), &r);
    assert_ptr_equal(io_find(&space, 0x10), &r);
    io_unmap(&space, &r);
    assert_null(io_find(&space, 0x10));
    io_unmap(&space, &r); /* not mapped: nothing */
    r.base = 0x20;
    map(&r);
    assert_null(io_find(&space, 0x10));
    assert_ptr_equal(io_find(&space, 0x20), &r);
}

static void a_region_that_unmaps_itself_gets_no_second_half(void **state) {
    struct io_region r = region(0, 8, &byte_ops, &chip);

    map(&r);
    chip.unmaps = &r;
    assert_true(io_read(&space, 0, 4) == 0xffffff10);
    assert_int_equal(chip.count, 1);
    map(&r);
    io_write(&space, 0, 4, 0);
    assert_int_equal(chip.count, 2);
}

static void a_region_without_functions_is_as_good_as_none(void **state) {
    struct io_region r = region(0, 8, &no_ops, NULL);

    map(&r);
    assert_true(io_read(&space, 0, 4) == 0xffffffff);
    io_write(&space, 0, 4, 0);
}

/* The model: a byte belongs to a region or not. Regions here take all sizes, so bytes tell
 * everything. */
static void random_accesses_agree_with_a_map_of_bytes(void **state) {
    enum { SPAN = 96, REGIONS = 12 };
    struct io_region r[REGIONS];
    int owner[SPAN + 16];
    struct rng rng = rng_seed(11);

    for (unsigned round = 0; round < 300; round++) {
        memset(owner, -1, sizeof(owner));
        for (int i = 0; i < REGIONS; i++) {
            uint64_t base = rng_below(&rng, SPAN - 8), size = 1 + rng_below(&rng, 8);

            r[i] = region(base, size, rng_below(&rng, 2) ? &any_ops : &byte_ops, &chip);
            if (io_map(&space, &r[i], NULL) < 0)
                continue;
            for (uint64_t a = base; a < base + size; a++)
                owner[a] = i;
        }
        for (unsigned n = 0; n < 200; n++) {
            unsigned size = 1u << rng_below(&rng, 4);
            uint64_t addr = rng_below(&rng, SPAN), expected = 0;

            for (unsigned i = 0; i < size; i++) {
                int o = owner[addr + i];
                uint64_t b = o < 0 ? 0xff : chip.bytes[addr + i - r[o].base];

                expected |= b << (8 * i);
            }
            assert_true(io_read(&space, addr, size) == expected);
            chip.count = 0;
        }
        for (int i = 0; i < REGIONS; i++)
            io_unmap(&space, &r[i]);
        assert_int_equal(space.count, 0);
    }
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, make, unmake)
    const struct CMUnitTest tests[] = {
        TEST(nobody_answers_with_ones_of_the_size),
        TEST(an_access_that_fits_goes_through_as_it_is),
        TEST(a_wider_access_is_split_low_address_first),
        TEST(a_narrower_access_than_declared_reads_ones_and_writes_nothing),
        TEST(an_access_over_the_edge_is_shared_out),
        TEST(pieces_smaller_than_declared_are_lost_at_the_edge),
        TEST(the_last_addresses_do_not_wrap_to_the_first),
        TEST(regions_that_overlap_wrap_or_are_empty_are_refused),
        TEST(an_unmapped_region_is_gone_also_from_the_cache),
        TEST(a_region_that_unmaps_itself_gets_no_second_half),
        TEST(a_region_without_functions_is_as_good_as_none),
        TEST(random_accesses_agree_with_a_map_of_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

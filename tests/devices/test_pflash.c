/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the flash memory: commands, how they fail, what the host is told. */
#include "devices/pflash.h"

#include "base/bytes.h"
#include "devices/chip.h"

extern const struct device_class pflash_class;

static unsigned told;
static bool unlocked = true;
enum { CELLS = 0x10000 };
static struct mem memory;
static uint8_t copy[2 * PFLASH_BLOCK];

static void changed(void *opaque, uint32_t offset, const uint8_t *p, uint32_t n) {
    told++;
    memcpy(copy + offset, p, n);
}

static void open_flash(struct chip *c) {
    static uint8_t contents[2 * PFLASH_BLOCK];
    struct pflash_config config = {
        .cells = CELLS, .size = sizeof(contents), .changed = changed, .unlocked = &unlocked};

    memset(contents, 0xf0, sizeof(contents));
    memset(copy, 0xf0, sizeof(copy));
    told = 0;
    assert_int_equal(mem_init(&memory, NULL), 0);
    assert_int_equal(mem_add(&memory, CELLS, sizeof(contents), true, NULL), 0);
    assert_int_equal(mem_load(&memory, CELLS, contents, sizeof(contents)), 0);
    chip_open(c, &pflash_class, &config);
    c->dev->env.mem = &memory;
}

static void close_flash(struct chip *c) {
    chip_close(c);
    mem_done(&memory);
}

static void reads_give_the_array_at_any_width(void **state) {
    struct chip c;

    open_flash(&c);
    assert_int_equal(chip_read(&c, 0, 0x123, 1), 0xf0);
    assert_true(chip_read(&c, 0, 8, 8) == 0xf0f0f0f0f0f0f0f0);
    close_flash(&c);
}

static void programming_clears_bits_and_only_erasure_sets_them(void **state) {
    struct chip c;

    open_flash(&c);
    chip_out(&c, 0, 5, 0x40);
    chip_out(&c, 0, 5, 0x3c);
    chip_out(&c, 0, 5, 0x70);
    assert_int_equal(chip_in(&c, 0, 5), 0x80);
    chip_out(&c, 0, 0, 0xff);
    assert_int_equal(chip_in(&c, 0, 5), 0x30);
    assert_int_equal(chip_in(&c, 0, 6), 0xf0);
    chip_out(&c, 0, 0x1234, 0x20);
    chip_out(&c, 0, 0x1234, 0xd0);
    chip_out(&c, 0, 0, 0xff);
    assert_int_equal(chip_in(&c, 0, PFLASH_BLOCK), 0xff);
    assert_int_equal(chip_in(&c, 0, PFLASH_BLOCK - 1), 0xf0);
    assert_int_equal(copy[5], 0x30);
    assert_int_equal(copy[PFLASH_BLOCK], 0xff);
    device_reset(c.dev);
    assert_int_equal(chip_in(&c, 0, 5), 0x30);
    close_flash(&c);
}

static void an_erasure_without_its_confirmation_fails(void **state) {
    struct chip c;

    open_flash(&c);
    chip_out(&c, 0, 0, 0x20);
    chip_out(&c, 0, 0, 0x12);
    assert_int_equal(chip_in(&c, 0, 0), 0xb0);
    chip_out(&c, 0, 0, 0x50);
    chip_out(&c, 0, 0, 0x70);
    assert_int_equal(chip_in(&c, 0, 0), 0);
    assert_int_equal(told, 0);
    close_flash(&c);
}

static void a_buffer_is_written_when_it_is_confirmed(void **state) {
    struct chip c;

    open_flash(&c);
    chip_out(&c, 0, 0x40, 0xe8);
    chip_out(&c, 0, 0x40, 2); /* three bytes */
    for (unsigned i = 0; i < 3; i++)
        chip_out(&c, 0, 0x40 + i, (uint8_t)(0x10 * (i + 1)));
    assert_int_equal(told, 0);
    chip_out(&c, 0, 0x40, 0xd0);
    chip_out(&c, 0, 0, 0xff);
    assert_int_equal(chip_read(&c, 0, 0x40, 4), 0xf0302010);
    close_flash(&c);
}

static void it_says_what_it_is(void **state) {
    struct chip c;

    open_flash(&c);
    chip_out(&c, 0, 0, 0x98);
    assert_int_equal(chip_in(&c, 0, 0x10), 'Q');
    assert_int_equal(chip_in(&c, 0, 0x27), 13); /* 8 KiB */
    assert_int_equal(chip_in(&c, 0, 0x2d), 1);  /* two blocks */
    chip_out(&c, 0, 0, 0x90);
    assert_int_equal(chip_in(&c, 0, 0), 0x89);
    close_flash(&c);
}

static void locked_it_can_be_read_and_nothing_else(void **state) {
    struct chip c;

    open_flash(&c);
    chip_out(&c, 0, 5, 0x40);
    unlocked = false;
    chip_out(&c, 0, 5, 0);
    chip_out(&c, 0, 0, 0x20);
    chip_out(&c, 0, 0, 0xd0);
    assert_int_equal(chip_in(&c, 0, 5), 0xf0); /* though the status is to be read */
    assert_int_equal(told, 0);
    unlocked = true;
    chip_out(&c, 0, 5, 0x30); /* ends what was begun before */
    assert_int_equal(chip_in(&c, 0, 5), 0x80);
    assert_int_equal(told, 1);
    assert_int_equal(copy[5], 0x30);
    close_flash(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_give_the_array_at_any_width),
        cmocka_unit_test(programming_clears_bits_and_only_erasure_sets_them),
        cmocka_unit_test(an_erasure_without_its_confirmation_fails),
        cmocka_unit_test(a_buffer_is_written_when_it_is_confirmed),
        cmocka_unit_test(it_says_what_it_is),
        cmocka_unit_test(locked_it_can_be_read_and_nothing_else),
    };

    return chip_run(tests);
}

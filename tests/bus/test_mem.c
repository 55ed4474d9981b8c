/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of guest memory: edges of ranges, wraps, ROM, the notice about written code. */
#include "bus/mem.h"
#include "bus/release.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "support/test.h"

#define MIB (1ull << 20)

/* Low RAM, ROM right behind it, a hole, and a larger piece above 4 GiB. */
static const struct {
    gpa base;
    uint64_t size;
    bool readonly;
} layout[] = {
    {4096 * MIB, 8 * MIB, false},
    {0, MIB, false},
    {MIB, 64 << 10, true},
    {3 * MIB, 3 * MIB, false},
};

static struct mem mem;

static int make(void **state) {
    struct error err = {0};

    assert_int_equal(mem_init(&mem, &err), 0);
    for (unsigned i = 0; i < sizeof(layout) / sizeof(layout[0]); i++)
        assert_int_equal(mem_add(&mem, layout[i].base, layout[i].size, layout[i].readonly, &err),
                         0);
    return 0;
}

static int unmake(void **state) {
    mem_done(&mem);
    return 0;
}

static void new_memory_is_zero_and_counted(void **state) {
    uint8_t page[4096], zero[4096] = {0};

    assert_true(mem.ram_size == 12 * MIB);
    for (unsigned i = 1; i < mem.count; i++)
        assert_true(mem.range[i - 1].base < mem.range[i].base);
    for (gpa a = 0; a < MIB; a += sizeof(page)) {
        assert_int_equal(mem_read(&mem, a, page, sizeof(page)), 0);
        assert_memory_equal(page, zero, sizeof(page));
    }
}

static void bad_ranges_are_refused_with_a_sentence_and_change_nothing(void **state) {
    static const struct {
        gpa base;
        uint64_t size;
    } bad[] = {
        {2 * MIB, 0},
        {2 * MIB, 100},
        {2 * MIB + 1, 4096},
        {0, 4096},
        {MIB - 4096, 8192},
        {2 * MIB, 2 * MIB},
        {UINT64_MAX - 4095, 4096},
        {1ull << 51, 1ull << 52},
        {4095 * MIB, 1024 * MIB},
    };
    unsigned count = mem.count;

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct error err = {0};

        assert_true(mem_add(&mem, bad[i].base, bad[i].size, false, &err) < 0);
        assert_true(err.code < 0 && err.text[0]);
        assert_int_equal(mem.count, count);
    }
}

static void more_ranges_than_there_is_room_for_are_refused(void **state) {
    struct error err = {0};
    unsigned i = mem.count;

    for (; i < MEM_MAX_RANGES; i++)
        assert_int_equal(mem_add(&mem, (16 + i) * MIB, 4096, false, NULL), 0);
    assert_int_equal(mem_add(&mem, 512 * MIB, 4096, false, &err), -ENOSPC);
    assert_ptr_equal(mem_find(&mem, (16 + 10) * MIB)->host,
                     mem_ptr(&mem, (16 + 10) * MIB, 1, true));
}

static void every_address_is_found_in_its_range_and_no_other(void **state) {
    for (unsigned i = 0; i < sizeof(layout) / sizeof(layout[0]); i++) {
        const struct mem_range *r = mem_find(&mem, layout[i].base);

        assert_non_null(r);
        assert_true(r->base == layout[i].base && r->size == layout[i].size);
        assert_ptr_equal(mem_find(&mem, layout[i].base + layout[i].size - 1), r);
        assert_ptr_not_equal(mem_find(&mem, layout[i].base + layout[i].size), r);
    }
    assert_null(mem_find(&mem, MIB + (64 << 10)));
    assert_null(mem_find(&mem, UINT64_MAX));
    assert_null(mem_find(&mem, 4096 * MIB - 1));
}

static void a_pointer_is_given_only_for_what_lies_in_one_range(void **state) {
    assert_non_null(mem_ptr(&mem, MIB - 1, 1, true));
    assert_null(mem_ptr(&mem, MIB - 1, 2, true)); /* into the ROM */
    assert_non_null(mem_ptr(&mem, MIB, 64 << 10, false));
    assert_null(mem_ptr(&mem, MIB, 1, true));
    assert_null(mem_ptr(&mem, 3 * MIB, 3 * MIB + 1, false));
    assert_null(mem_ptr(&mem, 4096, UINT64_MAX, false));
    assert_null(mem_ptr(&mem, 4096, UINT64_MAX - 4095, false)); /* ends where addresses end */
    assert_null(mem_ptr(&mem, 2 * MIB, 0, false));
}

static void copies_cross_ranges_that_touch_and_fail_whole_at_a_hole(void **state) {
    uint8_t in[64], out[64], old[32];

    memset(in, 0xa5, sizeof(in));
    assert_int_equal(mem_load(&mem, MIB - 32, in, sizeof(in)), 0);
    assert_int_equal(mem_read(&mem, MIB - 32, out, sizeof(out)), 0);
    assert_memory_equal(in, out, sizeof(in));

    /* Half before the end, half behind it: nothing is written. */
    assert_int_equal(mem_read(&mem, 6 * MIB - 32, old, sizeof(old)), 0);
    assert_int_equal(mem_write(&mem, 6 * MIB - 32, in, sizeof(in)), -EFAULT);
    assert_int_equal(mem_read(&mem, 6 * MIB - 32, out, 32), 0);
    assert_memory_equal(old, out, 32);
    assert_int_equal(mem_read(&mem, 6 * MIB - 32, out, sizeof(out)), -EFAULT);
    assert_int_equal(mem_read(&mem, UINT64_MAX - 8, out, sizeof(out)), -EFAULT);
    assert_int_equal(mem_read(&mem, 0, out, UINT64_MAX), -EFAULT);
    assert_int_equal(mem_read(&mem, 2 * MIB, out, 0), 0);
}

static void rom_is_filled_by_load_only(void **state) {
    uint64_t v = 0x1122334455667788, w = 0;

    assert_int_equal(mem_load(&mem, MIB + 8, &v, 8), 0);
    assert_int_equal(mem_write(&mem, MIB + 8, &w, 8), 0); /* dropped */
    assert_int_equal(mem_read(&mem, MIB + 8, &w, 8), 0);
    assert_true(v == w);
}

static void words_of_all_sizes_and_alignments_arrive_whole(void **state) {
    uint8_t in[16], out[16];
    struct rng rng = rng_seed(3);

    for (unsigned at = 0; at < 9; at++)
        for (unsigned len = 0; len < 16; len++) {
            for (unsigned i = 0; i < 16; i++)
                in[i] = (uint8_t)rng_next(&rng);
            assert_int_equal(mem_write(&mem, 4096 * MIB + at, in, len), 0);
            assert_int_equal(mem_read(&mem, 4096 * MIB + at, out, len), 0);
            assert_memory_equal(in, out, len);
        }
}

struct notices {
    gpa page[16];
    unsigned count;
};

static void take_notice(void *opaque, gpa page) {
    struct notices *n = opaque;

    assert_true(n->count < 16);
    n->page[n->count++] = page;
}

static uint64_t *flag_of(gpa addr) {
    const struct mem_range *r = mem_find(&mem, addr);

    return &r->page_flags[(addr - r->base) >> MEM_PAGE_SHIFT];
}

static void a_write_to_code_is_noticed_once_a_flagged_page(void **state) {
    struct notices n = {.count = 0};
    uint8_t data[3 * 4096] = {0};

    mem.code_written = take_notice;
    mem.code_opaque = &n;
    *flag_of(0x5000) = MEM_PAGE_CODE(0);
    *flag_of(0x7000) = MEM_PAGE_CODE(0);
    mem_write(&mem, 0x4000, data, 4096); /* up to the page before */
    mem_write(&mem, 0x6000, data, 4096); /* between */
    mem_write(&mem, 0x5000, data, 0);
    mem_read(&mem, 0x5000, data, 4096);
    assert_int_equal(n.count, 0);
    mem_write(&mem, 0x5fff, data, 1);
    assert_int_equal(n.count, 1);
    assert_true(n.page[0] == 0x5000);
    mem_write(&mem, 0x5fff, data, 4098); /* last byte of 5, all of 6, first of 7 */
    assert_int_equal(n.count, 3);
    assert_true(n.page[1] == 0x5000 && n.page[2] == 0x7000);
}

static void a_notice_finds_pages_of_every_range_it_crosses(void **state) {
    struct notices n = {.count = 0};

    mem.code_written = take_notice;
    mem.code_opaque = &n;
    *flag_of(MIB - 1) = MEM_PAGE_CODE(0);
    *flag_of(MIB) = MEM_PAGE_CODE(0);
    *flag_of(6 * MIB - 1) = MEM_PAGE_CODE(0);
    mem_written(&mem, MIB - 1, 2);
    assert_int_equal(n.count, 2);
    assert_true(n.page[0] == MIB - 4096 && n.page[1] == MIB);
    mem_written(&mem, 6 * MIB - 1, 100); /* ends in the hole */
    assert_int_equal(n.count, 3);
    mem_written(&mem, UINT64_MAX, UINT64_MAX);
    assert_int_equal(n.count, 3);
}

static void released_pages_are_zero_and_their_code_is_forgotten(void **state) {
    uint8_t bytes[3 * 4096], zero[3 * 4096] = {0};
    struct notices n = {.count = 0};

    mem.code_written = take_notice;
    mem.code_opaque = &n;
    memset(bytes, 7, sizeof(bytes));
    assert_int_equal(mem_write(&mem, 3 * MIB, bytes, sizeof(bytes)), 0);
    *flag_of(3 * MIB + 4096) = MEM_PAGE_CODE(0);
    assert_int_equal(mem_release(&mem, 3 * MIB + 1, sizeof(bytes) - 2),
                     4096); /* whole pages only */
    assert_int_equal(n.count, 1);
    assert_int_equal(mem_read(&mem, 3 * MIB, bytes, sizeof(bytes)), 0);
    assert_memory_equal(bytes + 4096, zero, 4096);
    assert_true(bytes[4095] == 7 && bytes[8192] == 7);
    assert_int_equal(mem_release(&mem, UINT64_MAX - 4095, 4096), 0); /* no memory */
}

/* What is dropped would be the file's again. */
static void released_pages_of_a_file_are_zero_too(void **state) {
    const struct mem_range *r = mem_find(&mem, 3 * MIB);
    uint8_t bytes[4 * 4096], zero[4096] = {0};
    FILE *f = tmpfile();

    memset(bytes, 9, sizeof(bytes));
    assert_int_equal(fseek(f, (long)(r->offset + 3 * MIB - r->base), SEEK_SET), 0);
    assert_int_equal(fwrite(bytes, 1, sizeof(bytes), f), sizeof(bytes));
    assert_int_equal(fflush(f), 0);
    assert_int_equal(mem_map(&mem, r->offset + 3 * MIB - r->base, sizeof(bytes), fileno(f), NULL),
                     0);
    assert_int_equal(mem_release(&mem, 3 * MIB + 4096, 2 * 4096), 2 * 4096);
    assert_int_equal(mem_release(&mem, 3 * MIB + 4096, 2 * 4096), 2 * 4096); /* now no file's */
    assert_int_equal(mem_read(&mem, 3 * MIB, bytes, sizeof(bytes)), 0);
    assert_true(bytes[0] == 9 && bytes[4095] == 9 && bytes[3 * 4096] == 9);
    assert_memory_equal(bytes + 4096, zero, 4096);
    assert_memory_equal(bytes + 2 * 4096, zero, 4096);
    fclose(f);
}

static void a_room_is_seen_as_far_as_it_is_shown(void **state) {
    struct notices n = {.count = 0};
    uint64_t ram = mem.ram_size;
    struct error err = {0};
    uint8_t byte = 9;
    gpa at = 8192 * MIB;

    assert_int_equal(mem_add_room(&mem, at, 4 * MIB, &err), 0);
    assert_int_equal(mem.ram_size, ram);
    assert_null(mem_find(&mem, at));
    assert_true(mem_add(&mem, at + MIB, MIB, false, &err) < 0); /* the place is taken */
    mem.code_written = take_notice;
    mem.code_opaque = &n;
    mem_show(&mem, at, MIB);
    assert_true(n.count == 1 && n.page[0] == MEM_MOVED);
    assert_int_equal(mem_write(&mem, at + MIB - 1, &byte, 1), 0);
    assert_int_equal(mem_write(&mem, at + MIB, &byte, 1), -EFAULT);
    assert_null(mem_ptr(&mem, at + MIB - 1, 2, false));
    mem_show(&mem, at, 4 * MIB);
    assert_int_equal(mem_write(&mem, at + MIB, &byte, 1), 0);
    assert_false(mem_is_hidden(&mem, mem_find(&mem, at)->offset + MIB, 4096));
    mem_show(&mem, at, MIB);
    assert_true(mem_is_hidden(&mem, mem_find(&mem, at)->offset + MIB, 4096));
    assert_false(mem_is_hidden(&mem, mem_find(&mem, at)->offset, 4096));
    assert_int_equal(mem_read(&mem, at + MIB, &byte, 1), -EFAULT);
    mem_show(&mem, at + MIB, MIB); /* no room begins there */
    assert_int_equal(mem_read(&mem, at + MIB, &byte, 1), -EFAULT);
}

static void memory_without_ranges_refuses_everything(void **state) {
    struct mem none;
    uint8_t b;

    assert_int_equal(mem_init(&none, NULL), 0);
    assert_null(mem_find(&none, 0));
    assert_int_equal(mem_read(&none, 0, &b, 1), -EFAULT);
    mem_written(&none, 0, 10);
    mem_done(&none);
}

/* ------------------------------------------------------------------ views */

static void a_view_lacks_the_end_of_a_range_and_what_moves_there(void **state) {
    struct mem view, whole;
    struct error err = {0};
    uint32_t word = 0x1234;
    int moving;

    assert_int_equal(mem_init(&whole, &err), 0);
    assert_int_equal(mem_add(&whole, 0, 0x10000, false, &err), 0);
    moving = mem_add_moving(&whole, 0x4000, &err);
    assert_true(moving >= 0);
    mem_view(&view, &whole);
    assert_int_equal(mem_write(&whole, 0xe000, &word, 4), 0);
    mem_hide(&view, 0, 0xe000, 0x2000);
    mem_place(&whole, (unsigned)moving, 0xd000);
    mem_place(&view, (unsigned)moving, 0xd000);
    assert_int_equal(mem_read(&view, 0xe000, &word, 4), -EFAULT);
    assert_int_equal(mem_read(&view, 0xdffc, &word, 4), 0);
    assert_int_equal(mem_read(&view, 0xdffe, &word, 4), -EFAULT);
    assert_null(mem_ptr(&view, 0xd000, 0x1001, true));
    assert_int_equal(mem_read(&view, 0x10000, &word, 4), 0); /* of what moves */
    assert_int_equal(mem_read(&whole, 0xe000, &word, 4), 0);
    assert_int_equal(word, 0x1234);
    assert_int_equal(mem_release(&view, 0xc000, 0x2000),
                     0x2000); /* its marks are where they were */
    mem_hide(&view, 0, 0, 0);
    word = 0;
    assert_int_equal(mem_read(&view, 0xe000, &word, 4), 0);
    assert_int_equal(word, 0x1234);
    mem_done(&whole);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, make, unmake)
    const struct CMUnitTest tests[] = {
        TEST(new_memory_is_zero_and_counted),
        TEST(bad_ranges_are_refused_with_a_sentence_and_change_nothing),
        TEST(more_ranges_than_there_is_room_for_are_refused),
        TEST(every_address_is_found_in_its_range_and_no_other),
        TEST(a_pointer_is_given_only_for_what_lies_in_one_range),
        TEST(copies_cross_ranges_that_touch_and_fail_whole_at_a_hole),
        TEST(rom_is_filled_by_load_only),
        TEST(words_of_all_sizes_and_alignments_arrive_whole),
        TEST(a_write_to_code_is_noticed_once_a_flagged_page),
        TEST(a_notice_finds_pages_of_every_range_it_crosses),
        TEST(released_pages_are_zero_and_their_code_is_forgotten),
        TEST(released_pages_of_a_file_are_zero_too),
        cmocka_unit_test(a_view_lacks_the_end_of_a_range_and_what_moves_there),
        TEST(a_room_is_seen_as_far_as_it_is_shown),
        cmocka_unit_test(memory_without_ranges_refuses_everything),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

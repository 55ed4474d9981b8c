/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the notes on written pages: who notes, what a log holds, that nothing gets lost. */
#include "bus/dirty.h"
#include "bus/release.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "support/test.h"

#define MIB (1ull << 20)

enum { LOW = 2, ROM = 1, SCREEN = 1 }; /* MiB */

static struct mem mem;
static int screen;

static int make(void **state) {
    assert_int_equal(mem_init(&mem, NULL), 0);
    assert_int_equal(mem_add(&mem, 0, LOW * MIB, false, NULL), 0);
    assert_int_equal(mem_add(&mem, 4 * MIB, ROM * MIB, true, NULL), 0);
    assert_int_equal(mem_add(&mem, 8 * MIB, 4 * MIB, false, NULL), 0);
    assert_int_equal(mem_add_room(&mem, 16 * MIB, 4 * MIB, NULL), 0);
    screen = mem_add_moving(&mem, SCREEN * MIB, NULL);
    assert_true(screen > 0);
    dirty_begin(&mem);
    dirty_forget(&mem);
    return 0;
}

static int unmake(void **state) {
    mem_done(&mem);
    return 0;
}

static const struct mem_range *range(gpa base) {
    for (unsigned i = 0; i < mem.count; i++)
        if (mem.range[i].base == base)
            return &mem.range[i];
    fail();
    return NULL;
}

static uint64_t file_page(gpa addr) {
    const struct mem_range *r = mem_find(&mem, addr);

    assert_non_null(r);
    return (r->offset + (addr - r->base)) >> MEM_PAGE_SHIFT;
}

/* Of RAM: ROM and memory of devices are in every log. */
static uint64_t noted(const struct dirty_log *log) {
    return dirty_count(log) - ((ROM + SCREEN) * MIB >> MEM_PAGE_SHIFT);
}

/* A memory that nobody has asked about yet. */
static void make_quiet(void) {
    mem_done(&mem);
    assert_int_equal(mem_init(&mem, NULL), 0);
    assert_int_equal(mem_add(&mem, 0, LOW * MIB, false, NULL), 0);
    assert_int_equal(mem_add(&mem, 8 * MIB, 4 * MIB + 4096, false, NULL), 0);
}

static uint64_t taken(void) {
    struct dirty_log *log = dirty_take(&mem);
    uint64_t n = dirty_count(log);

    free(log);
    return n;
}

static void nothing_is_noted_until_somebody_wants_to_know(void **state) {
    struct mem view, second;
    uint8_t page[5000] = {1};

    make_quiet();
    mem_view(&view, &mem);
    mem_view(&second, &view);
    assert_int_equal(mem_write(&view, 0x1000, page, sizeof(page)), 0);
    mem_written(&mem, 9 * MIB, 1);
    dirty_note(&second, 0x8000, 1);
    assert_false(dirty_noted(&mem) || dirty_noted(&view) || dirty_noted(&second));
    assert_int_equal(taken(), 0);
    dirty_begin(&second); /* for all of them, and what was before counts as written */
    assert_true(dirty_noted(&mem) && dirty_noted(&view) && dirty_noted(&second));
    assert_int_equal(taken(), ((LOW + 4) * MIB >> MEM_PAGE_SHIFT) + 1);
    assert_int_equal(mem_write(&view, 0x1000, page, sizeof(page)), 0);
    dirty_note(&second, 0x8000, 1);
    mem_written(&mem, 9 * MIB, 1);
    dirty_begin(&view); /* again: what was noted stays, and no more */
    assert_int_equal(taken(), 2 + 1 + 1);
}

static unsigned pages_written; /* atomic */

static void *write_all(void *view) {
    for (unsigned i = 0; i < LOW * MIB >> MEM_PAGE_SHIFT; i++) {
        assert_int_equal(mem_write(view, (gpa)i << MEM_PAGE_SHIFT, &i, sizeof(i)), 0);
        __atomic_store_n(&pages_written, i + 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void no_page_is_lost_when_notes_begin_while_a_device_writes(void **state) {
    struct mem view;
    pthread_t device;
    struct dirty_log *log;

    make_quiet();
    mem_view(&view, &mem);
    assert_int_equal(pthread_create(&device, NULL, write_all, &view), 0);
    while (__atomic_load_n(&pages_written, __ATOMIC_ACQUIRE) < 3)
        sched_yield();
    dirty_begin(&mem);
    assert_int_equal(pthread_join(device, NULL), 0);
    log = dirty_take(&mem);
    for (uint64_t page = 0; page < LOW * MIB >> MEM_PAGE_SHIFT; page++)
        assert_true(dirty_has(log, page, 1));
    free(log);
}

static void rom_and_memory_of_devices_always_count_as_written(void **state) {
    struct dirty_log *log = dirty_take(&mem);

    assert_int_equal(noted(log), 0);
    assert_true(dirty_has(log, file_page(4 * MIB), 1));
    assert_false(dirty_has(log, file_page(0), LOW * MIB >> MEM_PAGE_SHIFT));
    assert_true(dirty_has(log, mem.range[screen].offset >> MEM_PAGE_SHIFT, 1));
    free(log);
}

static void all_ways_to_write_are_noted_and_reading_is_not(void **state) {
    struct dirty_log *log;
    uint8_t page[5000] = {1};

    assert_int_equal(mem_read(&mem, 0, page, sizeof(page)), 0);
    assert_non_null(mem_ptr(&mem, 0, 1, true));
    assert_int_equal(mem_write(&mem, 0x1fff, page, 2), 0);        /* two pages */
    assert_int_equal(mem_load(&mem, 8 * MIB, page, 5000), 0);     /* two pages */
    mem_written(&mem, 9 * MIB, 1);                                /* by a pointer */
    assert_true(mem_release(&mem, 10 * MIB, 3 << 12) == 3 << 12); /* zeros from now on */
    dirty_note(&mem, LOW * MIB - 4096, 8192);                     /* past the end: one */
    log = dirty_take(&mem);
    assert_int_equal(noted(log), 2 + 2 + 1 + 3 + 1);
    assert_true(dirty_has(log, file_page(0x1000), 1) && dirty_has(log, file_page(0x2000), 1));
    assert_true(dirty_has(log, file_page(9 * MIB), 1));
    assert_false(dirty_has(log, file_page(0x3000), 64));
    free(log);
}

static void a_log_begins_anew_and_can_be_given_back(void **state) {
    struct dirty_log *first, *second, *both;

    mem_written(&mem, 0x5000, 1);
    first = dirty_take(&mem);
    mem_written(&mem, 8 * MIB, 1);
    second = dirty_take(&mem);
    assert_int_equal(noted(first), 1);
    assert_int_equal(noted(second), 1);
    assert_false(dirty_has(second, file_page(0x5000), 1));
    dirty_give_back(&mem, first);
    dirty_give_back(&mem, second);
    both = dirty_take(&mem);
    assert_int_equal(noted(both), 2);
    assert_true(dirty_has(both, file_page(0x5000), 1) && dirty_has(both, file_page(8 * MIB), 1));
    free(first);
    free(second);
    free(both);
    first = dirty_take(&mem);
    assert_int_equal(noted(first), 0);
    free(first);
}

static void a_view_notes_for_all(void **state) {
    struct dirty_log *log;
    struct mem view;

    mem_view(&view, &mem);
    mem_written(&view, 0x7000, 1);
    log = dirty_take(&mem);
    assert_int_equal(noted(log), 1);
    free(log);
}

static void room_that_comes_or_goes_counts_as_written(void **state) {
    struct dirty_log *log;

    mem_show(&mem, 16 * MIB, 2 * MIB);
    log = dirty_take(&mem);
    assert_int_equal(noted(log), 4 * MIB >> MEM_PAGE_SHIFT);
    free(log);
    mem_written(&mem, 17 * MIB, 1);
    log = dirty_take(&mem);
    assert_int_equal(noted(log), 1);
    free(log);
    mem_show(&mem, 16 * MIB, 0);
    log = dirty_take(&mem);
    assert_int_equal(noted(log), 4 * MIB >> MEM_PAGE_SHIFT);
    free(log);
}

static void random_writes_are_as_a_model_has_them(void **state) {
    enum { PAGES = 4 * 256 };
    const struct mem_range *r = range(8 * MIB);

    srandom(3);
    for (unsigned round = 0; round < 50; round++) {
        bool model[PAGES] = {false};
        struct dirty_log *log;

        for (unsigned n = (unsigned)random() % 200; n; n--) {
            uint64_t at = (uint64_t)random() % (PAGES * 4096ull - 20000),
                     len = 1 + (uint64_t)random() % 20000;

            mem_written(&mem, 8 * MIB + at, len);
            for (uint64_t p = at / 4096; p <= (at + len - 1) / 4096; p++)
                model[p] = true;
        }
        log = dirty_take(&mem);
        for (unsigned p = 0; p < PAGES; p++)
            assert_int_equal(dirty_has(log, (r->offset >> MEM_PAGE_SHIFT) + p, 1), model[p]);
        for (unsigned n = 0; n < 100; n++) {
            unsigned first = (unsigned)random() % PAGES,
                     count = 1 + (unsigned)random() % (PAGES - first);
            bool any = false;

            for (unsigned p = first; p < first + count; p++)
                any |= model[p];
            assert_int_equal(dirty_has(log, (r->offset >> MEM_PAGE_SHIFT) + first, count), any);
        }
        free(log);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_is_noted_until_somebody_wants_to_know, make,
                                        unmake),
        cmocka_unit_test_setup_teardown(no_page_is_lost_when_notes_begin_while_a_device_writes,
                                        make, unmake),
        cmocka_unit_test_setup_teardown(rom_and_memory_of_devices_always_count_as_written, make,
                                        unmake),
        cmocka_unit_test_setup_teardown(all_ways_to_write_are_noted_and_reading_is_not, make,
                                        unmake),
        cmocka_unit_test_setup_teardown(a_log_begins_anew_and_can_be_given_back, make, unmake),
        cmocka_unit_test_setup_teardown(a_view_notes_for_all, make, unmake),
        cmocka_unit_test_setup_teardown(room_that_comes_or_goes_counts_as_written, make, unmake),
        cmocka_unit_test_setup_teardown(random_writes_are_as_a_model_has_them, make, unmake),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

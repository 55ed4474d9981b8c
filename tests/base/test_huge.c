/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of memory on huge pages: what callers rely on, whether the host has such pages or not. */
#include "base/huge.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "support/test.h"

static void memory_is_zeroed_and_begins_at_a_huge_page(void **state) {
    size_t size = HUGE_SIZE + 5000;
    uint8_t *p = huge_alloc(size);

    assert_non_null(p);
    assert_int_equal((uintptr_t)p % HUGE_SIZE, 0);
    assert_int_equal(p[0] | p[HUGE_SIZE] | p[size - 1], 0);
    memset(p, 1, size);
    huge_free(p, size);
    huge_free(NULL, size);
}

static void warm_memory_holds_what_it_held(void **state) {
    size_t size = 3 * HUGE_SIZE + 8192;
    uint8_t *p = huge_alloc(size);

    assert_non_null(p);
    memset(p, 7, 5000);
    p[size - 1] = 9; /* the second huge page, and part of the last one, stay holes */
    huge_warm(p, size);
    assert_int_equal(p[0], 7);
    assert_int_equal(p[4999], 7);
    assert_int_equal(p[5000], 0);
    assert_int_equal(p[HUGE_SIZE + 1], 0);
    assert_int_equal(p[size - 1], 9);
    huge_free(p, size);
}

static void more_than_the_host_can_have_is_refused(void **state) {
    assert_null(huge_reserve((size_t)1 << 60));
    assert_null(huge_alloc((size_t)1 << 60));
}

static void collapsing_keeps_what_both_mappings_show(void **state) {
    int fd = memfd_create("test", MFD_CLOEXEC);
    uint8_t *rw = huge_reserve(2 * HUGE_SIZE), *also = huge_reserve(2 * HUGE_SIZE);

    assert_int_equal(ftruncate(fd, 2 * HUGE_SIZE), 0);
    assert_ptr_equal(mmap(rw, 2 * HUGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0),
                     rw);
    assert_ptr_equal(mmap(also, 2 * HUGE_SIZE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0), also);
    rw[0] = 1;
    rw[HUGE_SIZE - 1] = 2;
    rw[HUGE_SIZE] = 3;
    huge_collapse(rw, also);
    huge_collapse(rw + HUGE_SIZE, also + HUGE_SIZE);
    rw[77] = 4;
    assert_int_equal(also[0], 1);
    assert_int_equal(also[77], 4);
    assert_int_equal(also[HUGE_SIZE - 1], 2);
    assert_int_equal(also[HUGE_SIZE], 3);
    assert_int_equal(also[2 * HUGE_SIZE - 1], 0);
    munmap(rw, 2 * HUGE_SIZE);
    munmap(also, 2 * HUGE_SIZE);
    close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zeroed_and_begins_at_a_huge_page),
        cmocka_unit_test(warm_memory_holds_what_it_held),
        cmocka_unit_test(more_than_the_host_can_have_is_refused),
        cmocka_unit_test(collapsing_keeps_what_both_mappings_show),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

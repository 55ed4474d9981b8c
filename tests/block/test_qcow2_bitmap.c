/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What an image's file says of its bitmaps, from one moment to the next: it may be believed unless
 * something was written since. */
#include "block/qcow2_bitmap.h"

#include <stdlib.h>
#include <string.h>

#include "block/memory_file.h"
#include "block/qcow2.h"
#include "support/test.h"

enum { SIZE = 8 << 20, GRAIN = 65536 };

static struct memory_file *file;

static struct qcow2 *open_image(struct memory_file *m, bool readonly) {
    struct qcow2_open o = {.path = "image", .readonly = readonly, .cache = 1};
    struct error err = {0};
    struct qcow2 *q = qcow2_open(&m->base, &o, &err);

    if (!q)
        fail_msg("%s", err.text);
    return q;
}

static void write_at(struct qcow2 *q, uint64_t offset) {
    static uint8_t data[4096];
    struct iovec v = {data, sizeof(data)};
    struct span s = {&v, 1, 0};

    memset(data, 0x5a, sizeof(data));
    assert_int_equal(qcow2_write(q, &s, offset, sizeof(data)), 0);
}

static void look(void *opaque, const struct qcow2_bitmap_info *info) {
    *(struct qcow2_bitmap_info *)opaque = *info;
}

static struct qcow2_bitmap_info only(struct qcow2 *q) {
    struct qcow2_bitmap_info info = {0};

    qcow2_bitmap_each(q, look, &info);
    return info;
}

/* What somebody finds who opens the file as it is, after a power cut at this moment. Bytes; -1: the
 * bitmap is of no use. */
static int64_t after_a_crash(void) {
    struct memory_file *copy = memory_file_new();
    struct qcow2_bitmap_info info;
    struct qcow2 *q;

    memory_file_copy(copy, file);
    q = open_image(copy, false);
    info = only(q);
    assert_int_equal(qcow2_close(q), 0);
    memory_file_free(copy);
    return info.inconsistent ? -1 : (int64_t)info.dirty;
}

static unsigned writes(void) {
    unsigned n = 0;

    for (unsigned i = 0; i < file->count; i++)
        n += file->events[i].kind == MEMORY_WRITE;
    return n;
}

static int begin(void **state) {
    struct qcow2_create c = {.size = SIZE, .cluster_bits = 16, .version = 3};
    struct error err = {0};
    struct qcow2 *q;

    file = memory_file_new();
    if (qcow2_create(&file->base, "image", &c, &err) < 0)
        return -1;
    file->record = true;
    q = open_image(file, false);
    if (qcow2_bitmap_add(q, "day", GRAIN, true, &err) < 0)
        return -1;
    write_at(q, 0);
    return qcow2_close(q);
}

static int end(void **state) {
    memory_file_free(file);
    return 0;
}

static void an_image_that_is_only_looked_at_is_not_written_to(void **state) {
    unsigned before = writes();
    struct qcow2 *q = open_image(file, false);

    assert_int_equal(only(q).dirty, GRAIN);
    assert_int_equal(after_a_crash(), GRAIN);
    assert_int_equal(qcow2_close(q), 0);
    assert_int_equal(writes(), before);
}

static void the_first_write_makes_them_of_no_use_until_the_close(void **state) {
    struct qcow2 *q = open_image(file, false);
    unsigned before = file->count, said = 0;

    write_at(q, 1 << 20);
    assert_int_equal(after_a_crash(), -1);
    /* Before the data: a sync lies behind the first write, which says so. */
    while (before + said < file->count && file->events[before + said].kind == MEMORY_WRITE)
        said++;
    assert_int_equal(said, 1);
    assert_int_equal(file->events[before + 1].kind, MEMORY_SYNC);
    assert_int_equal(qcow2_close(q), 0);
    assert_int_equal(after_a_crash(), 2 * GRAIN);
}

static void what_is_settled_needs_no_more_at_the_close(void **state) {
    struct qcow2 *q = open_image(file, false);
    unsigned before;

    write_at(q, 1 << 20);
    assert_int_equal(qcow2_settle(q), 0);
    assert_int_equal(after_a_crash(), 2 * GRAIN);
    before = writes();
    assert_int_equal(qcow2_settle(q), 0);
    assert_int_equal(qcow2_close(q), 0);
    assert_int_equal(writes(), before);
}

static void every_way_to_write_comes_after_it(void **state) {
    static uint8_t cluster[65536];
    static uint8_t data[512];
    struct iovec v = {data, sizeof(data)};
    struct span s = {&v, 1, 0};
    struct error err = {0};
    struct qcow2 *q = open_image(file, false);
    struct dirty *taken;
    uint64_t host;

    for (unsigned way = 0; way < 9; way++) {
        assert_int_equal(qcow2_settle(q), 0);
        assert_true(after_a_crash() >= 0);
        /* These do without waiting, or not at all. */
        assert_false(qcow2_try(q, true, &s, 0, sizeof(data)));
        assert_null(qcow2_hold(q, true, 0, sizeof(data), &host));
        assert_true(after_a_crash() >= 0);
        if (way == 0)
            write_at(q, 2 << 20);
        else if (way == 1)
            assert_int_equal(qcow2_zero(q, 3 << 20, 65536, true), 0);
        else if (way == 2)
            assert_int_equal(qcow2_discard(q, 0, 65536), 0);
        else if (way == 3)
            assert_int_equal(qcow2_write_compressed(q, cluster, 4 << 20, sizeof(cluster)), 0);
        else if (way == 4)
            assert_int_equal(qcow2_resize(q, SIZE * 2, &err), 0);
        else if (way == 5)
            assert_int_equal(qcow2_bitmap_change(q, "day", QCOW2_BITMAP_DISABLE, &err), 0);
        else if (way == 6)
            assert_int_equal(qcow2_bitmap_change(q, "day", QCOW2_BITMAP_ENABLE, &err), 0);
        else if (way == 7)
            assert_int_equal(qcow2_bitmap_change(q, "day", QCOW2_BITMAP_CLEAR, &err), 0);
        else
            assert_int_equal(qcow2_bitmap_take(q, "day", &taken, &err), 0);
        assert_int_equal(after_a_crash(), -1);
    }
    qcow2_bitmap_give(q, "day", false);
    write_at(q, 0);
    assert_int_equal(qcow2_close(q), 0);
    assert_int_equal(after_a_crash(), GRAIN);
}

int main(void) {
#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        CASE(an_image_that_is_only_looked_at_is_not_written_to),
        CASE(the_first_write_makes_them_of_no_use_until_the_close),
        CASE(what_is_settled_needs_no_more_at_the_close),
        CASE(every_way_to_write_comes_after_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

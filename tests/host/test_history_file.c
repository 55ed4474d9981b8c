/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The file of a history: rings that forget, levels that agree, and records that are not of their
 * time. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/history_file.h"
#include "support/test.h"

enum { NOON = 1800014400 /* a full hour */, DAY = 86400 };

static int open_file(void) {
    int fd = memfd_create("history", MFD_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static struct history_sample sample(int64_t time, float v) {
    struct history_sample s = {.time = time};

    for (unsigned i = 0; i < HISTORY_FIELDS; i++)
        s.value[i] = v + (float)i;
    return s;
}

/* value = (time % 100), a sample a second, in pieces as they come. */
static void fill(int fd, int64_t from, int64_t to) {
    struct history_sample s[60];
    unsigned n = 0;

    for (int64_t t = from; t < to; t++) {
        s[n++] = sample(t, (float)(t % 100));
        if (n == 60 || t + 1 == to) {
            assert_int_equal(history_write(fd, s, n), 0);
            n = 0;
        }
    }
}

static struct history_point *read_range(int fd, struct history_range r) {
    struct history_point *p = calloc((size_t)((r.to - r.from) / r.step) + 1, sizeof(*p));

    assert_int_equal(history_read(fd, &r, p), 0);
    return p;
}

static void seconds_minutes_and_hours_say_the_same(void **state) {
    struct history_point *p;
    int fd = open_file();

    fill(fd, NOON - 7200, NOON + 90);
    p = read_range(fd, (struct history_range){NOON - 10, NOON, 1});
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(p[i].count, 1);
        assert_true(p[i].min[0] == (float)((NOON - 10 + i) % 100) &&
                    p[i].avg[3] == p[i].max[0] + 3);
    }
    free(p);
    p = read_range(fd, (struct history_range){NOON - 120, NOON + 180, 60});
    assert_int_equal(p[0].count, 60);
    assert_int_equal(p[3].count, 30); /* half of it has been */
    assert_int_equal(p[4].count, 0);
    assert_true(p[2].min[0] == 0 && p[2].max[0] == 59 && p[2].avg[0] > 29.4f &&
                p[2].avg[0] < 29.6f);
    free(p);
    p = read_range(fd, (struct history_range){NOON - 7200, NOON + 3600, 3600});
    assert_int_equal(p[0].count, 3600);
    assert_int_equal(p[2].count, 90);
    assert_true(p[1].min[1] == 1 && p[1].max[1] == 100 && p[1].avg[1] > 50.4f &&
                p[1].avg[1] < 50.6f);
    free(p);
    close(fd);
}

static void the_file_is_bounded_and_forgets_what_is_old(void **state) {
    struct history_sample s;
    struct history_point *p;
    int fd = open_file();
    struct stat st;

    fill(fd, NOON, NOON + 100);
    for (int64_t day = 1; day < 400; day++) {
        s = sample(NOON + day * DAY, 7);
        assert_int_equal(history_write(fd, &s, 1), 0);
    }
    assert_int_equal(fstat(fd, &st), 0);
    assert_true(st.st_size < 6 << 20);
    assert_true(st.st_blocks * 512 < 4 << 20); /* holes */
    p = read_range(fd, (struct history_range){NOON, NOON + 100, 1});
    assert_int_equal(p[0].count, 0); /* its place is another day's now */
    assert_int_equal(p[1].count, 1);
    free(p);
    p = read_range(fd, (struct history_range){NOON + 100 * DAY, NOON + 101 * DAY, 3600});
    assert_int_equal(p[0].count, 1);
    assert_true(p[0].avg[0] == 7);
    assert_int_equal(p[1].count, 0);
    free(p);
    close(fd);
}

static void damaged_records_are_not_there(void **state) {
    struct history_point *p;
    uint8_t *bytes;
    struct stat st;
    int fd = open_file();

    fill(fd, NOON, NOON + 60);
    assert_int_equal(fstat(fd, &st), 0);
    bytes = malloc((size_t)st.st_size);
    assert_int_equal(pread(fd, bytes, (size_t)st.st_size, 0), st.st_size);
    srand(7);
    for (unsigned round = 0; round < 300; round++) {
        int64_t at = (NOON % DAY + rand() % 60) * 40 + rand() % 40;
        uint8_t byte = bytes[at] ^ (uint8_t)(1 << rand() % 8);
        unsigned there = 0;

        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        p = read_range(fd, (struct history_range){NOON, NOON + 60, 1});
        for (unsigned i = 0; i < 60; i++)
            there += p[i].count;
        assert_int_equal(there, 59);
        free(p);
        assert_int_equal(pwrite(fd, &bytes[at], 1, at), 1);
    }
    assert_int_equal(ftruncate(fd, (NOON % DAY + 30) * 40 + 20), 0);
    p = read_range(fd, (struct history_range){NOON, NOON + 60, 1});
    assert_true(p[29].count && !p[30].count);
    free(p);
    free(bytes);
    close(fd);
}

static void a_clock_that_is_set_back_loses_nothing_else(void **state) {
    struct history_sample s;
    struct history_point *p;
    int fd = open_file();

    fill(fd, NOON, NOON + 120);
    s = sample(NOON + 50, 99);
    assert_int_equal(history_write(fd, &s, 1), 0);
    p = read_range(fd, (struct history_range){NOON, NOON + 120, 1});
    for (unsigned i = 0; i < 120; i++)
        assert_int_equal(p[i].count, 1);
    assert_true(p[50].avg[0] == 99);
    free(p);
    close(fd);
}

static void ranges_are_made_what_can_be_answered(void **state) {
    struct history_range r = {NOON - 3600, NOON, 0};

    assert_int_equal(history_fit(&r, NOON), 0);
    assert_int_equal(r.step, 12);
    assert_true(r.from % 12 == 0 && r.to % 12 == 0 && r.to >= NOON);
    r = (struct history_range){NOON - 7 * DAY + 3600, NOON, 1};
    assert_int_equal(history_fit(&r, NOON), -E2BIG);
    r = (struct history_range){NOON - 2 * DAY, NOON - 2 * DAY + 600, 1};
    assert_int_equal(history_fit(&r, NOON), 0);
    assert_int_equal(r.step, 60);
    r = (struct history_range){NOON - 100 * DAY, NOON - 99 * DAY, 60};
    assert_int_equal(history_fit(&r, NOON), 0);
    assert_int_equal(r.step, 3600);
    r = (struct history_range){INT64_MIN / 2, INT64_MAX / 2, 0};
    assert_int_equal(history_fit(&r, NOON), 0);
    assert_true(r.from == 0 && r.to <= NOON + 1 + r.step);
    r = (struct history_range){NOON + 500, NOON + 900, 90};
    assert_int_equal(history_fit(&r, NOON), 0);
    assert_true(r.to - r.from <= 2 * r.step);
}

static void what_is_in_no_file_yet_is_added(void **state) {
    struct history_range r = {NOON, NOON + 120, 60};
    struct history_point p[2] = {0};
    struct history_sample s[3] = {sample(NOON + 3, 1), sample(NOON + 4, 3), sample(NOON + 120, 5)};

    for (unsigned i = 0; i < 3; i++)
        history_point_add(&r, p, &s[i]);
    assert_true(p[0].count == 2 && p[0].min[0] == 1 && p[0].avg[0] == 2 && p[0].max[0] == 3);
    assert_int_equal(p[1].count, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seconds_minutes_and_hours_say_the_same),
        cmocka_unit_test(the_file_is_bounded_and_forgets_what_is_old),
        cmocka_unit_test(damaged_records_are_not_there),
        cmocka_unit_test(a_clock_that_is_set_back_loses_nothing_else),
        cmocka_unit_test(ranges_are_made_what_can_be_answered),
        cmocka_unit_test(what_is_in_no_file_yet_is_added),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The log of a serial line: bounded, kept over processes, and what is lost when it cannot be
 * written. */
#include "vm/line_log.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "support/test.h"

static char folder[] = "/tmp/viv-line-log-XXXXXX", path[64], old[64];

static int setup(void **state) {
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/log", folder);
    snprintf(old, sizeof(old), "%s/log.old", folder);
    return 0;
}

static int teardown(void **state) {
    unlink(path);
    unlink(old);
    rmdir(folder);
    return 0;
}

static void begin(void) {
    unlink(path);
    unlink(old);
}

static size_t read_file(const char *name, char *out, size_t size) {
    int fd = open(name, O_RDONLY);
    ssize_t n = read(fd, out, size);

    close(fd);
    assert_true(n >= 0);
    return (size_t)n;
}

static void say(struct line_log *l, const char *text) {
    line_log_put(l, (const uint8_t *)text, strlen(text));
}

static void what_is_said_is_there_when_it_was_flushed(void **state) {
    struct line_log *l;
    char out[100];

    begin();
    l = line_log_open(path, NULL);
    assert_non_null(l);
    assert_true(line_log_put(l, (const uint8_t *)"one", 3));
    assert_false(line_log_put(l, (const uint8_t *)" two", 4));
    assert_int_equal(read_file(path, out, sizeof(out)), 0);
    line_log_flush(l);
    assert_int_equal(read_file(path, out, sizeof(out)), 7);
    assert_memory_equal(out, "one two", 7);
    assert_true(line_log_put(l, (const uint8_t *)"x", 1));
    line_log_close(l);
    assert_int_equal(read_file(path, out, sizeof(out)), 8);
}

static void another_process_goes_on_behind_it(void **state) {
    char out[100];

    begin();
    for (int i = 0; i < 2; i++) {
        struct line_log *l = line_log_open(path, NULL);

        say(l, i ? "second" : "first,");
        line_log_close(l);
    }
    assert_int_equal(read_file(path, out, sizeof(out)), 12);
    assert_memory_equal(out, "first,second", 12);
}

/* The two files together hold the newest, in order and without a gap. */
static void it_does_not_grow_beyond_its_limit(void **state) {
    enum { LINES = 200000 };
    char *out = malloc(2 * LINE_LOG_HALF + 1), line[20];
    struct line_log *l;
    size_t n;
    int number;

    begin();
    l = line_log_open(path, NULL);
    for (int i = 0; i < LINES; i++) {
        snprintf(line, sizeof(line), "line %08d\n", i);
        say(l, line);
    }
    line_log_close(l);
    n = read_file(old, out, LINE_LOG_HALF + 1);
    assert_in_range(n, LINE_LOG_HALF - 4096, LINE_LOG_HALF);
    n += read_file(path, out + n, LINE_LOG_HALF + 1);
    assert_in_range(n, LINE_LOG_HALF - 4096, 2 * LINE_LOG_HALF);
    out[n] = 0;
    number = LINES - 1;
    for (size_t at = n - 14; at < n && number > LINES - 30000; at -= 14, number--) {
        snprintf(line, sizeof(line), "line %08d\n", number);
        assert_memory_equal(out + at, line, 14);
    }
    assert_int_equal(number, LINES - 30000);
    free(out);
}

static void a_place_that_is_no_file_is_refused(void **state) {
    struct error err = {0};

    begin();
    assert_null(line_log_open(folder, &err));
    assert_non_null(strstr(err.text, "cannot be written"));
    err = (struct error){0};
    assert_null(line_log_open("/dev/null", &err));
    assert_non_null(strstr(err.text, "no regular file"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_said_is_there_when_it_was_flushed),
        cmocka_unit_test(another_process_goes_on_behind_it),
        cmocka_unit_test(it_does_not_grow_beyond_its_limit),
        cmocka_unit_test(a_place_that_is_no_file_is_refused),
    };

    log_init("test", LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, setup, teardown);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of log lines: what arrives at stderr. */
#include "base/log.h"

#include <string.h>
#include <unistd.h>

#include "support/test.h"

static int pipe_fds[2], old_stderr;

static void catch_stderr(void) {
    assert_int_equal(pipe(pipe_fds), 0);
    old_stderr = dup(STDERR_FILENO);
    dup2(pipe_fds[1], STDERR_FILENO);
    close(pipe_fds[1]);
}

static size_t caught(char *text, size_t room) {
    ssize_t n;
    size_t len = 0;

    dup2(old_stderr, STDERR_FILENO);
    close(old_stderr);
    while ((n = read(pipe_fds[0], text + len, room - 1 - len)) > 0)
        len += (size_t)n;
    close(pipe_fds[0]);
    text[len] = 0;
    return len;
}

static void a_line_has_program_level_and_text(void **state) {
    char text[200];

    catch_stderr();
    log_init("viv-vm/web", LOG_LEVEL_INFO);
    log_warning("disk %d is full", 2);
    caught(text, sizeof(text));
    assert_string_equal(text, "viv-vm/web: warning: disk 2 is full\n");
}

static void levels_beyond_the_wanted_one_are_silent(void **state) {
    char text[200];

    catch_stderr();
    log_init("p", LOG_LEVEL_WARNING);
    log_error("a");
    log_notice("b");
    log_debug("c");
    caught(text, sizeof(text));
    assert_string_equal(text, "p: error: a\n");
}

static void a_long_line_is_cut_and_still_ends(void **state) {
    char text[4000], much[3000];
    size_t n;

    memset(much, 'y', sizeof(much) - 1);
    much[sizeof(much) - 1] = 0;
    catch_stderr();
    log_init("p", LOG_LEVEL_WARNING);
    log_error("%s", much);
    log_error("next");
    n = caught(text, sizeof(text));
    assert_true(n > 900 && n < 1100);
    assert_string_equal(strchr(text, '\n'), "\np: error: next\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_has_program_level_and_text),
        cmocka_unit_test(levels_beyond_the_wanted_one_are_silent),
        cmocka_unit_test(a_long_line_is_cut_and_still_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of log lines: what arrives at stderr. */
#include "base/log.h"

#include <jansson.h>
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

static void as_json_a_line_is_one_object_whatever_it_says(void **state) {
    char text[4000], *time, much[3000];
    json_t *o;

    catch_stderr();
    log_init("viv-vm/web", LOG_LEVEL_INFO);
    log_set_json(true);
    log_warning("a \"quote\"\n\x01 \xc3\xa9 \xff\xfe \xed\xa0\x80");
    log_line_about(LOG_LEVEL_ERROR, "vm", "vm-1", "%d", 7);
    log_set_json(false);
    log_line_about(LOG_LEVEL_ERROR, "vm", "vm-1", "%d", 7);
    caught(text, sizeof(text));
    o = json_loads(text, JSON_DISABLE_EOF_CHECK, NULL);
    assert_non_null(o);
    assert_string_equal(json_string_value(json_object_get(o, "message")),
                        "a \"quote\"\n\x01 \xc3\xa9 ?? ???");
    assert_string_equal(json_string_value(json_object_get(o, "level")), "warning");
    assert_string_equal(json_string_value(json_object_get(o, "component")), "viv-vm");
    assert_string_equal(json_string_value(json_object_get(o, "name")), "web");
    json_decref(o);
    time = strchr(text, '\n') + 1;
    o = json_loads(time, JSON_DISABLE_EOF_CHECK, NULL);
    assert_string_equal(json_string_value(json_object_get(o, "vm")), "vm-1");
    assert_int_equal(strlen(json_string_value(json_object_get(o, "time"))), 24);
    json_decref(o);
    assert_non_null(strstr(time, "\nviv-vm/web: error: vm-1: 7\n"));

    memset(much, '\\', sizeof(much) - 1);
    much[sizeof(much) - 1] = 0;
    catch_stderr();
    log_set_json(true);
    log_error("%s", much);
    log_set_json(false);
    caught(text, sizeof(text));
    o = json_loads(text, 0, NULL);
    assert_int_equal(json_string_length(json_object_get(o, "message")), 1023);
    json_decref(o);
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
        cmocka_unit_test(as_json_a_line_is_one_object_whatever_it_says),
        cmocka_unit_test(levels_beyond_the_wanted_one_are_silent),
        cmocka_unit_test(a_long_line_is_cut_and_still_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

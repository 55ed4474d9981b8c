/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of struct error. */
#include "base/error.h"

#include <errno.h>
#include <string.h>

#include "support/test.h"

static void setting_returns_the_code_and_stores_the_sentence(void **state) {
    struct error err = {0};

    assert_int_equal(error_set(&err, -ENOENT, "disk '%s': it is not there", "a.raw"), -ENOENT);
    assert_int_equal(err.code, -ENOENT);
    assert_string_equal(err.text, "disk 'a.raw': it is not there");
}

static void the_first_sentence_wins(void **state) {
    struct error err = {0};

    error_set(&err, -EIO, "first");
    assert_int_equal(error_set(&err, -EINVAL, "second"), -EINVAL);
    assert_int_equal(err.code, -EIO);
    assert_string_equal(err.text, "first");
}

static void a_caller_that_wants_no_text_gets_the_code(void **state) {
    assert_int_equal(error_set(NULL, -EIO, "unheard %d", 1), -EIO);
    assert_int_equal(error_prefix(NULL, "unheard"), 0);
}

static void a_prefix_goes_in_front(void **state) {
    struct error err = {0};

    error_set(&err, -EIO, "read failed");
    assert_int_equal(error_prefix(&err, "disk %d", 3), -EIO);
    assert_string_equal(err.text, "disk 3: read failed");
}

static void a_long_sentence_is_cut_and_ended(void **state) {
    struct error err = {0};
    char name[2000];

    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = 0;
    error_set(&err, -EIO, "%s", name);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
    error_prefix(&err, "%s", name);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
}

static void a_hostile_name_cannot_break_the_line(void **state) {
    struct error err = {0};

    error_set(&err, -EIO, "file 'a\n\033[2Jb'");
    assert_string_equal(err.text, "file 'a??[2Jb'");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(setting_returns_the_code_and_stores_the_sentence),
        cmocka_unit_test(the_first_sentence_wins),
        cmocka_unit_test(a_caller_that_wants_no_text_gets_the_code),
        cmocka_unit_test(a_prefix_goes_in_front),
        cmocka_unit_test(a_long_sentence_is_cut_and_ended),
        cmocka_unit_test(a_hostile_name_cannot_break_the_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

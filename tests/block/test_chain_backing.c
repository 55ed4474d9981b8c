/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What an image may lie on, where somebody says so and not the image. */
#include "block/chain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/test.h"

static char folder[] = "/tmp/viv-backing-XXXXXX";
static char top[80], middle[80], base[80], outside[80];

static void make(const char *path, const char *format, const char *below,
                 const char *below_format) {
    const struct chain_create c = {.path = path,
                                   .format = format,
                                   .size = 1 << 20,
                                   .backing = below,
                                   .backing_format = below_format};
    struct error e = {0};

    unlink(path);
    if (chain_create(&c, &e) < 0)
        fail_msg("%s", e.text);
}

static bool opens(const char *backing) {
    const struct chain_options o = {
        .path = top, .format = "qcow2", .readonly = true, .backing = backing};
    struct error e = {0};
    struct chain *c = chain_open(&o, &e);

    if (!c && !strstr(e.text, "is not to have"))
        fail_msg("%s", e.text);
    chain_close(c);
    return c;
}

static int setup(void **state) {
    assert_non_null(mkdtemp(folder));
    snprintf(top, sizeof(top), "%s/vm", folder);
    assert_int_equal(mkdir(top, 0700), 0);
    snprintf(top, sizeof(top), "%s/vm/top", folder);
    snprintf(middle, sizeof(middle), "%s/vm/middle", folder);
    snprintf(base, sizeof(base), "%s/base", folder);
    snprintf(outside, sizeof(outside), "%s/outside", folder);
    make(base, "raw", NULL, NULL);
    make(outside, "raw", NULL, NULL);
    return 0;
}

static int teardown(void **state) {
    unlink(top);
    unlink(middle);
    unlink(base);
    unlink(outside);
    snprintf(top, sizeof(top), "%s/vm", folder);
    rmdir(top);
    return rmdir(folder);
}

static void files_beside_it_and_the_one_that_is_named(void **state) {
    make(middle, "qcow2", "../base", "raw");
    make(top, "qcow2", "middle", "qcow2");
    assert_true(opens(NULL));
    assert_true(opens("../base"));
    assert_false(opens("beside"));
    assert_false(opens("none"));
    assert_false(opens("../outside"));
    make(middle, "qcow2", NULL, NULL);
    assert_true(opens("beside"));
    make(top, "qcow2", middle, "qcow2"); /* by its whole path */
    assert_true(opens("beside"));
    make(top, "qcow2", NULL, NULL);
    assert_true(opens("none"));
}

static void what_whoever_wrote_to_it_put_into_its_header(void **state) {
    static const char *const names[] = {"../outside", "", "/etc/passwd", "../vm/../outside",
                                        "file:../outside"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        make(top, "qcow2", *names[i] ? names[i] : outside, "raw");
        assert_false(opens("../base"));
        assert_false(opens("beside"));
        assert_false(opens("none"));
    }
    make(top, "qcow2", "middle", "qcow2");
    make(middle, "qcow2", outside, "raw"); /* a layer deeper */
    assert_false(opens("../base"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_beside_it_and_the_one_that_is_named),
        cmocka_unit_test(what_whoever_wrote_to_it_put_into_its_header),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}

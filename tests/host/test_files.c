/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which paths lie in a folder that callers from the network may name files of. */
#include "host/files.h"

#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/test.h"

static char root[] = "/tmp/viv-files-XXXXXX";

static const char *at(const char *path) {
    static char full[4][PATH_MAX];
    static unsigned n;

    n = (n + 1) % 4;
    snprintf(full[n], PATH_MAX, "%s/%s", root, path);
    return full[n];
}

static void make_file(const char *path) {
    FILE *f = fopen(at(path), "w");

    assert_non_null(f);
    fclose(f);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    return remove(path);
}

static int teardown(void **state) { return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

static int setup(void **state) {
    static const char *const folders[] = {"media", "media/old", "media2", "private", "media/open"};

    strcpy(strrchr(root, '-'), "-XXXXXX");
    if (!mkdtemp(root))
        return -1;
    for (unsigned i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
        if (mkdir(at(folders[i]), 0700) < 0)
            return -1;
    make_file("media/a.iso");
    make_file("media/old/b.iso");
    make_file("media/open/c.iso");
    make_file("media2/d.iso");
    make_file("private/key");
    return chmod(at("media/open"), 0777);
}

static bool may(const char *path) {
    const char *folders[] = {at("media")};

    return files_within(folders, 1, path);
}

static void what_lies_in_it_may_be_named(void **state) {
    assert_true(may(at("media/a.iso")));
    assert_true(may(at("media/old/b.iso")));
    assert_true(may(at("media/old/../a.iso")));
    assert_true(may(at("private/../media//a.iso")));
    assert_true(may(at("media")));
    assert_true(may(at("media/new.raw"))); /* is to be written */
    assert_true(may(at("media/old/new.raw")));
}

static void what_lies_elsewhere_may_not(void **state) {
    assert_false(may("/etc/passwd"));
    assert_false(may(at("private/key")));
    assert_false(may(at("private/new")));
    assert_false(may(at("media2/d.iso"))); /* its name begins alike */
    assert_false(may(at("media/../private/key")));
    assert_false(may(at("media/old/../../private/key")));
    assert_false(may(at("media/nothing/../../private/key")));
    assert_false(may(at("media/nothing/new.raw")));
    assert_false(may(at("media/..")));
    assert_false(may("media/a.iso"));
    assert_false(may(""));
    assert_false(may("/"));
}

static void links_count_as_what_they_lead_to(void **state) {
    assert_int_equal(symlink(at("private/key"), at("media/link")), 0);
    assert_int_equal(symlink("../private", at("media/folder")), 0);
    assert_int_equal(symlink(at("media/a.iso"), at("private/link")), 0);
    assert_int_equal(symlink(at("private/not-yet"), at("media/dangling")), 0);
    assert_int_equal(symlink("loop", at("media/loop")), 0);
    assert_false(may(at("media/link")));
    assert_false(may(at("media/folder/key")));
    assert_false(may(at("media/folder/new")));
    assert_false(may(at("media/dangling"))); /* a file that is made would be there */
    assert_false(may(at("media/loop")));
    assert_true(may(at("private/link")));
}

static void a_folder_that_is_a_link_is_followed(void **state) {
    const char *folders[] = {at("nothing"), at("shown")};

    assert_int_equal(symlink("media", at("shown")), 0);
    assert_true(files_within(folders, 2, at("media/a.iso")));
    assert_true(files_within(folders, 2, at("shown/old/b.iso")));
    assert_false(files_within(folders, 1, at("media/a.iso")));
    assert_false(files_within(folders, 2, at("private/key")));
}

/* Whoever may write there could put a link in the place of what was looked at. */
static void what_everybody_may_write_to_is_no_such_folder(void **state) {
    const char *folders[] = {at("media/open")};

    assert_false(may(at("media/open/c.iso")));
    assert_false(files_within(folders, 1, at("media/open/c.iso")));
    assert_int_equal(chmod(at("media/open"), 0755), 0);
    assert_true(files_within(folders, 1, at("media/open/c.iso")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_lies_in_it_may_be_named, setup, teardown),
        cmocka_unit_test_setup_teardown(what_lies_elsewhere_may_not, setup, teardown),
        cmocka_unit_test_setup_teardown(links_count_as_what_they_lead_to, setup, teardown),
        cmocka_unit_test_setup_teardown(a_folder_that_is_a_link_is_followed, setup, teardown),
        cmocka_unit_test_setup_teardown(what_everybody_may_write_to_is_no_such_folder, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

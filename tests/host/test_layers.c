/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Disk files of machines: chains, links that share them, and joining of what nobody needs. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/chain.h"
#include "host/layers.h"
#include "host/merge.h"
#include "support/test.h"

enum { SIZE = 1 << 20, PLACES = 8, PLACE = 64 << 10 };

static struct { char top[64], a[80], b[80]; /* folders */ } t;

static int set_up(void **state) {
    snprintf(t.top, sizeof(t.top), "/tmp/viv-layers-XXXXXX");
    assert_non_null(mkdtemp(t.top));
    snprintf(t.a, sizeof(t.a), "%s/a", t.top);
    snprintf(t.b, sizeof(t.b), "%s/b", t.top);
    assert_int_equal(mkdir(t.a, 0700), 0);
    return 0;
}

static int tear_down(void **state) {
    char command[100];

    snprintf(command, sizeof(command), "rm -rf %s", t.top);
    return system(command);
}

static void path_of(const char *folder, const char *name, char out[200]) {
    snprintf(out, 200, "%s/%s", folder, name);
}

static void make_first(const char *folder) {
    char path[200];
    const struct chain_create c = {.path = path, .format = "qcow2", .size = SIZE};
    struct error err = {0};

    path_of(folder, "disk.qcow2", path);
    if (chain_create(&c, &err) < 0)
        fail_msg("%s", err.text);
}

static struct chain *open_all(const char *folder, const char *name, bool readonly) {
    char path[200];
    const struct chain_options o = {.path = path, .format = "qcow2", .readonly = readonly};
    struct error err = {0};
    struct chain *c;

    path_of(folder, name, path);
    c = chain_open(&o, &err);
    if (!c)
        fail_msg("%s", err.text);
    return c;
}

static void put(const char *folder, const char *name, unsigned place, char letter) {
    struct chain *c = open_all(folder, name, false);
    char data[512];
    struct iovec v = {data, sizeof(data)};

    memset(data, letter, sizeof(data));
    assert_int_equal(chain_write(c, &(struct span){&v, 1, 0}, (uint64_t)place * PLACE, 512), 0);
    assert_int_equal(chain_close(c), 0);
}

/* A letter for each place, '.' for zeroes. */
static void check(const char *folder, const char *name, const char *expected) {
    struct chain *c = open_all(folder, name, true);
    char got[PLACES + 1] = "", data[512];
    struct iovec v = {data, sizeof(data)};

    for (unsigned i = 0; i < PLACES; i++) {
        assert_int_equal(chain_read(c, &(struct span){&v, 1, 0}, (uint64_t)i * PLACE, 512), 0);
        got[i] = data[0] ? data[0] : '.';
    }
    chain_close(c);
    assert_string_equal(got, expected);
}

static void next(const char *folder, const char *name, const char *to) {
    struct error err = {0};

    if (layers_put_on_top(folder, name, to, &err) < 0)
        fail_msg("%s", err.text);
}

static void test_a_chain_that_is_too_long_is_refused_with_the_remedy(void **state) {
    char name[LAYER_NAME] = "disk.qcow2", other[LAYER_NAME];
    struct error err = {0};
    unsigned depth = 0;
    int i;

    make_first(t.a);
    for (i = 1; layers_check_room(t.a, name, &err) == 0; i++) {
        layers_name(i, other);
        next(t.a, name, other);
        snprintf(name, sizeof(name), "%s", other);
    }
    assert_int_equal(err.code, -ELOOP);
    assert_non_null(strstr(err.text, "remove snapshots"));
    assert_int_equal(layers_depth(t.a, name, &depth, NULL), 0);
    assert_int_equal(depth, LAYERS_MOST);
    err.code = 0;
    layers_name(i, other);
    assert_int_equal(layers_make_on_top(t.a, name, other, &err), -ELOOP);
    assert_int_equal(layers_put_on_top(t.a, name, other, &err), -ELOOP);
}

static void test_what_is_linked_stays_when_the_other_goes(void **state) {
    char path[200];
    struct error err = {0};

    make_first(t.a);
    put(t.a, "disk.qcow2", 0, 'a');
    next(t.a, "disk.qcow2", "disk.1.qcow2");
    put(t.a, "disk.1.qcow2", 1, 'b');
    next(t.a, "disk.1.qcow2", "disk.2.qcow2");
    for (int i = 0; i < 2; i++) /* the second time as after a crash */
        assert_int_equal(layers_link(t.a, "disk.1.qcow2", t.b, &err), 0);
    path_of(t.b, "disk.2.qcow2", path);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(layers_make_on_top(t.b, "disk.1.qcow2", "disk.3.qcow2", &err), 0);
    put(t.a, "disk.2.qcow2", 2, 'c');
    put(t.b, "disk.3.qcow2", 2, 'd');
    layers_remove_others(t.a, "");
    check(t.b, "disk.3.qcow2", "abd.....");
}

static void test_a_file_that_names_the_one_below_by_its_path_is_not_shared(void **state) {
    char path[200], below[200];
    struct error err = {0};
    struct chain_create c = {
        .path = path, .format = "qcow2", .size = SIZE, .backing = below, .backing_format = "qcow2"};

    make_first(t.a);
    path_of(t.a, "disk.1.qcow2", path);
    path_of(t.a, "disk.qcow2", below);
    assert_int_equal(chain_create(&c, &err), 0);
    assert_int_equal(layers_link(t.a, "disk.1.qcow2", t.b, &err), -EXDEV);
    assert_non_null(strstr(err.text, "viv-img rebase"));
}

static json_t *needs(const char *one, const char *other) {
    json_t *needed = json_object();

    json_object_set_new(needed, one, json_true());
    if (other)
        json_object_set_new(needed, other, json_true());
    return needed;
}

static int join(const char *into, const char *from, int stop, struct error *err) {
    struct merge m = {.folder = t.a, .disk = "disk.3.qcow2", .stop = &stop};

    snprintf(m.into, sizeof(m.into), "%s", into);
    snprintf(m.from, sizeof(m.from), "%s", from);
    return merge_do(&m, err);
}

/* disk <- 1 <- 2 <- 3, with letters. */
static void make_chain(void) {
    make_first(t.a);
    put(t.a, "disk.qcow2", 0, 'a');
    put(t.a, "disk.qcow2", 1, 'a');
    next(t.a, "disk.qcow2", "disk.1.qcow2");
    put(t.a, "disk.1.qcow2", 1, 'b');
    put(t.a, "disk.1.qcow2", 2, 'b');
    next(t.a, "disk.1.qcow2", "disk.2.qcow2");
    put(t.a, "disk.2.qcow2", 3, 'c');
    next(t.a, "disk.2.qcow2", "disk.3.qcow2");
    put(t.a, "disk.3.qcow2", 2, 'd');
}

static void test_what_nobody_needs_is_joined_and_all_show_the_same(void **state) {
    char into[LAYER_NAME], from[LAYER_NAME], path[200];
    json_t *needed = needs("disk.3.qcow2", "disk.1.qcow2");
    struct error err = {0};
    struct stat before, after;

    make_chain();
    path_of(t.a, "disk.2.qcow2", path);
    assert_int_equal(stat(path, &before), 0);
    assert_int_equal(merge_find(t.a, needed, into, from, NULL), 1);
    if (strcmp(into, "disk.qcow2") != 0) { /* either will do */
        assert_string_equal(into, "disk.2.qcow2");
        assert_string_equal(from, "disk.3.qcow2");
    }
    assert_int_equal(join("disk.qcow2", "disk.1.qcow2", 1, &err), -ECANCELED);
    check(t.a, "disk.1.qcow2", "abb.....");
    for (int i = 0; i < 2; i++)
        assert_int_equal(join("disk.qcow2", "disk.1.qcow2", 0, &err), 0);
    check(t.a, "disk.qcow2", "abb....."); /* what disk.1 was */
    check(t.a, "disk.1.qcow2", "abb.....");
    check(t.a, "disk.3.qcow2", "abdc....");
    assert_int_equal(layers_below(t.a, "disk.2.qcow2", into, &err), 0);
    assert_string_equal(into, "disk.qcow2");
    assert_int_equal(stat(path, &after), 0);
    assert_memory_equal(&before.st_mtim, &after.st_mtim, sizeof(before.st_mtim));
    path_of(t.a, "disk.1.qcow2", path);
    unlink(path);
    json_decref(needed);

    needed = needs("disk.3.qcow2", "disk.qcow2");
    assert_int_equal(merge_find(t.a, needed, into, from, NULL), 1);
    assert_string_equal(into, "disk.2.qcow2");
    assert_int_equal(join(into, from, 0, &err), 0);
    check(t.a, "disk.2.qcow2", "abdc....");
    json_decref(needed);
}

static void test_what_others_share_or_several_lie_on_stays(void **state) {
    char into[LAYER_NAME], from[LAYER_NAME], path[200], other[200];
    json_t *needed = needs("disk.3.qcow2", NULL);
    struct error err = {0};

    make_chain();
    assert_int_equal(layers_link(t.a, "disk.1.qcow2", t.b, &err), 0);
    assert_int_equal(merge_find(t.a, needed, into, from, NULL), 1);
    assert_string_equal(into, "disk.2.qcow2");
    assert_int_equal(join("disk.qcow2", "disk.1.qcow2", 0, &err), -ESTALE);
    next(t.a, "disk.2.qcow2", "disk.4.qcow2");
    assert_int_equal(merge_find(t.a, needed, into, from, NULL), 0);
    /* A zero on top is not what lies below. */
    path_of(t.a, "disk.4.qcow2", path);
    unlink(path);
    layers_remove_others(t.b, "");
    path_of(t.a, "disk.3.qcow2", other);
    struct chain *c = open_all(t.a, "disk.3.qcow2", false);
    assert_int_equal(chain_zero(c, 0, PLACE, true), 0);
    assert_int_equal(chain_close(c), 0);
    while (merge_find(t.a, needed, into, from, NULL) == 1) {
        assert_int_equal(join(into, from, 0, &err), 0);
        path_of(t.a, from, path);
        unlink(path);
        json_decref(needed);
        needed = needs(
            strcmp(from, "disk.3.qcow2") && access(other, F_OK) == 0 ? "disk.3.qcow2" : into, NULL);
    }
    check(t.a, into, ".bdc....");
    json_decref(needed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        T(test_a_chain_that_is_too_long_is_refused_with_the_remedy),
        T(test_what_is_linked_stays_when_the_other_goes),
        T(test_a_file_that_names_the_one_below_by_its_path_is_not_shared),
        T(test_what_nobody_needs_is_joined_and_all_show_the_same),
        T(test_what_others_share_or_several_lie_on_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

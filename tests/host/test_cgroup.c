/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is written into the control group of a machine, and read of it, in a folder that is made
 * here: the kernel would make the files. */
#include "host/cgroup.h"

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/test.h"

static char root[] = "/tmp/viv-cgroup-XXXXXX";
static char group[100];
static int folder;

static void put(const char *name, const char *text) {
    char path[200];
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", group, name);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static const char *get(const char *name) {
    static char text[100];
    char path[200];
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", group, name);
    f = fopen(path, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof(text) - 1, f)] = 0;
    fclose(f);
    return text;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    return remove(path);
}

static int teardown(void **state) {
    close(folder);
    return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int setup(void **state) {
    static const char *const files[] = {"pids.max", "memory.high", "cpu.weight", "cpu.max",
                                        "cgroup.procs"};

    strcpy(strrchr(root, '-'), "-XXXXXX");
    if (!mkdtemp(root))
        return -1;
    snprintf(group, sizeof(group), "%s/viv-machine-%d", root, (int)getpid());
    folder = open(root, O_RDONLY | O_DIRECTORY);
    if (folder < 0 || mkdir(group, 0700) < 0)
        return -1;
    for (unsigned i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        put(files[i], "");
    return 0;
}

static void limits_are_written_where_the_kernel_looks(void **state) {
    const struct cgroup_limits l = {.memory = 3ull << 30, .cpu = 150, .weight = 200};

    cgroup_enter(folder, root, &l);
    assert_string_equal(get("pids.max"), "1024");
    assert_string_equal(get("memory.high"), "3221225472");
    assert_string_equal(get("cpu.weight"), "200");
    assert_string_equal(get("cpu.max"), "150000 100000");
    assert_string_equal(get("cgroup.procs"), "0"); /* who writes it */
}

static void a_limit_changes_while_the_machine_runs(void **state) {
    const struct cgroup_limits l = {0};

    assert_false(cgroup_limit_cpu(folder, 10)); /* it has no group yet */
    cgroup_enter(folder, root, &l);
    put("cpu.max", "");
    assert_true(cgroup_limit_cpu(folder, 1));
    assert_string_equal(get("cpu.max"), "1000 100000");
    put("cpu.max", "");
    assert_true(cgroup_limit_cpu(folder, 0));
    assert_string_equal(get("cpu.max"), "max 100000");
}

static void without_the_controller_it_is_told(void **state) {
    const struct cgroup_limits l = {.cpu = 50};
    char path[200];

    snprintf(path, sizeof(path), "%s/cpu.max", group);
    assert_int_equal(unlink(path), 0);
    cgroup_enter(folder, root, &l);
    assert_string_equal(get("cgroup.procs"), "0");
    assert_false(cgroup_limit_cpu(folder, 50));
}

static void what_it_counts_is_read(void **state) {
    const struct cgroup_limits l = {0};
    struct cgroup_usage use;

    assert_false(cgroup_read(folder, &use));
    cgroup_enter(folder, root, &l);
    put("memory.current", "12345678\n");
    put("cpu.stat", "nr_periods 7\nusage_usec 9876543\nuser_usec 1\n");
    assert_true(cgroup_read(folder, &use));
    assert_int_equal(use.memory, 12345678);
    assert_int_equal(use.cpu_ms, 9876);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(limits_are_written_where_the_kernel_looks, setup, teardown),
        cmocka_unit_test_setup_teardown(a_limit_changes_while_the_machine_runs, setup, teardown),
        cmocka_unit_test_setup_teardown(without_the_controller_it_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(what_it_counts_is_read, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

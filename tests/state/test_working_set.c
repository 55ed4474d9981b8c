/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The list of pages that a restored machine wants first: it comes back as it was written, and what
 * is not of this snapshot, or damaged, is refused. */
#include "state/working_set.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "state/snapshot.h"
#include "support/test.h"

enum { PAGES = 1000, HEAD = 44 };

static char folder[] = "/tmp/viv-test-working-set-XXXXXX";
static char file[PATH_MAX];
static uint8_t touched[PAGES / 8 + 1];
static struct snapshot snapshot = {.dir = folder, .pages = PAGES, .id = {1, 2, 3}};
static struct working_set set;
static struct error err;

static int make_folder(void **state) {
    if (!mkdtemp(folder))
        return -1;
    snprintf(file, sizeof(file), "%s/working-set", folder);
    return 0;
}

static int remove_folder(void **state) {
    unlink(file);
    return rmdir(folder);
}

static void touch(unsigned first, unsigned count) {
    for (unsigned i = first; i < first + count; i++)
        touched[i / 8] |= (uint8_t)(1u << i % 8);
}

static void write_some(void) {
    memset(touched, 0, sizeof(touched));
    touch(0, 1);
    touch(7, 2);
    touch(100, 300);
    touch(PAGES - 1, 1);
    err = (struct error){0};
    assert_int_equal(working_set_write(&snapshot, touched, &err), 0);
}

static void refused(const char *text) {
    err = (struct error){0};
    assert_true(working_set_read(&snapshot, &set, &err) < 0);
    if (!strstr(err.text, text))
        fail_msg("'%s' says nothing of '%s'", err.text, text);
}

static size_t load(uint8_t *p, size_t max) {
    FILE *f = fopen(file, "rb");
    size_t n;

    assert_non_null(f);
    n = fread(p, 1, max, f);
    fclose(f);
    return n;
}

static void store(const uint8_t *p, size_t n) {
    FILE *f = fopen(file, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    fclose(f);
}

static void what_was_touched_comes_back_as_runs(void **state) {
    static const struct working_set_run runs[] = {{0, 1}, {7, 2}, {100, 300}, {PAGES - 1, 1}};

    write_some();
    assert_int_equal(working_set_read(&snapshot, &set, &err), 0);
    assert_int_equal(set.runs, 4);
    assert_int_equal(set.pages, 304);
    assert_memory_equal(set.run, runs, sizeof(runs));
    working_set_done(&set);
    memset(touched, 0, sizeof(touched)); /* the next one takes its place */
    assert_int_equal(working_set_write(&snapshot, touched, &err), 0);
    assert_int_equal(working_set_read(&snapshot, &set, &err), 0);
    assert_int_equal(set.runs, 0);
    working_set_done(&set);
}

static void without_a_file_a_sentence_says_how_to_make_one(void **state) {
    unlink(file);
    assert_int_equal(working_set_read(&snapshot, &set, &err), -ENOENT);
    assert_non_null(strstr(err.text, "--record-working-set"));
}

static void one_of_another_snapshot_is_refused(void **state) {
    write_some();
    snapshot.id[15] ^= 1;
    refused("of another snapshot");
    snapshot.id[15] ^= 1;
    snapshot.pages *= 2;
    refused("of another snapshot");
    snapshot.pages /= 2;
}

static void any_flipped_bit_and_any_other_length_is_refused(void **state) {
    uint8_t p[200];
    size_t n;

    write_some();
    n = load(p, sizeof(p));
    assert_int_equal(n, HEAD + 4 * 8);
    for (size_t bit = 0; bit < 8 * n; bit++) {
        p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        store(p, n);
        refused("working set");
        p[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t length = 0; length < n; length++) {
        store(p, length);
        refused("working set");
    }
    store(p, n + 1);
    refused("working set");
    unlink(file);
    assert_int_equal(mkdir(file, 0700), 0);
    refused("impossible size");
    assert_int_equal(rmdir(file), 0);
    assert_int_equal(mkfifo(file, 0600), 0); /* nobody waits for its other end */
    refused("impossible size");
    unlink(file);
}

/* By somebody who knows the checksum. */
static void pages_that_cannot_be_are_refused(void **state) {
    static const uint32_t bad[][4] = {
        {5, 0, 20, 1},          {5, 2, 6, 1},
        {5, 2, 7, 1},           {20, 1, 5, 1},
        {5, 1, PAGES, 1},       {5, 1, PAGES - 1, 2},
        {5, UINT32_MAX, 20, 1}, {5, 1, UINT32_MAX, 1},
        {5, 1, 20, UINT32_MAX}, {UINT32_MAX, UINT32_MAX, 20, 1},
    };
    uint8_t p[200];

    memset(touched, 0, sizeof(touched));
    touch(5, 1);
    touch(20, 1);
    assert_int_equal(working_set_write(&snapshot, touched, &err), 0);
    assert_int_equal(load(p, sizeof(p)), HEAD + 16);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        for (unsigned k = 0; k < 4; k++)
            store_le32(p + HEAD + 4 * k, bad[i][k]);
        store_le32(p + 40, crc32c(crc32c(0, p, 40), p + HEAD, 16));
        store(p, HEAD + 16);
        refused("names pages that cannot be");
    }
}

static void a_place_that_cannot_be_written_is_said(void **state) {
    snapshot.dir = "/proc/nowhere";
    err = (struct error){0};
    assert_true(working_set_write(&snapshot, touched, &err) < 0);
    assert_non_null(strstr(err.text, "/proc/nowhere"));
    snapshot.dir = folder;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_touched_comes_back_as_runs),
        cmocka_unit_test(without_a_file_a_sentence_says_how_to_make_one),
        cmocka_unit_test(one_of_another_snapshot_is_refused),
        cmocka_unit_test(any_flipped_bit_and_any_other_length_is_refused),
        cmocka_unit_test(pages_that_cannot_be_are_refused),
        cmocka_unit_test(a_place_that_cannot_be_written_is_said),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

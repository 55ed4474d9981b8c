/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The folder of a snapshot: what is written comes back, chains of increments read through, damage
 * at any place is seen, nothing half written is ever under its name. */
#include "state/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "support/test.h"

enum { PAGES = 600 }; /* three chunks, the last one in part */

static char folder[] = "/tmp/viv-test-snapshot-XXXXXX";
static uint8_t memory[PAGES][SNAPSHOT_PAGE];

static const char *path(const char *name) {
    static char p[4][PATH_MAX];
    static unsigned turn;
    char *to = p[turn++ % 4];

    snprintf(to, PATH_MAX, "%s/%s", folder, name);
    return to;
}

static void remove_snapshot(const char *name) {
    static const char *const files[] = {"state", "memory", "memory.index", "machine.json"};
    char file[PATH_MAX];

    for (unsigned i = 0; i < 4; i++) {
        snprintf(file, sizeof(file), "%s/%s/%s", folder, name, files[i]);
        unlink(file);
    }
    rmdir(path(name));
}

static int make_folder(void **state) {
    if (!mkdtemp(folder))
        return -1;
    return 0;
}

static int remove_folder(void **state) {
    static const char *const names[] = {"a", "b", "c", "a.part"};

    for (unsigned i = 0; i < 4; i++)
        remove_snapshot(names[i]);
    return rmdir(folder);
}

static int fresh(void **state) {
    static const char *const names[] = {"a", "b", "c", "a.part"};

    for (unsigned i = 0; i < 4; i++)
        remove_snapshot(names[i]);
    memset(memory, 0, sizeof(memory));
    memory[0][0] = 1;
    memory[3][4095] = 2;
    memset(memory[255], 3, SNAPSHOT_PAGE);
    memset(memory[256], 4, SNAPSHOT_PAGE);
    memset(memory[PAGES - 1], 5, SNAPSHOT_PAGE);
    return 0;
}

static const uint8_t *pages_at(void *opaque, uint64_t page, unsigned count, uint8_t *buf,
                               struct error *err) {
    return memory[page];
}

static int save(const char *name, const struct snapshot *parent, struct error *err) {
    struct snapshot_sections sections = {0};
    struct snapshot_image image = {.dir = path(name),
                                   .sections = &sections,
                                   .json = "{\"a\": 1}",
                                   .pages = PAGES,
                                   .pages_at = pages_at,
                                   .parent = parent};
    int r;

    snapshot_add(&sections, "first", SNAPSHOT_TYPED, "hello", 5);
    snapshot_add(&sections, "empty", SNAPSHOT_RAW, "", 0);
    snapshot_add(&sections, "second", SNAPSHOT_RAW, "world!", 6);
    r = snapshot_write(&image, err);
    snapshot_sections_done(&sections);
    return r;
}

static struct snapshot *saved(const char *name, const struct snapshot *parent) {
    struct error err = {0};
    struct snapshot *s;

    if (save(name, parent, &err) < 0)
        fail_msg("%s", err.text);
    s = snapshot_open(path(name), &err);
    if (!s)
        fail_msg("%s", err.text);
    return s;
}

static void holds_memory(const struct snapshot *s) {
    static uint8_t got[PAGES][SNAPSHOT_PAGE];
    struct error err = {0};

    memset(got, 0xee, sizeof(got));
    if (snapshot_read(s, 0, PAGES, got, &err) < 0 || snapshot_check_memory(s, &err) < 0)
        fail_msg("%s", err.text);
    assert_memory_equal(got, memory, sizeof(memory));
}

/* ------------------------------------------------------------------ what is written comes back */

static void the_checksum_is_that_of_the_standard(void **state) {
    uint8_t zeros[32] = {0}, odd[1001];

    assert_int_equal(crc32c(0, zeros, 32), 0x8a9136aa); /* RFC 3720 B.4 */
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    for (unsigned i = 0; i < sizeof(odd); i++)
        odd[i] = (uint8_t)(i * 7);
    for (unsigned n = 0; n < 40; n++) {
        assert_int_equal(crc32c(5, odd + n, 900), crc32c_table(5, odd + n, 900));
        assert_int_equal(crc32c(crc32c(0, odd, n), odd + n, 100), crc32c(0, odd, n + 100));
    }
}

static void sections_json_and_memory_come_back(void **state) {
    struct snapshot *s = saved("a", NULL);
    const struct snapshot_section *first = snapshot_find(s, "first");

    assert_int_equal(s->sections, 3);
    assert_non_null(first);
    assert_int_equal(first->size, 5);
    assert_memory_equal(first->data, "hello", 5);
    assert_int_equal(snapshot_find(s, "empty")->size, 0);
    assert_int_equal(snapshot_find(s, "second")->kind, SNAPSHOT_RAW);
    assert_null(snapshot_find(s, "third"));
    assert_string_equal(s->json, "{\"a\": 1}");
    holds_memory(s);
    snapshot_close(s);
}

static void zero_pages_take_no_room_in_the_file(void **state) {
    struct snapshot *s = saved("a", NULL);
    struct stat st;

    assert_int_equal(fstat(s->memory_fd, &st), 0);
    assert_int_equal(st.st_size, PAGES * SNAPSHOT_PAGE);
    assert_true(st.st_blocks * 512 <= 8 * SNAPSHOT_PAGE);
    assert_int_equal(snapshot_page_kind(s, 1), SNAPSHOT_ZERO);
    assert_int_equal(snapshot_page_kind(s, 255), SNAPSHOT_HERE);
    snapshot_close(s);
}

/* A run is what looking at each page by itself finds. */
static void runs_are_right(const struct snapshot *s) {
    for (uint64_t page = 0; page < PAGES; page++)
        for (uint64_t end = page + 1; end <= PAGES; end += end < page + 3 ? 1 : 61) {
            uint64_t n = snapshot_page_run(s, page, end);

            assert_in_range(n, 1, end - page);
            for (uint64_t i = 1; i < n; i++)
                assert_ptr_equal(snapshot_page_layer(s, page + i), snapshot_page_layer(s, page));
            if (page + n < end) /* it ends where some layer tells of the next page in another way */
                assert_true(snapshot_page_kind(s, page + n) != snapshot_page_kind(s, page) ||
                            (s->parent && snapshot_page_kind(s, page) == SNAPSHOT_PARENT));
        }
}

static void pages_of_one_layer_are_found_as_runs(void **state) {
    struct snapshot *a, *b;

    for (unsigned i = 60; i < 250; i++)
        memory[i][7] = 1;
    a = saved("a", NULL);
    assert_int_equal(snapshot_page_run(a, 60, PAGES), 190);
    assert_int_equal(snapshot_page_run(a, 60, 100), 40);
    assert_int_equal(snapshot_page_run(a, 4, PAGES), 56);
    runs_are_right(a);
    for (unsigned i = 100; i < 170; i++)
        memory[i][9] = 2;
    b = saved("b", a);
    assert_int_equal(snapshot_page_run(b, 60, PAGES), 40);
    assert_int_equal(snapshot_page_run(b, 100, PAGES), 70);
    assert_int_equal(snapshot_page_run(b, 170, PAGES), 80);
    runs_are_right(b);
    snapshot_close(b);
    snapshot_close(a);
}

/* ------------------------------------------------------------------ increments */

static void an_increment_holds_only_what_changed_and_reads_through_its_parents(void **state) {
    struct snapshot *a = saved("a", NULL), *b, *c;
    struct stat st;

    memory[7][0] = 9;                      /* new */
    memset(memory[256], 0, SNAPSHOT_PAGE); /* gone */
    b = saved("b", a);
    assert_int_equal(fstat(b->memory_fd, &st), 0);
    assert_true(st.st_blocks * 512 <= 2 * SNAPSHOT_PAGE);
    assert_int_equal(snapshot_page_kind(b, 7), SNAPSHOT_HERE);
    assert_int_equal(snapshot_page_kind(b, 256), SNAPSHOT_ZERO);
    assert_int_equal(snapshot_page_kind(b, 255), SNAPSHOT_PARENT);
    holds_memory(b);
    memory[256][1] = 1; /* back again, otherwise */
    memory[7][0] = 0;
    c = saved("c", b);
    holds_memory(c);
    assert_ptr_equal(snapshot_page_layer(c, 255), c->parent->parent);
    snapshot_close(a);
    snapshot_close(b);
    snapshot_close(c);
}

static void an_increment_on_another_parent_is_refused(void **state) {
    struct snapshot *a = saved("a", NULL), *b = saved("b", a);
    struct error err = {0};

    snapshot_close(a);
    snapshot_close(b);
    remove_snapshot("a");
    assert_null(snapshot_open(path("b"), &err));
    assert_non_null(strstr(err.text, "parent is needed"));
    err = (struct error){0};
    snapshot_close(saved("a", NULL)); /* the same bytes, but not the same snapshot */
    assert_null(snapshot_open(path("b"), &err));
    assert_non_null(strstr(err.text, "is not the parent"));
}

/* ------------------------------------------------------------------ damage */

static bool refused(const char *name) {
    struct error err = {0};
    struct snapshot *s = snapshot_open(path(name), &err);
    bool bad = !s || snapshot_check_memory(s, &err) < 0;

    snapshot_close(s);
    if (bad)
        assert_true(err.code < 0 && strlen(err.text) > 20);
    return bad;
}

static int open_file(const char *name, const char *file) {
    char p[PATH_MAX];
    int fd;

    snprintf(p, sizeof(p), "%s/%s/%s", folder, name, file);
    fd = open(p, O_RDWR);
    assert_true(fd >= 0);
    return fd;
}

/* Every bit of the small files; of the memory one bit a page, in holes too. */
static void a_flipped_bit_anywhere_is_refused(void **state) {
    static const char *const files[] = {"state", "machine.json", "memory.index", "memory"};

    snapshot_close(saved("a", NULL));
    assert_false(refused("a"));
    for (unsigned i = 0; i < 4; i++) {
        int fd = open_file("a", files[i]);
        off_t size = lseek(fd, 0, SEEK_END), step = i == 3 ? SNAPSHOT_PAGE * 8 - 1 : 1;

        for (off_t bit = 0; bit < size * 8; bit += step) {
            uint8_t byte, was;

            assert_int_equal(pread(fd, &was, 1, bit / 8), 1);
            byte = was ^ (uint8_t)(1 << bit % 8);
            assert_int_equal(pwrite(fd, &byte, 1, bit / 8), 1);
            if (!refused("a"))
                fail_msg("bit %ld of '%s' was changed and nobody saw it", (long)bit, files[i]);
            assert_int_equal(pwrite(fd, &was, 1, bit / 8), 1);
        }
        close(fd);
    }
    assert_false(refused("a"));
}

static void a_file_of_any_other_length_is_refused(void **state) {
    static const char *const files[] = {"state", "machine.json", "memory.index", "memory"};

    for (unsigned i = 0; i < 4; i++) {
        off_t size, step;
        int fd;

        fresh(NULL);
        snapshot_close(saved("a", NULL));
        fd = open_file("a", files[i]);
        size = lseek(fd, 0, SEEK_END);
        step = i == 3 ? SNAPSHOT_PAGE - 1 : 1;
        assert_int_equal(ftruncate(fd, size + 1), 0);
        assert_true(refused("a"));
        for (off_t n = size - 1; n >= 0; n = n && n < step ? 0 : n - step) {
            assert_int_equal(ftruncate(fd, n), 0);
            if (!refused("a"))
                fail_msg("'%s' was cut to %ld bytes and nobody saw it", files[i], (long)n);
        }
        close(fd);
    }
}

static void a_missing_file_is_refused(void **state) {
    static const char *const files[] = {"state", "machine.json", "memory.index", "memory"};

    for (unsigned i = 0; i < 4; i++) {
        char p[PATH_MAX];

        fresh(NULL);
        snapshot_close(saved("a", NULL));
        snprintf(p, sizeof(p), "%s/a/%s", folder, files[i]);
        unlink(p);
        assert_true(refused("a"));
        assert_int_equal(mkfifo(p, 0600), 0); /* and nobody waits for a writer */
        assert_true(refused("a"));
    }
}

/* With the checksum made right again: only the number itself speaks against it. */
static void a_newer_version_is_refused_by_number(void **state) {
    struct error err = {0};
    uint8_t head[40];
    uint32_t table;
    uint8_t *rest;
    int fd;

    snapshot_close(saved("a", NULL));
    fd = open_file("a", "state");
    assert_int_equal(pread(fd, head, 40, 0), 40);
    store_le32(head + 8, SNAPSHOT_VERSION + 1);
    table = load_le32(head + 16);
    rest = malloc(table);
    assert_int_equal(pread(fd, rest, table, 40), table);
    store_le32(head + 36, crc32c(crc32c(0, head, 36), rest, table));
    assert_int_equal(pwrite(fd, head, 40, 0), 40);
    free(rest);
    close(fd);
    assert_null(snapshot_open(path("a"), &err));
    assert_int_equal(err.code, -ENOTSUP);
    assert_non_null(strstr(err.text, "newer"));
}

/* ------------------------------------------------------------------ writing */

static void an_existing_snapshot_is_never_replaced(void **state) {
    struct error err = {0};

    snapshot_close(saved("a", NULL));
    assert_int_equal(save("a", NULL, &err), -EEXIST);
    assert_false(refused("a"));
}

static void what_a_crash_left_behind_is_replaced(void **state) {
    int fd;

    assert_int_equal(mkdir(path("a.part"), 0700), 0);
    fd = openat(AT_FDCWD, path("a.part/memory"), O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "rubbish", 7), 7);
    close(fd);
    assert_true(refused("a"));
    snapshot_close(saved("a", NULL));
    assert_int_equal(access(path("a.part"), F_OK), -1);
}

static void two_writers_of_one_name_do_not_meet(void **state) {
    struct error err = {0};
    int fd;

    assert_int_equal(mkdir(path("a.part"), 0700), 0);
    fd = open(path("a.part"), O_RDONLY | O_DIRECTORY);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_int_equal(save("a", NULL, &err), -EBUSY);
    assert_int_equal(access(path("a.part"), F_OK), 0); /* not ours to remove */
    close(fd);
}

static void a_full_disk_leaves_nothing_behind(void **state) {
    struct rlimit old, small = {.rlim_cur = 100 * SNAPSHOT_PAGE};
    struct error err = {0};

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_true(save("a", NULL, &err) < 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_non_null(strstr(err.text, "memory"));
    assert_int_equal(access(path("a"), F_OK), -1);
    assert_int_equal(access(path("a.part"), F_OK), -1);
    snapshot_close(saved("a", NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_checksum_is_that_of_the_standard),
        cmocka_unit_test_setup(sections_json_and_memory_come_back, fresh),
        cmocka_unit_test_setup(zero_pages_take_no_room_in_the_file, fresh),
        cmocka_unit_test_setup(pages_of_one_layer_are_found_as_runs, fresh),
        cmocka_unit_test_setup(an_increment_holds_only_what_changed_and_reads_through_its_parents,
                               fresh),
        cmocka_unit_test_setup(an_increment_on_another_parent_is_refused, fresh),
        cmocka_unit_test_setup(a_flipped_bit_anywhere_is_refused, fresh),
        cmocka_unit_test_setup(a_file_of_any_other_length_is_refused, fresh),
        cmocka_unit_test_setup(a_missing_file_is_refused, fresh),
        cmocka_unit_test_setup(a_newer_version_is_refused_by_number, fresh),
        cmocka_unit_test_setup(an_existing_snapshot_is_never_replaced, fresh),
        cmocka_unit_test_setup(what_a_crash_left_behind_is_replaced, fresh),
        cmocka_unit_test_setup(two_writers_of_one_name_do_not_meet, fresh),
        cmocka_unit_test_setup(a_full_disk_leaves_nothing_behind, fresh),
    };

    signal(SIGXFSZ, SIG_IGN);
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

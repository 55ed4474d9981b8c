/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tar archives: what GNU tar writes in each of its formats, and heads that lie. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/tar.h"
#include "support/test.h"

/* ------------------------------------------------------------------ archives made by hand */

static void put_sum(uint8_t *head) {
    unsigned sum = 0;

    memset(head + 148, ' ', 8);
    for (unsigned i = 0; i < TAR_BLOCK; i++)
        sum += head[i];
    snprintf((char *)head + 148, 8, "%06o", sum);
}

/* A member with a head of our own; returns where the head is. */
static size_t put(struct buf *b, char type, const char *name, const char *data, size_t n) {
    size_t at = b->len;

    buf_grow(b, TAR_BLOCK);
    tar_head(b->data + at, name, n, 0);
    b->data[at + 156] = (uint8_t)type;
    put_sum(b->data + at);
    buf_put(b, data, n);
    buf_grow(b, -n & (TAR_BLOCK - 1));
    return at;
}

static void put_text(struct buf *b, char type, const char *name, const char *data) {
    put(b, type, name, data, strlen(data));
}

struct seen {
    unsigned n;
    struct tar_member m[40];
    int answer;
};

static int see(void *opaque, const struct tar_member *m, struct error *err) {
    struct seen *s = opaque;

    (void)err;
    if (s->n < sizeof(s->m) / sizeof(s->m[0]))
        s->m[s->n] = *m;
    s->n++;
    return s->answer;
}

static int walk(const struct buf *b, struct seen *s, struct error *err) {
    int fd = memfd_create("tar", MFD_CLOEXEC), r;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, b->data, b->len), b->len);
    *err = (struct error){0};
    r = tar_walk(fd, "x.tar", see, s, err);
    close(fd);
    assert_true(r >= 0 || (err->code == r && *err->text));
    return r;
}

static void expect_refused(struct buf *b, const char *why) {
    struct seen s = {0};
    struct error e;

    assert_int_equal(walk(b, &s, &e), -EINVAL);
    assert_non_null(strstr(e.text, why));
    buf_done(b);
}

/* ------------------------------------------------------------------ what tar writes */

static void archives_of_tar_in_each_format(void **state) {
    static const char *const formats[] = {"v7", "ustar", "gnu", "pax"};
    char folder[] = "/tmp/viv-tar-XXXXXX", command[600], path[64];

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(command, sizeof(command),
             "cd %s && mkdir -p a/b && printf hello >a/b/file && ln -s b/file a/link && "
             "ln a/b/file a/second && mkfifo a/pipe && "
             "long=$(printf '%%080d' 7) && mkdir -p a/$long/$long && printf 12 >a/$long/$long/f",
             folder);
    assert_int_equal(system(command), 0);
    for (unsigned i = 0; i < 4; i++) {
        struct seen s = {0};
        struct error e = {0};
        unsigned found = 0;
        bool longs = i > 1;
        FILE *f;

        snprintf(command, sizeof(command),
                 "cd %s && tar -c --format=%s %s --sort=name -f out.tar a", folder, formats[i],
                 longs ? ""
                 : i   ? "--exclude='0*'"
                       : "--exclude='0*' --exclude=pipe");
        assert_int_equal(system(command), 0);
        snprintf(path, sizeof(path), "%s/out.tar", folder);
        f = fopen(path, "r");
        assert_non_null(f);
        assert_int_equal(tar_walk(fileno(f), path, see, &s, &e), 0);
        for (unsigned k = 0; k < s.n; k++) {
            const struct tar_member *m = &s.m[k];
            char data[6] = {0};

            if (m->type == TAR_FILE && m->size)
                assert_int_equal(pread(fileno(f), data, m->size, (off_t)m->offset), m->size);
            found += !strcmp(m->name, "a/b/file") && m->type == TAR_FILE && !strcmp(data, "hello");
            found +=
                !strcmp(m->name, "a/link") && m->type == TAR_SYMLINK && !strcmp(m->link, "b/file");
            found +=
                !strcmp(m->name, "a/second") && m->type == TAR_LINK && !strcmp(m->link, "a/b/file");
            found += !strcmp(m->name, "a/") && m->type == TAR_FOLDER;
            found += !strcmp(m->name, "a/pipe") && m->type == TAR_OTHER;
            found += strlen(m->name) == 165 && m->type == TAR_FILE && !strcmp(data, "12");
        }
        fclose(f);
        assert_int_equal(found, longs ? 6 : i ? 5 : 4); /* v7 knows no pipes */
    }
    snprintf(command, sizeof(command), "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

static void our_heads_are_read_by_tar_and_by_us(void **state) {
    char folder[] = "/tmp/viv-tar-XXXXXX", command[200];
    struct buf b = {0};
    struct seen s = {0};
    struct error e;
    FILE *f;

    (void)state;
    assert_non_null(mkdtemp(folder));
    put_text(&b, '0', "first", "one");
    put_text(&b, '0', "second", "");
    buf_grow(&b, 2 * TAR_BLOCK);
    assert_int_equal(walk(&b, &s, &e), 0);
    assert_int_equal(s.n, 2);
    assert_string_equal(s.m[0].name, "first");
    assert_int_equal(s.m[0].size, 3);
    assert_int_equal(s.m[0].offset, TAR_BLOCK);
    assert_int_equal(s.m[1].size, 0);
    snprintf(command, sizeof(command), "%s/t", folder);
    f = fopen(command, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(b.data, 1, b.len, f), b.len);
    fclose(f);
    snprintf(command, sizeof(command),
             "cd %s && test \"$(tar -tf t | tr '\\n' ' ')\" = 'first second ' && "
             "test \"$(tar -xOf t first)\" = one && rm -r %s",
             folder, folder);
    assert_int_equal(system(command), 0);
    buf_done(&b);
}

static void sizes_beyond_eight_gigabytes(void **state) {
    static const uint64_t sizes[] = {(1ull << 33) - 1, 1ull << 33, 5ull << 40};
    struct seen s = {0};
    struct error e = {0};

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        int fd = memfd_create("tar", MFD_CLOEXEC);
        uint8_t head[TAR_BLOCK];

        tar_head(head, "large", sizes[i], 0);
        assert_int_equal(write(fd, head, TAR_BLOCK), TAR_BLOCK);
        if (ftruncate(fd, (off_t)(TAR_BLOCK + sizes[i])) < 0) {
            close(fd); /* more than the host's memory files take */
            continue;
        }
        s.n = 0;
        assert_int_equal(tar_walk(fd, "x", see, &s, &e), 0);
        assert_int_equal(s.n, 1);
        assert_true(s.m[0].size == sizes[i]);
        close(fd);
    }
}

/* ------------------------------------------------------------------ heads before a head */

static void names_and_sizes_of_pax(void **state) {
    struct buf b = {0};
    struct seen s = {0};
    struct error e;

    (void)state;
    put_text(&b, 'g', "global", "24 path=not-for-members\n");
    put_text(&b, 'x', "head", "13 path=long\n14 linkpath=t\n10 size=3\n13 hdrchar=8\n");
    put(&b, '0', "short", "abcdefg", 3);
    put_text(&b, '0', "next", "x");
    assert_int_equal(walk(&b, &s, &e), 0);
    assert_int_equal(s.n, 2);
    assert_string_equal(s.m[0].name, "long");
    assert_string_equal(s.m[0].link, "t");
    assert_int_equal(s.m[0].size, 3);
    assert_string_equal(s.m[1].name, "next"); /* what was said holds for one member */
    buf_done(&b);
}

static void records_of_pax_that_lie_are_left_aside(void **state) {
    static const char *const records[] = {
        "5 path=outside\n",
        "99999999999999999999 path=a\n",
        "-1 path=a\n",
        "path=a\n",
        " \n",
        "\n",
        "7 path=",
        "0 path=a\n",
        "9 path=ab",
        "6 path\n",
        "4  =\n",
        "13 path=long",
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(records) / sizeof(records[0]); i++) {
        struct buf b = {0};
        struct seen s = {0};
        struct error e;

        put_text(&b, 'x', "head", records[i]);
        put_text(&b, '0', "file", "x");
        assert_int_equal(walk(&b, &s, &e), 0);
        assert_int_equal(s.n, 1);
        assert_string_equal(s.m[0].name, "file");
        buf_done(&b);
    }
}

static void members_with_names_too_long_are_left_out(void **state) {
    char name[TAR_NAME + 10], record[TAR_NAME + 40];
    struct buf b = {0};
    struct seen s = {0};
    struct error e;

    (void)state;
    memset(name, 'n', sizeof(name));
    name[TAR_NAME] = 0;
    put_text(&b, 'L', "././@LongLink", name);
    put_text(&b, '0', "cut", "1");
    snprintf(record, sizeof(record), "%u path=%s\n", TAR_NAME + 10u, name);
    put_text(&b, 'x', "head", record);
    put_text(&b, '0', "cut", "2");
    name[TAR_NAME - 1] = 0;
    put_text(&b, 'L', "././@LongLink", name);
    put_text(&b, '0', "cut", "3");
    assert_int_equal(walk(&b, &s, &e), 0);
    assert_int_equal(s.n, 1);
    assert_int_equal(strlen(s.m[0].name), TAR_NAME - 1);
    buf_done(&b);
}

static void heads_before_a_head_have_a_bound(void **state) {
    size_t n = (1 << 20) + 1;
    char *text = calloc(1, n);
    struct buf b = {0};

    (void)state;
    assert_non_null(text);
    memset(text, 'n', n);
    put(&b, 'L', "././@LongLink", text, n);
    put_text(&b, '0', "file", "");
    free(text);
    expect_refused(&b, "too large");
}

/* ------------------------------------------------------------------ hostile heads */

static void devices_have_no_data_whatever_their_size_says(void **state) {
    static const char types[] = "123456";
    struct buf b = {0};
    struct seen s = {0};
    struct error e;

    (void)state;
    for (const char *t = types; *t; t++) {
        size_t at = put(&b, *t, "thing", "", 0);

        snprintf((char *)b.data + at + 124, 12, "%011o", 1000);
        put_sum(b.data + at);
    }
    put_text(&b, '0', "last", "x");
    assert_int_equal(walk(&b, &s, &e), 0);
    assert_int_equal(s.n, 7);
    assert_int_equal(s.m[0].size, 0);
    assert_string_equal(s.m[6].name, "last");
    buf_done(&b);
}

static void sums_of_old_programs_count_bytes_with_a_sign(void **state) {
    struct buf b = {0};
    struct seen s = {0};
    struct error e;
    int sum = 0;

    (void)state;
    put_text(&b, '0', "gr\xc3\xbc\xc3\x9f", "x");
    memset(b.data + 148, ' ', 8);
    for (unsigned i = 0; i < TAR_BLOCK; i++)
        sum += (int8_t)b.data[i];
    snprintf((char *)b.data + 148, 8, "%06o", (unsigned)sum);
    assert_int_equal(walk(&b, &s, &e), 0);
    assert_int_equal(s.n, 1);
    buf_done(&b);
}

static void what_is_no_archive_is_refused(void **state) {
    struct buf b = {0};

    (void)state;
    expect_refused(&b, "is no tar archive");
    buf_put(&b, "short", 5);
    expect_refused(&b, "is no tar archive");
    buf_grow(&b, 4 * TAR_BLOCK);
    expect_refused(&b, "is no tar archive");
    buf_grow(&b, 2 * TAR_BLOCK);
    memset(b.data, 'x', b.len);
    expect_refused(&b, "is no tar archive");
}

static void damage_is_found_and_where(void **state) {
    struct buf b = {0};

    (void)state;
    put_text(&b, '0', "first", "data");
    put_text(&b, '0', "second", "data");
    b.data[2 * TAR_BLOCK + 3] ^= 1;
    expect_refused(&b, "damaged at byte 1024");
}

static void sizes_that_reach_behind_the_end_are_refused(void **state) {
    static const char *const sizes[] = {"00000001001",
                                        "77777777777",
                                        "\x80\x7f\xff\xff\xff\xff\xff",
                                        "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
                                        "0000000000x",
                                        "-0000000001"};
    char record[] = "29 size=9223372036854775807\n";

    (void)state;
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct buf b = {0};
        size_t at = put(&b, '0', "file", "", 0), n = strlen(sizes[i]);

        buf_grow(&b, TAR_BLOCK);
        memset(b.data + at + 124, i == 2 ? 0xff : 0, 12);
        memcpy(b.data + at + 124, sizes[i], n < 12 ? n : 12);
        put_sum(b.data + at);
        expect_refused(&b, i == 0 || i == 1 ? "cut off" : "x.tar");
    }
    for (int digit = '1'; digit <= '9'; digit++) {
        struct buf b = {0};

        record[8] = (char)digit;
        record[1] = '8';
        put_text(&b, 'x', "head", record);
        put_text(&b, '0', "file", "x");
        expect_refused(&b, "cut off");
    }
}

static void archives_cut_off_anywhere_are_no_trouble(void **state) {
    struct buf b = {0};
    size_t whole;

    (void)state;
    put_text(&b, 'x', "head", "13 path=long\n");
    put_text(&b, '0', "first", "data");
    put_text(&b, '0', "second", "more");
    whole = b.len;
    for (; b.len > 0; b.len -= b.len > 4 * TAR_BLOCK ? 1 : 37 < b.len ? 37 : b.len) {
        struct seen s = {0};
        struct error e;

        walk(&b, &s, &e);
        assert_true(s.n <= 2);
        for (unsigned i = 0; i < s.n; i++)
            assert_true(s.m[i].offset + s.m[i].size <= b.len);
    }
    b.len = whole;
    buf_done(&b);
}

static void any_byte_may_be_any_other(void **state) {
    struct rng r = rng_seed(7);

    (void)state;
    for (unsigned round = 0; round < 2000; round++) {
        struct buf b = {0};
        struct seen s = {0};
        struct error e;

        put_text(&b, 'x', "head", "13 path=long\n10 size=4\n");
        put_text(&b, '0', "first", "data");
        put_text(&b, 'L', "././@LongLink", "name");
        put_text(&b, '2', "second", "");
        for (unsigned k = 0; k < 1 + round % 4; k++)
            b.data[rng_below(&r, b.len)] = (uint8_t)rng_next(&r);
        if (round % 2) /* with sums that are right, so that it is looked at more closely */
            for (size_t at = 0; at < b.len; at += 2 * TAR_BLOCK)
                put_sum(b.data + at);
        walk(&b, &s, &e);
        for (unsigned i = 0; i < s.n && i < 40; i++) {
            assert_true(s.m[i].offset <= b.len && s.m[i].size <= b.len - s.m[i].offset);
            assert_true(strlen(s.m[i].name) < TAR_NAME && strlen(s.m[i].link) < TAR_NAME);
        }
        buf_done(&b);
    }
}

static void who_is_told_may_end_it(void **state) {
    struct buf b = {0};
    struct seen s = {.answer = 1};
    struct error e;

    (void)state;
    put_text(&b, '0', "first", "data");
    put_text(&b, '0', "second", "more");
    assert_int_equal(walk(&b, &s, &e), 1);
    assert_int_equal(s.n, 1);
    buf_done(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(archives_of_tar_in_each_format),
        cmocka_unit_test(our_heads_are_read_by_tar_and_by_us),
        cmocka_unit_test(sizes_beyond_eight_gigabytes),
        cmocka_unit_test(names_and_sizes_of_pax),
        cmocka_unit_test(records_of_pax_that_lie_are_left_aside),
        cmocka_unit_test(members_with_names_too_long_are_left_out),
        cmocka_unit_test(heads_before_a_head_have_a_bound),
        cmocka_unit_test(devices_have_no_data_whatever_their_size_says),
        cmocka_unit_test(sums_of_old_programs_count_bytes_with_a_sign),
        cmocka_unit_test(what_is_no_archive_is_refused),
        cmocka_unit_test(damage_is_found_and_where),
        cmocka_unit_test(sizes_that_reach_behind_the_end_are_refused),
        cmocka_unit_test(archives_cut_off_anywhere_are_no_trouble),
        cmocka_unit_test(any_byte_may_be_any_other),
        cmocka_unit_test(who_is_told_may_end_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

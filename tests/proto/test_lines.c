/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Streams cut into lines however they come, and lines that are messages or are not. */
#include "proto/lines.h"

#include <errno.h>
#include <stdlib.h>

#include "support/test.h"

static void put(struct lines *l, const char *bytes, size_t n) {
    while (n) {
        size_t room;
        void *p = lines_room(l, &room);

        assert_non_null(p);
        if (room > n)
            room = n;
        memcpy(p, bytes, room);
        lines_came(l, room);
        bytes += room;
        n -= room;
    }
}

static void a_stream_is_cut_into_the_same_lines_however_it_comes(void **state) {
    struct rng r = rng_seed(1);
    char stream[5000];

    for (size_t i = 0; i < sizeof(stream); i++)
        stream[i] = rng_below(&r, 20) ? (char)('a' + rng_below(&r, 26)) : '\n';
    stream[sizeof(stream) - 1] = '\n';
    for (unsigned round = 0; round < 200; round++) {
        struct lines l = {.max = 1000};
        size_t in = 0, out = 0, len;
        char *line;

        while (in < sizeof(stream)) {
            size_t n = 1 + rng_below(&r, 300);

            n = n < sizeof(stream) - in ? n : sizeof(stream) - in;
            put(&l, stream + in, n);
            in += n;
            for (unsigned k = 0; k < rng_below(&r, 40) && (line = lines_next(&l, &len)); k++) {
                assert_memory_equal(line, stream + out, len);
                assert_int_equal(line[len], 0);
                assert_int_equal(stream[out + len], '\n');
                out += len + 1;
            }
            while (l.bytes.len - l.start > 700 && (line = lines_next(&l, &len)))
                out += len + 1;
        }
        while ((line = lines_next(&l, &len))) {
            assert_memory_equal(line, stream + out, len);
            out += len + 1;
        }
        assert_int_equal(out, sizeof(stream));
        lines_done(&l);
    }
}

static void a_line_may_be_as_long_as_the_limit_and_not_longer(void **state) {
    struct lines l = {.max = 100};
    char x[101];
    size_t n;

    memset(x, 'x', sizeof(x));
    put(&l, x, 100);
    assert_null(lines_next(&l, &n));
    assert_false(lines_too_long(&l));
    put(&l, "\n", 1);
    assert_non_null(lines_next(&l, &n));
    assert_int_equal(n, 100);
    put(&l, x, 101);
    assert_null(lines_next(&l, &n));
    assert_true(lines_too_long(&l));
    assert_null(lines_room(&l, &n)); /* it takes no more memory */
    lines_done(&l);
}

static void only_one_object_without_doubles_is_a_message(void **state) {
    static const char *const bad[] = {"",
                                      "1",
                                      "null",
                                      "\"x\"",
                                      "[]",
                                      "{}{}",
                                      "{",
                                      "{\"a\":1,\"a\":1}",
                                      "{\"a\":\"\\u0000\"}",
                                      "{\"a\": 99999999999999999999}",
                                      "{'a':1}"};
    struct error err;
    json_t *m;

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        err.code = 0;
        m = message_parse(bad[i], strlen(bad[i]), &err);
        if (m)
            fail_msg("'%s' was taken", bad[i]);
        assert_int_equal(err.code, -EINVAL);
    }
    m = message_parse("{\"a\": 1}\r", 9, &err);
    assert_non_null(m);
    json_decref(m);
}

static void a_message_is_one_line_whatever_it_says(void **state) {
    json_t *m = json_pack("{s:s}", "text", "two\nlines\r and \"quotes\""), *back;
    struct buf out = {0};

    assert_true(message_put(&out, m));
    assert_ptr_equal(memchr(out.data, '\n', out.len), out.data + out.len - 1);
    back = message_parse((char *)out.data, out.len - 1, NULL);
    assert_true(json_equal(m, back));
    json_decref(m);
    json_decref(back);
    buf_done(&out);
}

static void bytes_that_are_no_text_can_still_be_told_of(void **state) {
    json_t *v = message_text("/srv/\xff\xfe/\xc3\xa4");

    assert_string_equal(json_string_value(v), "/srv/\?\?/\?\?");
    json_decref(v);
    v = message_text("/srv/\xc3\xa4");
    assert_string_equal(json_string_value(v), "/srv/\xc3\xa4");
    json_decref(v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_is_cut_into_the_same_lines_however_it_comes),
        cmocka_unit_test(a_line_may_be_as_long_as_the_limit_and_not_longer),
        cmocka_unit_test(only_one_object_without_doubles_is_a_message),
        cmocka_unit_test(a_message_is_one_line_whatever_it_says),
        cmocka_unit_test(bytes_that_are_no_text_can_still_be_told_of),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* WebSocket frames: what they hold in pieces of any size, and what RFC 6455 forbids. */
#include <string.h>

#include "host/ws.h"
#include "support/test.h"

static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};

/* A frame as a client sends it. */
static void put(struct buf *out, uint8_t first, const void *data, size_t n) {
    const uint8_t *p = data;
    uint8_t head[10] = {first, (uint8_t)(0x80 | (n < 126 ? n : n < 65536 ? 126 : 127))};
    size_t len = n < 126 ? 2 : n < 65536 ? 4 : 10;

    if (len == 4)
        store_be16(head + 2, (uint16_t)n);
    if (len == 10)
        store_be64(head + 2, n);
    buf_put(out, head, len);
    buf_put(out, mask, 4);
    for (size_t i = 0; i < n; i++) {
        uint8_t c = p[i] ^ mask[i & 3];

        buf_put(out, &c, 1);
    }
}

struct result {
    struct ws_reader r;
    struct buf data, reply;
};

static void read_all(struct result *x, const struct buf *in, size_t step) {
    *x = (struct result){0};
    for (size_t at = 0; at < in->len; at += step)
        ws_read(&x->r, in->data + at, in->len - at < step ? in->len - at : step, &x->data,
                &x->reply);
}

static void done(struct result *x) {
    buf_done(&x->data);
    buf_done(&x->reply);
}

/* The bytes end the connection with that code, whatever the pieces are. */
static void expect_code(const struct buf *in, unsigned code) {
    for (size_t step = 1; step <= in->len; step += 1 + step / 2) {
        struct result x;

        read_all(&x, in, step);
        assert_true(x.r.closed);
        assert_int_equal(x.r.code, code);
        assert_int_equal(x.reply.data[0], 0x88);
        done(&x);
    }
}

static void expect_bytes_bad(const char *bytes, size_t n, unsigned code) {
    struct buf in = {0};

    buf_put(&in, bytes, n);
    expect_code(&in, code);
    buf_done(&in);
}

static void frames_are_read_in_pieces_of_any_size(void **state) {
    static uint8_t large[70000];
    struct buf in = {0};

    for (size_t i = 0; i < sizeof(large); i++)
        large[i] = (uint8_t)(i * 7);
    put(&in, 0x82, "hello", 5);
    put(&in, 0x82, "", 0);
    put(&in, 0x02, "first", 5); /* fragments, with a ping between them */
    put(&in, 0x89, "are you there", 13);
    put(&in, 0x00, " second", 7);
    put(&in, 0x80, " last", 5);
    put(&in, 0x82, large, 300);
    put(&in, 0x82, large, sizeof(large));
    put(&in, 0x88,
        "\x03\xe8"
        "bye",
        5);
    for (size_t step = 1; step < in.len; step += 1 + step * 2) {
        struct result x;

        read_all(&x, &in, step);
        assert_int_equal(x.data.len, 22 + 300 + sizeof(large));
        assert_memory_equal(x.data.data, "hellofirst second last", 22);
        assert_memory_equal(x.data.data + 322, large, sizeof(large));
        assert_int_equal(x.reply.len, 2 + 13 + 4);
        assert_memory_equal(x.reply.data,
                            "\x8a\x0d"
                            "are you there"
                            "\x88\x02\x03\xe8",
                            19);
        assert_true(x.r.closed);
        assert_int_equal(x.r.code, WS_NORMAL);
        done(&x);
    }
    buf_done(&in);
}

static void what_is_forbidden_ends_with_its_code(void **state) {
    struct buf in = {0};

    expect_bytes_bad("\x82\x05"
                     "hello",
                     7, WS_PROTOCOL_ERROR); /* no mask */
    expect_bytes_bad("\xc2\x80"
                     "mask",
                     6, WS_PROTOCOL_ERROR); /* a reserved bit */
    expect_bytes_bad("\x83\x80"
                     "mask",
                     6, WS_PROTOCOL_ERROR); /* opcode 3 */
    expect_bytes_bad("\x8b\x80"
                     "mask",
                     6, WS_PROTOCOL_ERROR); /* opcode 11 */
    expect_bytes_bad("\x09\x80"
                     "mask",
                     6, WS_PROTOCOL_ERROR); /* half a ping */
    expect_bytes_bad("\x89\xfe\0\x7e"
                     "mask",
                     8, WS_PROTOCOL_ERROR); /* a long one */
    expect_bytes_bad("\x80\x80"
                     "mask",
                     6, WS_PROTOCOL_ERROR); /* goes on what? */
    expect_bytes_bad("\x82\xfe\0\x7d"
                     "mask",
                     8, WS_PROTOCOL_ERROR); /* 125 in 16 bits */
    expect_bytes_bad("\x82\xff\0\0\0\0\0\0\xff\xff"
                     "mask",
                     14, WS_PROTOCOL_ERROR);
    expect_bytes_bad("\x82\xff\x80\0\0\0\0\0\0\0"
                     "mask",
                     14, WS_PROTOCOL_ERROR);
    expect_bytes_bad("\x82\xff\0\0\0\0\0\x10\0\x01"
                     "mask",
                     14, WS_TOO_BIG);
    expect_bytes_bad("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff"
                     "mask",
                     14, WS_TOO_BIG);
    put(&in, 0x02, "a", 1); /* a message in a message */
    put(&in, 0x82, "b", 1);
    expect_code(&in, WS_PROTOCOL_ERROR);
    buf_done(&in);
    put(&in, 0x88, "\x03", 1); /* half a code */
    expect_code(&in, WS_PROTOCOL_ERROR);
    buf_done(&in);
    put(&in, 0x88, "\x03\xed", 2); /* 1005 is never sent */
    expect_code(&in, WS_PROTOCOL_ERROR);
    buf_done(&in);
    put(&in, 0x88, "\x03\xe8\xff", 3);
    expect_code(&in, WS_NOT_UTF8);
    buf_done(&in);
}

static void nothing_is_read_behind_a_close(void **state) {
    struct buf in = {0};
    struct result x;

    put(&in, 0x88, "", 0);
    put(&in, 0x82, "more", 4);
    read_all(&x, &in, 100);
    assert_true(x.r.closed);
    assert_int_equal(x.r.code, WS_NO_CODE);
    assert_int_equal(x.data.len, 0);
    assert_int_equal(x.reply.len, 2);
    done(&x);
    buf_done(&in);
}

static void text_must_be_utf8_across_fragments(void **state) {
    static const char *const bad[] = {"\x80",         "\xc0\xaf",         "\xe0\x80\x80",
                                      "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80",
                                      "a\xc3",        "\xe2\x28"};
    static const char good[] = "k\xc3\xa4se \xe2\x82\xac \xf0\x9f\x98\x80 \xf4\x8f\xbf\xbf";
    struct buf in = {0};
    struct result x;

    put(&in, 0x01, good, 2); /* the first character of two bytes is cut */
    put(&in, 0x00, good + 2, 7);
    put(&in, 0x80, good + 9, sizeof(good) - 10);
    for (size_t step = 1; step < in.len; step += 3) {
        read_all(&x, &in, step);
        assert_false(x.r.closed);
        assert_int_equal(x.data.len, sizeof(good) - 1);
        assert_memory_equal(x.data.data, good, sizeof(good) - 1);
        done(&x);
    }
    buf_done(&in);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        put(&in, 0x81, bad[i], strlen(bad[i]));
        expect_code(&in, WS_NOT_UTF8);
        buf_done(&in);
        put(&in, 0x82, bad[i], strlen(bad[i])); /* bytes may be anything */
        read_all(&x, &in, 1);
        assert_false(x.r.closed);
        done(&x);
        buf_done(&in);
    }
}

static void our_frames_have_the_shortest_length(void **state) {
    static const uint8_t data[70000];
    struct buf out = {0};

    ws_put(&out, WS_BINARY, data, 125);
    assert_memory_equal(out.data, "\x82\x7d", 2);
    assert_int_equal(out.len, 127);
    buf_done(&out);
    ws_put(&out, WS_BINARY, data, 126);
    assert_memory_equal(out.data, "\x82\x7e\0\x7e", 4);
    buf_done(&out);
    ws_put(&out, WS_BINARY, data, 70000);
    assert_memory_equal(out.data, "\x82\x7f\0\0\0\0\0\x01\x11\x70", 10);
    assert_int_equal(out.len, 70010);
    buf_done(&out);
}

static void a_key_is_accepted_as_the_rfc_says(void **state) {
    char accept[WS_ACCEPT_SIZE];

    assert_true(ws_accept("dGhlIHNhbXBsZSBub25jZQ==", accept)); /* 1.3 */
    assert_string_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_false(ws_accept("", accept));
    assert_false(ws_accept("dGhlIHNhbXBsZSBub25jZQ=", accept));
    assert_false(ws_accept("dGhlIHNhbXBsZSBub25jZQ==x", accept));
    assert_false(ws_accept("dGhlIHNhbXBs!SBub25jZQ==", accept));
    assert_false(ws_accept("dGhlIHNhbXBsZSBub25jZXh4", accept));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_are_read_in_pieces_of_any_size),
        cmocka_unit_test(what_is_forbidden_ends_with_its_code),
        cmocka_unit_test(nothing_is_read_behind_a_close),
        cmocka_unit_test(text_must_be_utf8_across_fragments),
        cmocka_unit_test(our_frames_have_the_shortest_length),
        cmocka_unit_test(a_key_is_accepted_as_the_rfc_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

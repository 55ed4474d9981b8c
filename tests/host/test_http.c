/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The reader of HTTP requests: what is one, what is none, in pieces of any size. */
#include <string.h>

#include "host/http.h"
#include "support/test.h"

/* Gives the text in pieces of `step` bytes; the rest that was not taken. */
static size_t feed(struct http_parser *p, const char *text, size_t len, size_t step) {
    size_t at = 0;

    while (at < len && p->state != HTTP_DONE && p->state != HTTP_BAD) {
        size_t n = len - at < step ? len - at : step, used = http_parse(p, text + at, n);

        at += used;
        if (used < n)
            break;
    }
    return len - at;
}

static void expect_bad(const char *text, int status) {
    for (size_t step = 1; step < 40; step += 13) {
        struct http_parser p = {0};

        feed(&p, text, strlen(text), step);
        assert_int_equal(p.state, HTTP_BAD);
        assert_int_equal(p.status, status);
        assert_non_null(p.why);
        http_parser_done(&p);
    }
}

static void a_request_is_read_in_pieces_of_any_size(void **state) {
    static const char text[] = "\r\nPOST /v1/vms?a=b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
                               "X-Odd:  two words \t\r\n\r\nhelloGET";

    for (size_t step = 1; step < sizeof(text); step++) {
        struct http_parser p = {0};

        assert_int_equal(feed(&p, text, strlen(text), step), 3); /* the next request is left */
        assert_int_equal(p.state, HTTP_DONE);
        assert_string_equal(p.request.method, "POST");
        assert_string_equal(p.request.path, "/v1/vms");
        assert_string_equal(p.request.query, "a=b");
        assert_string_equal(p.request.body, "hello");
        assert_int_equal(p.request.body_len, 5);
        assert_string_equal(http_find_header(&p.request, "x-oDD"), "two words");
        assert_null(http_find_header(&p.request, "absent"));
        assert_true(p.request.keep_alive);
        http_parser_done(&p);
        assert_false(http_parser_busy(&p));
    }
}

static void a_chunked_body_is_put_together(void **state) {
    static const char text[] =
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        "5;ext=1\r\nhello\r\n00001\r\n \r\n6\r\nworld!\r\n0\r\nTrailer: x\r\n\r\n";

    for (size_t step = 1; step < sizeof(text); step += 3) {
        struct http_parser p = {0};

        assert_int_equal(feed(&p, text, strlen(text), step), 0);
        assert_int_equal(p.state, HTTP_DONE);
        assert_string_equal(p.request.body, "hello world!");
        http_parser_done(&p);
    }
}

static void connections_stay_open_only_where_both_know_it(void **state) {
    static const struct {
        const char *text;
        bool keep;
    } cases[] = {
        {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", true},
        {"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\nHost: x\r\nConnection: foo, Close \r\n\r\n", false},
        {"GET / HTTP/1.0\r\n\r\n", false},
    };

    for (unsigned i = 0; i < 4; i++) {
        struct http_parser p = {0};

        feed(&p, cases[i].text, strlen(cases[i].text), 100);
        assert_int_equal(p.state, HTTP_DONE);
        assert_int_equal(p.request.keep_alive, cases[i].keep);
        http_parser_done(&p);
    }
}

static void what_is_ambiguous_or_malformed_is_refused(void **state) {
    expect_bad("GET /\r\n\r\n", 400);
    expect_bad("GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505);
    expect_bad("GET x HTTP/1.1\r\nHost: x\r\n\r\n", 400);
    expect_bad("G(T / HTTP/1.1\r\nHost: x\r\n\r\n", 400);
    expect_bad("GET /\x80 HTTP/1.1\r\nHost: x\r\n\r\n", 400);
    expect_bad("GET / HTTP/1.1\r\n\r\n", 400); /* no Host */
    expect_bad("GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400);
    expect_bad("GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400);
    expect_bad("GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400);
    expect_bad("GET / HTTP/1.1\nHost: x\n\r\n\r\n", 400);
    expect_bad("GET / HTTP/1.1\r\nHost: x\r\nA: b\001c\r\n\r\n", 400);
    expect_bad("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400);
    expect_bad("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n", 400);
    expect_bad(
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        400);
    expect_bad("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501);
    expect_bad("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400);
    expect_bad("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n", 400);
    expect_bad("POST / HTTP/1.1\r\nHost: x\r\nExpect: more\r\n\r\n", 417);
}

static void everything_has_a_limit(void **state) {
    struct http_parser p = {0};
    struct buf text = {0};

    expect_bad("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n", 413);
    expect_bad("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n", 413);
    expect_bad("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n100001\r\n", 413);
    expect_bad("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
               "ffffffffffffffffffffffff\r\n",
               413);
    buf_printf(&text, "GET / HTTP/1.1\r\nHost: x\r\n");
    for (unsigned i = 0; i < HTTP_MAX_HEADERS; i++)
        buf_printf(&text, "A: b\r\n");
    buf_printf(&text, "\r\n");
    feed(&p, (const char *)text.data, text.len, 1000);
    assert_int_equal(p.state, HTTP_BAD);
    assert_int_equal(p.status, 431);
    http_parser_done(&p);
    text.len = 0;
    buf_printf(&text, "GET / HTTP/1.1\r\nA: ");
    while (text.len < 2 * HTTP_HEAD_MAX)
        buf_put(&text, "aaaaaaaa", 8);
    assert_true(feed(&p, (const char *)text.data, text.len, 777) > 0);
    assert_int_equal(p.state, HTTP_BAD);
    assert_int_equal(p.status, 431);
    http_parser_done(&p);
    buf_done(&text);
}

static void percent_signs_are_decoded_or_refused(void **state) {
    static const struct {
        const char *from, *to; /* to NULL: refused */
        bool query;
    } cases[] = {{"a%20b", "a b", false}, {"a+b", "a+b", false}, {"a+b", "a b", true},
                 {"%41%2f", "A/", false}, {"%4", NULL, false},   {"%zz", NULL, false},
                 {"%00", NULL, false},    {"%", NULL, true}};

    for (unsigned i = 0; i < 8; i++) {
        char s[20];

        strcpy(s, cases[i].from);
        assert_int_equal(http_decode(s, cases[i].query), cases[i].to != NULL);
        if (cases[i].to)
            assert_string_equal(s, cases[i].to);
    }
}

static void words_of_a_list_are_found_whole(void **state) {
    struct http_request r = {.header = {{"Connection", "keep-alive, Upgrade ,x"}}, .headers = 1};

    assert_true(http_header_has(&r, "connection", "upgrade"));
    assert_true(http_header_has(&r, "Connection", "x"));
    assert_false(http_header_has(&r, "Connection", "keep"));
    assert_false(http_header_has(&r, "Connection", "alive"));
    assert_false(http_header_has(&r, "Other", "x"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_read_in_pieces_of_any_size),
        cmocka_unit_test(a_chunked_body_is_put_together),
        cmocka_unit_test(connections_stay_open_only_where_both_know_it),
        cmocka_unit_test(what_is_ambiguous_or_malformed_is_refused),
        cmocka_unit_test(everything_has_a_limit),
        cmocka_unit_test(percent_signs_are_decoded_or_refused),
        cmocka_unit_test(words_of_a_list_are_found_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

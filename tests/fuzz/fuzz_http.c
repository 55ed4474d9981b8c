/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests of any bytes, in pieces of any size: the reader says the same whatever the pieces are,
 * and what it takes is a request. */
#include <stdlib.h>
#include <string.h>

#include "host/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good) {
    if (!good)
        abort();
}

/* Up to the first request that is whole or none; how many bytes that took. */
static size_t feed(struct http_parser *p, const uint8_t *data, size_t size, size_t step) {
    size_t at = 0;

    while (at < size && p->state != HTTP_DONE && p->state != HTTP_BAD) {
        size_t n = size - at < step ? size - at : step, used = http_parse(p, data + at, n);

        check(used == n || p->state == HTTP_DONE || p->state == HTTP_BAD);
        at += used;
    }
    return at;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct http_parser whole = {0}, pieces = {0};
    size_t step, a, b;

    if (!size)
        return 0;
    step = 1 + data[0] % 32;
    a = feed(&whole, data + 1, size - 1, SIZE_MAX);
    b = feed(&pieces, data + 1, size - 1, step);
    check(a == b && whole.state == pieces.state && whole.status == pieces.status);
    if (whole.state == HTTP_DONE) {
        char *path = strdup(whole.request.path), *query = strdup(whole.request.query);

        check(whole.request.path[0] == '/' && strlen(whole.request.body) <= whole.request.body_len);
        check(whole.request.body_len <= HTTP_BODY_MAX);
        check(whole.request.body_len == pieces.request.body_len &&
              !memcmp(whole.request.body, pieces.request.body, whole.request.body_len));
        check(whole.request.headers == pieces.request.headers);
        http_header_has(&whole.request, "Connection", "close");
        http_decode(path, false);
        http_decode(query, true);
        free(path);
        free(query);
    }
    http_parser_done(&whole);
    http_parser_done(&pieces);
    return 0;
}

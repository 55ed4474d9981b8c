/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests of HTTP/1.1 (RFC 9110, RFC 9112), read from bytes that come in pieces. Hostile input is
 * the rule: everything has a limit, and what is ambiguous is refused instead of guessed.
 *
 * Departures: lines end with CRLF only; no obs-fold; the target is in origin form; "chunked" is the
 * only transfer coding; trailers are read and dropped.
 */
#ifndef HOST_HTTP_H
#define HOST_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

enum {
    HTTP_HEAD_MAX = 16 * 1024,
    HTTP_BODY_MAX = 1024 * 1024,
    HTTP_MAX_HEADERS = 64,
    HTTP_TRAILER_MAX = 4096
};

struct http_header {
    const char *name, *value;
};

struct http_request {
    const char *method, *path; /* the path as it came, percent signs and all */
    const char *query;         /* behind the question mark, "" if there is none */
    struct http_header header[HTTP_MAX_HEADERS];
    unsigned headers;
    bool keep_alive, wants_continue;
    const char *body; /* with a NUL behind it */
    size_t body_len;
};

enum http_state {
    HTTP_HEAD,
    HTTP_BODY,
    HTTP_CHUNK_SIZE,
    HTTP_CHUNK_DATA,
    HTTP_CHUNK_END,
    HTTP_TRAILER,
    HTTP_DONE,
    HTTP_BAD
};

struct http_parser { /* zeroed: ready for a request */
    enum http_state state;
    struct http_request request;
    struct buf head, body, line;
    size_t left, trailer;
    int status;      /* HTTP_BAD: of the answer */
    const char *why; /* HTTP_BAD: half a sentence */
};

/* Takes bytes up to the end of the request; returns how many. Look at `state` afterwards: HTTP_DONE
 * with `request` filled, HTTP_BAD, or anything else while more is needed. */
size_t http_parse(struct http_parser *p, const void *data, size_t n);
/* Has any byte of a request come? */
bool http_parser_busy(const struct http_parser *p);
/* Ready for the next one; memory is given back. */
void http_parser_done(struct http_parser *p);

/* The value of a header, by its name in any case; NULL: it is not there. */
const char *http_find_header(const struct http_request *r, const char *name);
/* Does a comma-separated header hold the word (in any case)? */
bool http_header_has(const struct http_request *r, const char *name, const char *word);
/* Decodes %XX (and + in a query) in place. False: malformed, or it holds a NUL. */
bool http_decode(char *s, bool query);
const char *http_status_text(int status);

#endif

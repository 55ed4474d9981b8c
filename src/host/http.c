/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The reader of HTTP requests: a state machine over bytes. */
#include "host/http.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

enum { CHUNK_LINE_MAX = 64, METHOD_MAX = 16, SIZE_DIGITS = 12 };

static void bad(struct http_parser *p, int status, const char *why) {
    p->state = HTTP_BAD;
    p->status = status;
    p->why = why;
}

/* RFC 9110, 5.6.2 */
static bool is_token(const char *s) {
    if (!*s)
        return false;
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && !strchr("!#$%&'*+-.^_`|~", *s))
            return false;
    return true;
}

const char *http_find_header(const struct http_request *r, const char *name) {
    for (unsigned i = 0; i < r->headers; i++)
        if (!strcasecmp(r->header[i].name, name))
            return r->header[i].value;
    return NULL;
}

bool http_header_has(const struct http_request *r, const char *name, const char *word) {
    size_t len = strlen(word), n;

    for (unsigned i = 0; i < r->headers; i++) {
        if (strcasecmp(r->header[i].name, name) != 0)
            continue;
        for (const char *p = r->header[i].value; *p; p += n) {
            p += strspn(p, ", \t");
            n = strcspn(p, ",");
            if (n >= len && !strncasecmp(p, word, len) && strspn(p + len, " \t") == n - len)
                return true;
        }
    }
    return false;
}

static int hex(char c) {
    return isdigit((unsigned char)c)    ? c - '0'
           : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10
                                        : -1;
}

bool http_decode(char *s, bool query) {
    char *to = s;

    for (; *s; s++) {
        if (*s == '%') {
            int high = hex(s[1]), low = high < 0 ? -1 : hex(s[2]);

            if (low < 0 || !(high | low))
                return false;
            *to++ = (char)(high << 4 | low);
            s += 2;
        } else {
            *to++ = query && *s == '+' ? ' ' : *s;
        }
    }
    *to = 0;
    return true;
}

/* ------------------------------------------------------------------ the head */

static bool parse_request_line(struct http_parser *p, char *line) {
    char *target = strchr(line, ' '), *version = target ? strchr(target + 1, ' ') : NULL, *query;

    if (!version)
        return bad(p, 400, "the request line is not METHOD TARGET VERSION"), false;
    *target++ = 0;
    *version++ = 0;
    if (!strcmp(version, "HTTP/1.1"))
        p->request.keep_alive = true;
    else if (strcmp(version, "HTTP/1.0") != 0)
        return bad(p, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here"), false;
    if (!is_token(line) || strlen(line) > METHOD_MAX)
        return bad(p, 400, "the method is no word"), false;
    if (*target != '/')
        return bad(p, 400, "the target must be a path that begins with '/'"), false;
    for (char *c = target; *c; c++)
        if (*c <= 0x20 || *c == 0x7f) /* char is signed here: bytes beyond ASCII as well */
            return bad(p, 400, "the target holds characters that must be percent-encoded"), false;
    query = strchr(target, '?');
    if (query)
        *query++ = 0;
    p->request.method = line;
    p->request.path = target;
    p->request.query = query ? query : "";
    return true;
}

static bool parse_header(struct http_parser *p, char *line) {
    struct http_request *r = &p->request;
    char *value = strchr(line, ':'), *end;

    if (!value)
        return bad(p, 400, "a header has no colon"), false;
    *value++ = 0;
    if (!is_token(line))
        return bad(p, 400, "the name of a header is no word"), false;
    value += strspn(value, " \t");
    end = value + strlen(value);
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        *--end = 0;
    for (char *c = value; *c; c++)
        if (((unsigned char)*c < 0x20 && *c != '\t') || *c == 0x7f)
            return bad(p, 400, "a header holds control characters"), false;
    if (r->headers == HTTP_MAX_HEADERS)
        return bad(p, 431, "there are too many headers"), false;
    r->header[r->headers++] = (struct http_header){line, value};
    return true;
}

/* Digits alone; what comes twice must be the same. */
static bool content_length(struct http_parser *p, size_t *ret) {
    const char *first = NULL;

    for (unsigned i = 0; i < p->request.headers; i++) {
        const struct http_header *h = &p->request.header[i];

        if (strcasecmp(h->name, "Content-Length") != 0)
            continue;
        if (first && strcmp(first, h->value) != 0)
            return bad(p, 400, "there are two lengths"), false;
        first = h->value;
    }
    if (!first)
        return true;
    if (!*first || strspn(first, "0123456789") != strlen(first))
        return bad(p, 400, "the Content-Length is no number"), false;
    if (strlen(first) > SIZE_DIGITS)
        return bad(p, 413, "the body is larger than 1 MiB"), false;
    for (*ret = 0; *first; first++)
        *ret = *ret * 10 + (size_t)(*first - '0');
    return *ret <= HTTP_BODY_MAX || (bad(p, 413, "the body is larger than 1 MiB"), false);
}

/* RFC 9112, 6.3. Both kinds of length at once is how requests are smuggled. */
static void find_body(struct http_parser *p) {
    const char *coding = http_find_header(&p->request, "Transfer-Encoding");
    const char *expect = http_find_header(&p->request, "Expect");

    if (expect && strcasecmp(expect, "100-continue") != 0)
        return bad(p, 417, "nothing but 100-continue can be expected");
    p->request.wants_continue = expect != NULL;
    if (coding && http_find_header(&p->request, "Content-Length"))
        return bad(p, 400, "Transfer-Encoding and Content-Length exclude each other");
    if (coding && strcasecmp(coding, "chunked") != 0)
        return bad(p, 501, "no transfer coding but 'chunked' is known");
    if (coding) {
        p->state = HTTP_CHUNK_SIZE;
        return;
    }
    if (!content_length(p, &p->left))
        return;
    p->state = p->left ? HTTP_BODY : HTTP_DONE;
}

static void parse_head(struct http_parser *p) {
    char *line = (char *)p->head.data, *end;
    struct http_request *r = &p->request;
    unsigned hosts = 0;
    bool first = true;

    if (memchr(p->head.data, 0, p->head.len - 1))
        return bad(p, 400, "the head holds a zero byte");
    for (; (end = strstr(line, "\r\n")) && end != line; line = end + 2, first = false) {
        *end = 0;
        if (strchr(line, '\r') || strchr(line, '\n'))
            return bad(p, 400, "lines must end with CRLF");
        if (first ? !parse_request_line(p, line) : !parse_header(p, line))
            return;
    }
    for (unsigned i = 0; i < r->headers; i++)
        hosts += !strcasecmp(r->header[i].name, "Host");
    if (r->keep_alive && hosts != 1)
        return bad(p, 400, "a request of HTTP/1.1 has one Host header");
    if (http_header_has(r, "Connection", "close"))
        r->keep_alive = false;
    find_body(p);
}

static size_t take_head(struct http_parser *p, const char *data, size_t n) {
    for (size_t i = 0; i < n; i++) {
        struct buf *h = &p->head;

        if (!h->len && (data[i] == '\r' || data[i] == '\n'))
            continue; /* RFC 9112, 2.2: empty lines before a request */
        buf_put(h, data + i, 1);
        if (h->len >= 4 && !memcmp(h->data + h->len - 4, "\r\n\r\n", 4)) {
            buf_put(h, "", 1);
            parse_head(p);
            return i + 1;
        }
        if (h->len >= HTTP_HEAD_MAX) {
            bad(p, 431, "the head is larger than 16 KiB");
            return i + 1;
        }
    }
    return n;
}

/* ------------------------------------------------------------------ the body */

static size_t take_data(struct http_parser *p, const char *data, size_t n, enum http_state then) {
    n = n < p->left ? n : p->left;
    buf_put(&p->body, data, n);
    p->left -= n;
    if (!p->left)
        p->state = then;
    return n;
}

/* A line up to CRLF into p->line, with a NUL instead. True when it is complete. */
static bool take_line(struct http_parser *p, const char *data, size_t n, size_t max,
                      size_t *ret_used) {
    for (size_t i = 0; i < n; i++) {
        struct buf *l = &p->line;

        buf_put(l, data + i, 1);
        *ret_used = i + 1;
        if (data[i] == '\n') {
            if (l->len < 2 || l->data[l->len - 2] != '\r' || memchr(l->data, 0, l->len))
                return bad(p, 400, "lines must end with CRLF"), false;
            l->data[l->len - 2] = 0;
            return true;
        }
        if (l->len > max)
            return bad(p, 400, "a line of the chunked body is too long"), false;
    }
    *ret_used = n;
    return false;
}

static size_t take_chunk_size(struct http_parser *p, const char *data, size_t n) {
    size_t used = 0, size = 0;
    const char *s;

    if (!take_line(p, data, n, CHUNK_LINE_MAX, &used))
        return used;
    s = (const char *)p->line.data;
    if (hex(*s) < 0)
        return bad(p, 400, "the size of a chunk is no hexadecimal number"), used;
    for (; hex(*s) >= 0; s++) {
        size = size * 16 + (size_t)hex(*s);
        if (size > HTTP_BODY_MAX)
            return bad(p, 413, "the body is larger than 1 MiB"), used;
    }
    s += strspn(s, " \t");
    if (*s && *s != ';')
        return bad(p, 400, "the size of a chunk is no hexadecimal number"), used;
    if (p->body.len + size > HTTP_BODY_MAX)
        return bad(p, 413, "the body is larger than 1 MiB"), used;
    p->line.len = 0;
    p->left = size;
    p->state = size ? HTTP_CHUNK_DATA : HTTP_TRAILER;
    return used;
}

static size_t take_chunk_end(struct http_parser *p, const char *data, size_t n) {
    size_t used = 0;

    if (!take_line(p, data, n, 2, &used))
        return used;
    if (p->line.data[0])
        return bad(p, 400, "a chunk is longer than it says"), used;
    p->line.len = 0;
    p->state = HTTP_CHUNK_SIZE;
    return used;
}

static size_t take_trailer(struct http_parser *p, const char *data, size_t n) {
    size_t used = 0;
    bool whole = take_line(p, data, n, HTTP_TRAILER_MAX, &used);

    p->trailer += used;
    if (p->state != HTTP_BAD && p->trailer > HTTP_TRAILER_MAX)
        return bad(p, 431, "the trailer is too long"), used;
    if (!whole)
        return used;
    p->state = p->line.data[0] ? HTTP_TRAILER : HTTP_DONE;
    p->line.len = 0;
    return used;
}

static size_t take(struct http_parser *p, const char *data, size_t n) {
    switch (p->state) {
    case HTTP_HEAD:
        return take_head(p, data, n);
    case HTTP_BODY:
        return take_data(p, data, n, HTTP_DONE);
    case HTTP_CHUNK_SIZE:
        return take_chunk_size(p, data, n);
    case HTTP_CHUNK_DATA:
        return take_data(p, data, n, HTTP_CHUNK_END);
    case HTTP_CHUNK_END:
        return take_chunk_end(p, data, n);
    case HTTP_TRAILER:
        return take_trailer(p, data, n);
    default:
        return 0;
    }
}

size_t http_parse(struct http_parser *p, const void *data, size_t n) {
    const char *bytes = data;
    size_t used = 0;

    while (used < n && p->state != HTTP_DONE && p->state != HTTP_BAD)
        used += take(p, bytes + used, n - used);
    if (p->state == HTTP_DONE) {
        buf_put(&p->body, "", 1);
        p->request.body = (const char *)p->body.data;
        p->request.body_len = p->body.len - 1;
    }
    return used;
}

bool http_parser_busy(const struct http_parser *p) {
    return p->state != HTTP_HEAD || p->head.len != 0;
}

void http_parser_done(struct http_parser *p) {
    buf_done(&p->head);
    buf_done(&p->body);
    buf_done(&p->line);
    *p = (struct http_parser){0};
}

const char *http_status_text(int status) {
    static const struct {
        int status;
        const char *text;
    } texts[] = {{100, "Continue"},
                 {101, "Switching Protocols"},
                 {200, "OK"},
                 {201, "Created"},
                 {202, "Accepted"},
                 {204, "No Content"},
                 {304, "Not Modified"},
                 {400, "Bad Request"},
                 {401, "Unauthorized"},
                 {403, "Forbidden"},
                 {404, "Not Found"},
                 {405, "Method Not Allowed"},
                 {409, "Conflict"},
                 {412, "Precondition Failed"},
                 {413, "Content Too Large"},
                 {417, "Expectation Failed"},
                 {422, "Unprocessable Content"},
                 {426, "Upgrade Required"},
                 {429, "Too Many Requests"},
                 {431, "Request Header Fields Too Large"},
                 {500, "Internal Server Error"},
                 {501, "Not Implemented"},
                 {503, "Service Unavailable"},
                 {504, "Gateway Timeout"},
                 {505, "HTTP Version Not Supported"}};

    for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (texts[i].status == status)
            return texts[i].text;
    return "Status";
}

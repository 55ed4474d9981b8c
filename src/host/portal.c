/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Serving the portal: conditional requests, compression, and what keeps a page to itself. */
#include "host/portal.h"

#include <string.h>

#include "host/http_server.h"

static const char *const of_api[] = {"/v1", "/metrics", "/openapi.json", "/docs"};

static bool is_of_api(const char *path) {
    for (unsigned i = 0; i < sizeof(of_api) / sizeof(of_api[0]); i++) {
        size_t n = strlen(of_api[i]);

        if (!strncmp(path, of_api[i], n) && (!path[n] || path[n] == '/'))
            return true;
    }
    return false;
}

static const struct portal_file *find(const char *path) {
    for (const struct portal_file *f = portal_files; f->path; f++)
        if (!strcmp(f->path, path))
            return f;
    return NULL;
}

/* Places of the portal are paths that its own code reads. */
static const struct portal_file *find_or_index(const char *path) {
    const struct portal_file *f = find(path);

    return f || strchr(path, '.') ? f : find("/index.html");
}

static bool takes_gzip(const struct http_request *r) {
    const char *accepts = http_find_header(r, "Accept-Encoding");
    const char *at = accepts ? strstr(accepts, "gzip") : NULL;

    return at && strncmp(at, "gzip;q=0", 8) != 0;
}

/* Scripts, styles and connections of this origin alone; no frame around it, and none inside. */
static void add_headers(struct http_exchange *x, const struct portal_file *f) {
    http_add_header(x, "Content-Security-Policy: default-src 'self'; img-src 'self' data: blob:; "
                       "object-src 'none'; base-uri 'none'; "
                       "form-action 'self'; frame-ancestors 'none'");
    http_add_header(x, "X-Content-Type-Options: nosniff");
    http_add_header(x, "X-Frame-Options: DENY");
    http_add_header(x, "Referrer-Policy: no-referrer");
    http_add_header(x, "Cross-Origin-Opener-Policy: same-origin");
    if (!f)
        return;
    http_add_header(x, "Cache-Control: %s",
                    f->hashed ? "public, max-age=31536000, immutable" : "no-cache");
    http_add_header(x, "ETag: %s", f->etag);
    http_add_header(x, "Vary: Accept-Encoding");
}

static void send_file(struct http_exchange *x, const struct portal_file *f) {
    const struct http_request *r = http_request(x);
    const char *known = http_find_header(r, "If-None-Match");
    bool gzip = f->gzip && takes_gzip(r);

    add_headers(x, f);
    if (known && (!strcmp(known, "*") || strstr(known, f->etag))) {
        http_answer(x, 304, NULL, NULL, 0);
        return;
    }
    if (gzip)
        http_add_header(x, "Content-Encoding: gzip");
    http_answer(x, 200, f->mime, gzip ? f->gzip : f->data, gzip ? f->gzip_len : f->len);
}

static void send_none(struct http_exchange *x, const char *body) {
    add_headers(x, NULL);
    http_answer(x, 404, "application/json", body, strlen(body));
}

bool portal_is_at(const struct http_request *r) {
    return !is_of_api(r->path) && (!strcmp(r->method, "GET") || !strcmp(r->method, "HEAD"));
}

void portal_answer(struct http_exchange *x) {
    static const char missing[] =
        "{\"code\":\"not-found\",\"field\":\"\",\"reason\":\"the portal has no such "
        "file\",\"remedy\":\"begin at /\"}";
    const struct portal_file *f = find_or_index(http_request(x)->path);

    if (f)
        send_file(x, f);
    else
        send_none(x, missing);
}

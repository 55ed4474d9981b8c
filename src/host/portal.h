/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The portal: files for a browser that are a part of the program, and how they are served.
 *
 * Contract: portal_files is a table that is made when the program is built; it ends with a path of
 * NULL. A manager that was built without the portal has a page that says how to get it. Serving
 * asks for no permission: the files are the same for everybody, and all that they show comes from
 * the API.
 */
#ifndef HOST_PORTAL_H
#define HOST_PORTAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_exchange;
struct http_request;

struct portal_file {
    const char *path;    /* "/index.html", "/assets/app-1a2b3c4d.js" */
    const char *mime;    /* with a charset, if it is text */
    const char *etag;    /* with its quotation marks */
    const uint8_t *data; /* as it is */
    size_t len;
    const uint8_t *gzip; /* the same compressed; NULL: it would not be shorter */
    size_t gzip_len;
    bool hashed; /* the name changes with the content: it may be kept for ever */
};

extern const struct portal_file portal_files[];

/* Is it a request for the portal? Its paths are those that are neither below /v1 nor the API's
 * documents. */
bool portal_is_at(const struct http_request *r);
/* Answers it. A path without a dot that is no file is index.html, for the portal's own places. */
void portal_answer(struct http_exchange *x);

#endif

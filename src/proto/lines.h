/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Framing of all messages between programs: one JSON object (RFC 8259) in UTF-8 a line, ended by a
 * newline. What comes in is hostile; a line has a largest length.
 */
#ifndef PROTO_LINES_H
#define PROTO_LINES_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/bytes.h"
#include "base/error.h"

struct lines { /* bytes that came in, not yet taken as lines; zeroed with `max` set is empty */
    struct buf bytes;
    size_t start, seen; /* of the first line; up to where no newline was found */
    size_t max;         /* bytes of the longest line, without its newline */
};

/* Room for up to *ret_n bytes at the end, then how many of them came in. NULL: a line is complete
 * or too long. */
void *lines_room(struct lines *l, size_t *ret_n);
void lines_came(struct lines *l, size_t n);
/* The next line with a NUL instead of its newline, valid until lines_room. NULL: none is complete.
 */
char *lines_next(struct lines *l, size_t *ret_len);
bool lines_too_long(const struct lines *l); /* what is there can never become a line */
void lines_done(struct lines *l);

/* The object in a line, or NULL with a sentence that says where it is wrong. */
json_t *message_parse(const char *line, size_t len, struct error *err);
/* A JSON string of any bytes: where they are no UTF-8, those beyond ASCII become question marks. */
json_t *message_text(const char *s);
/* Appends the object as one line. False: out of memory. */
bool message_put(struct buf *out, const json_t *message);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files that people write: YAML 1.2 (and so JSON) as a tree that knows its lines. Scalars stay the
 * text that they are; what it means is decided by who knows the type (proto/manifest.h), so that
 * `on`, `1.10` or `8080:80` are never anything else than what was written.
 *
 * Contract: input is hostile. Text beyond the limits is refused with a sentence, however small the
 * file that asks for it is: aliases count as what they stand for.
 */
#ifndef PROTO_DOCUMENT_H
#define PROTO_DOCUMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/error.h"

enum {
    DOCUMENT_BYTES = 4 << 20, /* of a file */
    DOCUMENT_DEPTH = 16,
    DOCUMENT_NODES = 200000,       /* of a file, aliases and merges included */
    DOCUMENT_COPIES = 16 * 1 << 20 /* bytes of text in them */
};

enum document_type { DOCUMENT_SCALAR, DOCUMENT_LIST, DOCUMENT_MAP };

struct document_node {
    enum document_type type;
    unsigned line; /* from 1 */
    bool plain;    /* a scalar without quotes: it may be meant as a number, or as nothing */
    char *text;    /* of a scalar */
    char *key;     /* of a member of a map */
    struct document_node *first, *next;
};

/* The documents of a file, linked by `next`; NULL with err->code 0 if there is none, else with a
 * sentence and *ret_line. */
struct document_node *document_read(const char *text, size_t len, unsigned *ret_line,
                                    struct error *err);
void document_free(struct document_node *n); /* with those that follow; accepts NULL */

const struct document_node *document_member(const struct document_node *map, const char *key);
bool document_is_null(const struct document_node *n); /* nothing, ~ or null */

#endif

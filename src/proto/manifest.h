/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files of what is wanted (`viv apply -f`): documents {kind, name, spec}, checked against the
 * declarations of the resources, with the line of all that is said. Of what the manager answers
 * also id, tenant, revision, created and status may stand there, and are left aside; a list of
 * such documents, or {items: [...]}, is taken for its documents.
 *
 * Sizes may be written as people write them ("512M"), and paths of this host are those seen from
 * the file's folder.
 */
#ifndef PROTO_MANIFEST_H
#define PROTO_MANIFEST_H

#include <jansson.h>

#include "proto/resource.h"

struct manifest_item {
    const struct resource *resource;
    char name[64];
    char *file; /* as it was called */
    unsigned line;
    json_t *spec;  /* what is said, checked; nothing is filled in */
    json_t *lines; /* of its fields, by name */
};

struct manifest {
    struct manifest_item *item;
    size_t count;
    json_t *mistakes; /* sentences that begin with "FILE:LINE: " */
};

void manifest_init(struct manifest *m);
void manifest_done(struct manifest *m);
/* What is wrong is in m->mistakes afterwards, all of it. */
void manifest_read(struct manifest *m, const char *file, const char *text, size_t len);
/* Things that others refer to come first, else as they stand. */
void manifest_order(struct manifest *m);
/* The first item behind the first `from` that has this kind and name; NULL: none. */
const struct manifest_item *manifest_find(const struct manifest *m, const char *kind,
                                          const char *name);
/* "FILE:LINE" of a field, or of the item if it has none of that name. */
void manifest_place(const struct manifest_item *i, const char *field, char *out, size_t size);

/* May somebody make this resource? Only such can be wanted. */
bool manifest_takes(const struct resource *r);

#endif

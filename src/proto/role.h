/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Roles of callers: which permissions of operations (resource.h) each has. */
#ifndef PROTO_ROLE_H
#define PROTO_ROLE_H

#include <stdbool.h>

enum role { ROLE_NONE, ROLE_VIEWER, ROLE_OPERATOR, ROLE_ADMIN };

/* For declarations of fields. */
#define ROLE_CHOICES "viewer|operator|admin"
#define ROLE_HELP                                                                                  \
    "viewer looks; operator does everything with machines, images and snapshots, but names no "    \
    "files of the manager's host; admin does everything, also with tokens"

enum role role_find(const char *word); /* ROLE_NONE: there is no such role */
const char *role_word(enum role r);
bool role_may(enum role r, const char *permission);
/* May the role have the manager read and write files of its host by their names? */
bool role_names_files(enum role r);

#endif

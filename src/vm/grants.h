/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which files and sockets a machine in the jail may open: what its options name, and what clients
 * of its control socket name later (jail/jail.h). */
#ifndef VM_GRANTS_H
#define VM_GRANTS_H

#include <stdbool.h>
#include <stddef.h>

#include "jail/jail.h"

struct block;
struct options;

/* When all that they name is open. */
void grants_of_options(const struct options *o, jail_grant_fn *grant, void *opaque);
/* In the helper, of a line of a client: struct jail_options.request. A line that says nothing is
 * the machine's to complain about. */
void grants_of_request(const char *line, size_t len, jail_grant_fn *grant, void *opaque);
/* An image, and for reading all below it that headers name now; NULL for the format: by its first
 * bytes. What a file says is not believed where the machine could write it before. */
void grants_of_image(const char *path, const char *format, bool writable, jail_grant_fn *grant,
                     void *opaque);
/* A snapshot, with these rights and that to read it, and for reading those that it was made on: a
 * later one is compared with the whole chain. What the machine wrote itself is not believed. */
void grants_of_snapshot(const char *dir, unsigned rights, jail_grant_fn *grant, void *opaque);
/* The files of a disk that is open. */
void grants_of_disk(const struct block *b, bool writable, jail_grant_fn *grant, void *opaque);

#endif

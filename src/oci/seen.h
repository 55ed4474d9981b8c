/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which names of which folders a layer has made: a set of hashes, 64 bits each. Two names with the
 * same one would only keep a file that a whiteout of the same layer removes. */
#ifndef OCI_SEEN_H
#define OCI_SEEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct seen {
    uint64_t *slot;
    size_t slots, count;
};

void seen_add(struct seen *s, uint32_t folder, const char *name, size_t n);
bool seen_has(const struct seen *s, uint32_t folder, const char *name, size_t n);
void seen_done(struct seen *s); /* and it is empty again */

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Folders with everything in them. May block: for workers. */
#ifndef HOST_TREE_H
#define HOST_TREE_H

#include <stdint.h>

#include "base/error.h"

/* 0 also if there is none. Symbolic links are removed, not followed. */
int tree_remove(int parent, const char *name, struct error *err);
int64_t tree_used(int parent, const char *name); /* bytes on the disk, of the files right in it */
/* Copies the data of a file, not its holes, and makes it safe. *done is what was read or skipped so
 * far (atomic); a *stop that is not 0 ends it with -ECANCELED. */
int tree_copy(const char *from, int parent, const char *to, int64_t *done, const int *stop,
              struct error *err);

#endif

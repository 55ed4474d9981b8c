/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The members of a tar archive in a file, by their heads alone: where the data of each lie.
 *
 * Contract: nothing but the heads is read. Heads are checked; a member whose data would lie behind
 * the end of the file is an error. Names are as they stand there: absolute, with "..", anything.
 */
#ifndef BASE_TAR_H
#define BASE_TAR_H

#include <stdint.h>

#include "base/error.h"

enum { TAR_NAME = 512, TAR_BLOCK = 512 };
enum tar_type { TAR_FILE, TAR_LINK, TAR_SYMLINK, TAR_FOLDER, TAR_OTHER };

struct tar_member {
    char name[TAR_NAME], link[TAR_NAME]; /* members with longer ones are left out */
    enum tar_type type;
    uint64_t offset, size;
};

/* Calls fn for each until it returns something else than 0, which is returned. `path` is for
 * sentences. -EINVAL: it is no archive, damaged or cut off. */
int tar_walk(int fd, const char *path,
             int (*fn)(void *opaque, const struct tar_member *m, struct error *err), void *opaque,
             struct error *err);
/* The head of a file, for one who writes an archive: ustar, the size of a large one as GNU writes
 * it. Names have up to 99 bytes. */
void tar_head(uint8_t head[TAR_BLOCK], const char *name, uint64_t size, int64_t mtime);

#endif

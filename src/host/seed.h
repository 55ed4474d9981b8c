/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small disk with a few files, from which cloud-init in a guest learns who the machine is: a
 * FAT12 file system with the label CIDATA, which its data source NoCloud looks for.
 */
#ifndef HOST_SEED_H
#define HOST_SEED_H

#include <stddef.h>

#include "base/bytes.h"
#include "base/error.h"

enum {
    SEED_FILES = 16,          /* at most */
    SEED_NAME = 255,          /* longest name, ASCII */
    SEED_BYTES = 1536 * 1024, /* all files together; what is surely possible with FAT12 */
};

struct seed_file {
    const char *name; /* letters, digits, '-', '_' and '.' */
    const void *data;
    size_t len;
};

/* The image, appended to an empty `out`. The same files give the same bytes. -EINVAL (a name),
 * -EFBIG with a sentence. */
int seed_make(const struct seed_file *files, unsigned n, struct buf *out, struct error *err);

/* The same as a file in a folder, in place of one that is there already. It is not synced: who can
 * make it anew need not have it safe. */
int seed_write(int folder, const char *name, const struct seed_file *files, unsigned n,
               struct error *err);

#endif

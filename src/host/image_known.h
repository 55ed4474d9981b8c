/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The images whose names are known: what they are made of. */
#ifndef HOST_IMAGE_KNOWN_H
#define HOST_IMAGE_KNOWN_H

#include <limits.h>
#include <stdbool.h>

enum { IMAGE_KERNEL, IMAGE_INITRD, IMAGE_DISK, IMAGE_KEY, IMAGE_FILES };

struct image_known {
    const char *name, *title;
    const char *kernel, *initrd, *disk, *key; /* files that scripts/guest.sh makes; NULL: none */
    const char *append;
    const char *suite; /* of Debian's releases */
};

/* Words for the kernel of every OCI image. */
#define IMAGE_OCI_APPEND "console=ttyS0 quiet loglevel=3 "

/* What they are called in the library. */
extern const char *const image_file_names[IMAGE_FILES];

const struct image_known *image_known_find(const char *name);
/* "debian, tiny" */
const char *image_known_names(void);
const char *const *image_known_file(const struct image_known *k, unsigned which);
bool image_file_known(const char *library_name);
/* A folder of this host that has them all: what "make guest" has made in the tree of sources that
 * the program was built in, or VIV_IMAGE_SOURCE. "": none. */
void image_known_source(const struct image_known *k, char out[PATH_MAX]);

#endif

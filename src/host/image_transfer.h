/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Work of the controller of images (image.c) that a worker does: import and export, with what is to
 * be known of them. */
#ifndef HOST_IMAGE_TRANSFER_H
#define HOST_IMAGE_TRANSFER_H

#include <jansson.h>

#include "host/store.h"

struct image_transfer;

/* `what` has file, format, kernel and initrd, the last two for an import; disk is the library's. */
struct image_transfer *image_transfer_new(const json_t *what, const char *disk, int64_t *done,
                                          int64_t *of, const int *stop);
/* The kernel that OCI images boot, with an initramfs that has its modules; "": there is none. */
void image_transfer_boot(struct image_transfer *t, const char *kernel, const char *initrd);
void image_transfer_free(struct image_transfer *t); /* accepts NULL */
/* On a worker, into the image's folder. */
void image_import(struct image_transfer *t, int folder, struct error *err);
void image_export(struct image_transfer *t, struct error *err);
const char *image_transfer_stage(const struct image_transfer *t);
/* What an import has found, into status. */
void image_transfer_note(const struct image_transfer *t, struct store_row *row);

#endif

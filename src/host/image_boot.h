/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How machines of an image boot. For the controller of images; image.h has what machines need. */
#ifndef HOST_IMAGE_BOOT_H
#define HOST_IMAGE_BOOT_H

#include "host/manager.h"

struct image_known;

/* What it is made as; NULL: it is none of the known ones. */
const struct image_known *image_known_of(const struct store_row *row);
/* "bios" or "uefi": what finds a boot loader on a disk in raw format, by its partitions. */
const char *image_boot_of_disk(const char *path);
/* Into status.boots_by, when its disk is complete. */
void image_boot_note(struct store_row *row, const char *disk);

#endif

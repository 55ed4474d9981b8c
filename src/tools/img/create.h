/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Making of an image, for create and convert. */
#ifndef TOOLS_IMG_CREATE_H
#define TOOLS_IMG_CREATE_H

#include "tools/img/img.h"

int create_image(const char *path, const char *format, uint64_t size, const char *settings,
                 const char *backing, const char *backing_format, struct error *err);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pictures as PNG files. */
#ifndef DISPLAY_PNG_H
#define DISPLAY_PNG_H

#include "base/bytes.h"
#include "base/error.h"

/* Appends a PNG of pixels 0x..RRGGBB, rows of `width`. */
int png_make(const uint32_t *pixels, unsigned width, unsigned height, struct buf *out,
             struct error *err);

#endif

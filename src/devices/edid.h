/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The data block by which a monitor tells what it is: for a monitor that takes any size. */
#ifndef DEVICES_EDID_H
#define DEVICES_EDID_H

#include <stddef.h>
#include <stdint.h>

enum { EDID_SIZE = 128 };

/* The base block, for which there must be room, then zeros; width x height is what the monitor
 * prefers. */
void edid_make(uint8_t *out, size_t size, unsigned width, unsigned height);

#endif

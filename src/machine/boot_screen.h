/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The screen of a machine without firmware, for kernels that ask their boot loader for a picture.
 */
#ifndef MACHINE_BOOT_SCREEN_H
#define MACHINE_BOOT_SCREEN_H

#include "machine/boot.h"

struct board;

/* `set` of struct boot_screen; opaque is the board. Its functions have their addresses. */
bool boot_screen_set(void *board, uint32_t width, uint32_t height, uint32_t depth,
                     struct boot_framebuffer *ret);

#endif

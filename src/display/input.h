/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What people and programs do with keyboard and pointer, on its way into a machine. Machine lock
 * held. */
#ifndef DISPLAY_INPUT_H
#define DISPLAY_INPUT_H

#include <stdbool.h>
#include <stdint.h>

enum { INPUT_AXIS_MAX = 0x7fff };
enum input_button {
    INPUT_LEFT = 1,
    INPUT_MIDDLE = 2,
    INPUT_RIGHT = 4,
    INPUT_SIDE = 8,
    INPUT_EXTRA = 16
};

struct input_pointer {
    uint16_t x, y;   /* 0 .. INPUT_AXIS_MAX over the whole picture */
    uint8_t buttons; /* that are down, enum input_button */
    int8_t wheel;    /* notches since the last one; up is positive */
    int8_t wheel_x;  /* the same sideways; right is positive */
};

struct input_sink {
    void (*key)(void *opaque, unsigned code, bool down); /* display/keys.h */
    void (*pointer)(void *opaque, const struct input_pointer *p);
    void *opaque;
};

#endif

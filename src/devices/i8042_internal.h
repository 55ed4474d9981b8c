/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The keyboard controller with what hangs on it: keyboard (i8042_keyboard.c), mouse
 * (i8042_mouse.c). */
#ifndef DEVICES_I8042_INTERNAL_H
#define DEVICES_I8042_INTERNAL_H

#include "devices/i8042.h"

enum { I8042_KEYS = 32, I8042_REPLIES = 4, I8042_AUX = 32 };
enum { /* where a byte in the output buffer comes from */
       I8042_CONTROLLER,
       I8042_KEYBOARD,
       I8042_MOUSE
};
enum { PS2_ACK = 0xfa, PS2_RESEND = 0xfe, PS2_BAT_OK = 0xaa, PS2_BREAK = 0xf0 };

struct i8042 {
    struct device dev;
    bool has_mouse;
    uint8_t config, outport, command; /* command: its data byte is still to come, 0 = none */
    bool last_was_command;
    uint8_t ram[32];
    bool full, timeout; /* of the output buffer */
    uint8_t data, source;
    uint8_t reply[I8042_REPLIES], reply_source[I8042_REPLIES], replies;

    uint8_t key[I8042_KEYS], key_head, keys;
    bool key_break; /* translation: 0xf0 was seen */
    bool scanning;
    uint8_t kbd_command; /* of the keyboard, its data byte is still to come */
    uint8_t last_sent;
    uint8_t set, leds, typematic;

    uint8_t aux[I8042_AUX], aux_head, auxs;
    uint8_t mouse_command, mouse_last; /* as of the keyboard */
    uint8_t mouse_id;                  /* 0; 3 with a wheel, 4 with five buttons */
    uint8_t mouse_rate, mouse_resolution;
    uint8_t mouse_knock[2]; /* the last two rates, by which drivers ask for more */
    uint8_t mouse_buttons, mouse_sent_buttons;
    bool mouse_enabled, mouse_remote, mouse_wrap, mouse_double;
    int16_t mouse_dx, mouse_dy, mouse_dz; /* since the last packet */
};

/* i8042.c: what waits is passed on. */
void i8042_refill(struct i8042 *k);

/* i8042_keyboard.c */
void i8042_kbd_reset(struct i8042 *k);
void i8042_kbd_receive(struct i8042 *k, uint8_t byte);
uint8_t i8042_take_key(struct i8042 *k);
uint8_t i8042_translate(uint8_t set2); /* to set 1, as the controller does */

/* i8042_mouse.c */
void i8042_mouse_reset(struct i8042 *k);
void i8042_mouse_receive(struct i8042 *k, uint8_t byte);
uint8_t i8042_take_aux(struct i8042 *k);

#endif

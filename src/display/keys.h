/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keys of a keyboard and what they are called: the codes of Linux' input layer (linux/input.h),
 * by which all of Vivarium names keys; the scan codes of set 1; names; X11's keysyms; characters
 * of the US layout.
 */
#ifndef DISPLAY_KEYS_H
#define DISPLAY_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KEY_CODE_MAX = 256, KEY_CODE_SHIFT = 42 };

struct key {
    const char *name, *alias; /* "enter", "ret"; alias may be NULL */
    uint8_t code;             /* Linux */
    uint8_t set1;             /* scan code of set 1 */
    bool extended;            /* comes after 0xe0 */
    uint32_t sym;             /* X11 keysym, 0: that of the character */
    char plain, shifted;      /* characters of the US layout; 0: none */
};

extern const struct key keys[]; /* ends with a NULL name */

const struct key *key_by_name(const char *name); /* NULL: there is none; also characters, "a" */
const struct key *key_by_code(unsigned code);
/* QEMU's numbers in RFB: set 1, extended ones with bit 7 set. */
const struct key *key_by_qnum(unsigned number);
/* NULL: not on a US keyboard. *ret_shift: 1 with shift, 0 without, -1 does not matter. */
const struct key *key_by_sym(uint32_t sym, int *ret_shift);
const struct key *key_by_char(char c, bool *ret_shift); /* '\n' is enter */

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of keys. Sources: Linux include/uapi/linux/input-event-codes.h (codes, names), X11
 * keysymdef.h, IBM PS/2 Technical Reference (scan codes). */
#include "display/keys.h"

#include <string.h>

// clang-format off
const struct key keys[] = {
    /* name, alias, code, set 1, extended, keysym, characters */
    {"esc", "escape", 1, 0x01, false, 0xff1b, 0, 0},
    {"1", NULL, 2, 0x02, false, 0x0, '1', '!'},
    {"2", NULL, 3, 0x03, false, 0x0, '2', '@'},
    {"3", NULL, 4, 0x04, false, 0x0, '3', '#'},
    {"4", NULL, 5, 0x05, false, 0x0, '4', '$'},
    {"5", NULL, 6, 0x06, false, 0x0, '5', '%'},
    {"6", NULL, 7, 0x07, false, 0x0, '6', '^'},
    {"7", NULL, 8, 0x08, false, 0x0, '7', '&'},
    {"8", NULL, 9, 0x09, false, 0x0, '8', '*'},
    {"9", NULL, 10, 0x0a, false, 0x0, '9', '('},
    {"0", NULL, 11, 0x0b, false, 0x0, '0', ')'},
    {"minus", NULL, 12, 0x0c, false, 0x0, '-', '_'},
    {"equal", NULL, 13, 0x0d, false, 0x0, '=', '+'},
    {"backspace", NULL, 14, 0x0e, false, 0xff08, 0, 0},
    {"tab", NULL, 15, 0x0f, false, 0xff09, '\t', 0},
    {"q", NULL, 16, 0x10, false, 0x0, 'q', 'Q'},
    {"w", NULL, 17, 0x11, false, 0x0, 'w', 'W'},
    {"e", NULL, 18, 0x12, false, 0x0, 'e', 'E'},
    {"r", NULL, 19, 0x13, false, 0x0, 'r', 'R'},
    {"t", NULL, 20, 0x14, false, 0x0, 't', 'T'},
    {"y", NULL, 21, 0x15, false, 0x0, 'y', 'Y'},
    {"u", NULL, 22, 0x16, false, 0x0, 'u', 'U'},
    {"i", NULL, 23, 0x17, false, 0x0, 'i', 'I'},
    {"o", NULL, 24, 0x18, false, 0x0, 'o', 'O'},
    {"p", NULL, 25, 0x19, false, 0x0, 'p', 'P'},
    {"leftbrace", "bracket_left", 26, 0x1a, false, 0x0, '[', '{'},
    {"rightbrace", "bracket_right", 27, 0x1b, false, 0x0, ']', '}'},
    {"enter", "ret", 28, 0x1c, false, 0xff0d, '\n', 0},
    {"leftctrl", "ctrl", 29, 0x1d, false, 0xffe3, 0, 0},
    {"a", NULL, 30, 0x1e, false, 0x0, 'a', 'A'},
    {"s", NULL, 31, 0x1f, false, 0x0, 's', 'S'},
    {"d", NULL, 32, 0x20, false, 0x0, 'd', 'D'},
    {"f", NULL, 33, 0x21, false, 0x0, 'f', 'F'},
    {"g", NULL, 34, 0x22, false, 0x0, 'g', 'G'},
    {"h", NULL, 35, 0x23, false, 0x0, 'h', 'H'},
    {"j", NULL, 36, 0x24, false, 0x0, 'j', 'J'},
    {"k", NULL, 37, 0x25, false, 0x0, 'k', 'K'},
    {"l", NULL, 38, 0x26, false, 0x0, 'l', 'L'},
    {"semicolon", NULL, 39, 0x27, false, 0x0, ';', ':'},
    {"apostrophe", NULL, 40, 0x28, false, 0x0, '\'', '"'},
    {"grave", "grave_accent", 41, 0x29, false, 0x0, '`', '~'},
    {"leftshift", "shift", 42, 0x2a, false, 0xffe1, 0, 0},
    {"backslash", NULL, 43, 0x2b, false, 0x0, '\\', '|'},
    {"z", NULL, 44, 0x2c, false, 0x0, 'z', 'Z'},
    {"x", NULL, 45, 0x2d, false, 0x0, 'x', 'X'},
    {"c", NULL, 46, 0x2e, false, 0x0, 'c', 'C'},
    {"v", NULL, 47, 0x2f, false, 0x0, 'v', 'V'},
    {"b", NULL, 48, 0x30, false, 0x0, 'b', 'B'},
    {"n", NULL, 49, 0x31, false, 0x0, 'n', 'N'},
    {"m", NULL, 50, 0x32, false, 0x0, 'm', 'M'},
    {"comma", NULL, 51, 0x33, false, 0x0, ',', '<'},
    {"dot", "period", 52, 0x34, false, 0x0, '.', '>'},
    {"slash", NULL, 53, 0x35, false, 0x0, '/', '?'},
    {"rightshift", "shift_r", 54, 0x36, false, 0xffe2, 0, 0},
    {"kpasterisk", "kp_multiply", 55, 0x37, false, 0xffaa, 0, 0},
    {"leftalt", "alt", 56, 0x38, false, 0xffe9, 0, 0},
    {"space", "spc", 57, 0x39, false, 0x0, ' ', 0},
    {"capslock", "caps_lock", 58, 0x3a, false, 0xffe5, 0, 0},
    {"f1", NULL, 59, 0x3b, false, 0xffbe, 0, 0},
    {"f2", NULL, 60, 0x3c, false, 0xffbf, 0, 0},
    {"f3", NULL, 61, 0x3d, false, 0xffc0, 0, 0},
    {"f4", NULL, 62, 0x3e, false, 0xffc1, 0, 0},
    {"f5", NULL, 63, 0x3f, false, 0xffc2, 0, 0},
    {"f6", NULL, 64, 0x40, false, 0xffc3, 0, 0},
    {"f7", NULL, 65, 0x41, false, 0xffc4, 0, 0},
    {"f8", NULL, 66, 0x42, false, 0xffc5, 0, 0},
    {"f9", NULL, 67, 0x43, false, 0xffc6, 0, 0},
    {"f10", NULL, 68, 0x44, false, 0xffc7, 0, 0},
    {"numlock", "num_lock", 69, 0x45, false, 0xff7f, 0, 0},
    {"scrolllock", "scroll_lock", 70, 0x46, false, 0xff14, 0, 0},
    {"kp7", "kp_7", 71, 0x47, false, 0xffb7, 0, 0},
    {"kp8", "kp_8", 72, 0x48, false, 0xffb8, 0, 0},
    {"kp9", "kp_9", 73, 0x49, false, 0xffb9, 0, 0},
    {"kpminus", "kp_subtract", 74, 0x4a, false, 0xffad, 0, 0},
    {"kp4", "kp_4", 75, 0x4b, false, 0xffb4, 0, 0},
    {"kp5", "kp_5", 76, 0x4c, false, 0xffb5, 0, 0},
    {"kp6", "kp_6", 77, 0x4d, false, 0xffb6, 0, 0},
    {"kpplus", "kp_add", 78, 0x4e, false, 0xffab, 0, 0},
    {"kp1", "kp_1", 79, 0x4f, false, 0xffb1, 0, 0},
    {"kp2", "kp_2", 80, 0x50, false, 0xffb2, 0, 0},
    {"kp3", "kp_3", 81, 0x51, false, 0xffb3, 0, 0},
    {"kp0", "kp_0", 82, 0x52, false, 0xffb0, 0, 0},
    {"kpdot", "kp_decimal", 83, 0x53, false, 0xffae, 0, 0},
    {"102nd", "less", 86, 0x56, false, 0x0, 0, 0},
    {"f11", NULL, 87, 0x57, false, 0xffc8, 0, 0},
    {"f12", NULL, 88, 0x58, false, 0xffc9, 0, 0},
    {"ro", NULL, 89, 0x73, false, 0x0, 0, 0},
    {"henkan", NULL, 92, 0x79, false, 0xff23, 0, 0},
    {"katakanahiragana", NULL, 93, 0x70, false, 0xff27, 0, 0},
    {"muhenkan", NULL, 94, 0x7b, false, 0xff22, 0, 0},
    {"kpenter", "kp_enter", 96, 0x1c, true, 0xff8d, 0, 0},
    {"rightctrl", "ctrl_r", 97, 0x1d, true, 0xffe4, 0, 0},
    {"kpslash", "kp_divide", 98, 0x35, true, 0xffaf, 0, 0},
    {"sysrq", "print", 99, 0x37, true, 0xff61, 0, 0},
    {"rightalt", "alt_r", 100, 0x38, true, 0xfe03, 0, 0},
    {"home", NULL, 102, 0x47, true, 0xff50, 0, 0},
    {"up", NULL, 103, 0x48, true, 0xff52, 0, 0},
    {"pageup", "pgup", 104, 0x49, true, 0xff55, 0, 0},
    {"left", NULL, 105, 0x4b, true, 0xff51, 0, 0},
    {"right", NULL, 106, 0x4d, true, 0xff53, 0, 0},
    {"end", NULL, 107, 0x4f, true, 0xff57, 0, 0},
    {"down", NULL, 108, 0x50, true, 0xff54, 0, 0},
    {"pagedown", "pgdn", 109, 0x51, true, 0xff56, 0, 0},
    {"insert", "ins", 110, 0x52, true, 0xff63, 0, 0},
    {"delete", "del", 111, 0x53, true, 0xffff, 0, 0},
    {"mute", "audiomute", 113, 0x20, true, 0x0, 0, 0},
    {"volumedown", NULL, 114, 0x2e, true, 0x0, 0, 0},
    {"volumeup", NULL, 115, 0x30, true, 0x0, 0, 0},
    {"power", NULL, 116, 0x5e, true, 0x0, 0, 0},
    {"pause", NULL, 119, 0x46, true, 0xff13, 0, 0},
    {"kpcomma", NULL, 121, 0x7e, false, 0xffac, 0, 0},
    {"yen", NULL, 124, 0x7d, false, 0xa5, 0, 0},
    {"leftmeta", "meta_l", 125, 0x5b, true, 0xffeb, 0, 0},
    {"rightmeta", "meta_r", 126, 0x5c, true, 0xffec, 0, 0},
    {"compose", "menu", 127, 0x5d, true, 0xff67, 0, 0},
    {NULL, NULL, 0, 0, false, 0, 0, 0},
};

/* Further keysyms of keys: the keypad without Num Lock, the left-hand tab, the other Alt and so on. */
static const struct { uint32_t sym; uint8_t code; } more[] = {
    {0xff95, 71}, {0xff97, 72}, {0xff9a, 73}, {0xff96, 75}, {0xff9d, 76}, {0xff98, 77}, {0xff9c, 79}, {0xff99, 80}, {0xff9b, 81},
    {0xff9e, 82}, {0xff9f, 83}, {0xfe20, 15}, {0xffea, 100}, {0xff7e, 100}, {0xffe7, 125}, {0xffe8, 126}, {0xff15, 99}, {0xff6b, 119},
    {0xff0a, 28}, {0xffed, 125}, {0xffee, 126},
};
// clang-format on

const struct key *key_by_name(const char *name) {
    bool shift;

    for (const struct key *k = keys; k->name; k++)
        if (!strcmp(k->name, name) || (k->alias && !strcmp(k->alias, name)))
            return k;
    return name[0] && !name[1] ? key_by_char(name[0], &shift) : NULL;
}

const struct key *key_by_code(unsigned code) {
    for (const struct key *k = keys; k->name; k++)
        if (k->code == code)
            return k;
    return NULL;
}

const struct key *key_by_qnum(unsigned number) {
    bool extended = number & 0x80;

    if (number == 0x54) /* Alt with Print */
        return key_by_code(99);
    for (const struct key *k = keys; k->name && number < 0x100; k++)
        if (k->set1 == (number & 0x7f) && k->extended == extended)
            return k;
    return NULL;
}

const struct key *key_by_char(char c, bool *ret_shift) {
    if (c == '\r')
        c = '\n';
    for (const struct key *k = keys; k->name && c; k++)
        if (k->plain == c || k->shifted == c) {
            *ret_shift = k->plain != c;
            return k;
        }
    return NULL;
}

const struct key *key_by_sym(uint32_t sym, int *ret_shift) {
    const struct key *k = NULL;
    bool shift = false;

    *ret_shift = -1;
    if (sym >= 0x20 && sym < 0x7f) {
        k = key_by_char((char)sym, &shift);
        *ret_shift = shift;
        return k;
    }
    for (k = keys; k->name && sym; k++)
        if (k->sym == sym)
            return k;
    for (unsigned i = 0; i < sizeof(more) / sizeof(more[0]); i++)
        if (more[i].sym == sym)
            return key_by_code(more[i].code);
    return NULL;
}

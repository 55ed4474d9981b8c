/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The PS/2 keyboard. Source: IBM PS/2 Hardware Interface Technical Reference (May 1988), "Keyboard
 * (101/102-key)".
 *
 * Departures: no typematic repeat of its own (who presses a key repeats it); in set 3 every key
 * makes, repeats and breaks, whatever commands f7 to fd said.
 */
#include <string.h>

#include "base/trace.h"
#include "devices/i8042_internal.h"
#include "display/keys.h"

enum { CODE_PAUSE = 119, CODE_SYSRQ = 99 };
enum { SET_START = 2, TYPEMATIC_START = 0x2b, ROOM_FOR_ANSWERS = 8 };

/* The controller's translation of set 2 into set 1; codes from 0x85 up stay as they are. */
static const uint8_t set1_of[0x85] = {
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29,
    0x59, 0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11,
    0x03, 0x5b, 0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14,
    0x13, 0x06, 0x5d, 0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24,
    0x16, 0x08, 0x09, 0x5f, 0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35,
    0x26, 0x27, 0x19, 0x0c, 0x61, 0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36,
    0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76, 0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c,
    0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f, 0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45,
    0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54, 0x80, 0x81, 0x82, 0x41, 0x54};

/* Set 3 by Linux' codes; 0: the key is not in it. */
// clang-format off
static const uint8_t set3_of[128] = {
    0x00, 0x08, 0x16, 0x1e, 0x26, 0x25, 0x2e, 0x36, 0x3d, 0x3e, 0x46, 0x45, 0x4e, 0x55, 0x66, 0x0d,
    0x15, 0x1d, 0x24, 0x2d, 0x2c, 0x35, 0x3c, 0x43, 0x44, 0x4d, 0x54, 0x5b, 0x5a, 0x11, 0x1c, 0x1b,
    0x23, 0x2b, 0x34, 0x33, 0x3b, 0x42, 0x4b, 0x4c, 0x52, 0x0e, 0x12, 0x5c, 0x1a, 0x22, 0x21, 0x2a,
    0x32, 0x31, 0x3a, 0x41, 0x49, 0x4a, 0x59, 0x7e, 0x19, 0x29, 0x14, 0x07, 0x0f, 0x17, 0x1f, 0x27,
    0x2f, 0x37, 0x3f, 0x47, 0x4f, 0x76, 0x5f, 0x6c, 0x75, 0x7d, 0x84, 0x6b, 0x73, 0x74, 0x7c, 0x69,
    0x72, 0x7a, 0x70, 0x71, 0x00, 0x00, 0x13, 0x56, 0x5e, 0x00, 0x00, 0x00, 0x86, 0x87, 0x85, 0x00,
    0x79, 0x58, 0x77, 0x57, 0x39, 0x00, 0x6e, 0x63, 0x6f, 0x61, 0x6a, 0x65, 0x60, 0x6d, 0x67, 0x64,
    0x8e, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x62, 0x00, 0x00, 0x00, 0x00, 0x00, 0x8b, 0x8c, 0x8d,
};
// clang-format on

uint8_t i8042_translate(uint8_t set2) { return set2 < sizeof(set1_of) ? set1_of[set2] : set2; }

/* The byte of set 2 for one of set 1: the table backwards, where keys come before doubles. */
static uint8_t set2_of(uint8_t set1) {
    for (unsigned i = sizeof(set1_of); i--;)
        if (set1_of[i] == set1)
            return (uint8_t)i;
    return 0;
}

uint8_t i8042_take_key(struct i8042 *k) {
    uint8_t byte = k->key[k->key_head];

    k->key_head = (k->key_head + 1) % I8042_KEYS;
    k->keys--;
    return byte;
}

static void kbd_send(struct i8042 *k, uint8_t byte) {
    if (k->keys == I8042_KEYS)
        return;
    k->key[(k->key_head + k->keys++) % I8042_KEYS] = byte;
    k->last_sent = byte;
}

size_t i8042_keys(struct device *dev, const uint8_t *codes, size_t n) {
    struct i8042 *k = (struct i8042 *)dev;
    size_t taken = 0;

    if (!k->scanning)
        return n; /* a disabled keyboard does not look at its keys */
    while (taken < n && k->keys < I8042_KEYS - ROOM_FOR_ANSWERS)
        kbd_send(k, codes[taken++]);
    i8042_refill(k);
    return taken;
}

/* What the key sends in the present set; 0 bytes: nothing. */
static size_t scan_code(const struct i8042 *k, const struct key *key, bool down, uint8_t out[8]) {
    static const uint8_t pause2[] = {0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77};
    static const uint8_t pause1[] = {0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5};
    size_t n = 0;

    if (k->set == 3) {
        uint8_t code = key->code < sizeof(set3_of) ? set3_of[key->code] : 0;

        if (code && !down)
            out[n++] = PS2_BREAK;
        if (code)
            out[n++] = code;
        return n;
    }
    if (key->code == CODE_PAUSE) { /* it has no break code */
        const uint8_t *pause = k->set == 1 ? pause1 : pause2;

        n = !down ? 0 : k->set == 1 ? sizeof(pause1) : sizeof(pause2);
        memcpy(out, pause, n);
        return n;
    }
    if (key->extended)
        out[n++] = 0xe0;
    if (k->set == 1) {
        out[n++] = (uint8_t)(key->set1 | (down ? 0 : 0x80));
        return n;
    }
    if (!down)
        out[n++] = PS2_BREAK;
    out[n++] = set2_of(key->set1);
    return n;
}

bool i8042_key(struct device *dev, unsigned code, bool down) {
    struct i8042 *k = (struct i8042 *)dev;
    const struct key *key = key_by_code(code);
    uint8_t bytes[8];
    size_t n = key ? scan_code(k, key, down, bytes) : 0;

    if (k->scanning && k->keys + n > I8042_KEYS - ROOM_FOR_ANSWERS)
        return false;
    i8042_keys(dev, bytes, n);
    return true;
}

unsigned i8042_leds(const struct device *dev) { return ((const struct i8042 *)dev)->leds; }

static void kbd_defaults(struct i8042 *k, bool scanning) {
    k->keys = 0;
    k->key_break = false;
    k->kbd_command = 0;
    k->scanning = scanning;
    k->typematic = TYPEMATIC_START;
    k->set = SET_START;
}

void i8042_kbd_reset(struct i8042 *k) {
    k->key_head = k->last_sent = k->leds = 0;
    memset(k->key, 0, sizeof(k->key));
    kbd_defaults(k, true);
}

/* A byte that follows a command. */
static void kbd_parameter(struct i8042 *k, uint8_t byte) {
    uint8_t command = k->kbd_command;

    k->kbd_command = 0;
    if (command == 0xf0 && byte > 3) {
        kbd_send(k, PS2_RESEND);
        return;
    }
    kbd_send(k, PS2_ACK);
    if (command == 0xed)
        k->leds = byte & 7;
    else if (command == 0xf3)
        k->typematic = byte & 0x7f;
    else if (command == 0xf0 && byte)
        k->set = byte;
    else if (command == 0xf0)
        kbd_send(k, k->set);
}

void i8042_kbd_receive(struct i8042 *k, uint8_t byte) {
    if (k->kbd_command && byte < 0xed) {
        kbd_parameter(k, byte);
        return;
    }
    k->kbd_command = 0;
    switch (byte) {
    case 0xed: /* LEDs, scan-code set, typematic rate: one byte follows; types of single keys */
    case 0xf0:
    case 0xf3:
    case 0xfb ... 0xfd:
        k->kbd_command = byte;
        kbd_send(k, PS2_ACK);
        break;
    case 0xee:
        kbd_send(k, 0xee);
        break;
    case 0xf2:
        kbd_send(k, PS2_ACK);
        kbd_send(k, 0xab);
        kbd_send(k, 0x83);
        break;
    case 0xf4:
        k->keys = 0;
        k->key_break = false;
        k->scanning = true;
        kbd_send(k, PS2_ACK);
        break;
    case 0xf5:
    case 0xf6:
        kbd_defaults(k, byte == 0xf6 && k->scanning);
        kbd_send(k, PS2_ACK);
        break;
    case 0xf7 ... 0xfa: /* types of all keys, in set 3 */
        kbd_send(k, PS2_ACK);
        break;
    case 0xfe:
        kbd_send(k, k->last_sent);
        break;
    case 0xff:
        kbd_defaults(k, true);
        k->leds = 0;
        kbd_send(k, PS2_ACK);
        kbd_send(k, PS2_BAT_OK);
        break;
    default:
        trace(i8042_unknown, byte);
        kbd_send(k, PS2_RESEND);
        break;
    }
}

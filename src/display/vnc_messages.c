/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What clients say: formats, encodings, requests, keys, pointers.
 * Source: RFC 6143, 7.5; rfbproto "QEMU Client Message" (extended keys), "SetDesktopSize".
 */
#include "display/vnc_internal.h"

enum {
    SET_FORMAT = 0,
    SET_ENCODINGS = 2,
    UPDATE_REQUEST = 3,
    KEY = 4,
    POINTER = 5,
    CUT_TEXT = 6,
    SET_SIZE = 251,
    QEMU = 255
};
enum { SET_COLOURS = 1, MAX_ENCODINGS = 64, MAX_SCREENS = 16 };
enum { CODE_CAPS_LOCK = 58 };
enum { WHEEL_UP = 8, WHEEL_DOWN = 16, WHEEL_LEFT = 32, WHEEL_RIGHT = 64 };

/* ------------------------------------------------------------------ formats */

/* Without true colour: a palette that is 3, 3 and 2 bits of colour. */
static void send_palette(struct vnc_client *c) {
    uint8_t b[6 + 256 * 6] = {SET_COLOURS};

    store_be16(b + 4, 256);
    for (unsigned i = 0; i < 256; i++) {
        store_be16(b + 6 + 6 * i, (uint16_t)((i & 7) * 65535 / 7));
        store_be16(b + 8 + 6 * i, (uint16_t)((i >> 3 & 7) * 65535 / 7));
        store_be16(b + 10 + 6 * i, (uint16_t)((i >> 6) * 65535 / 3));
    }
    vnc_put(c, b, sizeof(b));
}

static int set_format(struct vnc_client *c) {
    static const struct vnc_format bgr233 = {8, 8, false, true, {7, 7, 3}, {0, 3, 6}};
    const uint8_t *p = c->in + 4;
    struct vnc_format f = {.bpp = p[0], .depth = p[1], .big_endian = p[2], .true_colour = p[3]};

    if (c->in_len < 20)
        return 0;
    for (unsigned i = 0; i < 3; i++) {
        f.max[i] = load_be16(p + 4 + 2 * i);
        f.shift[i] = p[10 + i];
    }
    if ((f.bpp != 8 && f.bpp != 16 && f.bpp != 32) || f.shift[0] > 31 || f.shift[1] > 31 ||
        f.shift[2] > 31) {
        vnc_drop(c);
        return -1;
    }
    if (!f.true_colour) {
        if (f.bpp != 8) {
            vnc_drop(c);
            return -1;
        }
        f = bgr233;
        send_palette(c);
    }
    vnc_set_format(c, &f);
    return 20;
}

static void take_encoding(struct vnc_client *c, int32_t e) {
    if ((e == VNC_ZRLE || e == VNC_TIGHT) && c->encoding == VNC_RAW)
        c->encoding = e; /* the first one that we know: clients name the best first */
    else if (e >= VNC_COMPRESS_0 && e <= VNC_COMPRESS_9)
        c->level = e - VNC_COMPRESS_0;
    else if (e == VNC_DESKTOP_SIZE)
        c->desktop_size = true;
    else if (e == VNC_EXTENDED_SIZE)
        c->tell_size |= !c->extended_size, c->extended_size = true;
    else if (e == VNC_LAST_RECT)
        c->last_rect = true;
    else if (e == VNC_EXTENDED_KEY)
        c->tell_extended_key |= !c->extended_key, c->extended_key = true;
}

/* A list may be longer than our buffer: what is beyond it is skipped. */
static int set_encodings(struct vnc_client *c) {
    unsigned n, known;

    if (c->in_len < 4)
        return 0;
    n = load_be16(c->in + 2);
    known = n < MAX_ENCODINGS ? n : MAX_ENCODINGS;
    if (c->in_len < 4 + 4 * known)
        return 0;
    c->encoding = VNC_RAW;
    c->desktop_size = c->last_rect = false;
    for (unsigned i = 0; i < known; i++)
        take_encoding(c, (int32_t)load_be32(c->in + 4 + 4 * i));
    c->skip = 4 * (uint64_t)(n - known);
    return (int)(4 + 4 * known);
}

static int update_request(struct vnc_client *c) {
    bool incremental = c->in[1];

    if (c->in_len < 10)
        return 0;
    c->area = (struct vnc_rect){load_be16(c->in + 2), load_be16(c->in + 4), load_be16(c->in + 6),
                                load_be16(c->in + 8)};
    if (!incremental)
        screen_watch_all(c->vnc->screen, &c->look);
    c->wants = true;
    vnc_want(c);
    return 10;
}

/* ------------------------------------------------------------------ keys */

static void press(struct vnc_client *c, unsigned code, bool down) {
    if (code >= KEY_CODE_MAX || (!down && !c->down[code]))
        return;
    c->down[code] = down;
    c->vnc->input.key(c->vnc->input.opaque, code, down);
    vnc_wake(c->vnc);
}

void vnc_release_keys(struct vnc_client *c) {
    struct input_sink *to = &c->vnc->input;

    for (unsigned code = 0; code < KEY_CODE_MAX; code++)
        if (c->down[code])
            to->key(to->opaque, code, false);
    memset(c->down, 0, sizeof(c->down));
}

/* The guest's keyboard is a US one. Where a character needs another state of Shift than the
 * client's keyboard has, it is changed around the key. */
/* Letters are left alone but for a capital one without Shift and Caps Lock, which programs send. */
static bool needs_other_shift(const struct vnc_client *c, uint32_t sym, int shift, bool held) {
    if (shift < 0 || shift == held)
        return false;
    if (sym >= 'A' && sym <= 'Z')
        return !c->caps_lock;
    return !(sym >= 'a' && sym <= 'z');
}

static void press_sym(struct vnc_client *c, uint32_t sym, bool down) {
    int shift;
    const struct key *k = key_by_sym(sym, &shift);
    bool left = c->down[KEY_CODE_SHIFT], right = c->down[54];
    struct input_sink *to = &c->vnc->input;

    if (!k)
        return;
    if (down && k->code == CODE_CAPS_LOCK && !c->down[CODE_CAPS_LOCK])
        c->caps_lock = !c->caps_lock;
    if (!down || !needs_other_shift(c, sym, shift, left || right)) {
        press(c, k->code, down);
        return;
    }
    if (shift)
        to->key(to->opaque, KEY_CODE_SHIFT, true);
    else if (left)
        to->key(to->opaque, KEY_CODE_SHIFT, false);
    if (!shift && right)
        to->key(to->opaque, 54, false);
    press(c, k->code, true);
    if (shift)
        to->key(to->opaque, KEY_CODE_SHIFT, false);
    else if (left)
        to->key(to->opaque, KEY_CODE_SHIFT, true);
    if (!shift && right)
        to->key(to->opaque, 54, true);
}

static int key_event(struct vnc_client *c) {
    if (c->in_len < 8)
        return 0;
    press_sym(c, load_be32(c->in + 4), c->in[1]);
    return 8;
}

static int qemu_message(struct vnc_client *c) {
    const struct key *k;

    if (c->in_len < 2)
        return 0;
    if (c->in[1] != 0) { /* its audio was not offered */
        vnc_drop(c);
        return -1;
    }
    if (c->in_len < 12)
        return 0;
    k = key_by_qnum(load_be32(c->in + 8));
    if (k)
        press(c, k->code, load_be16(c->in + 2));
    else
        press_sym(c, load_be32(c->in + 4), load_be16(c->in + 2));
    return 12;
}

/* ------------------------------------------------------------------ pointers */

static uint16_t on_axis(unsigned at, unsigned size) {
    return (uint16_t)(at >= size ? INPUT_AXIS_MAX
                      : size > 1 ? (uint64_t)at * INPUT_AXIS_MAX / (size - 1)
                                 : 0);
}

static int pointer_event(struct vnc_client *c) {
    struct input_pointer p = {0};
    uint8_t mask = c->in[1];

    if (c->in_len < 6)
        return 0;
    p.x = on_axis(load_be16(c->in + 2), c->width);
    p.y = on_axis(load_be16(c->in + 4), c->height);
    p.buttons =
        (mask & 1 ? INPUT_LEFT : 0) | (mask & 2 ? INPUT_MIDDLE : 0) | (mask & 4 ? INPUT_RIGHT : 0);
    p.wheel = (int8_t)((mask & WHEEL_UP ? 1 : 0) - (mask & WHEEL_DOWN ? 1 : 0));
    p.wheel_x = (int8_t)((mask & WHEEL_RIGHT ? 1 : 0) - (mask & WHEEL_LEFT ? 1 : 0));
    c->vnc->input.pointer(c->vnc->input.opaque, &p);
    vnc_wake(c->vnc);
    return 6;
}

/* ------------------------------------------------------------------ the rest */

/* A length below zero says that the extended clipboard is meant, which was not offered. */
static int cut_text(struct vnc_client *c) {
    uint32_t n;

    if (c->in_len < 8)
        return 0;
    n = load_be32(c->in + 4);
    if (n > VNC_CUT_MAX) {
        vnc_drop(c);
        return -1;
    }
    c->skip = n;
    return 8;
}

static int set_size(struct vnc_client *c) {
    unsigned screens = c->in_len < 8 ? 0 : c->in[6], width, height;

    if (c->in_len < 8)
        return 0;
    if (screens > MAX_SCREENS) {
        vnc_drop(c);
        return -1;
    }
    if (c->in_len < 8 + 16 * screens)
        return 0;
    width = load_be16(c->in + 2);
    height = load_be16(c->in + 4);
    screen_wish(c->vnc->screen, width, height);
    vnc_wake(c->vnc);
    return (int)(8 + 16 * screens);
}

int vnc_message(struct vnc_client *c) {
    switch (c->in[0]) {
    case SET_FORMAT:
        return set_format(c);
    case SET_ENCODINGS:
        return set_encodings(c);
    case UPDATE_REQUEST:
        return update_request(c);
    case KEY:
        return key_event(c);
    case POINTER:
        return pointer_event(c);
    case CUT_TEXT:
        return cut_text(c);
    case SET_SIZE:
        return set_size(c);
    case QEMU:
        return qemu_message(c);
    default:
        vnc_drop(c);
        return -1;
    }
}

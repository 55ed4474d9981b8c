/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands about the screen: pictures of it, keys, text and the pointer. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/write.h"
#include "display/keys.h"
#include "vm/control.h"
#include "vm/screen.h"

/*
 * Calls (main): openat rename unlink
 */

enum { MAX_TOGETHER = 8 };

static int need_screen(const struct control_call *call, struct error *err) {
    if (call->vm->screen)
        return 0;
    return error_set(err, -EBUSY,
                     "the machine has no screen: start it with --display vnc=ADDRESS:PORT, or with "
                     "--vga std");
}

static const char *text_of(const struct control_call *call, const char *name) {
    return json_string_value(json_object_get(call->args, name));
}

/* ------------------------------------------------------------------ pictures */

/* Beside its place first: a picture is there whole or not at all. */
static int write_file(const char *path, const struct buf *b, struct error *err) {
    char beside[PATH_MAX];
    int fd, code;

    if (snprintf(beside, sizeof(beside), "%s.%d.new", path, (int)getpid()) >= (int)sizeof(beside))
        return error_set(err, -ENAMETOOLONG, "the path of the picture is too long");
    fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    code = fd < 0 ? -errno : write_all(fd, b->data, b->len);
    if (code == 0 && rename(beside, path) < 0)
        code = -errno;
    if (fd >= 0)
        close(fd);
    if (code == 0)
        return 0;
    if (fd >= 0)
        unlink(beside);
    return error_set(err, code, "the picture '%s' cannot be written: %s", path, strerror(-code));
}

static char *base64(const struct buf *b) {
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *out = malloc((b->len + 2) / 3 * 4 + 1), *at = out;

    for (size_t i = 0; out && i < b->len; i += 3) {
        size_t have = b->len - i < 3 ? b->len - i : 3;
        uint32_t v = 0;

        for (size_t k = 0; k < 3; k++)
            v = v << 8 | (k < have ? b->data[i + k] : 0);
        for (size_t k = 0; k < 4; k++)
            *at++ = k <= have ? digit[v >> (18 - 6 * k) & 63] : '=';
    }
    if (out)
        *at = 0;
    return out;
}

static int put_picture(struct control_call *call, const struct buf *png, struct error *err) {
    char *text = base64(png);
    int r = text ? json_object_set_new(call->result, "png", json_string(text)) : -1;

    free(text);
    return r < 0 ? error_set(err, -ENOMEM, "the picture: out of memory") : 0;
}

static int do_screenshot(struct control_call *call, struct error *err) {
    const char *file = text_of(call, "file");
    struct buf png = {0};
    unsigned width, height;
    int r = need_screen(call, err);

    if (r < 0)
        return r;
    r = vm_screen_png(call->vm->screen, &png, err);
    if (r == 0)
        r = file ? write_file(file, &png, err) : put_picture(call, &png, err);
    if (r == 0) {
        vm_screen_size(call->vm->screen, &width, &height);
        json_object_set_new(call->result, "width", json_integer(width));
        json_object_set_new(call->result, "height", json_integer(height));
        if (file)
            json_object_set_new(call->result, "file", json_string(file));
    }
    buf_done(&png);
    return r;
}

/* ------------------------------------------------------------------ keys */

static int need_room(const struct control_call *call, size_t n, struct error *err) {
    if (vm_screen_keys_room(call->vm->screen) >= n)
        return 0;
    return error_set(err, -EBUSY,
                     "too many keys wait for the guest, which does not read its keyboard: try "
                     "again later, or less");
}

static int parse_keys(const char *text, unsigned code[MAX_TOGETHER], struct error *err) {
    char copy[256], *rest = copy, *name;
    unsigned n = 0;

    snprintf(copy, sizeof(copy), "%s", text);
    while ((name = strsep(&rest, "-"))) {
        const struct key *k = key_by_name(*name ? name : "minus");

        if (!k)
            return error_set(err, -EINVAL,
                             "there is no key '%s': use a to z, 0 to 9, f1 to f12, enter, esc, "
                             "tab, space, backspace, up, down, left, right, home, end, pgup, pgdn, "
                             "ins, del, ctrl, alt, shift, leftmeta, minus and so on, joined by '-'",
                             name);
        if (n == MAX_TOGETHER)
            return error_set(err, -EINVAL, "at most %d keys can be pressed together", MAX_TOGETHER);
        code[n++] = k->code;
        if (!*name && rest) /* "--" is the key itself */
            rest += *rest == '-';
        if (rest && !*rest)
            break;
    }
    return (int)n;
}

static int do_send_key(struct control_call *call, struct error *err) {
    unsigned code[MAX_TOGETHER];
    int hold = (int)json_integer_value(json_object_get(call->args, "hold"));
    int n = need_screen(call, err);

    if (n == 0)
        n = parse_keys(text_of(call, "keys"), code, err);
    if (n < 0 || need_room(call, 2 * MAX_TOGETHER, err) < 0)
        return err->code;
    for (int i = 0; i < n; i++)
        vm_screen_key(call->vm->screen, code[i], true);
    if (hold)
        vm_screen_hold(call->vm->screen, (unsigned)hold);
    while (n--)
        vm_screen_key(call->vm->screen, code[n], false);
    return 0;
}

static void type(struct vm_screen *s, const struct key *k, bool shift) {
    if (shift)
        vm_screen_key(s, KEY_CODE_SHIFT, true);
    vm_screen_key(s, k->code, true);
    vm_screen_key(s, k->code, false);
    if (shift)
        vm_screen_key(s, KEY_CODE_SHIFT, false);
}

static int do_send_text(struct control_call *call, struct error *err) {
    const char *text = text_of(call, "text");
    bool shift, enter = json_is_true(json_object_get(call->args, "enter"));
    int r = need_screen(call, err);

    for (const char *p = text; r == 0 && *p; p++)
        if (!key_by_char(*p, &shift))
            r = error_set(err, -EINVAL,
                          "character %zu of the text is not on a US keyboard: only ASCII can be "
                          "typed",
                          (size_t)(p - text) + 1);
    if (r == 0)
        r = need_room(call, 4 * strlen(text) + 2, err);
    if (r < 0)
        return r;
    for (; *text; text++) {
        const struct key *k = key_by_char(*text, &shift);

        type(call->vm->screen, k, shift);
    }
    if (enter)
        type(call->vm->screen, key_by_char('\n', &shift), false);
    return 0;
}

/* ------------------------------------------------------------------ the pointer */

static unsigned button(const char *name) {
    return !strcmp(name, "left")     ? INPUT_LEFT
           : !strcmp(name, "middle") ? INPUT_MIDDLE
           : !strcmp(name, "right")  ? INPUT_RIGHT
                                     : 0;
}

static uint16_t on_axis(json_int_t at, unsigned size) {
    if (at >= size)
        return INPUT_AXIS_MAX;
    return (uint16_t)(size > 1 ? at * INPUT_AXIS_MAX / (size - 1) : 0);
}

static int do_pointer(struct control_call *call, struct error *err) {
    const json_t *buttons = json_object_get(call->args, "buttons");
    const char *click = text_of(call, "click");
    struct vm_screen *s = call->vm->screen;
    struct input_pointer p = {0};
    unsigned width, height;
    int r = need_screen(call, err);

    if (r < 0)
        return r;
    vm_screen_size(s, &width, &height);
    p.x = on_axis(json_integer_value(json_object_get(call->args, "x")), width);
    p.y = on_axis(json_integer_value(json_object_get(call->args, "y")), height);
    p.buttons = vm_screen_buttons(s);
    if (buttons)
        p.buttons = 0;
    for (size_t i = 0; i < json_array_size(buttons); i++)
        p.buttons |= (uint8_t)button(json_string_value(json_array_get(buttons, i)));
    p.wheel = (int8_t)json_integer_value(json_object_get(call->args, "wheel"));
    vm_screen_pointer(s, &p);
    p.wheel = 0;
    for (unsigned i = !click ? 0 : !strcmp(click, "double") ? 2 : 1; i; i--) {
        unsigned b = !strcmp(click, "double") ? INPUT_LEFT : button(click);

        p.buttons |= (uint8_t)b;
        vm_screen_pointer(s, &p);
        p.buttons &= (uint8_t)~b;
        vm_screen_pointer(s, &p);
    }
    return 0;
}

const struct control_handler control_screen_handlers[] = {{"screenshot", do_screenshot},
                                                          {"send-key", do_send_key},
                                                          {"send-text", do_send_text},
                                                          {"pointer", do_pointer},
                                                          {NULL, NULL}};

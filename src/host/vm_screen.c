/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The screen of a machine: pictures of it, keys, text and the pointer. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "host/vm_ask.h"

/* ------------------------------------------------------------------ base64 (RFC 4648, 4) */

static int digit(char c) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;

    return at ? (int)(at - digits) : -1;
}

/* In place of `out`; false: it is none. */
static bool read_base64(const char *text, struct buf *out) {
    uint32_t bits = 0;
    int have = 0;

    for (; *text && *text != '='; text++) {
        int d = digit(*text);
        char byte;

        if (d < 0)
            return false;
        bits = bits << 6 | (uint32_t)d;
        have += 6;
        if (have < 8)
            continue;
        have -= 8;
        byte = (char)(bits >> have);
        buf_put(out, &byte, 1);
    }
    return true;
}

/* ------------------------------------------------------------------ operations */

static int check_screen(struct api_call *call) {
    const char *vga = row_text(call->row.spec, "vga");

    if (*vga && strcmp(vga, "none") != 0)
        return 0;
    return api_fail(call, FAILURE_CONFLICT, "spec.vga",
                    "give it one: viv edit NAME --vga std, and start it anew", "'%s' has no screen",
                    call->row.name);
}

static void answer_picture(struct http_exchange *x, const json_t *result) {
    struct api_failure f = {.kind = FAILURE_FAILED, .reason = "the picture came damaged"};
    struct buf png = {0};

    if (read_base64(row_text(result, "png"), &png) && png.len) {
        http_add_header(x, "Cache-Control: no-store");
        http_answer_buf(x, 200, "image/png", &png);
        return;
    }
    buf_done(&png);
    api_send_failure(x, &f);
}

static void answer_done(struct http_exchange *x, const json_t *result) {
    static const char body[] = "{\"done\":true}";

    http_answer(x, 200, "application/json", body, sizeof(body) - 1);
}

int screen_picture(struct api_call *call) {
    return check_screen(call) < 0 ? -EINVAL : vm_ask(call, "screenshot", NULL, answer_picture);
}

/* The words of the API and of the control socket are the same. */
static int input(struct api_call *call, const char *command) {
    return check_screen(call) < 0 ? -EINVAL
                                  : vm_ask(call, command, json_deep_copy(call->args), answer_done);
}

int screen_keys(struct api_call *call) { return input(call, "send-key"); }

int screen_text(struct api_call *call) { return input(call, "send-text"); }

int screen_pointer(struct api_call *call) {
    json_t *buttons = json_object_get(call->args, "buttons");

    if (json_is_array(buttons) && !json_array_size(buttons))
        json_array_append_new(buttons, json_string("none"));
    return input(call, "pointer");
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* WebSocket frames of any bytes, in pieces of any size: the reader says the same whatever the
 * pieces are, keeps what it promises, and answers with frames that are some. */
#include <stdlib.h>
#include <string.h>

#include "host/ws.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good) {
    if (!good)
        abort();
}

struct result {
    struct ws_reader r;
    struct buf data, reply;
};

static void read_all(struct result *x, const uint8_t *data, size_t size, size_t step) {
    for (size_t at = 0; at < size; at += step)
        ws_read(&x->r, data + at, size - at < step ? size - at : step, &x->data, &x->reply);
}

/* Only whole control frames, unmasked, and none behind a Close. */
static void check_replies(const struct buf *b) {
    bool closed = false;

    for (size_t at = 0; at < b->len; at += 2 + (size_t)b->data[at + 1]) {
        check(b->len - at >= 2 && !closed);
        check(b->data[at] == (0x80 | WS_PONG) || b->data[at] == (0x80 | WS_CLOSE));
        check(b->data[at + 1] <= WS_CONTROL_MAX && b->len - at - 2 >= b->data[at + 1]);
        closed = b->data[at] == (0x80 | WS_CLOSE);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct result whole = {0}, pieces = {0};
    char key[32] = "", accept[WS_ACCEPT_SIZE];

    if (!size)
        return 0;
    read_all(&whole, data + 1, size - 1, size);
    read_all(&pieces, data + 1, size - 1, 1 + data[0] % 32);
    check(whole.r.closed == pieces.r.closed && whole.r.code == pieces.r.code);
    check(whole.reply.len == pieces.reply.len);
    check(!whole.reply.len || !memcmp(whole.reply.data, pieces.reply.data, whole.reply.len));
    /* A piece of text that is none is left out as a whole, so an end in it may come earlier. */
    if (whole.r.code != WS_NOT_UTF8) {
        check(whole.data.len == pieces.data.len);
        check(!whole.data.len || !memcmp(whole.data.data, pieces.data.data, whole.data.len));
    }
    check(whole.data.len < size);
    check(!whole.r.closed || whole.reply.len >= 2);
    check_replies(&whole.reply);
    memcpy(key, data, size < sizeof(key) - 1 ? size : sizeof(key) - 1);
    if (ws_accept(key, accept))
        check(strlen(accept) == 28);
    buf_done(&whole.data);
    buf_done(&whole.reply);
    buf_done(&pieces.data);
    buf_done(&pieces.reply);
    return 0;
}

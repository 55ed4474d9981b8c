/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The reader and writer of WebSocket frames. */
#include "host/ws.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

enum { FIN = 0x80, RESERVED = 0x70, OPCODE = 0x0f, MASK = 0x80, LENGTH = 0x7f, KEY_BYTES = 16 };

void ws_put(struct buf *out, enum ws_opcode opcode, const void *data, size_t n) {
    uint8_t head[10] = {(uint8_t)(FIN | opcode)};
    size_t len = 2;

    if (n < 126) {
        head[1] = (uint8_t)n;
    } else if (n <= UINT16_MAX) {
        head[1] = 126;
        store_be16(head + 2, (uint16_t)n);
        len = 4;
    } else {
        head[1] = 127;
        store_be64(head + 2, n);
        len = 10;
    }
    buf_put(out, head, len);
    if (n)
        buf_put(out, data, n);
}

void ws_put_close(struct buf *out, enum ws_code code) {
    uint8_t bytes[2];

    store_be16(bytes, (uint16_t)code);
    ws_put(out, WS_CLOSE, bytes, sizeof(bytes));
}

/* ------------------------------------------------------------------ reading */

static void fail(struct ws_reader *r, enum ws_code code, struct buf *reply) {
    r->closed = true;
    r->code = code;
    ws_put_close(reply, code);
}

/* Bytes of the head, as far as they are known to be needed. */
static unsigned head_size(const struct ws_reader *r) {
    unsigned length = r->head[1] & LENGTH;

    if (r->have < 2)
        return 2;
    return 2 + (length == 126 ? 2 : length == 127 ? 8 : 0) + (r->head[1] & MASK ? 4 : 0);
}

static uint64_t payload_size(const struct ws_reader *r) {
    unsigned length = r->head[1] & LENGTH;

    return length == 126 ? load_be16(r->head + 2) : length == 127 ? load_be64(r->head + 2) : length;
}

static bool is_control(unsigned opcode) { return opcode >= WS_CLOSE; }

/* After two bytes nearly everything that can be wrong is known. 0: nothing is. */
static enum ws_code check_begin(const struct ws_reader *r) {
    unsigned opcode = r->head[0] & OPCODE, length = r->head[1] & LENGTH;
    bool fin = r->head[0] & FIN;

    if (r->head[0] & RESERVED || !(r->head[1] & MASK))
        return WS_PROTOCOL_ERROR;
    if (opcode != WS_CONTINUATION && opcode != WS_TEXT && opcode != WS_BINARY &&
        opcode != WS_CLOSE && opcode != WS_PING && opcode != WS_PONG)
        return WS_PROTOCOL_ERROR;
    if (is_control(opcode) && (!fin || length > WS_CONTROL_MAX))
        return WS_PROTOCOL_ERROR;
    if (!is_control(opcode) && (opcode == WS_CONTINUATION) != (r->message != 0))
        return WS_PROTOCOL_ERROR;
    return 0;
}

/* The shortest form of a length is the only one (5.2). */
static enum ws_code check_length(const struct ws_reader *r) {
    unsigned length = r->head[1] & LENGTH;
    uint64_t n = payload_size(r);

    if ((length == 126 && n < 126) || (length == 127 && (n <= UINT16_MAX || n >> 63)))
        return WS_PROTOCOL_ERROR;
    return n > WS_FRAME_MAX ? WS_TOO_BIG : 0;
}

static void take_head(struct ws_reader *r, uint8_t byte, struct buf *reply) {
    enum ws_code code = 0;
    unsigned opcode;

    r->head[r->have++] = byte;
    if (r->have == 2)
        code = check_begin(r);
    if (!code && r->have >= 2 && r->have == head_size(r)) {
        code = check_length(r);
        r->inside = true;
        r->left = payload_size(r);
        r->at = 0;
        opcode = r->head[0] & OPCODE;
        if (opcode == WS_TEXT || opcode == WS_BINARY)
            r->message = opcode;
    }
    if (code)
        fail(r, code, reply);
}

/* One byte of UTF-8 (RFC 3629, 4); false: it cannot be. */
static bool take_text(struct ws_reader *r, uint8_t c) {
    if (r->need) {
        bool good = c >= r->low && c <= r->high;

        r->low = 0x80;
        r->high = 0xbf;
        r->need--;
        return good;
    }
    r->low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    r->high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    r->need = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : c >= 0xc2 ? 1 : 0;
    return c < 0x80 || (c >= 0xc2 && c <= 0xf4);
}

static bool is_text(struct ws_reader *r, const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!take_text(r, p[i]))
            return false;
    return true;
}

/* Codes that may be sent (7.4). */
static bool is_code(unsigned code) {
    return (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
           (code >= 3000 && code <= 4999);
}

static void take_close(struct ws_reader *r, size_t n, struct buf *reply) {
    struct ws_reader text = {0};
    unsigned code = n >= 2 ? load_be16(r->control) : WS_NO_CODE;

    if (n == 1 || (n >= 2 && !is_code(code))) {
        fail(r, WS_PROTOCOL_ERROR, reply);
        return;
    }
    if (n > 2 && (!is_text(&text, r->control + 2, n - 2) || text.need)) {
        fail(r, WS_NOT_UTF8, reply);
        return;
    }
    r->closed = true;
    r->code = code;
    ws_put(reply, WS_CLOSE, r->control, n >= 2 ? 2 : 0);
}

static void end_frame(struct ws_reader *r, struct buf *reply) {
    unsigned opcode = r->head[0] & OPCODE;

    r->inside = false;
    r->have = 0;
    if (opcode == WS_PING)
        ws_put(reply, WS_PONG, r->control, r->at);
    else if (opcode == WS_CLOSE)
        take_close(r, r->at, reply);
    else if (opcode != WS_PONG && r->head[0] & FIN) {
        if (r->message == WS_TEXT && r->need)
            fail(r, WS_NOT_UTF8, reply);
        r->message = 0;
    }
}

static void take_payload(struct ws_reader *r, const uint8_t *p, size_t n, struct buf *data,
                         struct buf *reply) {
    const uint8_t *mask = r->head + head_size(r) - 4;
    bool control = is_control(r->head[0] & OPCODE);
    uint8_t *to;

    if (!n)
        return;
    to = control ? r->control + r->at : buf_grow(data, n);
    for (size_t i = 0; i < n; i++)
        to[i] = p[i] ^ mask[(r->at + i) & 3];
    r->at += n;
    r->left -= n;
    if (!control && r->message == WS_TEXT && !is_text(r, to, n)) {
        data->len -= n;
        fail(r, WS_NOT_UTF8, reply);
    }
}

void ws_read(struct ws_reader *r, const void *bytes, size_t n, struct buf *data,
             struct buf *reply) {
    const uint8_t *p = bytes;

    while (!r->closed && (n || (r->inside && !r->left))) {
        if (r->inside && !r->left) {
            end_frame(r, reply);
        } else if (r->inside) {
            size_t some = n < r->left ? n : (size_t)r->left;

            take_payload(r, p, some, data, reply);
            p += some;
            n -= some;
        } else {
            take_head(r, *p++, reply);
            n--;
        }
    }
}

/* ------------------------------------------------------------------ handshake */

bool ws_accept(const char *key, char out[WS_ACCEPT_SIZE]) {
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* 1.3 */
    unsigned char bytes[24], digest[EVP_MAX_MD_SIZE];
    char text[80];
    unsigned len = 0;

    if (strlen(key) != 24 || strcmp(key + 22, "==") != 0 || strchr(key, '=') != key + 22 ||
        EVP_DecodeBlock(bytes, (const unsigned char *)key, 24) != KEY_BYTES + 2)
        return false;
    snprintf(text, sizeof(text), "%s%s", key, guid);
    if (EVP_Digest(text, strlen(text), digest, &len, EVP_sha1(), NULL) != 1)
        return false;
    EVP_EncodeBlock((unsigned char *)out, digest, (int)len);
    return true;
}

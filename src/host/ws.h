/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * WebSocket frames (RFC 6455), the server's side, as a stream of bytes: where messages end does not
 * matter to a serial line or a screen. No extensions. Strict: what the RFC forbids ends the
 * connection with the code that it names.
 *
 * Contract: no state but the reader's; bytes may come in pieces of any size.
 */
#ifndef HOST_WS_H
#define HOST_WS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

enum { WS_FRAME_MAX = 1 << 20, WS_CONTROL_MAX = 125, WS_HEAD_MAX = 14, WS_ACCEPT_SIZE = 32 };

enum ws_opcode {
    WS_CONTINUATION = 0,
    WS_TEXT = 1,
    WS_BINARY = 2,
    WS_CLOSE = 8,
    WS_PING = 9,
    WS_PONG = 10
};

enum ws_code {
    WS_NORMAL = 1000,
    WS_GOING_AWAY = 1001,
    WS_PROTOCOL_ERROR = 1002,
    WS_NO_CODE = 1005, /* never on the wire */
    WS_NOT_UTF8 = 1007,
    WS_TOO_BIG = 1009,
};

struct ws_reader { /* zeroed: a connection that has just been upgraded */
    uint8_t head[WS_HEAD_MAX], control[WS_CONTROL_MAX];
    unsigned have;     /* bytes of the head */
    bool inside;       /* the head is complete */
    uint64_t left, at; /* of the payload: to come, and come */
    unsigned message;  /* opcode of the message that goes on, 0: none */
    unsigned need;     /* continuation bytes of a character of UTF-8 that are missing */
    uint8_t low, high; /* between which the next one must be */
    bool closed;       /* the Close has come or had to be sent: nothing more is read */
    unsigned code;     /* why */
};

/* Reads on: what data frames hold goes to `data`, what must be answered to `reply`. */
void ws_read(struct ws_reader *r, const void *bytes, size_t n, struct buf *data, struct buf *reply);
/* A frame of ours; a control frame has WS_CONTROL_MAX bytes at most. */
void ws_put(struct buf *out, enum ws_opcode opcode, const void *data, size_t n);
void ws_put_close(struct buf *out, enum ws_code code);

/* Sec-WebSocket-Accept for a key; false: it is none (16 bytes in base64). */
bool ws_accept(const char *key, char out[WS_ACCEPT_SIZE]);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What host and guest agent say to each other over a stream (docs/agent.md): frames of a type and
 * up to AGENT_FRAME_MAX bytes. One request a connection.
 *
 * Contract: descriptors may block or not; agent_send waits until all is written. Neither end trusts
 * the other.
 */
#ifndef PROTO_AGENT_H
#define PROTO_AGENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* An agent that is there, or has something to tell, connects to AGENT_KNOCK_PORT of the host and
 * says nothing: whoever listens asks it. */
enum { AGENT_PORT = 0x5649, AGENT_KNOCK_PORT = AGENT_PORT + 1 };
enum { AGENT_FRAME_MAX = 64 * 1024, AGENT_HEADER = 5, AGENT_PROTOCOL = 1 };

enum agent_frame {
    AGENT_REQUEST = 0, /* JSON: {"do": name, ...} */
    AGENT_RESULT = 1,  /* JSON: the answer, or {"error": sentence, "code": name of the errno} */
    AGENT_STDIN = 2,   /* bytes; none: end of input */
    AGENT_STDOUT = 3,
    AGENT_STDERR = 4,
    AGENT_EXIT = 5,   /* JSON: {"code": n} or {"signal": n} */
    AGENT_RESIZE = 6, /* JSON: {"columns": n, "rows": n} */
    AGENT_SIGNAL = 7, /* JSON: {"signal": n} */
    AGENT_DATA = 8,   /* bytes of a file; none: end of file */
    AGENT_ENTRY = 9,  /* of a folder that is copied (proto/tree.h) */
    AGENT_FRAMES
};

/* Frames as they arrive. Zeroed and with fd set it is ready. */
struct agent_reader {
    int fd;
    size_t len;
    uint8_t bytes[AGENT_HEADER + AGENT_FRAME_MAX];
    size_t taken; /* of a frame that was given out and is dropped by the next call */
};

int agent_send(int fd, enum agent_frame type, const void *p, size_t n, struct error *err);
/* Takes `v`; NULL: out of memory. */
int agent_send_json(int fd, enum agent_frame type, json_t *v, struct error *err);
/* 1: a frame, whose bytes stay until the next call; 0: none within timeout_ms (-1: for ever);
 * negative: the connection is of no use any more (-ECONNRESET: it ended). */
int agent_receive(struct agent_reader *r, int timeout_ms, enum agent_frame *ret_type,
                  const uint8_t **ret_bytes, size_t *ret_len, struct error *err);
/* The object in the bytes of a frame, or NULL with the reason. */
json_t *agent_json(const uint8_t *p, size_t n, struct error *err);

/* A connection to the agent of a guest whose vsock is at `path` (viv-vm --vsock unix:PATH). */
int agent_connect(const char *path, int timeout_ms, struct error *err);

#endif

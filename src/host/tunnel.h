/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Connections that have ceased to be HTTP and are not plain sockets: under TLS, in WebSocket
 * frames, or both. Whoever goes on with one gets one end of a pair of unix sockets, and the tunnel
 * carries bytes between the other end and the client. Little is kept: who does not read holds the
 * other side up.
 *
 * Contract: the loop's thread.
 */
#ifndef HOST_TUNNEL_H
#define HOST_TUNNEL_H

#include "proto/stream.h"

struct buf;
struct loop;
struct peer;
struct timers;
struct tunnels;

enum tunnel_kind { TUNNEL_BYTES, TUNNEL_FRAMES };

struct tunnel_config {
    enum tunnel_kind kind;
    struct stream stream;    /* taken */
    struct peer *peer;       /* taken; may be NULL */
    const char *caller;      /* copied */
    const struct buf *early; /* what the client has sent already; NULL: none */
};

struct tunnels *tunnels_new(struct loop *loop, struct timers *timers);
void tunnels_free(struct tunnels *all); /* accepts NULL */
/* The descriptor for the other side, or a negative errno. */
int tunnel_new(struct tunnels *all, const struct tunnel_config *c);
void tunnels_drop_caller(struct tunnels *all, const char *caller);

#endif

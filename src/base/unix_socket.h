/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unix sockets under a path: listening so that a socket left over is replaced and a live one
 * is not, and connecting. */
#ifndef BASE_UNIX_SOCKET_H
#define BASE_UNIX_SOCKET_H

#include "base/error.h"

/*
 * A listening descriptor (non-blocking, close-on-exec), or a negative errno with a sentence that
 * begins with `what`, as in "the control socket". `mode` is that of the file, in force before
 * anybody can connect. The caller unlinks the path when it closes the descriptor.
 */
int unix_socket_listen(const char *path, unsigned mode, const char *what, struct error *err);
/* A connected descriptor, non-blocking; waits up to timeout_ms while too many others connect. */
int unix_socket_connect(const char *path, int timeout_ms, struct error *err);

/* The same with sockets that keep packets whole (SOCK_SEQPACKET); connecting never waits. */
int unix_socket_listen_packets(const char *path, unsigned mode, const char *what,
                               struct error *err);
int unix_socket_connect_packets(const char *path, struct error *err);

#endif

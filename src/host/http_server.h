/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Connections of HTTP/1.1 on an event loop, from unix sockets and from the network under TLS:
 * keep-alive, pipelining (one request at a time), limits on number, size and time.
 *
 * Contract: the loop's thread. The handler is called with each request and answers it at once or
 * later, by exactly one of http_answer, http_stream and http_upgrade. An exchange that is answered
 * later has a function that is told if the client goes before that; the exchange is of no use then.
 */
#ifndef HOST_HTTP_SERVER_H
#define HOST_HTTP_SERVER_H

#include <sys/types.h>

#include "base/error.h"
#include "host/http.h"

struct loop;
struct timers;
struct tls;
struct peer;
struct http_server;
struct http_listener;
struct http_exchange;

/* Of each listener; and of one address of the network. */
enum { HTTP_MAX_CONNECTIONS = 256, HTTP_MAX_OF_ADDRESS = 64, HTTP_CALLER = 96 };

struct http_peer {        /* who is at the other end */
    struct peer *address; /* NULL: of this host, and known by SO_PEERCRED */
    uid_t uid;
    pid_t pid;
};

typedef void http_handler(void *opaque, struct http_exchange *x);

struct http_server *http_server_new(struct loop *loop, struct timers *timers, http_handler *fn,
                                    void *opaque, struct error *err);
/* Takes the listening descriptor of a unix stream socket, or of TCP with `tls`, which must live as
 * long as the listener. */
struct http_listener *http_server_listen(struct http_server *s, int fd, struct tls *tls,
                                         struct error *err);
/* For connections that come from now on. */
void http_listener_set_tls(struct http_listener *l, struct tls *tls);
/* No more come in; those that are there stay. Accepts NULL. */
void http_listener_close(struct http_listener *l);
/* The form of answers to requests that are none. */
void http_server_set_error_fn(struct http_server *s,
                              char *(*body)(int status, const char *why) /* for free */);
unsigned http_server_connections(const struct http_server *s);
/* Accepts NULL. Connections are closed, and nobody is told. */
void http_server_free(struct http_server *s);

const struct http_request *http_request(const struct http_exchange *x);
const struct http_peer *http_peer(const struct http_exchange *x);

/* Who it is; "" until it is said. */
void http_set_caller(struct http_exchange *x, const char *caller);
/* Ends every connection of that caller, whatever has become of it. */
void http_server_drop_caller(struct http_server *s, const char *caller);

/* A header of the answer to come. */
void http_add_header(struct http_exchange *x, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void http_answer(struct http_exchange *x, int status, const char *type, const void *body,
                 size_t len);
/* The same with a body that is the exchange's from now on: for long ones. */
void http_answer_buf(struct http_exchange *x, int status, const char *type, struct buf *body);
/* For answers that come later. */
void http_set_gone(struct http_exchange *x, void (*gone)(void *opaque), void *opaque);

/* A body without an end: http_put it piece by piece; http_set_gone tells when the client goes. */
void http_stream(struct http_exchange *x, const char *type);
void http_put(struct http_exchange *x, const void *data, size_t len);
size_t http_backlog(const struct http_exchange *x); /* bytes that the client has not taken */
/* fn is called when the backlog has become small again. */
void http_set_ready(struct http_exchange *x, void (*ready)(void *opaque), void *opaque);
void http_end(struct http_exchange *x); /* of a stream */

/* Answers 101; the descriptor is the caller's from now on, the exchange is of no use. `early` gets
 * what the client sent already. -1: the client is gone. */
int http_upgrade(struct http_exchange *x, const char *protocol, struct buf *early);
/* The same for a WebSocket: what its frames hold goes to and fro on the descriptor. `accept` is the
 * value of Sec-WebSocket-Accept, `protocol` that of Sec-WebSocket-Protocol (NULL: none). */
int http_websocket(struct http_exchange *x, const char *accept, const char *protocol);

#endif

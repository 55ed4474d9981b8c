/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What http_server.c (connections) and http_listen.c (where they come from) share. */
#ifndef HOST_HTTP_INTERNAL_H
#define HOST_HTTP_INTERNAL_H

#include "base/timer.h"
#include "host/http_server.h"
#include "proto/stream.h"

enum http_phase {
    HTTP_SHAKING,   /* TLS */
    HTTP_READING,   /* a request, or waiting for one */
    HTTP_ANSWERING, /* the handler has it */
    HTTP_STREAMING,
    HTTP_CLOSING,  /* the rest of the output, then the end */
    HTTP_LINGERING /* the end is sent; what a client still says is dropped, so that it reads the
                      answer */
};

struct http_exchange { /* a connection */
    struct http_server *server;
    struct http_listener *listener; /* NULL: it has been closed */
    struct http_exchange *next, **link;
    struct stream stream;
    struct http_peer peer;
    char caller[HTTP_CALLER];
    enum http_phase phase;
    struct loop_watch *watch;
    struct timer timer;
    struct http_parser parser;
    struct buf in, out, headers;
    struct buf body; /* of a long answer: goes out behind `out`, without being copied */
    size_t in_start, out_start;
    bool half_closed;        /* sends no more */
    bool continued;          /* 100 was sent */
    bool inside;             /* work() is running */
    bool dead;               /* to be freed when it is not */
    bool shaken;             /* what it sent first looks like TLS */
    bool refused;            /* what it sent was no request: more of it may come */
    const char *turned_away; /* why it gets nothing but this */
    void (*gone)(void *opaque);
    void (*ready)(void *opaque);
    void *gone_opaque, *ready_opaque;
};

struct http_listener {
    struct http_server *server;
    struct http_listener *next, **link;
    int fd;
    struct tls *tls;
    struct loop_watch *watch;
    unsigned count, turned_away; /* connections from here */
    struct timer rest;           /* accepting goes on after it */
};

struct http_server {
    struct loop *loop;
    struct timers *timers;
    http_handler *fn;
    void *opaque;
    char *(*error_body)(int status, const char *why);
    struct http_listener *listeners;
    struct http_exchange *all;
    struct peers *peers;
    struct tunnels *tunnels;
    unsigned count;
};

/* Takes descriptor and peer; NULL: neither. */
struct http_exchange *http_exchange_new(struct http_listener *l, int fd,
                                        const struct http_peer *peer);
void http_exchange_free(struct http_exchange *x);

#endif

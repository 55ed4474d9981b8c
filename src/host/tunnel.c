/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bytes between a client (TLS, frames) and one end of a pair of sockets. */
#include "host/tunnel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/loop.h"
#include "base/timer.h"
#include "host/http_server.h"
#include "host/peers.h"
#include "host/ws.h"

enum {
    ROUNDS = 16,             /* pieces in one go, before others have their turn */
    REPLIES_MAX = 64 * 1024, /* answers to pings that may wait */
    PING_MS = 30000,
    CLOSE_MS = 10000, /* for the client to hear the end and say its own */
};

struct queue {
    struct buf bytes;
    size_t start;
};

struct tunnel {
    struct tunnels *all;
    struct tunnel *next, **link;
    struct stream stream;
    struct peer *peer;
    char caller[HTTP_CALLER];
    bool frames;
    int fd; /* ours of the pair */
    struct loop_watch *client_watch, *inner_watch;
    struct queue to_inner, to_client;
    bool client_ended, inner_ended; /* no more comes from there */
    bool inner_shut, client_shut;   /* no more goes there; of frames: our Close is on its way */
    bool end_told;                  /* to the client, below the frames */
    bool inner_gone, client_gone;   /* both at once */
    bool moved;                     /* something, in this round */
    struct ws_reader reader;
    bool heard; /* since the last ping */
    struct timer timer;
};

struct tunnels {
    struct loop *loop;
    struct timers *timers;
    struct tunnel *first;
};

struct tunnels *tunnels_new(struct loop *loop, struct timers *timers) {
    struct tunnels *all = calloc(1, sizeof(*all));

    if (all)
        *all = (struct tunnels){.loop = loop, .timers = timers};
    return all;
}

static void drop(struct tunnel *t) {
    *t->link = t->next;
    if (t->next)
        t->next->link = t->link;
    timer_stop(&t->timer);
    loop_remove(t->client_watch);
    loop_remove(t->inner_watch);
    stream_done(&t->stream);
    peer_put(t->peer);
    close(t->fd);
    buf_done(&t->to_inner.bytes);
    buf_done(&t->to_client.bytes);
    free(t);
}

void tunnels_free(struct tunnels *all) {
    struct tunnel *t;

    while (all && (t = all->first)) {
        all->first = t->next;
        drop(t);
    }
    free(all);
}

void tunnels_drop_caller(struct tunnels *all, const char *caller) {
    struct tunnel *next;

    for (struct tunnel *t = all->first; t; t = next) {
        next = t->next;
        if (!strcmp(t->caller, caller))
            drop(t);
    }
}

/* ------------------------------------------------------------------ moving */

static size_t waiting(const struct queue *q) { return q->bytes.len - q->start; }

static void used(struct queue *q, size_t n) {
    q->start += n;
    if (q->start == q->bytes.len) {
        buf_done(&q->bytes);
        q->start = 0;
    }
}

/* The client said something. What comes behind a Close is read, so that the client reads ours, and
 * dropped. */
static void take(struct tunnel *t, const void *data, size_t n) {
    struct buf late = {0};

    t->heard = true;
    if (t->frames) /* behind our Close nothing is answered */
        ws_read(&t->reader, data, n, &t->to_inner.bytes,
                t->client_shut ? &late : &t->to_client.bytes);
    else
        buf_put(&t->to_inner.bytes, data, n);
    t->inner_ended |= t->reader.closed;
    buf_done(&late);
}

/* False: the client is lost. */
static bool read_client(struct tunnel *t) {
    uint8_t data[STREAM_STEP];
    ssize_t n = stream_recv(&t->stream, data, sizeof(data));

    t->moved |= n > 0;
    if (n > 0)
        take(t, data, (size_t)n);
    else if (n == 0)
        t->client_ended = true;
    return n >= 0 || n == -EAGAIN;
}

static bool write_client(struct tunnel *t) {
    while (waiting(&t->to_client)) {
        ssize_t n = stream_send(&t->stream, t->to_client.bytes.data + t->to_client.start,
                                waiting(&t->to_client));

        if (n <= 0)
            return n == -EAGAIN;
        used(&t->to_client, (size_t)n);
    }
    return true;
}

static void read_inner(struct tunnel *t) {
    uint8_t data[STREAM_STEP];
    ssize_t n = recv(t->fd, data, sizeof(data), MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    t->moved |= n > 0;
    if (n <= 0)
        t->inner_ended = true;
    else if (t->frames)
        ws_put(&t->to_client.bytes, WS_BINARY, data, (size_t)n);
    else
        buf_put(&t->to_client.bytes, data, (size_t)n);
}

static void write_inner(struct tunnel *t) {
    while (waiting(&t->to_inner)) {
        ssize_t n = t->inner_shut ? -1
                                  : send(t->fd, t->to_inner.bytes.data + t->to_inner.start,
                                         waiting(&t->to_inner), MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && !t->inner_shut && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0) { /* it takes no more, and may have something to say yet */
            t->inner_shut = true;
            used(&t->to_inner, waiting(&t->to_inner));
            return;
        }
        used(&t->to_inner, (size_t)n);
    }
}

static bool wants_client(const struct tunnel *t) {
    return !t->client_ended && !waiting(&t->to_inner) && waiting(&t->to_client) < REPLIES_MAX;
}

static bool wants_inner(const struct tunnel *t) {
    return !t->inner_ended && !waiting(&t->to_client);
}

/* ------------------------------------------------------------------ ends */

static void too_slow(void *opaque) { drop(opaque); }

/* What ends on one side ends on the other. Frames have no half of an end: a Close is for both. */
static void pass_ends(struct tunnel *t) {
    if ((t->client_ended || t->reader.closed) && !waiting(&t->to_inner) && !t->inner_shut) {
        shutdown(t->fd, SHUT_WR);
        t->inner_shut = true;
    }
    if (!t->inner_ended || t->end_told || waiting(&t->to_client))
        return;
    if (t->frames && !t->reader.closed) {
        if (t->client_shut)
            return; /* the client has not answered yet */
        ws_put_close(&t->to_client.bytes, WS_NORMAL);
    } else {
        stream_shut(&t->stream);
        t->end_told = true;
    }
    t->client_shut = true;
    if (t->frames || t->inner_gone)
        timer_start(t->all->timers, &t->timer, CLOSE_MS, too_slow, t);
}

static bool is_over(const struct tunnel *t) {
    if (!t->client_ended || waiting(&t->to_inner))
        return false;
    return t->frames || t->client_gone ||
           ((t->inner_ended || t->inner_gone) && !waiting(&t->to_client));
}

static void watch(struct tunnel *t) {
    loop_modify(t->client_watch,
                EPOLLHUP | (t->client_gone ? 0 : EPOLLRDHUP) |
                    stream_events(&t->stream, wants_client(t), waiting(&t->to_client) != 0));
    if (t->inner_watch)
        loop_modify(t->inner_watch,
                    (wants_inner(t) ? EPOLLIN : 0) | (waiting(&t->to_inner) ? EPOLLOUT : 0));
}

static void pump(struct tunnel *t) {
    bool good = true;

    t->moved = true;
    for (int round = 0; round < ROUNDS && good && t->moved; round++) {
        t->moved = false;
        if (wants_client(t))
            good = read_client(t);
        write_inner(t);
        if (wants_inner(t))
            read_inner(t);
        good = good && write_client(t);
        pass_ends(t);
        good = good && write_client(t);
    }
    if (!good || is_over(t)) {
        drop(t);
        return;
    }
    watch(t);
}

/* One that ends its half alone says so within TLS; the end of the connection is that of all. */
static void client_ready(void *opaque, int fd, uint32_t events) {
    struct tunnel *t = opaque;

    t->client_gone |= (events & EPOLLRDHUP) != 0;
    if (events & (EPOLLHUP | EPOLLERR)) {
        if (wants_client(t) && read_client(t)) /* its last words */
            write_inner(t);
        drop(t);
    } else {
        pump(t);
    }
}

static void inner_ready(void *opaque, int fd, uint32_t events) {
    struct tunnel *t = opaque;

    if (events & (EPOLLHUP | EPOLLERR)) { /* what is left can be read at any time */
        loop_remove(t->inner_watch);
        t->inner_watch = NULL;
        t->inner_gone = true;
    }
    pump(t);
}

/* ------------------------------------------------------------------ life */

/* A client that says nothing is asked whether it is there. */
static void ping(void *opaque) {
    struct tunnel *t = opaque;

    if (!t->heard) {
        drop(t);
        return;
    }
    t->heard = false;
    if (!waiting(&t->to_client))
        ws_put(&t->to_client.bytes, WS_PING, NULL, 0);
    timer_start(t->all->timers, &t->timer, PING_MS, ping, t);
    pump(t);
}

int tunnel_new(struct tunnels *all, const struct tunnel_config *c) {
    struct tunnel *t = calloc(1, sizeof(*t));
    int ends[2] = {-1, -1};

    if (!t)
        abort();
    *t = (struct tunnel){.all = all,
                         .next = all->first,
                         .link = &all->first,
                         .stream = c->stream,
                         .peer = c->peer,
                         .frames = c->kind == TUNNEL_FRAMES,
                         .fd = -1,
                         .heard = true};
    snprintf(t->caller, sizeof(t->caller), "%s", c->caller);
    if (t->next)
        t->next->link = &t->next;
    all->first = t;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0) {
        int r = -errno;

        drop(t);
        return r;
    }
    t->fd = ends[0];
    t->client_watch = loop_add(all->loop, t->stream.fd, EPOLLIN | EPOLLHUP, client_ready, t);
    t->inner_watch = loop_add(all->loop, t->fd, EPOLLIN, inner_ready, t);
    if (!t->client_watch || !t->inner_watch) {
        drop(t);
        close(ends[1]);
        return -ENOMEM;
    }
    if (c->early && c->early->len)
        take(t, c->early->data, c->early->len);
    if (t->frames)
        timer_start(all->timers, &t->timer, PING_MS, ping, t);
    loop_modify(t->client_watch, EPOLLIN | EPOLLOUT | EPOLLHUP); /* begin with what is there */
    return ends[1];
}

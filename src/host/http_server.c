/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Connections: bytes in, requests to the handler, answers out. */
#include "host/http_server.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/loop.h"
#include "host/http_internal.h"
#include "host/peers.h"
#include "host/tunnel.h"

enum {
    REQUEST_MS = 30000, /* from the first byte of a request to its last */
    IDLE_MS = 120000,
    STALL_MS = 60000, /* a client that takes nothing of its answer */
    LINGER_MS = 2000,
    SHAKE_MS = 10000,
    LARGE = 64 * 1024, /* a body that is worth not to be copied */
    BACKLOG_SMALL = 64 * 1024,
    BACKLOG_MAX = 16 * 1024 * 1024,
};

static void work(struct http_exchange *x);

const struct http_request *http_request(const struct http_exchange *x) {
    return &x->parser.request;
}

const struct http_peer *http_peer(const struct http_exchange *x) { return &x->peer; }

unsigned http_server_connections(const struct http_server *s) { return s->count; }

void http_server_set_error_fn(struct http_server *s, char *(*body)(int, const char *)) {
    s->error_body = body;
}

/* ------------------------------------------------------------------ ends */

void http_exchange_free(struct http_exchange *x) {
    loop_remove(x->watch);
    timer_stop(&x->timer);
    http_parser_done(&x->parser);
    buf_done(&x->in);
    buf_done(&x->out);
    buf_done(&x->body);
    buf_done(&x->headers);
    stream_done(&x->stream);
    peer_put(x->peer.address);
    free(x);
}

static void release(struct http_exchange *x) {
    *x->link = x->next;
    if (x->next)
        x->next->link = x->link;
    x->server->count--;
    if (x->listener) {
        x->listener->count--;
        x->listener->turned_away -= x->turned_away != NULL;
    }
    http_exchange_free(x);
}

/* The connection is over, whatever was going on. */
static void drop(struct http_exchange *x) {
    void (*gone)(void *opaque) = x->gone;

    x->gone = NULL;
    x->ready = NULL;
    if (!x->dead && gone)
        gone(x->gone_opaque);
    x->dead = true;
    if (!x->inside)
        release(x);
}

static void too_slow(void *opaque) { drop(opaque); }

static void set_timer(struct http_exchange *x, int64_t ms) {
    timer_start(x->server->timers, &x->timer, ms, too_slow, x);
}

/* ------------------------------------------------------------------ output */

static size_t pending(const struct http_exchange *x) {
    return x->out.len - x->out_start + x->body.len;
}

size_t http_backlog(const struct http_exchange *x) { return pending(x); }

/* False: the connection is broken. */
static bool flush(struct http_exchange *x) {
    while (pending(x)) {
        ssize_t n;

        if (x->out_start == x->out.len) {
            buf_done(&x->out);
            x->out = x->body;
            x->body = (struct buf){0};
            x->out_start = 0;
        }
        n = stream_send(&x->stream, x->out.data + x->out_start, x->out.len - x->out_start);
        if (n <= 0)
            return n == -EAGAIN;
        x->out_start += (size_t)n;
        if (x->phase != HTTP_ANSWERING)
            set_timer(x, STALL_MS);
    }
    buf_done(&x->out);
    x->out_start = 0;
    return true;
}

static bool wants_input(const struct http_exchange *x) {
    return (x->phase == HTTP_READING || x->phase == HTTP_LINGERING) && !x->half_closed &&
           !pending(x);
}

/* Over TCP the end of a client that has left is no hang-up, only the end of what it says. One that
 * waits for an answer under TLS does not end its half before. */
static void update_watch(struct http_exchange *x) {
    uint32_t events = EPOLLHUP; /* never 0, so that a hang-up is always told */

    if (x->stream.ssl && (x->phase == HTTP_ANSWERING || x->phase == HTTP_STREAMING))
        events |= EPOLLRDHUP;
    loop_modify(x->watch, events | stream_events(&x->stream, wants_input(x), pending(x) != 0));
}

void http_add_header(struct http_exchange *x, const char *fmt, ...) {
    char line[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    for (char *c = line; *c; c++) /* one header, whatever a value holds */
        if ((unsigned char)*c < 0x20)
            *c = '?';
    buf_printf(&x->headers, "%s\r\n", line);
}

static void put_head(struct http_exchange *x, int status, const char *type) {
    char date[64];
    time_t now = time(NULL);
    struct tm tm;

    strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
    buf_printf(&x->out, "HTTP/1.1 %d %s\r\nDate: %s\r\n", status, http_status_text(status), date);
    if (type)
        buf_printf(&x->out, "Content-Type: %s\r\n", type);
    buf_put(&x->out, x->headers.data, x->headers.len);
    buf_done(&x->headers);
}

static void begin_answer(struct http_exchange *x) {
    assert(x->phase == HTTP_ANSWERING);
    x->gone = NULL;
}

void http_answer_buf(struct http_exchange *x, int status, const char *type, struct buf *body) {
    bool keep = x->parser.request.keep_alive && x->parser.state == HTTP_DONE;
    bool head = x->parser.state == HTTP_DONE && !strcmp(x->parser.request.method, "HEAD");
    size_t len = body->len;

    begin_answer(x);
    put_head(x, status, len ? type : NULL);
    if (status != 204 && status != 304)
        buf_printf(&x->out, "Content-Length: %zu\r\n", len);
    buf_printf(&x->out, "%s\r\n", keep ? "" : "Connection: close\r\n");
    assert(!x->body.len); /* a request is read when the answer before it has gone */
    if (head) {
        buf_done(body);
    } else if (len >= LARGE) {
        x->body = *body;
        *body = (struct buf){0};
    } else {
        buf_put(&x->out, body->data, len);
        buf_done(body);
    }
    http_parser_done(&x->parser);
    x->continued = false;
    x->phase = keep ? HTTP_READING : HTTP_CLOSING;
    set_timer(x, STALL_MS);
    work(x);
}

void http_answer(struct http_exchange *x, int status, const char *type, const void *body,
                 size_t len) {
    struct buf copy = {0};

    buf_put(&copy, body, len);
    http_answer_buf(x, status, type, &copy);
}

void http_set_gone(struct http_exchange *x, void (*gone)(void *opaque), void *opaque) {
    x->gone = gone;
    x->gone_opaque = opaque;
}

void http_set_ready(struct http_exchange *x, void (*ready)(void *opaque), void *opaque) {
    x->ready = ready;
    x->ready_opaque = opaque;
}

void http_stream(struct http_exchange *x, const char *type) {
    begin_answer(x);
    http_add_header(x, "Cache-Control: no-store");
    put_head(x, 200, type);
    buf_printf(&x->out, "Connection: close\r\n\r\n");
    x->phase = HTTP_STREAMING;
    timer_stop(&x->timer);
    work(x);
}

void http_put(struct http_exchange *x, const void *data, size_t len) {
    assert(x->phase == HTTP_STREAMING);
    buf_put(&x->out, data, len);
    work(x);
}

void http_end(struct http_exchange *x) {
    x->gone = NULL;
    x->ready = NULL;
    x->phase = HTTP_CLOSING;
    set_timer(x, STALL_MS);
    work(x);
}

/* What the client has sent behind its request. */
static void put_rest(const struct http_exchange *x, struct buf *out) {
    if (x->in.len > x->in_start)
        buf_put(out, x->in.data + x->in_start, x->in.len - x->in_start);
}

/* A descriptor with what the client says from now on, or -1. */
static int give_away(struct http_exchange *x, bool good, enum tunnel_kind kind, struct buf *early) {
    int fd = -1;

    x->phase = HTTP_CLOSING;
    if (good) {
        struct tunnel_config c = {.kind = kind,
                                  .stream = x->stream,
                                  .peer = x->peer.address,
                                  .caller = x->caller,
                                  .early = early};

        loop_remove(x->watch);
        x->watch = NULL;
        if (kind == TUNNEL_BYTES && !x->stream.ssl)
            fd = stream_release(&x->stream);
        else
            fd = tunnel_new(x->server->tunnels, &c);
        x->stream = (struct stream){.fd = -1};
        if (kind == TUNNEL_FRAMES || c.stream.ssl)
            x->peer.address = NULL; /* the tunnel's */
    }
    drop(x);
    return fd;
}

int http_upgrade(struct http_exchange *x, const char *protocol, struct buf *early) {
    bool good;

    begin_answer(x);
    buf_printf(&x->out,
               "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n",
               protocol);
    good = flush(x) && !pending(x); /* an answer that short fits into an empty socket */
    put_rest(x, early);
    return give_away(x, good, TUNNEL_BYTES, NULL);
}

int http_websocket(struct http_exchange *x, const char *accept, const char *protocol) {
    struct buf early = {0};
    bool good;
    int fd;

    begin_answer(x);
    buf_printf(&x->out,
               "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
               "Sec-WebSocket-Accept: %s\r\n",
               accept);
    if (protocol)
        buf_printf(&x->out, "Sec-WebSocket-Protocol: %s\r\n", protocol);
    buf_printf(&x->out, "\r\n");
    good = flush(x) && !pending(x);
    put_rest(x, &early);
    fd = give_away(x, good, TUNNEL_FRAMES, &early);
    buf_done(&early);
    return fd;
}

void http_set_caller(struct http_exchange *x, const char *caller) {
    snprintf(x->caller, sizeof(x->caller), "%s", caller);
}

void http_server_drop_caller(struct http_server *s, const char *caller) {
    struct http_exchange *next;

    for (struct http_exchange *x = s->all; x; x = next) {
        next = x->next;
        if (!strcmp(x->caller, caller) && !x->dead && !x->inside)
            drop(x);
    }
    tunnels_drop_caller(s->tunnels, caller);
}

/* ------------------------------------------------------------------ input */

static void refuse(struct http_exchange *x) {
    struct http_server *s = x->server;
    const char *why = x->parser.why;
    int status = x->parser.status;
    char *body = s->error_body ? s->error_body(status, why) : NULL;

    x->phase = HTTP_ANSWERING;
    x->refused = true;
    http_answer(x, status, "application/json", body, body ? strlen(body) : 0);
    free(body);
}

/* Gives the parser what is there. False: nothing more can be done now. */
static bool parse_some(struct http_exchange *x) {
    bool was_busy = http_parser_busy(&x->parser);
    size_t n = x->in.len - x->in_start;

    if (!n)
        return false;
    x->in_start += http_parse(&x->parser, x->in.data + x->in_start, n);
    if (x->in_start == x->in.len) {
        buf_done(&x->in);
        x->in_start = 0;
    }
    if (x->parser.state == HTTP_BAD) {
        refuse(x);
        return false;
    }
    if (x->parser.state == HTTP_DONE) {
        x->phase = HTTP_ANSWERING;
        timer_stop(&x->timer);
        if (x->turned_away) {
            x->parser.state = HTTP_BAD;
            x->parser.status = 429;
            x->parser.why = x->turned_away;
            refuse(x);
            return false;
        }
        x->server->fn(x->server->opaque, x);
        return true;
    }
    if (!was_busy && http_parser_busy(&x->parser))
        set_timer(x, REQUEST_MS);
    if (x->parser.state != HTTP_HEAD && x->parser.request.wants_continue && !x->continued) {
        buf_printf(&x->out, "HTTP/1.1 100 Continue\r\n\r\n");
        x->continued = true;
        return flush(x);
    }
    return false;
}

/* Everything that can be done without waiting; entered again from the handler's answer. */
static void work(struct http_exchange *x) {
    bool good = true;

    if (x->inside)
        return;
    x->inside = true;
    do
        good = flush(x);
    while (good && !x->dead && x->phase == HTTP_READING && !pending(x) && parse_some(x));
    if (good && !x->dead)
        good = flush(x);
    x->inside = false;
    if (good && !x->dead && x->refused && x->phase == HTTP_CLOSING && !pending(x)) {
        stream_shut(&x->stream);
        x->phase = HTTP_LINGERING;
        set_timer(x, LINGER_MS);
    }
    if (!good || x->dead || (x->phase == HTTP_CLOSING && !pending(x)) ||
        ((x->phase == HTTP_READING || x->phase == HTTP_LINGERING) && x->half_closed &&
         !pending(x)) ||
        pending(x) > BACKLOG_MAX) {
        drop(x);
        return;
    }
    if (x->phase == HTTP_READING && !pending(x) && !http_parser_busy(&x->parser))
        set_timer(x, IDLE_MS);
    update_watch(x);
    if (x->ready && pending(x) < BACKLOG_SMALL) {
        void (*ready)(void *opaque) = x->ready;

        x->ready = NULL;
        ready(x->ready_opaque);
    }
}

static bool read_some(struct http_exchange *x) {
    void *room = buf_grow(&x->in, STREAM_STEP);
    ssize_t n = stream_recv(&x->stream, room, STREAM_STEP);

    x->in.len -= STREAM_STEP - (n > 0 && x->phase == HTTP_READING ? (size_t)n : 0);
    x->half_closed |= n == 0;
    return n >= 0 || n == -EAGAIN;
}

/* What speaks HTTP without TLS learns it in its own language; it is not asked to go on. */
static void refuse_plain(struct http_exchange *x) {
    static const char why[] = "this port speaks HTTPS, not HTTP: write https:// in the address";

    stream_be_plain(&x->stream);
    x->phase = HTTP_ANSWERING;
    x->parser.state = HTTP_BAD;
    x->parser.status = 400;
    x->parser.why = why;
    refuse(x);
}

/* The first byte tells: a record of TLS with a handshake begins with 22, a request with a letter.
 */
static void shake(struct http_exchange *x) {
    unsigned char first = 0;
    ssize_t n = recv(x->stream.fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);
    int r;

    if (n == 1 && !x->shaken && first >= 'A' && first <= 'Z') {
        refuse_plain(x);
        return;
    }
    x->shaken |= n == 1;
    r = stream_handshake(&x->stream);
    if (r == 0) {
        x->phase = HTTP_READING;
        set_timer(x, REQUEST_MS);
        update_watch(x);
    } else if (r == -EAGAIN) {
        loop_modify(x->watch, EPOLLHUP | stream_events(&x->stream, true, false));
    } else {
        drop(x);
    }
}

static void ready(void *opaque, int fd, uint32_t events) {
    struct http_exchange *x = opaque;

    if (x->phase == HTTP_SHAKING && !(events & (EPOLLHUP | EPOLLERR)))
        shake(x);
    else if (wants_input(x) && (events & EPOLLIN || x->stream.reads_by_writing)) {
        if (!read_some(x) || events & EPOLLERR)
            drop(x);
        else
            work(x);
    } else if (events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) {
        drop(x);
    } else {
        work(x);
    }
}

/* ------------------------------------------------------------------ life */

struct http_exchange *http_exchange_new(struct http_listener *l, int fd,
                                        const struct http_peer *peer) {
    struct http_exchange *x = calloc(1, sizeof(*x));
    struct http_server *s = l->server;

    if (!x)
        return NULL;
    x->server = s;
    x->listener = l;
    x->phase = l->tls ? HTTP_SHAKING : HTTP_READING;
    x->watch = loop_add(s->loop, fd, EPOLLIN | EPOLLHUP, ready, x);
    if (!x->watch || stream_init(&x->stream, fd, l->tls, NULL) < 0) {
        loop_remove(x->watch);
        free(x);
        return NULL;
    }
    x->peer = *peer;
    x->next = s->all;
    x->link = &s->all;
    if (x->next)
        x->next->link = &x->next;
    s->all = x;
    s->count++;
    l->count++;
    set_timer(x, l->tls ? SHAKE_MS : REQUEST_MS);
    return x;
}

struct http_server *http_server_new(struct loop *loop, struct timers *timers, http_handler *fn,
                                    void *opaque, struct error *err) {
    struct http_server *s = calloc(1, sizeof(*s));

    if (s) {
        *s = (struct http_server){.loop = loop, .timers = timers, .fn = fn, .opaque = opaque};
        s->peers = peers_new();
        s->tunnels = tunnels_new(loop, timers);
    }
    if (s && s->peers && s->tunnels)
        return s;
    http_server_free(s);
    error_set(err, -ENOMEM, "the API: out of memory");
    return NULL;
}

void http_server_free(struct http_server *s) {
    struct http_exchange *next;
    struct http_listener *other;

    if (!s)
        return;
    for (struct http_exchange *x = s->all; x; x = next) {
        next = x->next;
        http_exchange_free(x);
    }
    s->all = NULL;
    for (struct http_listener *l = s->listeners; l; l = other) {
        other = l->next;
        http_listener_close(l);
    }
    tunnels_free(s->tunnels);
    peers_free(s->peers);
    free(s);
}

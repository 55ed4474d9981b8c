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

#include "base/log.h"
#include "base/loop.h"
#include "base/timer.h"

enum {
    REQUEST_MS = 30000, /* from the first byte of a request to its last */
    IDLE_MS = 120000,
    STALL_MS = 60000, /* a client that takes nothing of its answer */
    LINGER_MS = 2000,
    STEP = 16 * 1024,
    LARGE = 64 * 1024, /* a body that is worth not to be copied */
    BACKLOG_SMALL = 64 * 1024,
    BACKLOG_MAX = 16 * 1024 * 1024,
};

enum phase {
    READING,   /* a request, or waiting for one */
    ANSWERING, /* the handler has it */
    STREAMING,
    CLOSING,  /* the rest of the output, then the end */
    LINGERING /* the end is sent; what a client still says is dropped, so that it reads the answer
               */
};

struct http_exchange { /* a connection */
    struct http_server *server;
    struct http_exchange *next, **link;
    int fd;
    struct http_peer peer;
    enum phase phase;
    struct loop_watch *watch;
    struct timer timer;
    struct http_parser parser;
    struct buf in, out, headers;
    struct buf body; /* of a long answer: goes out behind `out`, without being copied */
    size_t in_start, out_start;
    bool half_closed; /* sends no more */
    bool continued;   /* 100 was sent */
    bool inside;      /* work() is running */
    bool dead;        /* to be freed when it is not */
    bool refused;     /* what it sent was no request: more of it may come */
    void (*gone)(void *opaque);
    void (*ready)(void *opaque);
    void *gone_opaque, *ready_opaque;
};

struct http_server {
    struct loop *loop;
    struct timers *timers;
    http_handler *fn;
    void *opaque;
    char *(*error_body)(int status, const char *why);
    int listener;
    struct loop_watch *watch;
    struct http_exchange *all;
    unsigned count;
    struct timer rest; /* accepting goes on after it */
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

static void free_exchange(struct http_exchange *x) {
    loop_remove(x->watch);
    timer_stop(&x->timer);
    http_parser_done(&x->parser);
    buf_done(&x->in);
    buf_done(&x->out);
    buf_done(&x->body);
    buf_done(&x->headers);
    if (x->fd >= 0)
        close(x->fd);
    free(x);
}

static void release(struct http_exchange *x) {
    *x->link = x->next;
    if (x->next)
        x->next->link = x->link;
    x->server->count--;
    free_exchange(x);
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
        n = send(x->fd, x->out.data + x->out_start, x->out.len - x->out_start,
                 MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN;
        x->out_start += (size_t)n;
        if (x->phase != ANSWERING)
            set_timer(x, STALL_MS);
    }
    buf_done(&x->out);
    x->out_start = 0;
    return true;
}

static void update_watch(struct http_exchange *x) {
    uint32_t events = EPOLLHUP; /* never 0, so that a hang-up is always told */

    if ((x->phase == READING || x->phase == LINGERING) && !x->half_closed && !pending(x))
        events |= EPOLLIN;
    if (pending(x))
        events |= EPOLLOUT;
    loop_modify(x->watch, events);
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
    assert(x->phase == ANSWERING);
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
    x->phase = keep ? READING : CLOSING;
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
    x->phase = STREAMING;
    timer_stop(&x->timer);
    work(x);
}

void http_put(struct http_exchange *x, const void *data, size_t len) {
    assert(x->phase == STREAMING);
    buf_put(&x->out, data, len);
    work(x);
}

void http_end(struct http_exchange *x) {
    x->gone = NULL;
    x->ready = NULL;
    x->phase = CLOSING;
    set_timer(x, STALL_MS);
    work(x);
}

int http_upgrade(struct http_exchange *x, const char *protocol, struct buf *early) {
    int fd = x->fd;
    bool good;

    begin_answer(x);
    buf_printf(&x->out,
               "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n",
               protocol);
    good = flush(x) && !pending(x); /* an answer that short fits into an empty socket */
    buf_put(early, x->in.data + x->in_start, x->in.len - x->in_start);
    x->phase = CLOSING;
    if (good) {
        loop_remove(x->watch);
        x->watch = NULL;
        x->fd = -1;
    }
    drop(x);
    return good ? fd : -1;
}

/* ------------------------------------------------------------------ input */

static void refuse(struct http_exchange *x) {
    struct http_server *s = x->server;
    const char *why = x->parser.why;
    int status = x->parser.status;
    char *body = s->error_body ? s->error_body(status, why) : NULL;

    x->phase = ANSWERING;
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
        x->phase = ANSWERING;
        timer_stop(&x->timer);
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
    while (good && !x->dead && x->phase == READING && !pending(x) && parse_some(x));
    if (good && !x->dead)
        good = flush(x);
    x->inside = false;
    if (good && !x->dead && x->refused && x->phase == CLOSING && !pending(x)) {
        shutdown(x->fd, SHUT_WR);
        x->phase = LINGERING;
        set_timer(x, LINGER_MS);
    }
    if (!good || x->dead || (x->phase == CLOSING && !pending(x)) ||
        ((x->phase == READING || x->phase == LINGERING) && x->half_closed && !pending(x)) ||
        pending(x) > BACKLOG_MAX) {
        drop(x);
        return;
    }
    if (x->phase == READING && !pending(x) && !http_parser_busy(&x->parser))
        set_timer(x, IDLE_MS);
    update_watch(x);
    if (x->ready && pending(x) < BACKLOG_SMALL) {
        void (*ready)(void *opaque) = x->ready;

        x->ready = NULL;
        ready(x->ready_opaque);
    }
}

static void ready(void *opaque, int fd, uint32_t events) {
    struct http_exchange *x = opaque;

    if (events & EPOLLIN && (x->phase == READING || x->phase == LINGERING)) {
        void *room = buf_grow(&x->in, STEP);
        ssize_t n = recv(fd, room, STEP, MSG_DONTWAIT);

        x->in.len -= STEP - (n > 0 && x->phase == READING ? (size_t)n : 0);
        if (n == 0)
            x->half_closed = true;
        else if (n < 0 && errno != EAGAIN && errno != EINTR)
            events |= EPOLLERR;
    } else if (events & (EPOLLHUP | EPOLLERR)) {
        drop(x);
        return;
    }
    if (events & EPOLLERR)
        drop(x);
    else
        work(x);
}

/* ------------------------------------------------------------------ clients */

static struct http_exchange *client_new(struct http_server *s, int fd) {
    struct http_exchange *x = calloc(1, sizeof(*x));
    struct ucred cred = {0};
    socklen_t len = sizeof(cred);

    if (!x)
        return NULL;
    x->server = s;
    x->fd = fd;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0)
        x->peer = (struct http_peer){cred.uid, cred.pid};
    else
        x->peer = (struct http_peer){(uid_t)-1, 0};
    x->watch = loop_add(s->loop, fd, EPOLLIN | EPOLLHUP, ready, x);
    if (!x->watch) {
        free(x);
        return NULL;
    }
    x->next = s->all;
    x->link = &s->all;
    if (x->next)
        x->next->link = &x->next;
    s->all = x;
    s->count++;
    set_timer(x, REQUEST_MS);
    return x;
}

/* It may be answered before it has asked: whoever it is learns why. */
static void turn_away(struct http_server *s, int fd) {
    static const char why[] = "too many connections are open; close some or try later";
    char *body = s->error_body ? s->error_body(429, why) : NULL;
    char answer[1024];
    int n = snprintf(answer, sizeof(answer),
                     "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\n"
                     "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
                     body ? strlen(body) : 0, body ? body : "");

    if (n > 0 && n < (int)sizeof(answer) &&
        send(fd, answer, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        log_debug("a client left before it was refused");
    free(body);
    close(fd);
}

static void accept_again(void *opaque) {
    struct http_server *s = opaque;

    loop_modify(s->watch, EPOLLIN);
}

static void client_came(void *opaque, int fd, uint32_t events) {
    struct http_server *s = opaque;
    int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (client < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) { /* it stays in the queue */
            loop_modify(s->watch, 0);
            timer_start(s->timers, &s->rest, 200, accept_again, s);
        }
        return;
    }
    if (s->count >= HTTP_MAX_CONNECTIONS || !client_new(s, client))
        turn_away(s, client);
}

struct http_server *http_server_new(struct loop *loop, struct timers *timers, http_handler *fn,
                                    void *opaque, struct error *err) {
    struct http_server *s = calloc(1, sizeof(*s));

    if (!s) {
        error_set(err, -ENOMEM, "the API: out of memory");
        return NULL;
    }
    *s = (struct http_server){
        .loop = loop, .timers = timers, .fn = fn, .opaque = opaque, .listener = -1};
    return s;
}

int http_server_listen(struct http_server *s, int fd, struct error *err) {
    s->watch = loop_add(s->loop, fd, EPOLLIN, client_came, s);
    if (!s->watch)
        return error_set(err, -ENOMEM, "the API's socket cannot be watched: out of memory");
    s->listener = fd;
    return 0;
}

void http_server_free(struct http_server *s) {
    struct http_exchange *next;

    if (!s)
        return;
    for (struct http_exchange *x = s->all; x; x = next) {
        next = x->next;
        free_exchange(x);
    }
    timer_stop(&s->rest);
    loop_remove(s->watch);
    if (s->listener >= 0)
        close(s->listener);
    free(s);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* HTTP/1.1 as a client of one server, our own: answers have a Content-Length or end with the
 * connection. */
#include "cli/remote.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/unix_socket.h"
#include "base/version.h"
#include "cli/far.h"
#include "cli/launch.h"

enum {
    TRIES = 8,
    NAP_MS = 50,
    CONNECT_MS = 10000,
    PATIENCE_S = 10,         /* with a manager that asks not to be asked so often */
    ANSWER_MS = 1000 * 3700, /* longer than any wait that can be asked for */
    HEAD_MAX = 64 * 1024,
    BODY_MAX = 256 * 1024 * 1024,
    STEP = 32 * 1024,
};

struct remote {
    bool system, is_far, was_there;
    struct place place;
    struct far far;
    struct error wrong; /* what was said of the other host cannot be */
    struct stream stream;
    struct buf in; /* came, not used yet */
    size_t start;
};

struct answer {
    int status;
    int64_t length; /* -1: up to the end of the connection */
    bool close;
    int retry_after; /* seconds; 0: not said */
    struct buf body;
};

int remote_fail(struct remote_failure *f, enum failure kind, const char *remedy, const char *fmt,
                ...) {
    va_list ap;

    *f = (struct remote_failure){.kind = kind};
    snprintf(f->remedy, sizeof(f->remedy), "%s", remedy);
    va_start(ap, fmt);
    vsnprintf(f->reason, sizeof(f->reason), fmt, ap);
    va_end(ap);
    return -1;
}

struct remote *remote_new(bool system) {
    struct remote *r = calloc(1, sizeof(*r));

    if (!r)
        abort();
    r->system = system;
    r->stream.fd = -1;
    r->is_far = !system && far_find(&r->far, &r->wrong);
    return r;
}

bool remote_is_far(const struct remote *r) { return r->is_far; }

static void disconnect(struct remote *r) {
    stream_done(&r->stream);
    buf_done(&r->in);
    r->start = 0;
}

void remote_free(struct remote *r) {
    if (!r)
        return;
    disconnect(r);
    far_done(&r->far);
    free(r);
}

static void nap(int ms) {
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};

    nanosleep(&t, NULL);
}

/* ------------------------------------------------------------------ connecting */

static int connect_near(struct remote *r, struct error *err) {
    int fd = unix_socket_connect(r->place.socket, CONNECT_MS, err);

    return fd < 0 ? fd : stream_init(&r->stream, fd, NULL, err);
}

/* One that has answered before may be on its way up again. */
static int try_far(struct remote *r, struct error *err) {
    int code = far_connect(&r->far, &r->stream, err);

    r->was_there |= code == 0;
    return r->was_there && (code == -ECONNREFUSED || code == -ECONNRESET) ? -EAGAIN : code;
}

static int try_connect(struct remote *r, struct error *err) {
    struct error e = {0};

    if (r->is_far)
        return try_far(r, err);
    if (connect_near(r, &e) == 0)
        return 0;
    if (e.code == -EACCES)
        return error_set(err, e.code,
                         "the manager at '%s' is another user's: only that one and root may use it",
                         r->place.socket);
    if (e.code != -ENOENT && e.code != -ECONNREFUSED)
        return error_set(err, e.code, "%s", e.text);
    if (r->system)
        return error_set(err, -EIO,
                         "the system's manager does not run: start it with 'systemctl start vivd' "
                         "or 'vivd --system'");
    if (launch_manager(&r->place, err) < 0)
        return -EIO;
    return connect_near(r, NULL) == 0 ? 0 : -EAGAIN;
}

static int connect_manager(struct remote *r, struct remote_failure *f) {
    struct error e = {0};
    int code = -EAGAIN;

    if (r->stream.fd >= 0)
        return 0;
    if (r->wrong.code)
        return remote_fail(f, FAILURE_INVALID, "", "%s", r->wrong.text);
    if (!r->is_far && !*r->place.socket && place_find(&r->place, r->system, &e) < 0)
        return remote_fail(f, FAILURE_UNAVAILABLE, "", "%s", e.text);
    for (int i = 0; i < TRIES && (e = (struct error){0}, code = try_connect(r, &e)) == -EAGAIN; i++)
        nap(NAP_MS << i); /* another one is about to listen */
    if (code == 0)
        return 0;
    return remote_fail(f, FAILURE_UNAVAILABLE, "", "%s",
                       e.code ? e.text : "the manager does not come up; its log is vivd.log");
}

/* ------------------------------------------------------------------ bytes */

static int wait_for(struct remote *r, bool write, int ms) {
    uint32_t events = stream_events(&r->stream, !write, write);
    struct pollfd poller = {.fd = r->stream.fd, .events = events & EPOLLOUT ? POLLOUT : POLLIN};
    int n;

    do
        n = poll(&poller, 1, ms);
    while (n < 0 && errno == EINTR);
    return n > 0 ? 0 : -ETIMEDOUT;
}

static int send_all(struct remote *r, const void *data, size_t len) {
    const char *p = data;

    while (len) {
        ssize_t n = stream_send(&r->stream, p, len);

        if (n == -EAGAIN)
            wait_for(r, true, -1);
        else if (n <= 0)
            return n ? (int)n : -ECONNRESET;
        else {
            p += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

/* 1: more has come, 0: the end, negative: broken. */
static int read_more(struct remote *r) {
    void *room = buf_grow(&r->in, STEP);
    ssize_t n;

    while ((n = stream_recv(&r->stream, room, STEP)) == -EAGAIN)
        if (wait_for(r, false, ANSWER_MS) < 0)
            break;
    r->in.len -= STEP - (n > 0 ? (size_t)n : 0);
    return n > 0 ? 1 : n == -EAGAIN ? -ETIMEDOUT : (int)n;
}

static size_t have(const struct remote *r) { return r->in.len - r->start; }

static void used(struct remote *r, size_t n) {
    r->start += n;
    if (r->start == r->in.len) {
        buf_done(&r->in);
        r->start = 0;
    }
}

/* ------------------------------------------------------------------ messages */

static void take_header(struct answer *a, const char *line) {
    if (!strncasecmp(line, "Content-Length:", 15))
        a->length = strtoll(line + 15, NULL, 10);
    else if (!strncasecmp(line, "Retry-After:", 12))
        a->retry_after = atoi(line + 12);
    else if (!strncasecmp(line, "Connection:", 11) && strcasestr(line + 11, "close"))
        a->close = true;
}

/* One line without its end, which is valid until the next read; NULL: broken. */
static char *read_line(struct remote *r) {
    for (;;) {
        char *from = have(r) ? (char *)r->in.data + r->start : NULL;
        char *end = from ? memchr(from, '\n', have(r)) : NULL;

        if (end) {
            *end = 0;
            if (end > from && end[-1] == '\r')
                end[-1] = 0;
            r->start += (size_t)(end - from) + 1; /* the buffer stays */
            return from;
        }
        if (have(r) > HEAD_MAX || read_more(r) <= 0)
            return NULL;
    }
}

static int read_head(struct remote *r, struct answer *a) {
    char *line;

    do {
        *a = (struct answer){.length = -1};
        line = read_line(r);
        if (!line || sscanf(line, "HTTP/1.%*d %d", &a->status) != 1)
            return -ECONNRESET;
        while ((line = read_line(r)) && *line)
            take_header(a, line);
        if (!line)
            return -ECONNRESET;
    } while (a->status == 100);
    if (a->status == 204 || a->status == 304)
        a->length = 0;
    return 0;
}

static int read_body(struct remote *r, struct answer *a) {
    while (a->length < 0 || (int64_t)a->body.len < a->length) {
        size_t n = have(r);
        int more;

        if (a->length >= 0 && (int64_t)n > a->length - (int64_t)a->body.len)
            n = (size_t)(a->length - (int64_t)a->body.len);
        buf_put(&a->body, n ? r->in.data + r->start : NULL, n);
        used(r, n);
        if (a->body.len > BODY_MAX)
            return -EMSGSIZE;
        if (a->length >= 0 && (int64_t)a->body.len == a->length)
            return 0;
        more = read_more(r);
        if (more < 0)
            return more;
        if (more == 0)
            return a->length < 0 ? 0 : -ECONNRESET;
    }
    return 0;
}

static int exchange(struct remote *r, const struct buf *request, struct answer *a) {
    int code = send_all(r, request->data, request->len);

    if (code == 0)
        code = read_head(r, a);
    if (code == 0)
        code = read_body(r, a);
    if (code < 0 || a->close || a->length < 0)
        disconnect(r);
    return code;
}

/* ------------------------------------------------------------------ calls */

static void copy_member(char *out, size_t size, const json_t *o, const char *name) {
    const char *s = json_string_value(json_object_get(o, name));

    snprintf(out, size, "%s", s ? s : "");
}

static int take_failure(const json_t *body, int status, struct remote_failure *f) {
    *f = (struct remote_failure){
        .kind = failure_find(json_string_value(json_object_get(body, "code")))};
    copy_member(f->field, sizeof(f->field), body, "field");
    copy_member(f->reason, sizeof(f->reason), body, "reason");
    copy_member(f->remedy, sizeof(f->remedy), body, "remedy");
    if (!*f->reason)
        snprintf(f->reason, sizeof(f->reason), "the manager answered with status %d", status);
    return -1;
}

static void put_request(const struct remote *r, struct buf *out, const char *method,
                        const char *path, const char *headers, const char *body) {
    buf_printf(out, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: viv/%s\r\n%s", method, path,
               r->is_far ? r->far.authority : "vivarium", VIVARIUM_VERSION, headers);
    if (r->is_far)
        buf_printf(out, "Authorization: Bearer %s\r\n", r->far.token);
    if (body)
        buf_printf(out, "Content-Type: application/json\r\nContent-Length: %zu\r\n", strlen(body));
    buf_printf(out, "\r\n%s", body ? body : "");
}

static void make_key(char out[80]) {
    uint64_t n[2] = {0};

    if (getrandom(n, sizeof(n), 0) != sizeof(n))
        abort();
    snprintf(out, 80, "Idempotency-Key: %016" PRIx64 "%016" PRIx64 "\r\n", n[0], n[1]);
}

/* A connection that was left open may have been closed by a manager that ended: then again. */
static int repeat(struct remote *r, const struct buf *request, struct answer *a,
                  struct remote_failure *f) {
    int code = -ECONNRESET, waited = 0;

    for (int i = 0; i < TRIES; i++) {
        if (i > 1)
            nap(NAP_MS << i);
        if (connect_manager(r, f) < 0)
            return -1;
        code = exchange(r, request, a);
        if (code == 0 && a->status == 429 && a->retry_after > 0 && waited < PATIENCE_S) {
            waited += a->retry_after;
            nap(a->retry_after * 1000);
        } else if (code == 0) {
            return 0;
        }
        buf_done(&a->body);
        if (code == -ETIMEDOUT)
            break;
    }
    return remote_fail(f, FAILURE_UNAVAILABLE, "look at its log, vivd.log",
                       "the connection to the manager broke off again and again: %s",
                       strerror(-code));
}

int remote_call(struct remote *r, const char *method, json_t *body, json_t **ret_answer,
                struct remote_failure *f, const char *path, ...) {
    char target[1024], key[80] = "";
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    struct buf request = {0};
    struct answer a = {0};
    json_t *answer = NULL;
    va_list ap;
    int code;

    json_decref(body);
    va_start(ap, path);
    vsnprintf(target, sizeof(target), path, ap);
    va_end(ap);
    if (!strcmp(method, "POST") || !strcmp(method, "DELETE"))
        make_key(key);
    put_request(r, &request, method, target, key, text);
    free(text);
    code = repeat(r, &request, &a, f);
    if (code == 0 && a.body.len)
        answer = json_loadb((const char *)a.body.data, a.body.len, 0, NULL);
    if (code == 0 && a.status >= 400)
        code = take_failure(answer, a.status, f);
    if (code == 0 && ret_answer)
        *ret_answer = json_incref(answer);
    json_decref(answer);
    buf_done(&request);
    buf_done(&a.body);
    return code;
}

int remote_get_text(struct remote *r, struct buf *ret, struct remote_failure *f, const char *path,
                    ...) {
    struct buf request = {0};
    struct answer a = {0};
    char target[1024];
    json_t *failure;
    va_list ap;
    int code;

    va_start(ap, path);
    vsnprintf(target, sizeof(target), path, ap);
    va_end(ap);
    put_request(r, &request, "GET", target, "", NULL);
    code = repeat(r, &request, &a, f);
    buf_done(&request);
    if (code == 0 && a.status < 400) {
        *ret = a.body;
        return 0;
    }
    if (code == 0) {
        failure = json_loadb((const char *)a.body.data, a.body.len, 0, NULL);
        code = take_failure(failure, a.status, f);
        json_decref(failure);
    }
    buf_done(&a.body);
    return code;
}

/* ------------------------------------------------------------------ streams */

/* On a connection of its own. 0, or -1 with f filled. */
static int ask_stream(struct remote *r, const struct buf *request, struct answer *a,
                      struct remote_failure *f) {
    for (int i = 0; i < TRIES; i++) {
        if (i)
            nap(NAP_MS << i);
        disconnect(r);
        if (connect_manager(r, f) < 0)
            return -1;
        if (send_all(r, request->data, request->len) == 0 && read_head(r, a) == 0)
            return 0;
    }
    return remote_fail(f, FAILURE_UNAVAILABLE, "look at its log, vivd.log",
                       "the manager closed the connection again and again");
}

static int begin_stream(struct remote *r, const struct buf *request, int status,
                        struct remote_failure *f) {
    struct answer a = {0};
    json_t *body = NULL;
    int code = -1;

    if (ask_stream(r, request, &a, f) < 0)
        return -1;
    if (a.status == status)
        return 0;
    if (read_body(r, &a) == 0) {
        body = json_loadb((const char *)a.body.data, a.body.len, 0, NULL);
        code = take_failure(body, a.status, f);
    }
    json_decref(body);
    buf_done(&a.body);
    disconnect(r);
    return code;
}

int remote_follow(struct remote *r, const char *path, const char *after, struct remote_failure *f) {
    struct buf request = {0};
    char headers[200];
    int code;

    snprintf(headers, sizeof(headers), "Accept: text/event-stream\r\n%s%.40s%s",
             *after ? "Last-Event-ID: " : "", after, *after ? "\r\n" : "");
    put_request(r, &request, "GET", path, headers, NULL);
    code = begin_stream(r, &request, 200, f);
    buf_done(&request);
    return code;
}

json_t *remote_next(struct remote *r, struct remote_failure *f) {
    char *line;

    while ((line = read_line(r))) {
        json_t *data = strncmp(line, "data: ", 6) ? NULL : json_loads(line + 6, 0, NULL);

        if (r->start > STEP) { /* what was read is not needed any more */
            memmove(r->in.data, r->in.data + r->start, have(r));
            r->in.len -= r->start;
            r->start = 0;
        }
        if (data)
            return data;
    }
    disconnect(r);
    remote_fail(f, FAILURE_UNAVAILABLE, "", "the manager closed the connection");
    return NULL;
}

int remote_upgrade(struct remote *r, const char *protocol, struct buf *early,
                   struct remote_failure *f, const char *path, ...) {
    struct buf request = {0};
    char target[1024], headers[200];
    va_list ap;
    int fd = -1;

    va_start(ap, path);
    vsnprintf(target, sizeof(target), path, ap);
    va_end(ap);
    snprintf(headers, sizeof(headers), "Connection: Upgrade\r\nUpgrade: %s\r\n", protocol);
    put_request(r, &request, "GET", target, headers, NULL);
    if (begin_stream(r, &request, 101, f) == 0) {
        struct error e = {0};

        buf_put(early, have(r) ? r->in.data + r->start : NULL, have(r));
        fd = r->is_far ? far_plain(&r->stream, &e) : stream_release(&r->stream);
        r->stream = (struct stream){.fd = -1};
        disconnect(r);
        if (fd < 0)
            remote_fail(f, FAILURE_FAILED, "", "%s", e.text);
    }
    buf_done(&request);
    return fd;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A client of a control socket (docs/control.md). What the other end sends is not trusted either.
 */
#include "proto/client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/unix_socket.h"
#include "proto/control.h"
#include "proto/lines.h"

enum { CONNECT_MS = 10000, GREETING_MS = 30000 };

struct client {
    int fd, last_id;
    struct lines in;
    json_t *greeting;
    client_event_fn *event;
    void *opaque;
};

int client_fd(const struct client *c) { return c->fd; }

const json_t *client_greeting(const struct client *c) { return c->greeting; }

static int64_t now_ms(void) {
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int64_t deadline_of(int timeout_ms) { return timeout_ms < 0 ? -1 : now_ms() + timeout_ms; }

static int left(int64_t deadline) {
    int64_t ms = deadline < 0 ? -1 : deadline - now_ms();

    return deadline < 0 ? -1 : ms < 0 ? 0 : (int)ms;
}

static int lost(struct error *err) {
    return error_set(
        err, -ECONNRESET,
        "the machine closed the connection: it has ended, or did not want this client");
}

/* 1 when the descriptor is ready, 0 when the time is over. */
static int wait_for(struct client *c, short events, int64_t deadline, struct error *err) {
    struct pollfd p = {.fd = c->fd, .events = events};
    int r;

    do
        r = poll(&p, 1, left(deadline));
    while (r < 0 && errno == EINTR);
    return r < 0 ? error_set(err, -errno, "waiting for the machine: %s", strerror(errno)) : r;
}

/* ------------------------------------------------------------------ messages */

static int send_all(struct client *c, const struct buf *b, int64_t deadline, struct error *err) {
    size_t sent = 0;

    while (sent < b->len) {
        ssize_t n = send(c->fd, b->data + sent, b->len - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        int r = 1;

        if (n >= 0)
            sent += (size_t)n;
        else if (errno == EAGAIN)
            r = wait_for(c, POLLOUT, deadline, err);
        else if (errno != EINTR)
            return lost(err);
        if (r < 0)
            return r;
        if (r == 0)
            return error_set(err, -ETIMEDOUT, "the machine takes no command: it may be stuck");
    }
    return 0;
}

int client_send(struct client *c, const char *command, json_t *args, int timeout_ms,
                struct error *err) {
    struct buf line = {0};
    json_t *m =
        json_pack("{s:i, s:s, s:o*}", "id", ++c->last_id, "command", command, "arguments", args);
    int r = -ENOMEM;

    if (!m || !message_put(&line, m))
        error_set(err, r, "%s: out of memory", command);
    else if (line.len > CONTROL_REQUEST_MAX)
        r = error_set(err, -EINVAL, "%s: its arguments are longer than %d bytes", command,
                      CONTROL_REQUEST_MAX);
    else
        r = send_all(c, &line, deadline_of(timeout_ms), err);
    json_decref(m);
    buf_done(&line);
    return r < 0 ? r : c->last_id;
}

static int read_more(struct client *c, struct error *err) {
    size_t room;
    void *p = lines_room(&c->in, &room);
    ssize_t n;

    if (!p)
        return error_set(err, -EPROTO, "the machine sent a message of more than %d bytes",
                         CONTROL_ANSWER_MAX);
    n = recv(c->fd, p, room, MSG_DONTWAIT);
    if (n > 0)
        lines_came(&c->in, (size_t)n);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        return lost(err);
    return 0;
}

int client_receive(struct client *c, int timeout_ms, json_t **ret_message, struct error *err) {
    int64_t deadline = deadline_of(timeout_ms);
    struct error e = {0};
    size_t len;
    char *line;
    int r;

    while (!(line = lines_next(&c->in, &len))) {
        r = wait_for(c, POLLIN, deadline, err);
        if (r == 1)
            r = read_more(c, err) < 0 ? err->code : 1;
        if (r <= 0)
            return r;
    }
    *ret_message = message_parse(line, len, &e);
    return *ret_message ? 1 : error_set(err, -EPROTO, "the machine's answer: %s", e.text);
}

/* ------------------------------------------------------------------ calls */

static void pass_event(struct client *c, const json_t *m) {
    const char *name = json_string_value(json_object_get(m, "event"));

    if (name && c->event)
        c->event(c->opaque, name, json_object_get(m, "data"));
}

/* An answer without an id is about a message that could not be read: ours, or too many clients. */
static bool answers(const json_t *m, int id) {
    const json_t *given = json_object_get(m, "id");

    return json_is_integer(given) ? json_integer_value(given) == id
                                  : !given && json_object_get(m, "error");
}

static int take_answer(const json_t *m, json_t **ret_result, struct error *err) {
    json_t *e = json_object_get(m, "error"), *result = json_object_get(m, "result");
    const char *text = json_string_value(json_object_get(e, "text"));

    if (!text && !result)
        return error_set(err, -EPROTO, "the machine's answer has neither a result nor an error");
    *ret_result = json_incref(text ? e : result);
    return text ? error_set(err, CLIENT_REFUSAL, "%s", text) : 0;
}

int client_call(struct client *c, const char *command, json_t *args, int timeout_ms,
                json_t **ret_result, struct error *err) {
    int64_t deadline = deadline_of(timeout_ms);
    int id = client_send(c, command, args, timeout_ms, err), r;

    *ret_result = NULL;
    if (id < 0)
        return id;
    for (;;) {
        json_t *m = NULL;

        r = client_receive(c, left(deadline), &m, err);
        if (r == 0)
            r = error_set(err, -ETIMEDOUT, "%s: no answer in time; the machine may be stuck",
                          command);
        if (r < 0)
            return r;
        if (answers(m, id)) {
            r = take_answer(m, ret_result, err);
            json_decref(m);
            return r;
        }
        pass_event(c, m);
        json_decref(m);
    }
}

struct client *client_begin(const char *path, client_event_fn *event, void *opaque, int timeout_ms,
                            struct error *err) {
    struct client *c = calloc(1, sizeof(*c));

    if (!c) {
        error_set(err, -ENOMEM, "a client: out of memory");
        return NULL;
    }
    *c = (struct client){.fd = -1, .in.max = CONTROL_ANSWER_MAX, .event = event, .opaque = opaque};
    c->fd = unix_socket_connect(path, timeout_ms, err);
    if (c->fd >= 0)
        return c;
    client_close(c);
    return NULL;
}

struct client *client_open(const char *path, client_event_fn *event, void *opaque,
                           struct error *err) {
    struct client *c = client_begin(path, event, opaque, CONNECT_MS, err);
    int r;

    if (!c)
        return NULL;
    r = client_receive(c, GREETING_MS, &c->greeting, err);
    if (r == 0)
        error_set(err, -ETIMEDOUT, "'%s' does not greet: it is stuck, or no machine", path);
    if (r == 1 && json_integer_value(json_object_get(c->greeting, "protocol")) == CONTROL_PROTOCOL)
        return c;
    if (r == 1)
        error_set(
            err, -EPROTO,
            "'%s' does not speak version %d of the control protocol: use the viv-ctl that came "
            "with its program",
            path, CONTROL_PROTOCOL);
    client_close(c);
    return NULL;
}

void client_close(struct client *c) {
    if (!c)
        return;
    if (c->fd >= 0)
        close(c->fd);
    json_decref(c->greeting);
    lines_done(&c->in);
    free(c);
}

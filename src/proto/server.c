/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A control socket: clients, their messages, and events for them. */
#include "proto/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/unix_socket.h"
#include "base/version.h"
#include "proto/control.h"
#include "proto/lines.h"

/*
 * Calls (net): accept4 recvfrom sendto unlink
 */

enum {
    MAX_CLIENTS = 32,
    ROUND = 8,                 /* commands of a client in a round */
    QUEUE_COMMANDS = 64 << 10, /* bytes unread beyond which no command is read */
    QUEUE_EVENTS = 256 << 10,  /* and no event is sent */
};

struct client_end {
    struct client_end *next;
    struct server *server;
    int fd; /* -1: closed, and freed at the end of the round */
    struct loop_watch *watch;
    struct lines in;
    struct buf out;
    size_t sent;
    uint64_t used;
    bool events, ended, leaving;
    bool more; /* lines may wait in `in` */
};

struct server {
    struct loop *loop;
    struct server_config config;
    struct client_end *clients;
    unsigned count, inside;
    uint64_t uses;
    int listener;
    struct loop_watch *watch;
    char *path;
    bool backlog;
};

/* ------------------------------------------------------------------ a client's end */

static void close_client(struct client_end *c) {
    if (c->fd < 0)
        return;
    loop_remove(c->watch);
    close(c->fd);
    c->fd = -1;
    c->server->count--;
}

static void leave(struct server *s) {
    struct client_end **link = &s->clients, *c;

    if (--s->inside)
        return;
    while ((c = *link)) {
        if (c->fd >= 0) {
            link = &c->next;
            continue;
        }
        *link = c->next;
        lines_done(&c->in);
        buf_done(&c->out);
        free(c);
    }
}

/* ------------------------------------------------------------------ sending */

static size_t unsent(const struct client_end *c) { return c->out.len - c->sent; }

static bool listens(const struct client_end *c) {
    return c->fd >= 0 && !c->leaving && unsent(c) <= QUEUE_COMMANDS;
}

static void flush(struct client_end *c) {
    while (c->fd >= 0 && unsent(c)) {
        ssize_t n = send(c->fd, c->out.data + c->sent, unsent(c), MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            close_client(c);
        if (n < 0)
            break;
        c->sent += (size_t)n;
    }
    if (c->sent) {
        memmove(c->out.data, c->out.data + c->sent, unsent(c));
        c->out.len -= c->sent;
        c->sent = 0;
    }
    if (c->fd >= 0 && (c->leaving || (c->ended && !c->more)) && !unsent(c))
        close_client(c);
    if (c->fd >= 0)
        loop_modify(c->watch, (unsent(c) ? EPOLLOUT : 0u) |
                                  (listens(c) && !c->ended ? EPOLLIN : 0u) | EPOLLHUP);
}

static void put(struct client_end *c, json_t *message) {
    if (!message || !message_put(&c->out, message))
        close_client(c); /* out of memory: better no answer than another one's */
    json_decref(message);
}

unsigned server_clients(const struct server *s) { return s ? s->count : 0; }

void server_event(struct server *s, const char *name, json_t *data) {
    json_t *message = json_pack("{s:s, s:o}", "event", name, "data", data);

    s->inside++;
    for (struct client_end *c = s->clients; message && c; c = c->next)
        if (c->fd >= 0 && c->events && unsent(c) <= QUEUE_EVENTS) {
            put(c, json_incref(message));
            flush(c);
        }
    json_decref(message);
    leave(s);
}

/* ------------------------------------------------------------------ commands */

static const char *error_kind(int code) {
    return code == -EINVAL                       ? CONTROL_INVALID
           : code == -EBUSY || code == -EALREADY ? CONTROL_REFUSED
                                                 : CONTROL_FAILED;
}

static int execute(struct client_end *cl, const json_t *m, json_t *result, struct error *err) {
    const struct server_config *s = &cl->server->config;
    const char *name = json_string_value(json_object_get(m, "command")), *key;
    const struct command *command = name ? command_find(s->commands, name) : NULL;
    struct server_call call = {s->opaque, json_object_get(m, "arguments"), result};
    json_t *value;

    json_object_foreach((json_t *)m, key, value)
        if (strcmp(key, "id") != 0 && strcmp(key, "command") != 0 && strcmp(key, "arguments") != 0)
            return error_set(err, -EINVAL,
                             "a command has no '%.60s': it has id, command and arguments", key);
    if (!command)
        return error_set(err, -EINVAL, "there is no command '%.60s': 'viv-ctl --help' lists them",
                         name ? name : "");
    if (command_check(command, call.args, err) < 0)
        return err->code;
    if (!strcmp(name, "events")) {
        cl->events = true;
        return 0;
    }
    for (const struct server_handler *h = s->handlers; h->name; h++)
        if (!strcmp(h->name, name))
            return h->fn(&call, err);
    abort(); /* each declared command has one, a test asks them all */
}

static void take_message(struct client_end *c, const char *line, size_t len) {
    struct error err = {0};
    json_t *m = message_parse(line, len, &err), *id = json_object_get(m, "id");
    json_t *result = json_object(), *answer = json_object();
    int r = -EINVAL;

    c->used = ++c->server->uses;
    if (id && !json_is_string(id) && !json_is_integer(id)) {
        error_set(&err, -EINVAL, "'id' must be a string or a whole number");
        id = NULL;
    } else if (m) {
        r = execute(c, m, result, &err);
    }
    if (r < 0 && !err.code)
        error_set(&err, r, "out of memory");
    if (id)
        json_object_set(answer, "id", id);
    if (err.code)
        json_object_set_new(
            answer, "error",
            json_pack("{s:s, s:o}", "kind", error_kind(err.code), "text", message_text(err.text)));
    else
        json_object_set(answer, "result", result);
    json_decref(result);
    json_decref(m);
    if (c->fd >= 0)
        put(c, answer);
    else
        json_decref(answer);
}

static void serve_all(void *opaque);

static void serve(struct client_end *c) {
    unsigned n = 0;
    char *line;
    size_t len;

    while (n < ROUND && listens(c) && (line = lines_next(&c->in, &len))) {
        if (len)
            take_message(c, line, len);
        n++;
    }
    c->more = n == ROUND;
    if (c->fd >= 0 && lines_too_long(&c->in)) {
        put(c, json_pack("{s:{s:s, s:s}}", "error", "kind", CONTROL_INVALID, "text",
                         "a message has at most 65536 bytes: the connection ends here"));
        c->leaving = true;
    }
    flush(c);
    if (c->more && !c->server->backlog) {
        c->server->backlog = true;
        loop_post(c->server->loop, serve_all, c->server);
    }
}

static void serve_all(void *opaque) {
    struct server *s = opaque;

    s->backlog = false;
    s->inside++;
    for (struct client_end *c = s->clients; c; c = c->next)
        if (c->fd >= 0)
            serve(c);
    leave(s);
}

static void client_ready(void *opaque, int fd, uint32_t events) {
    struct client_end *c = opaque;
    struct server *s = c->server;
    size_t room;
    void *p = events & EPOLLIN ? lines_room(&c->in, &room) : NULL;
    ssize_t n = p ? recv(fd, p, room, MSG_DONTWAIT) : -1;

    s->inside++;
    if (n > 0)
        lines_came(&c->in, (size_t)n);
    else if (n == 0)
        c->ended = true;
    else if ((p && errno != EAGAIN && errno != EINTR) || (events & (EPOLLHUP | EPOLLERR)))
        close_client(c);
    if (c->fd >= 0)
        serve(c);
    leave(s);
}

/* ------------------------------------------------------------------ connections */

/* Somebody keeps more connections than anybody needs: the one that was silent longest goes. */
static void make_room(struct server *s) {
    struct client_end *oldest = NULL;

    for (struct client_end *c = s->clients; c; c = c->next)
        if (c->fd >= 0 && (!oldest || c->used < oldest->used))
            oldest = c;
    if (oldest)
        close_client(oldest);
}

static void client_came(void *opaque, int listener, uint32_t events) {
    struct server *s = opaque;
    int fd = s->config.accept ? s->config.accept(listener)
                              : accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct client_end *c = fd < 0 ? NULL : calloc(1, sizeof(*c));

    if (!c || !(c->watch = loop_add(s->loop, fd, EPOLLIN, client_ready, c))) {
        free(c);
        if (fd >= 0)
            close(fd);
        return;
    }
    s->inside++;
    if (s->count == MAX_CLIENTS)
        make_room(s);
    c->server = s;
    c->fd = fd;
    c->in.max = CONTROL_REQUEST_MAX;
    c->used = ++s->uses;
    c->next = s->clients;
    s->clients = c;
    s->count++;
    put(c, json_pack("{s:s, s:s, s:i, s:o}", "vivarium", s->config.program, "version",
                     VIVARIUM_VERSION, "protocol", CONTROL_PROTOCOL, "name",
                     message_text(s->config.name)));
    flush(c);
    leave(s);
}

struct server *server_new(struct loop *loop, const char *path, const struct server_config *c,
                          struct error *err) {
    struct server *s = calloc(1, sizeof(*s));

    if (!s || !(s->path = strdup(path))) {
        free(s);
        error_set(err, -ENOMEM, "the control socket: out of memory");
        return NULL;
    }
    s->loop = loop;
    s->config = *c;
    s->listener = unix_socket_listen(path, 0600, "the control socket", err);
    if (s->listener >= 0)
        s->watch = loop_add(loop, c->adopt ? c->adopt(c->opaque, s->listener) : s->listener,
                            EPOLLIN, client_came, s);
    if (s->watch)
        return s;
    error_set(err, -ENOMEM, "the control socket: out of memory");
    if (s->listener >= 0) {
        close(s->listener);
        unlink(path);
    }
    free(s->path);
    free(s);
    return NULL;
}

void server_free(struct server *s) {
    if (!s)
        return;
    s->inside++;
    for (struct client_end *c = s->clients; c; c = c->next) {
        flush(c);
        close_client(c);
    }
    leave(s);
    loop_remove(s->watch);
    close(s->listener);
    unlink(s->path);
    free(s->path);
    free(s);
}

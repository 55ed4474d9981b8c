/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Host ends of serial lines: standard input and output, file, unix socket. Output goes through one ring buffer. */
#include "vm/chardev.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/loop.h"
#include "vm/terminal.h"

enum { RING = 65536, INPUT = 4096, ESCAPE = 0x1d /* Ctrl-] */ };

struct chardev {
    struct loop *loop;
    struct chardev_user user;
    int in, out, listener;
    bool is_socket, is_stdio, own_fds, escaped, short_write;
    struct loop_watch *in_watch, *out_watch, *listen_watch;
    uint8_t ring[RING];
    size_t head, used;
    uint8_t input[INPUT]; /* taken from the host, not yet by the guest */
    size_t input_len;
    char socket_path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

static void input_ready(void *opaque, int fd, uint32_t events);
static void output_ready(void *opaque, int fd, uint32_t events);

static void drop(struct chardev *c, size_t n)
{
    c->head = (c->head + n) % RING;
    c->used -= n;
}

static void client_gone(struct chardev *c)
{
    loop_remove(c->in_watch);
    loop_remove(c->out_watch);
    c->in_watch = c->out_watch = NULL;
    if (c->is_socket && c->in >= 0)
        close(c->in);
    c->in = -1;
    if (c->is_socket)
        c->out = -1;
    c->input_len = 0;
}

/* Writes from the ring what the host takes now. A shared terminal must stay blocking, so ask before each piece. */
static void flush_out(struct chardev *c)
{
    while (c->used && c->out >= 0) {
        size_t n = RING - c->head < c->used ? RING - c->head : c->used;
        struct pollfd p = {.fd = c->out, .events = POLLOUT};
        ssize_t put;
        if (!c->is_socket && n > 512)
            n = 512; /* a pipe that polls writable takes at least this much without blocking */
        if (poll(&p, 1, 0) != 1 || !(p.revents & (POLLOUT | POLLERR | POLLHUP)))
            break;
        put = c->is_socket ? send(c->out, c->ring + c->head, n, MSG_DONTWAIT | MSG_NOSIGNAL)
                           : write(c->out, c->ring + c->head, n);
        if (put < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (put < 0) { /* reader gone or disk full: nobody to tell it to */
            if (c->is_socket)
                client_gone(c);
            else
                drop(c, c->used);
            return;
        }
        drop(c, (size_t)put);
    }
    if (c->used && c->out >= 0 && !c->out_watch)
        c->out_watch = loop_add(c->loop, c->out, EPOLLOUT, output_ready, c);
    if (!c->used && c->out_watch) {
        loop_remove(c->out_watch);
        c->out_watch = NULL;
    }
}

static void output_ready(void *opaque, int fd, uint32_t events)
{
    struct chardev *c = opaque;

    flush_out(c);
    if (c->short_write && c->used < RING / 2) {
        c->short_write = false;
        if (c->user.on_writable)
            c->user.on_writable(c->user.opaque);
    }
}

bool chardev_can_write(const struct chardev *c)
{
    return c->used < RING || (c->is_socket && c->out < 0);
}

size_t chardev_write(struct chardev *c, const uint8_t *p, size_t n)
{
    size_t done = 0;

    if (c->out < 0 && !c->is_socket)
        return n; /* "none" */
    while (done < n) {
        if (c->used == RING) {
            flush_out(c);
            if (c->used == RING && c->out < 0)
                drop(c, n - done < RING ? n - done : RING); /* no client: the oldest goes */
            else if (c->used == RING)
                break;
        }
        c->ring[(c->head + c->used++) % RING] = p[done++];
    }
    flush_out(c);
    c->short_write |= done < n || c->used == RING;
    return done;
}

/* ---- input ---- */

static void offer(struct chardev *c)
{
    size_t took = c->user.on_input ? c->user.on_input(c->user.opaque, c->input, c->input_len) : c->input_len;

    memmove(c->input, c->input + took, c->input_len - took);
    c->input_len -= took;
    if (c->in_watch)
        loop_modify(c->in_watch, c->input_len ? 0 : EPOLLIN);
}

void chardev_resume_input(struct chardev *c)
{
    if (c->input_len)
        offer(c);
}

/* Takes the escape sequences out; true if the user wants to leave. */
static bool filter_escapes(struct chardev *c, uint8_t *p, size_t *n)
{
    size_t to = 0;

    for (size_t i = 0; i < *n; i++) {
        if (c->escaped) {
            c->escaped = false;
            if (p[i] == 'q')
                return true;
            p[to++] = p[i]; /* Ctrl-] twice sends one */
        } else if (p[i] == ESCAPE) {
            c->escaped = true;
        } else {
            p[to++] = p[i];
        }
    }
    *n = to;
    return false;
}

static void input_ready(void *opaque, int fd, uint32_t events)
{
    struct chardev *c = opaque;
    ssize_t got = read(fd, c->input, INPUT);
    size_t n;

    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        client_gone(c);
        return;
    }
    n = (size_t)got;
    if (c->is_stdio && filter_escapes(c, c->input, &n)) {
        if (c->user.on_leave)
            c->user.on_leave(c->user.opaque);
        return;
    }
    c->input_len = n;
    if (n)
        offer(c);
}

/* ---- kinds ---- */

static void client_came(void *opaque, int fd, uint32_t events)
{
    struct chardev *c = opaque;
    int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (client < 0)
        return;
    if (c->in >= 0) { /* one at a time */
        static const char busy[] = "vivarium: another client is connected to this console\r\n";
        send(client, busy, sizeof(busy) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        close(client);
        return;
    }
    c->in = c->out = client;
    c->in_watch = loop_add(c->loop, client, EPOLLIN, input_ready, c);
    flush_out(c);
}

static int open_socket(struct chardev *c, const char *path, struct error *err)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct stat st;

    if (!*path || strlen(path) >= sizeof(a.sun_path))
        return error_set(err, -EINVAL, "the console socket's path '%s' must have 1 to %zu characters", path,
                         sizeof(a.sun_path) - 1);
    memcpy(a.sun_path, path, strlen(path) + 1);
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode)) {
        int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool live = probe >= 0 && connect(probe, (struct sockaddr *)&a, sizeof(a)) == 0;
        if (probe >= 0)
            close(probe);
        if (live)
            return error_set(err, -EADDRINUSE, "the console socket '%s' is in use by another program: choose another path", path);
        unlink(path); /* left over from a program that has ended */
    }
    c->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->listener < 0 || bind(c->listener, (struct sockaddr *)&a, sizeof(a)) < 0)
        return error_set(err, -errno, "the console socket '%s' cannot be made: %s", path, strerror(errno));
    memcpy(c->socket_path, a.sun_path, sizeof(a.sun_path));
    if (listen(c->listener, 4) < 0)
        return error_set(err, -errno, "the console socket '%s' cannot listen: %s", path, strerror(errno));
    c->is_socket = true;
    c->listen_watch = loop_add(c->loop, c->listener, EPOLLIN, client_came, c);
    return 0;
}

static int open_file(struct chardev *c, const char *path, struct error *err)
{
    c->out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
    if (c->out < 0)
        return error_set(err, -errno, "the console file '%s' cannot be written: %s; choose another path", path,
                         strerror(errno));
    c->own_fds = true;
    return 0;
}

static void open_stdio(struct chardev *c)
{
    c->is_stdio = true;
    c->in = STDIN_FILENO;
    c->out = STDOUT_FILENO;
    terminal_raw();
    /* A regular file as standard input (or /dev/null) cannot be watched: it has nothing to wait for. */
    c->in_watch = loop_add(c->loop, c->in, EPOLLIN, input_ready, c);
}

bool chardev_spec_valid(const char *spec)
{
    return !strcmp(spec, "stdio") || !strcmp(spec, "none") || (!strncmp(spec, "file:", 5) && spec[5]) ||
           (!strncmp(spec, "unix:", 5) && spec[5]);
}

struct chardev *chardev_open(struct loop *loop, const char *spec, struct error *err)
{
    struct chardev *c = calloc(1, sizeof(*c));
    int r = 0;

    if (!c) {
        error_set(err, -ENOMEM, "the console: out of memory");
        return NULL;
    }
    c->loop = loop;
    c->in = c->out = c->listener = -1;
    if (!strcmp(spec, "stdio"))
        open_stdio(c);
    else if (!strncmp(spec, "file:", 5))
        r = open_file(c, spec + 5, err);
    else if (!strncmp(spec, "unix:", 5))
        r = open_socket(c, spec + 5, err);
    else if (strcmp(spec, "none") != 0)
        r = error_set(err, -EINVAL, "'%s' is no console: use stdio, file:PATH, unix:PATH or none", spec);
    if (r < 0) {
        chardev_close(c);
        return NULL;
    }
    return c;
}

void chardev_set_user(struct chardev *c, const struct chardev_user *user)
{
    c->user = *user;
}

void chardev_close(struct chardev *c)
{
    if (!c)
        return;
    for (unsigned tries = 0; c->used && c->out >= 0 && tries < 10; tries++) {
        struct pollfd p = {.fd = c->out, .events = POLLOUT};
        poll(&p, 1, 100);
        flush_out(c);
    }
    loop_remove(c->in_watch);
    loop_remove(c->out_watch);
    loop_remove(c->listen_watch);
    if (c->is_socket && c->in >= 0)
        close(c->in);
    if (c->own_fds && c->out >= 0)
        close(c->out);
    if (c->listener >= 0) {
        if (*c->socket_path)
            unlink(c->socket_path);
        close(c->listener);
    }
    if (c->is_stdio)
        terminal_restore();
    free(c);
}

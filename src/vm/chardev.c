/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Host ends of serial lines: standard input and output, file, unix socket.
 *
 * Theory of operation. Output goes into a ring; an eventfd of our own asks the loop to write the
 * ring out, so that a line of the guest's costs one system call and not one for each byte. Input is
 * read whenever there is room for it, even while the guest takes none, because the user's Ctrl-] q
 * must be seen then too.
 */
#include "vm/chardev.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/unix_socket.h"
#include "base/zero.h"
#include "vm/line_log.h"
#include "vm/terminal.h"

/*
 * Calls (main): accept4 openat unlink ioctl:TCGETS
 * Calls (main, vcpu): sendto recvfrom
 */

enum { RING = 65536, INPUT = 65536, SLICE = 512, SOCKET_MODE = 0600, ESCAPE = 0x1d /* Ctrl-] */ };

enum kind { NONE, STDIO, OUTPUT_FILE, SOCKET };

struct chardev {
    struct loop *loop;
    struct chardev_user user;
    struct line_log *log; /* NULL: none */
    enum kind kind;
    char label[128]; /* for sentences */
    int in, out, listener, wake;
    struct loop_watch *in_watch, *out_watch, *listen_watch, *wake_watch;
    bool own_out;     /* to be closed */
    bool out_waits;   /* the descriptor is shared with others and blocks */
    bool in_unpolled; /* a regular file: read when the guest takes, not when epoll says */
    bool half_closed; /* the client sends no more */
    bool escaped;
    bool woken;   /* the eventfd is set */
    bool starved; /* on_writable is owed */
    bool warned;
    uint8_t ring[RING];
    size_t head, used;
    uint8_t input[INPUT]; /* taken from the host, not yet by the guest */
    size_t input_start, input_len;
    char socket_path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

static void output_ready(void *opaque, int fd, uint32_t events);
static void read_input(struct chardev *c);

static void wake_up(struct chardev *c) {
    uint64_t one = 1;

    if (!c->woken)
        c->woken = write(c->wake, &one, sizeof(one)) == sizeof(one);
}

static void warn_once(struct chardev *c, const char *what, const char *remedy) {
    if (!c->warned)
        log_warning("%s: %s; %s", c->label, what, remedy);
    c->warned = true;
}

/* ---- clients of the socket ---- */

/* What it has sent and the guest has not taken yet stays. */
static void client_gone(struct chardev *c) {
    loop_remove(c->in_watch);
    loop_remove(c->out_watch);
    c->in_watch = c->out_watch = NULL;
    if (c->in >= 0)
        close(c->in);
    if (c->out >= 0)
        close(c->out);
    c->in = c->out = -1;
    c->half_closed = false;
    wake_up(c); /* whoever waits for room need not any more */
}

static bool has_hung_up(int fd) {
    struct pollfd p = {.fd = fd};

    return poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR));
}

/* ---- output ---- */

static void drop(struct chardev *c, size_t n) {
    c->head = (c->head + n) % RING;
    c->used -= n;
}

static void output_failed(struct chardev *c, int code) {
    if (c->kind == SOCKET) {
        read_input(c); /* its last words may be there already */
        if (c->in >= 0)
            client_gone(c);
        return;
    }
    drop(c, c->used);
    if (code == EPIPE || (c->kind == STDIO && code == EIO)) {
        warn_once(c, "its reader is gone", "the machine runs on and its output is dropped");
        if (c->own_out)
            close(c->out);
        c->own_out = false;
        c->out = -1;
    } else {
        warn_once(c, strerror(code),
                  "output is lost until there is room again (the machine runs on)");
    }
}

/* How many of n bytes the host takes now, or a negative errno. */
static ssize_t put_some(struct chardev *c, const uint8_t *p, size_t n) {
    struct pollfd ready = {.fd = c->out, .events = POLLOUT};
    ssize_t put;

    if (c->out_waits) { /* a pipe that polls writable takes at least this much without waiting */
        if (poll(&ready, 1, 0) != 1)
            return -EAGAIN;
        n = n < SLICE ? n : SLICE;
    }
    put = c->kind == SOCKET ? send(c->out, p, n, MSG_DONTWAIT | MSG_NOSIGNAL) : write(c->out, p, n);
    return put < 0 ? -errno : put;
}

static void flush_out(struct chardev *c) {
    while (c->used && c->out >= 0) {
        size_t n = RING - c->head < c->used ? RING - c->head : c->used;
        ssize_t put = put_some(c, c->ring + c->head, n);

        if (put == -EINTR)
            continue;
        if (put == -EAGAIN)
            break;
        if (put < 0)
            output_failed(c, (int)-put);
        else
            drop(c, (size_t)put);
    }
    if (c->used && c->out >= 0 && !c->out_watch)
        c->out_watch = loop_add(c->loop, c->out, EPOLLOUT, output_ready, c);
    if (c->out_watch && !c->used) {
        loop_remove(c->out_watch);
        c->out_watch = NULL;
    }
}

void chardev_flush(struct chardev *c) {
    flush_out(c);
    if (c->log)
        line_log_flush(c->log);
}

/* Only from the loop: on_writable writes again. */
static void notify_writer(struct chardev *c) {
    if (!c->starved || (c->out >= 0 && c->used > RING / 2))
        return;
    c->starved = false;
    if (c->user.on_writable)
        c->user.on_writable(c->user.opaque);
}

static void output_ready(void *opaque, int fd, uint32_t events) {
    flush_out(opaque);
    notify_writer(opaque);
}

bool chardev_can_write(const struct chardev *c) {
    return c->out < 0 || RING - c->used >= CHARDEV_RESERVE;
}

static size_t put(struct chardev *c, const uint8_t *p, size_t n) {
    size_t done = 0;

    if (c->out < 0 && c->kind != SOCKET)
        return n;
    while (done < n) {
        size_t end = (c->head + c->used) % RING, part = RING - c->used;

        if (!part) {
            flush_out(c);
            if (c->used == RING && c->out < 0)
                drop(c, n - done < RING ? n - done : RING); /* no client: the oldest goes */
            else if (c->used == RING)
                break;
            continue;
        }
        if (part > RING - end)
            part = RING - end;
        if (part > n - done)
            part = n - done;
        memcpy(c->ring + end, p + done, part);
        c->used += part;
        done += part;
    }
    c->starved |= done < n || RING - c->used < CHARDEV_RESERVE;
    if (c->out >= 0 && !c->out_watch)
        wake_up(c);
    return done;
}

size_t chardev_write(struct chardev *c, const uint8_t *p, size_t n) {
    size_t done = put(c, p, n);

    if (c->log && line_log_put(c->log, p, done))
        wake_up(c);
    return done;
}

/* ---- input ---- */

static void watch_input(struct chardev *c) {
    bool room = c->input_len < INPUT;

    if (!c->in_watch)
        return;
    if (c->kind == SOCKET) /* whoever hangs up is always noticed */
        loop_modify(c->in_watch, room && !c->half_closed ? EPOLLIN | EPOLLHUP : EPOLLHUP);
    else
        loop_modify(c->in_watch, room ? EPOLLIN : 0);
}

static void offer(struct chardev *c) {
    size_t took;

    if (!c->input_len || !c->user.on_input)
        return;
    took = c->user.on_input(c->user.opaque, c->input + c->input_start, c->input_len);
    c->input_len -= took;
    c->input_start = c->input_len ? c->input_start + took : 0;
}

const uint8_t *chardev_kept_input(const struct chardev *c, size_t *ret_n) {
    *ret_n = c->input_len;
    return c->input + c->input_start;
}

void chardev_put_input(struct chardev *c, const uint8_t *p, size_t n) {
    size_t room = INPUT - c->input_start - c->input_len;

    n = n < room ? n : room;
    memcpy(c->input + c->input_start + c->input_len, p, n);
    c->input_len += n;
    watch_input(c);
}

void chardev_resume_input(struct chardev *c) {
    offer(c);
    watch_input(c);
    if (c->in_unpolled && !c->input_len)
        wake_up(c);
}

/* Takes the escape sequences out; true if the user wants to leave. */
static bool filter_escapes(struct chardev *c, uint8_t *p, size_t n) {
    size_t to = 0;

    for (size_t i = 0; i < n; i++) {
        if (!c->escaped) {
            c->escaped = p[i] == ESCAPE;
            if (!c->escaped)
                p[to++] = p[i];
            continue;
        }
        c->escaped = false;
        if (p[i] == 'q')
            return true;
        p[to++] = p[i]; /* Ctrl-] twice sends one */
    }
    c->input_len += to;
    return false;
}

static void input_ended(struct chardev *c) {
    if (c->kind == SOCKET && !has_hung_up(c->in)) {
        c->half_closed = true;
        return;
    }
    if (c->kind == SOCKET) {
        client_gone(c);
        return;
    }
    loop_remove(c->in_watch); /* output goes on */
    c->in_watch = NULL;
    c->in_unpolled = false;
    c->in = -1;
}

/* Reads what there is room for, as far as it comes without waiting. */
static void read_input(struct chardev *c) {
    uint8_t *end;
    ssize_t n;

    if (c->input_start) {
        memmove(c->input, c->input + c->input_start, c->input_len);
        c->input_start = 0;
    }
    if (c->input_len == INPUT || c->in < 0 || c->half_closed)
        return;
    end = c->input + c->input_len;
    n = read(c->in, end, INPUT - c->input_len);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0)
        input_ended(c);
    else if (c->kind != STDIO)
        c->input_len += (size_t)n;
    else if (filter_escapes(c, end, (size_t)n) && c->user.on_leave)
        c->user.on_leave(c->user.opaque);
}

static void input_ready(void *opaque, int fd, uint32_t events) {
    struct chardev *c = opaque;
    bool full = c->input_len == INPUT || c->half_closed;

    if (c->kind == SOCKET && full && (events & (EPOLLHUP | EPOLLERR)))
        client_gone(c);
    else
        read_input(c);
    offer(c);
    watch_input(c);
}

/* What was asked for since the last round, and input that epoll cannot announce. */
static void woken(void *opaque, int fd, uint32_t events) {
    struct chardev *c = opaque;
    uint64_t count;

    if (read(fd, &count, sizeof(count)) < 0)
        return;
    c->woken = false;
    chardev_flush(c);
    notify_writer(c);
    if (c->in_unpolled && !c->input_len)
        read_input(c);
    offer(c); /* also what a client said that has left */
    if (c->in_unpolled && !c->input_len)
        wake_up(c);
}

/* ---- kinds ---- */

static void client_came(void *opaque, int fd, uint32_t events) {
    static const char busy[] = "vivarium: another client is connected to this console\r\n";
    struct chardev *c = opaque;
    int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (client < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) {
        /* The connection stays in the queue, and with it the loop would find no rest. */
        log_warning("%s: no client can be accepted any more: %s; raise the limit of open files",
                    c->label, strerror(errno));
        loop_remove(c->listen_watch);
        c->listen_watch = NULL;
    }
    if (client < 0)
        return;
    if (c->in >= 0 && has_hung_up(c->in)) {
        read_input(c);
        if (c->in >= 0)
            client_gone(c);
    }
    if (c->in >= 0) { /* one at a time */
        if (send(client, busy, sizeof(busy) - 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
            log_debug("%s: a client left before it was refused", c->label);
        close(client);
        return;
    }
    c->in = client;
    c->out = fcntl(client, F_DUPFD_CLOEXEC, 0); /* epoll takes a descriptor only once */
    c->in_watch = loop_add(c->loop, client, EPOLLIN | EPOLLHUP, input_ready, c);
    if (c->out < 0 || !c->in_watch) {
        client_gone(c);
        return;
    }
    watch_input(c);
    flush_out(c);
}

static int open_socket(struct chardev *c, const char *path, struct error *err) {
    c->kind = SOCKET;
    c->listener = unix_socket_listen(path, SOCKET_MODE, "the console socket", err);
    if (c->listener < 0)
        return c->listener;
    memcpy(c->socket_path, path, strlen(path) + 1); /* it was short enough to be bound */
    c->listen_watch = loop_add(c->loop, c->listener, EPOLLIN, client_came, c);
    return c->listen_watch
               ? 0
               : error_set(err, -ENOMEM, "the console socket '%s': out of memory", path);
}

static int open_file(struct chardev *c, const char *path, struct error *err) {
    c->kind = OUTPUT_FILE;
    c->out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
    if (c->out < 0)
        return error_set(err, -errno,
                         "the console file '%s' cannot be written: %s; choose another path", path,
                         strerror(errno));
    c->own_out = true;
    return 0;
}

/*
 * A terminal or pipe is shared with whoever started us, and whether it blocks is a property of what
 * is shared. Opened anew through /proc it is ours alone.
 */
static void open_stdout(struct chardev *c) {
    struct stat st;

    c->out = STDOUT_FILENO;
    c->out_waits = true;
    if (fstat(STDOUT_FILENO, &st) == 0 && (S_ISFIFO(st.st_mode) || isatty(STDOUT_FILENO))) {
        int fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

        if (fd >= 0) {
            c->out = fd;
            c->own_out = true;
            c->out_waits = false;
        }
    }
}

static void open_stdio(struct chardev *c) {
    c->kind = STDIO;
    c->in = STDIN_FILENO;
    open_stdout(c);
    terminal_raw();
    c->in_watch = loop_add(c->loop, c->in, EPOLLIN, input_ready, c);
    if (!c->in_watch) {
        c->in_unpolled = true;
        wake_up(c);
    }
}

bool chardev_spec_valid(const char *spec) {
    return !strcmp(spec, "stdio") || !strcmp(spec, "none") ||
           (!strncmp(spec, "file:", 5) && spec[5]) || (!strncmp(spec, "unix:", 5) && spec[5]);
}

static int open_kind(struct chardev *c, const char *spec, struct error *err) {
    c->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->wake >= 0)
        c->wake_watch = loop_add(c->loop, c->wake, EPOLLIN, woken, c);
    if (!c->wake_watch)
        return error_set(err, -EMFILE,
                         "the console '%s': no descriptor for it; raise the limit of open files",
                         spec);
    if (!strcmp(spec, "stdio"))
        open_stdio(c);
    else if (!strncmp(spec, "file:", 5))
        return open_file(c, spec + 5, err);
    else if (!strncmp(spec, "unix:", 5))
        return open_socket(c, spec + 5, err);
    else if (strcmp(spec, "none") != 0)
        return error_set(err, -EINVAL,
                         "'%s' is no console: use stdio, file:PATH, unix:PATH or none", spec);
    return 0;
}

struct chardev *chardev_open(struct loop *loop, const char *spec, struct error *err) {
    struct chardev *c = zero_alloc(sizeof(*c));

    if (!c) {
        error_set(err, -ENOMEM, "the console: out of memory");
        return NULL;
    }
    c->loop = loop;
    c->in = c->out = c->listener = c->wake = -1;
    snprintf(c->label, sizeof(c->label), "console %s", spec);
    if (open_kind(c, spec, err) < 0) {
        chardev_close(c);
        return NULL;
    }
    return c;
}

void chardev_set_log(struct chardev *c, struct line_log *log) { c->log = log; }

void chardev_set_user(struct chardev *c, const struct chardev_user *user) { c->user = *user; }

void chardev_close(struct chardev *c) {
    if (!c)
        return;
    c->user = (struct chardev_user){0};
    line_log_close(c->log);
    c->log = NULL;
    flush_out(c);
    for (unsigned tries = 0; c->used && c->out >= 0 && tries < 10; tries++) {
        struct pollfd p = {.fd = c->out, .events = POLLOUT};

        poll(&p, 1, 100);
        flush_out(c);
    }
    loop_remove(c->in_watch);
    loop_remove(c->out_watch);
    loop_remove(c->listen_watch);
    loop_remove(c->wake_watch);
    if (c->kind == SOCKET && c->in >= 0)
        close(c->in);
    if (c->own_out || (c->kind == SOCKET && c->out >= 0))
        close(c->out);
    if (c->listener >= 0) {
        if (*c->socket_path)
            unlink(c->socket_path);
        close(c->listener);
    }
    if (c->wake >= 0)
        close(c->wake);
    if (c->kind == STDIO)
        terminal_restore();
    zero_free(c, sizeof(*c));
}

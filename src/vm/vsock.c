/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unix sockets for the guest's vsock device.
 *
 * Theory of operation. Each connection has one descriptor, watched only for what the device waits
 * for: a read or write that would block asks the loop for that direction, once. So a slow side
 * costs nothing and the other side's credit rules.
 */
#include "vm/vsock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/unix_socket.h"

/*
 * Calls (main): accept4 unlink
 * Calls (main, vcpu): socket connect sendto recvfrom shutdown epoll_ctl
 */

enum {
    SOCKET_MODE = 0600,
    GREETERS_MAX = 64, /* clients that have not said what they want */
    GREETING_MAX = 32,
    SUFFIX_MAX = 11, /* "_4294967295" */
};

struct end {
    struct vsock *v;
    struct end *next, **link;
    struct vsock_conn *conn; /* NULL: the greeting is not complete */
    struct loop_watch *watch;
    uint32_t events;
    int fd;
};

struct vsock {
    struct loop *loop;
    struct device *dev;
    int listener;
    struct loop_watch *watch;
    struct end *ends; /* the newest first */
    unsigned greeters;
    bool full; /* no descriptor was left for another client: accepts again when one is closed */
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

/* ---- one connection ---- */

static void end_ready(void *opaque, int fd, uint32_t events);

static struct end *end_new(struct vsock *v, int fd, uint32_t events) {
    struct end *e = calloc(1, sizeof(*e));

    if (e)
        e->watch = loop_add(v->loop, fd, events, end_ready, e);
    if (!e || !e->watch) {
        free(e);
        close(fd);
        return NULL;
    }
    e->v = v;
    e->fd = fd;
    e->events = events;
    e->next = v->ends;
    e->link = &v->ends;
    if (e->next)
        e->next->link = &e->next;
    v->ends = e;
    return e;
}

static void end_free(struct end *e) {
    struct vsock *v = e->v;

    *e->link = e->next;
    if (e->next)
        e->next->link = e->link;
    if (!e->conn)
        v->greeters--;
    loop_remove(e->watch);
    close(e->fd);
    free(e);
    if (v->full) {
        v->full = false;
        loop_modify(v->watch, EPOLLIN);
    }
}

static void watch_for(struct end *e, uint32_t events) {
    e->events = events;
    loop_modify(e->watch, events);
}

static void connected(void *opaque, uint32_t host_port) {
    struct end *e = opaque;
    char line[32];
    int n = snprintf(line, sizeof(line), "OK %u\n", host_port);

    /* The first bytes in an empty buffer always fit; a client that is gone is noticed next. */
    if (send(e->fd, line, (size_t)n, MSG_NOSIGNAL) < 0)
        shutdown(e->fd, SHUT_RDWR);
    watch_for(e, e->events | EPOLLIN);
}

static ssize_t end_write(void *opaque, const void *p, size_t n) {
    struct end *e = opaque;
    ssize_t done = send(e->fd, p, n, MSG_NOSIGNAL);

    if (done < 0 && errno != EAGAIN && errno != EINTR)
        return -1;
    if (done < (ssize_t)n)
        watch_for(e, e->events | EPOLLOUT);
    return done < 0 ? 0 : done;
}

static ssize_t end_read(void *opaque, void *p, size_t n) {
    struct end *e = opaque;
    ssize_t got = recv(e->fd, p, n, 0);

    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        watch_for(e, e->events | EPOLLIN);
        return -1;
    }
    return got < 0 ? 0 : got;
}

static void finished(void *opaque) { shutdown(((struct end *)opaque)->fd, SHUT_WR); }

static void gone(void *opaque) { end_free(opaque); }

/* ---- programs of the host that come to the guest ---- */

/* The line of the greeting and nothing behind it. 1 done, 0 not complete, -1 no greeting. */
static int read_greeting(int fd, uint32_t *ret_port) {
    char line[GREETING_MAX + 1], extra;
    ssize_t n = recv(fd, line, GREETING_MAX, MSG_PEEK);
    char *newline = n > 0 ? memchr(line, '\n', (size_t)n) : NULL;
    unsigned long long port;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (!newline)
        return n <= 0 || n == GREETING_MAX ? -1 : 0;
    *newline = 0;
    if (strncmp(line, "CONNECT ", 8) != 0 || line[8] < '0' || line[8] > '9' ||
        sscanf(line + 8, "%12llu%c", &port, &extra) != 1 || port > UINT32_MAX)
        return -1;
    *ret_port = (uint32_t)port;
    return recv(fd, line, (size_t)(newline - line) + 1, 0) > 0 ? 1 : -1;
}

static void greet(struct end *e) {
    struct vsock *v = e->v;
    struct vsock_conn *c;
    uint32_t port = 0;
    int r = read_greeting(e->fd, &port);

    if (r == 0)
        return;
    if (r < 0) {
        end_free(e);
        return;
    }
    watch_for(e, 0);
    c = virtio_vsock_connect(v->dev, e, port);
    if (!c) { /* no driver yet: the client may try again */
        end_free(e);
        return;
    }
    e->conn = c;
    v->greeters--;
}

static void end_ready(void *opaque, int fd, uint32_t events) {
    struct end *e = opaque;
    if (!e->conn) {
        greet(e);
        return;
    }
    /* Hang-ups and errors show in the read or write that is waited for. The other direction comes
     * in the next round: either call may be the end's last. */
    if ((e->events & EPOLLIN) && (events & ~(uint32_t)EPOLLOUT)) {
        watch_for(e, e->events & ~(uint32_t)EPOLLIN);
        virtio_vsock_readable(e->conn);
    } else {
        watch_for(e, e->events & ~(uint32_t)EPOLLOUT);
        virtio_vsock_writable(e->conn);
    }
}

static void drop_oldest_greeter(struct vsock *v) {
    struct end *oldest = NULL;

    for (struct end *e = v->ends; e; e = e->next)
        if (!e->conn)
            oldest = e;
    if (oldest)
        end_free(oldest);
}

static void listener_ready(void *opaque, int listener, uint32_t events) {
    struct vsock *v = opaque;
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0) {
        /* The client stays in the queue, and with it the loop would find no rest. */
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
            log_warning("vsock '%s': no client can be accepted: %s; raise the limit of open files",
                        v->path, strerror(errno));
            v->full = true;
            loop_modify(v->watch, 0);
        }
        return;
    }
    v->greeters++;
    if (!end_new(v, fd, EPOLLIN))
        v->greeters--;
    if (v->greeters > GREETERS_MAX)
        drop_oldest_greeter(v);
}

/* ---- the guest comes to programs of the host ---- */

static void *guest_connects(void *opaque, struct vsock_conn *c, uint32_t port) {
    struct vsock *v = opaque;
    char path[sizeof(v->path) + SUFFIX_MAX];
    struct error err = {0};
    struct end *e;
    int fd;

    snprintf(path, sizeof(path), "%s_%u", v->path, port);
    fd = unix_socket_connect(path, 0, &err);
    if (fd < 0)
        return NULL;
    e = end_new(v, fd, EPOLLIN);
    if (e)
        e->conn = c;
    return e;
}

/* ---- the whole ---- */

struct vsock *vsock_open(struct loop *loop, const char *path, struct error *err) {
    struct vsock *v;

    if (strlen(path) + SUFFIX_MAX >= sizeof(v->path)) {
        error_set(
            err, -EINVAL,
            "the vsock's path '%s' is too long: at most %zu characters, because sockets named "
            "PATH_PORT stand beside it",
            path, sizeof(v->path) - SUFFIX_MAX - 1);
        return NULL;
    }
    v = calloc(1, sizeof(*v));
    if (!v) {
        error_set(err, -ENOMEM, "the vsock '%s': out of memory", path);
        return NULL;
    }
    v->loop = loop;
    memcpy(v->path, path, strlen(path) + 1);
    v->listener = unix_socket_listen(path, SOCKET_MODE, "the vsock", err);
    if (v->listener < 0) {
        free(v);
        return NULL;
    }
    v->watch = loop_add(loop, v->listener, EPOLLIN, listener_ready, v);
    if (!v->watch) {
        error_set(err, -ENOMEM, "the vsock '%s': out of memory", path);
        vsock_close(v);
        return NULL;
    }
    return v;
}

struct vsock_host vsock_host(struct vsock *v) {
    return (struct vsock_host){.connect = guest_connects,
                               .connected = connected,
                               .write = end_write,
                               .read = end_read,
                               .finished = finished,
                               .gone = gone,
                               .opaque = v};
}

void vsock_attach(struct vsock *v, struct device *dev) { v->dev = dev; }

void vsock_close(struct vsock *v) {
    struct end *e;

    if (!v)
        return;
    while ((e = v->ends)) {
        v->ends = e->next;
        end_free(e);
    }
    loop_remove(v->watch);
    close(v->listener);
    unlink(v->path);
    free(v);
}

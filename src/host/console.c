/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Consoles: the serial line of a machine, for several clients at the same time. While nobody looks
 * there is no connection, and viv-vm keeps the newest 64 KiB for the next one.
 *
 * A client that does not read loses what is more than BACKLOG, and no other does. What is typed and
 * not taken by the machine is kept up to STEP.
 */
#include "host/console.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/unix_socket.h"
#include "host/api.h"
#include "host/vm.h"
#include "host/vm_ports.h"

enum { MOST_CLIENTS = 64, STEP = 16 * 1024, BACKLOG = 256 * 1024 };

struct client {
    struct console *console;
    struct client *next, **link;
    int fd;
    struct loop_watch *watch;
    struct buf out;
    size_t out_start;
    bool ending; /* the machine is gone: the rest, then the end */
};

struct console {
    struct consoles *all;
    struct console *next, **link;
    char id[STORE_WORD];
    unsigned port;
    int fd; /* the machine's socket */
    struct loop_watch *watch;
    bool gone;     /* the machine has ended */
    struct buf in; /* typed, not yet taken */
    size_t in_start;
    struct client *clients;
};

struct consoles {
    struct manager *m;
    struct console *first;
    unsigned clients;
};

struct consoles *consoles_new(struct manager *m) {
    struct consoles *c = calloc(1, sizeof(*c));

    if (c)
        c->m = m;
    return c;
}

unsigned consoles_count(const struct consoles *c) { return c->clients; }

static void drop_console(struct console *c) {
    *c->link = c->next;
    if (c->next)
        c->next->link = c->link;
    loop_remove(c->watch);
    close(c->fd);
    buf_done(&c->in);
    free(c);
}

static void free_client(struct client *k) {
    loop_remove(k->watch);
    close(k->fd);
    buf_done(&k->out);
    free(k);
}

/* The last client takes the console along. */
static void drop_client(struct client *k) {
    struct console *c = k->console;

    *k->link = k->next;
    if (k->next)
        k->next->link = k->link;
    free_client(k);
    c->all->clients--;
    if (!c->clients)
        drop_console(c);
}

void consoles_free(struct consoles *all) {
    struct console *next;

    for (struct console *c = all ? all->first : NULL; c; c = next) {
        struct client *other;

        next = c->next;
        for (struct client *k = c->clients; k; k = other) {
            other = k->next;
            free_client(k);
        }
        loop_remove(c->watch);
        close(c->fd);
        buf_done(&c->in);
        free(c);
    }
    free(all);
}

/* ------------------------------------------------------------------ to a client */

/* False: it is gone. */
static bool flush_client(struct client *k) {
    while (k->out.len > k->out_start) {
        ssize_t n = send(k->fd, k->out.data + k->out_start, k->out.len - k->out_start,
                         MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno != EAGAIN)
            return false;
        if (n < 0) {
            loop_modify(k->watch, EPOLLIN | EPOLLOUT);
            return true;
        }
        k->out_start += (size_t)n;
    }
    buf_done(&k->out);
    k->out_start = 0;
    loop_modify(k->watch, EPOLLIN);
    return !k->ending;
}

static void give(struct client *k, const void *data, size_t n) {
    size_t waiting = k->out.len - k->out_start;

    if (waiting + n > BACKLOG)
        return;
    if (k->out_start) {
        memmove(k->out.data, k->out.data + k->out_start, waiting);
        k->out.len = waiting;
        k->out_start = 0;
    }
    buf_put(&k->out, data, n);
}

/* The machine has ended: clients get what is left, and then the end. */
static void machine_gone(struct console *c) {
    struct client *next;

    loop_remove(c->watch);
    c->watch = NULL;
    for (struct client *k = c->clients; k; k = next) {
        next = k->next;
        k->ending = true;
        if (!next) { /* c goes with the last one */
            if (!flush_client(k))
                drop_client(k);
            else if (k->watch)
                loop_modify(k->watch, EPOLLOUT);
            return;
        }
        if (!flush_client(k))
            drop_client(k);
    }
}

/* ------------------------------------------------------------------ to the machine */

static void flush_machine(struct console *c) {
    if (c->gone)
        return;
    while (c->in.len > c->in_start) {
        ssize_t n = send(c->fd, c->in.data + c->in_start, c->in.len - c->in_start,
                         MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0) {
            loop_modify(c->watch, errno == EAGAIN ? EPOLLIN | EPOLLOUT : EPOLLIN);
            return;
        }
        c->in_start += (size_t)n;
    }
    buf_done(&c->in);
    c->in_start = 0;
    loop_modify(c->watch, EPOLLIN);
}

static void machine_ready(void *opaque, int fd, uint32_t events) {
    struct console *c = opaque;
    char data[STEP];
    struct client *next;
    ssize_t n;

    if (events & EPOLLOUT)
        flush_machine(c);
    n = recv(fd, data, sizeof(data), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        c->gone = true;
        machine_gone(c);
        return;
    }
    for (struct client *k = c->clients; k; k = next) {
        bool last = !k->next;

        next = k->next;
        give(k, data, (size_t)n);
        if (!flush_client(k))
            drop_client(k);
        if (last)
            return; /* c may have gone with it */
    }
}

/* ------------------------------------------------------------------ clients */

static void client_ready(void *opaque, int fd, uint32_t events) {
    struct client *k = opaque;
    struct console *c = k->console;
    char data[1024];
    ssize_t n = 1;

    if (events & EPOLLIN) {
        n = recv(fd, data, sizeof(data), MSG_DONTWAIT);
        if (n > 0) {
            if (c->in.len - c->in_start < STEP) /* else lost, as on any serial line */
                buf_put(&c->in, data, (size_t)n);
            flush_machine(c);
        } else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            n = 1;
        }
    } else if (events & (EPOLLHUP | EPOLLERR)) {
        n = 0;
    }
    if (n <= 0 || !flush_client(k))
        drop_client(k);
}

struct console *console_open(struct consoles *all, const char *id, unsigned port,
                             struct error *err) {
    struct console *c;
    char path[160];
    int fd;

    if (all->clients >= MOST_CLIENTS) {
        error_set(err, -EBUSY, "%d consoles are open already", MOST_CLIENTS);
        return NULL;
    }
    for (c = all->first; c; c = c->next)
        if (!c->gone && !strcmp(c->id, id) && c->port == port)
            return c;
    machine_path(all->m, id, ports_socket(port), path, sizeof(path));
    fd = unix_socket_connect(path, 0, err);
    if (fd < 0)
        return NULL;
    c = calloc(1, sizeof(*c));
    if (!c) {
        close(fd);
        error_set(err, -ENOMEM, "a console: out of memory");
        return NULL;
    }
    *c = (struct console){
        .all = all, .port = port, .fd = fd, .next = all->first, .link = &all->first};
    snprintf(c->id, sizeof(c->id), "%s", id);
    if (c->next)
        c->next->link = &c->next;
    all->first = c;
    c->watch = loop_add(all->m->loop, fd, EPOLLIN, machine_ready, c);
    if (c->watch)
        return c;
    error_set(err, -ENOMEM, "a console: out of memory");
    drop_console(c);
    return NULL;
}

void console_add(struct console *c, int fd, const struct buf *early) {
    struct client *k = calloc(1, sizeof(*k));

    if (!k)
        abort();
    k->fd = fd;
    if (fd >= 0)
        k->watch = loop_add(c->all->m->loop, fd, EPOLLIN, client_ready, k);
    if (!k->watch) { /* it has left already */
        if (fd >= 0)
            close(fd);
        free(k);
        if (!c->clients)
            drop_console(c);
        return;
    }
    k->console = c;
    k->next = c->clients;
    k->link = &c->clients;
    if (k->next)
        k->next->link = &k->next;
    c->clients = k;
    c->all->clients++;
    if (early && early->len)
        buf_put(&c->in, early->data, early->len);
    flush_machine(c);
}

int console_attach(struct api_call *call) {
    struct error e = {0};
    struct buf early = {0};
    unsigned port = (unsigned)row_number(call->args, "port");
    struct console *c = console_open(call->m->consoles, call->row.id, port, &e);
    int fd;

    if (!c && e.code == -EBUSY)
        return api_fail(call, FAILURE_LIMIT, "", "detach some", "%s", e.text);
    if (!c && port > 1 && !strcmp(row_text(call->row.status, "state"), "running"))
        return ports_fail(call, port);
    if (!c)
        return api_fail(call, FAILURE_CONFLICT, "status.state", "start it first",
                        "'%s' has no console now, it is %s", call->row.name,
                        row_text(call->row.status, "state"));
    fd = http_upgrade(call->x, "serial", &early);
    console_add(c, fd, &early);
    buf_done(&early);
    return 1;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Doorbells and message wires.
 *
 * The loop watches a doorbell for good, and a wire only while it is on, somebody else signals it,
 * and the backend does not carry it. A wire that nobody watches keeps its signals, in the eventfd's
 * count; epoll reports them when it is watched again, and KVM looks at the count when it takes it.
 *
 * Calls (main, vcpu): eventfd2 epoll_ctl poll read write
 */
#include "bus/wires.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/trace.h"

struct wires {
    struct loop *loop;
    const struct wires_ops *ops; /* NULL: nobody does it for us */
    void *opaque;
    bool held;
    struct doorbell *bells;
    struct msi_wire *messages;
};

struct doorbell {
    struct wires *wires;
    struct doorbell *next;
    int fd;
    struct loop_watch *watch;
    void (*rung)(void *opaque, unsigned n);
    void *opaque;
    unsigned n;
    uint64_t addr;
    bool rings; /* the backend has it at addr */
};

struct msi_wire {
    struct wires *wires;
    struct msi_wire *next;
    const struct msi_sink *sink;
    int fd;
    struct loop_watch *watch; /* NULL: the loop does not raise it */
    struct msi_message message;
    bool on;
    bool lent;    /* somebody else has the descriptor */
    bool carried; /* by the backend */
};

struct wires *wires_new(struct loop *loop, const struct wires_ops *ops, void *opaque) {
    struct wires *w = calloc(1, sizeof(*w));

    if (w)
        *w = (struct wires){.loop = loop, .ops = ops, .opaque = opaque};
    return w;
}

void wires_free(struct wires *w) { free(w); }

bool wires_direct(const struct wires *w) { return w && w->ops; }

/* False: nobody has signalled it. */
static bool take(int fd) {
    uint64_t count;

    return read(fd, &count, sizeof(count)) == sizeof(count);
}

/* ------------------------------------------------------------------ doorbells */

static void answer(struct doorbell *b) {
    if (!take(b->fd))
        return;
    stat_inc(doorbells);
    b->rung(b->opaque, b->n);
}

static void bell_ready(void *opaque, int fd, uint32_t events) { answer(opaque); }

struct doorbell *doorbell_new(struct wires *w, void (*rung)(void *opaque, unsigned n), void *opaque,
                              unsigned n) {
    struct doorbell *b = wires_direct(w) ? calloc(1, sizeof(*b)) : NULL;

    if (!b)
        return NULL;
    *b = (struct doorbell){.wires = w,
                           .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                           .rung = rung,
                           .opaque = opaque,
                           .n = n,
                           .addr = DOORBELL_NOWHERE};
    if (b->fd >= 0)
        b->watch = loop_add(w->loop, b->fd, EPOLLIN, bell_ready, b);
    if (!b->watch) {
        if (b->fd >= 0)
            close(b->fd);
        free(b);
        return NULL;
    }
    b->next = w->bells;
    w->bells = b;
    return b;
}

void doorbell_move(struct doorbell *b, uint64_t addr) {
    struct wires *w = b->wires;

    if (b->addr == addr)
        return;
    if (b->rings)
        w->ops->ring(w->opaque, b->addr, b->fd, false);
    b->addr = addr;
    b->rings = wires_direct(w) && addr != DOORBELL_NOWHERE &&
               w->ops->ring(w->opaque, addr, b->fd, true) == 0;
    trace(wires_doorbell, b->fd, addr, b->rings);
}

void doorbell_free(struct doorbell *b) {
    struct doorbell **link;

    if (!b)
        return;
    doorbell_move(b, DOORBELL_NOWHERE);
    for (link = &b->wires->bells; *link != b;)
        link = &(*link)->next;
    *link = b->next;
    loop_remove(b->watch);
    close(b->fd);
    free(b);
}

void wires_answer(struct wires *w) {
    for (struct doorbell *b = w ? w->bells : NULL, *next; b; b = next) {
        next = b->next; /* it may go away by its ring */
        answer(b);
    }
}

/* ------------------------------------------------------------------ message wires */

static void wire_ready(void *opaque, int fd, uint32_t events) {
    struct msi_wire *m = opaque;

    if (!take(fd))
        return;
    stat_inc(msi_by_loop);
    msi_send(m->sink, m->message.addr, m->message.data);
}

static void follow(struct msi_wire *m, bool changed) {
    struct wires *w = m->wires;
    bool wanted = m->on && !(m->lent && w->held), watched;

    if (m->carried && !wanted)
        w->ops->carry(w->opaque, m->fd, NULL);
    m->carried = wanted && wires_direct(w) &&
                 ((m->carried && !changed) || w->ops->carry(w->opaque, m->fd, &m->message) == 0);
    watched = wanted && m->lent && !m->carried;
    if (watched && !m->watch)
        m->watch = loop_add(w->loop, m->fd, EPOLLIN, wire_ready, m);
    if (!watched) {
        loop_remove(m->watch);
        m->watch = NULL;
    }
    trace(wires_message, m->fd, m->on, m->message.addr, m->message.data, m->carried);
}

struct msi_wire *msi_wire_new(struct wires *w, const struct msi_sink *sink) {
    struct msi_wire *m = w ? calloc(1, sizeof(*m)) : NULL;

    if (!m)
        return NULL;
    *m = (struct msi_wire){.wires = w, .sink = sink, .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (m->fd < 0) {
        free(m);
        return NULL;
    }
    m->next = w->messages;
    w->messages = m;
    return m;
}

void msi_wire_set(struct msi_wire *m, bool on, uint64_t addr, uint32_t data) {
    bool changed = on && (m->message.addr != addr || m->message.data != data);

    if (m->on == on && !changed)
        return;
    m->on = on;
    if (on)
        m->message = (struct msi_message){addr, data};
    follow(m, changed);
}

void msi_wire_free(struct msi_wire *m) {
    struct msi_wire **link;

    if (!m)
        return;
    msi_wire_set(m, false, 0, 0);
    for (link = &m->wires->messages; *link != m;)
        link = &(*link)->next;
    *link = m->next;
    close(m->fd);
    free(m);
}

int msi_wire_fd(struct msi_wire *m) {
    if (!m->lent) {
        m->lent = true;
        follow(m, false);
    }
    return m->fd;
}

bool msi_wire_pending(const struct msi_wire *m) {
    struct pollfd p = {.fd = m->fd, .events = POLLIN};

    return !m->carried && poll(&p, 1, 0) == 1;
}

bool msi_wire_raise(struct msi_wire *m) {
    const uint64_t one = 1;

    if (!m->carried || m->wires->held)
        return false;
    stat_inc(msi_signals);
    return write(m->fd, &one, sizeof(one)) == sizeof(one);
}

/* ------------------------------------------------------------------ all of them */

static void follow_all(struct wires *w) {
    for (struct msi_wire *m = w->messages; m; m = m->next)
        follow(m, false);
}

void wires_hold(struct wires *w) {
    if (!w || w->held)
        return;
    w->held = true;
    follow_all(w);
}

void wires_let_go(struct wires *w) {
    if (!w || !w->held)
        return;
    w->held = false;
    follow_all(w);
}

void wires_come_home(struct wires *w) {
    if (!w)
        return;
    w->ops = NULL;
    w->held = false;
    for (struct doorbell *b = w->bells; b; b = b->next)
        b->rings = false;
    for (struct msi_wire *m = w->messages; m; m = m->next) {
        m->carried = false;
        follow(m, false);
    }
}

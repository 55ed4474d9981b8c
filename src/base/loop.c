/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The event loop: one epoll set, one eventfd for calls from other threads, one signalfd a signal.
 *
 * A round waits without the lock, then runs everything that became ready with it. A watch removed
 * meanwhile may still be in the list of ready ones, so it is only marked; the end of the round
 * frees it.
 */
#include "base/loop.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

/*
 * Calls (main, net): epoll_create1 epoll_wait epoll_pwait signalfd4
 * Calls (main, vcpu, disk, net): epoll_ctl
 */

enum { EVENTS_PER_ROUND = 64 };

struct loop_watch {
    struct loop *loop;
    struct loop_watch *next, **link; /* in loop->watches, or `next` alone in loop->removed */
    loop_fd_fn *fn;
    void *opaque;
    int fd;
    uint32_t events;
    bool removed;
};

struct call { /* a posted call */
    struct call *next;
    loop_fn *fn;
    void *opaque;
};

struct signal_watch {
    struct signal_watch *next;
    loop_fn *fn;
    void *opaque;
    int fd;
};

struct loop {
    pthread_mutex_t *lock; /* the owner's, may be NULL */
    int epoll, wake;
    struct loop_watch *watches, *removed;
    struct signal_watch *signals;
    pthread_mutex_t calls_lock; /* innermost: loop_post is called under any other lock */
    struct call *calls, **calls_end;
    bool stop;
    struct loop_lender *lenders;
    bool lent; /* to one thread */
};

static void wake_up(struct loop *loop) {
    uint64_t one = 1;
    ssize_t n = write(loop->wake, &one, sizeof(one));

    /* EAGAIN would mean that the counter is full, thus awake anyway. */
    assert(n == sizeof(one) || errno == EAGAIN);
    (void)n;
}

static bool run_calls(struct loop *loop) {
    struct call *c, *next;

    pthread_mutex_lock(&loop->calls_lock);
    c = loop->calls;
    loop->calls = NULL;
    loop->calls_end = &loop->calls;
    pthread_mutex_unlock(&loop->calls_lock);
    if (!c)
        return false;
    for (; c; c = next) {
        next = c->next;
        c->fn(c->opaque);
        free(c);
    }
    return true;
}

static void free_removed(struct loop *loop) {
    struct loop_watch *w;

    while ((w = loop->removed)) {
        loop->removed = w->next;
        free(w);
    }
}

struct loop *loop_new(pthread_mutex_t *lock, struct error *err) {
    struct loop *loop = calloc(1, sizeof(*loop));
    struct epoll_event ev = {.events = EPOLLIN}; /* data.ptr NULL is the wake descriptor */

    if (!loop) {
        error_set(err, -ENOMEM, "event loop: out of memory");
        return NULL;
    }
    loop->lock = lock;
    loop->calls_end = &loop->calls;
    pthread_mutex_init(&loop->calls_lock, NULL);
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    loop->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->epoll < 0 || loop->wake < 0 ||
        epoll_ctl(loop->epoll, EPOLL_CTL_ADD, loop->wake, &ev) < 0) {
        error_set(err, -errno, "event loop: %s; raise the limit of open files (ulimit -n)",
                  strerror(errno));
        loop_free(loop);
        return NULL;
    }
    return loop;
}

void loop_free(struct loop *loop) {
    struct signal_watch *s;
    struct call *c;

    if (!loop)
        return;
    while (loop->watches)
        loop_remove(loop->watches);
    free_removed(loop);
    while ((s = loop->signals)) {
        loop->signals = s->next;
        close(s->fd);
        free(s);
    }
    while ((c = loop->calls)) {
        loop->calls = c->next;
        free(c);
    }
    pthread_mutex_destroy(&loop->calls_lock);
    if (loop->epoll >= 0)
        close(loop->epoll);
    if (loop->wake >= 0)
        close(loop->wake);
    free(loop);
}

struct loop_watch *loop_add(struct loop *loop, int fd, uint32_t events, loop_fd_fn *fn,
                            void *opaque) {
    struct loop_watch *w = calloc(1, sizeof(*w));
    struct epoll_event ev = {.events = events, .data.ptr = w};

    if (!w)
        return NULL;
    if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &ev) < 0) {
        free(w);
        return NULL;
    }
    *w = (struct loop_watch){.loop = loop,
                             .fn = fn,
                             .opaque = opaque,
                             .fd = fd,
                             .events = events,
                             .next = loop->watches};
    if (events == 0)
        epoll_ctl(loop->epoll, EPOLL_CTL_DEL, fd, NULL); /* see loop_modify */
    w->link = &loop->watches;
    if (w->next)
        w->next->link = &w->next;
    loop->watches = w;
    return w;
}

/*
 * epoll reports hang-ups even to those who asked for nothing. A watch that wants nothing (flow
 * control on a closed connection, say) leaves the set instead, or the loop would spin.
 */
void loop_modify(struct loop_watch *w, uint32_t events) {
    struct epoll_event ev = {.events = events, .data.ptr = w};
    int op = !events ? EPOLL_CTL_DEL : !w->events ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;

    if (w->removed || events == w->events)
        return;
    epoll_ctl(w->loop->epoll, op, w->fd, &ev);
    w->events = events;
}

void loop_remove(struct loop_watch *w) {
    if (!w || w->removed)
        return;
    if (w->events)
        epoll_ctl(w->loop->epoll, EPOLL_CTL_DEL, w->fd, NULL);
    *w->link = w->next;
    if (w->next)
        w->next->link = w->link;
    w->removed = true;
    w->next = w->loop->removed;
    w->loop->removed = w;
}

void loop_post(struct loop *loop, loop_fn *fn, void *opaque) {
    struct call *c = calloc(1, sizeof(*c));
    bool first;

    if (!c)
        abort(); /* a lost call would be a lost interrupt or request */
    c->fn = fn;
    c->opaque = opaque;
    pthread_mutex_lock(&loop->calls_lock);
    first = !loop->calls;
    *loop->calls_end = c;
    loop->calls_end = &c->next;
    pthread_mutex_unlock(&loop->calls_lock);
    if (first)
        wake_up(loop);
}

static void signal_ready(void *opaque, int fd, uint32_t events) {
    struct signal_watch *s = opaque;
    struct signalfd_siginfo info;

    if (read(fd, &info, sizeof(info)) == sizeof(info))
        s->fn(s->opaque);
}

int loop_signal(struct loop *loop, int signo, loop_fn *fn, void *opaque, struct error *err) {
    struct signal_watch *s = calloc(1, sizeof(*s));
    sigset_t set;

    if (!s)
        return error_set(err, -ENOMEM, "signal %d: out of memory", signo);
    sigemptyset(&set);
    sigaddset(&set, signo);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    s->fn = fn;
    s->opaque = opaque;
    s->fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s->fd < 0 || !loop_add(loop, s->fd, EPOLLIN, signal_ready, s)) {
        int code = errno ? -errno : -ENOMEM;

        if (s->fd >= 0)
            close(s->fd);
        free(s);
        return error_set(err, code,
                         "signal %d cannot be watched: %s; raise the limit of open files", signo,
                         strerror(-code));
    }
    s->next = loop->signals;
    loop->signals = s;
    return 0;
}

void loop_add_lender(struct loop *loop, struct loop_lender *lender) {
    lender->lent = false;
    lender->next = loop->lenders;
    loop->lenders = lender;
}

void loop_remove_lender(struct loop *loop, struct loop_lender *lender) {
    struct loop_lender **at = &loop->lenders;

    while (*at && *at != lender)
        at = &(*at)->next;
    if (*at)
        *at = lender->next;
}

unsigned loop_lend(struct loop *loop, struct pollfd *fds, unsigned max) {
    unsigned count = 0, n;

    if (loop->lent)
        return 0;
    for (struct loop_lender *l = loop->lenders; l && count < max; l = l->next) {
        n = l->lend(l->opaque, fds + count, max - count);
        l->lent = n > 0;
        count += n;
    }
    loop->lent = count > 0;
    return count;
}

void loop_take_back(struct loop *loop) {
    struct loop_lender *l;

    loop->lent = false;
    do { /* a callback may take any lender away, so the search begins anew after each */
        for (l = loop->lenders; l && !l->lent; l = l->next)
            ;
        if (l) {
            l->lent = false;
            l->take_back(l->opaque);
        }
    } while (l);
}

static bool run_ready(struct loop *loop, const struct epoll_event *ev, int n) {
    bool ran = false;
    uint64_t count;

    for (int i = 0; i < n; i++) {
        struct loop_watch *w = ev[i].data.ptr;

        if (!w) {
            /* Emptied before the calls are taken: a call posted later wakes the next round. */
            if (read(loop->wake, &count, sizeof(count)) == sizeof(count))
                ran |= run_calls(loop);
        } else {
            /* What an earlier callback of the round has switched off must not arrive any more. */
            uint32_t events = ev[i].events & (w->events | EPOLLERR | EPOLLHUP);

            if (w->removed || !w->events || !events)
                continue;
            w->fn(w->opaque, w->fd, events);
            ran = true;
        }
    }
    return ran;
}

bool loop_step(struct loop *loop, int timeout_ms) {
    struct epoll_event ev[EVENTS_PER_ROUND];
    int n = epoll_wait(loop->epoll, ev, EVENTS_PER_ROUND, timeout_ms);
    bool ran;

    if (n <= 0)
        return false;
    if (loop->lock)
        pthread_mutex_lock(loop->lock);
    ran = run_ready(loop, ev, n);
    free_removed(loop);
    if (loop->lock)
        pthread_mutex_unlock(loop->lock);
    return ran;
}

void loop_run(struct loop *loop) {
    while (!__atomic_exchange_n(&loop->stop, false, __ATOMIC_ACQ_REL))
        loop_step(loop, -1);
}

void loop_stop(struct loop *loop) {
    __atomic_store_n(&loop->stop, true, __ATOMIC_RELEASE);
    wake_up(loop);
}

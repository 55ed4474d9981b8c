/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A binary heap of timers on one timerfd. */
#include "base/timer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/loop.h"

/*
 * Calls (main, vcpu, net): timerfd_create timerfd_settime
 */

struct timers {
    struct timer **heap; /* from 1 on; children of i are 2i and 2i+1 */
    size_t count, room;
    struct loop_watch *watch;
    int fd;
};

static int64_t now_ns(void) {
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t timer_now_ms(void) { return now_ns() / 1000000; }

static void put(struct timers *t, size_t i, struct timer *timer) {
    t->heap[i] = timer;
    timer->at = i;
}

static void sift_up(struct timers *t, size_t i) {
    struct timer *timer = t->heap[i];

    for (; i > 1 && t->heap[i / 2]->due > timer->due; i /= 2)
        put(t, i, t->heap[i / 2]);
    put(t, i, timer);
}

static void sift_down(struct timers *t, size_t i) {
    struct timer *timer = t->heap[i];
    size_t child;

    for (; (child = 2 * i) <= t->count; i = child) {
        if (child < t->count && t->heap[child + 1]->due < t->heap[child]->due)
            child++;
        if (t->heap[child]->due >= timer->due)
            break;
        put(t, i, t->heap[child]);
    }
    put(t, i, timer);
}

static void set_clock(struct timers *t) {
    struct itimerspec when = {0};

    if (t->count) {
        int64_t due = t->heap[1]->due;

        when.it_value.tv_sec = due / 1000000000;
        when.it_value.tv_nsec = due % 1000000000;
    }
    timerfd_settime(t->fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void take(struct timers *t, size_t i) {
    struct timer *last = t->heap[t->count];

    t->heap[i]->at = 0;
    t->count--;
    if (i > t->count)
        return;
    put(t, i, last);
    sift_down(t, i);
    sift_up(t, last->at);
}

static void ready(void *opaque, int fd, uint32_t events) {
    struct timers *t = opaque;
    int64_t now = now_ns();
    uint64_t count;

    if (read(fd, &count, sizeof(count)) < 0)
        return;
    while (t->count && t->heap[1]->due <= now) {
        struct timer *timer = t->heap[1];

        take(t, 1);
        timer->fn(timer->opaque);
    }
    set_clock(t);
}

struct timers *timers_new(struct loop *loop, struct error *err) {
    struct timers *t = calloc(1, sizeof(*t));

    if (!t) {
        error_set(err, -ENOMEM, "timers: out of memory");
        return NULL;
    }
    t->fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    t->watch = t->fd < 0 ? NULL : loop_add(loop, t->fd, EPOLLIN, ready, t);
    if (!t->watch) {
        error_set(err, -EMFILE, "timers: no descriptor for them; raise the limit of open files");
        timers_free(t);
        return NULL;
    }
    return t;
}

void timers_free(struct timers *t) {
    if (!t)
        return;
    loop_remove(t->watch);
    if (t->fd >= 0)
        close(t->fd);
    free(t->heap);
    free(t);
}

void timer_start(struct timers *t, struct timer *timer, int64_t ms, void (*fn)(void *opaque),
                 void *opaque) {
    timer_stop(timer);
    if (t->count + 2 > t->room) {
        t->room = t->room ? 2 * t->room : 16;
        t->heap = realloc(t->heap, t->room * sizeof(*t->heap));
        if (!t->heap)
            abort(); /* a lost timer would be a lost restart or deadline */
    }
    timer->fn = fn;
    timer->opaque = opaque;
    timer->timers = t;
    timer->due = now_ns() + ms * 1000000;
    put(t, ++t->count, timer);
    sift_up(t, t->count);
    if (timer->at == 1)
        set_clock(t);
}

void timer_stop(struct timer *timer) {
    struct timers *t = timer->timers;
    bool first = timer->at == 1;

    if (!timer->at)
        return;
    take(t, timer->at);
    if (first)
        set_clock(t);
}

bool timer_runs(const struct timer *timer) { return timer->at != 0; }

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests that wait for the limits of their disk.
 *
 * Theory of operation: a request that is over a limit waits in a queue, reads and writes apart so
 * that a limit on one does not hold the other up; where both may go they take turns. A timer of the
 * host wakes the loop when the first may go, at most once in WAKE_NS: what gathers meanwhile goes
 * together, and throttle.c keeps the average. Flushes are never held back. A drain lets everything
 * go at once and on account: what waits then is paid for later.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/trace.h"
#include "block/block_internal.h"
#include "block/throttle.h"

/*
 * Calls (main, vcpu, disk): timerfd_create timerfd_settime
 */

#define WAKE_NS 500000ull

struct limit {
    struct block *block;
    struct throttle throttle;
    int fd; /* timerfd */
    struct loop_watch *watch;
    bool write_next; /* whose turn it is */
    struct {
        struct block_request *first, **end;
    } queue[2]; /* reads, writes */
};

static uint64_t now_ns(void) {
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static bool is_write(const struct block_request *req) { return req->op != BLOCK_READ; }

/* Discards and zeroes count as a write, but move no data. */
static uint64_t bytes_of(const struct block_request *req) {
    return req->op == BLOCK_READ || req->op == BLOCK_WRITE ? req->length : 0;
}

static void let_go(struct limit *l, bool write, uint64_t now) {
    struct block_request *req = l->queue[write].first;

    l->queue[write].first = req->next;
    if (!req->next)
        l->queue[write].end = &l->queue[write].first;
    l->write_next = !write;
    throttle_charge(&l->throttle, write, bytes_of(req), now);
    l->block->ops->submit(l->block, req);
}

static bool may_go(const struct limit *l, bool write, uint64_t now) {
    return l->queue[write].first && throttle_wait(&l->throttle, write, now) == 0;
}

static void arm(struct limit *l, uint64_t now) {
    struct itimerspec at = {0};
    uint64_t wait = UINT64_MAX, due;

    for (unsigned w = 0; w < 2; w++)
        if (l->queue[w].first) {
            uint64_t n = throttle_wait(&l->throttle, w, now);

            wait = n < wait ? n : wait;
        }
    if (wait == UINT64_MAX)
        return;
    due = now + (wait > WAKE_NS ? wait : WAKE_NS);
    at.it_value.tv_sec = (time_t)(due / 1000000000ull);
    at.it_value.tv_nsec = (long)(due % 1000000000ull);
    timerfd_settime(l->fd, TFD_TIMER_ABSTIME, &at, NULL);
}

static void let_those_go_that_may(struct limit *l) {
    uint64_t now = now_ns();

    block_plug(l->block);
    for (;;) {
        bool write = l->write_next;

        if (!may_go(l, write, now))
            write = !write;
        if (!may_go(l, write, now))
            break;
        let_go(l, write, now);
    }
    block_unplug(l->block);
    arm(l, now);
}

static void timer_ready(void *opaque, int fd, uint32_t events) {
    let_those_go_that_may(opaque); /* edge-triggered, as block.c's eventfd */
}

bool limit_hold(struct limit *l, struct block_request *req) {
    bool write = is_write(req), first = !l->queue[write].first;
    uint64_t now;

    if (req->op == BLOCK_FLUSH || !throttle_active(&l->throttle))
        return false;
    now = now_ns();
    if (first && throttle_wait(&l->throttle, write, now) == 0) {
        throttle_charge(&l->throttle, write, bytes_of(req), now);
        return false;
    }
    stat_inc(block_limited);
    req->next = NULL;
    *l->queue[write].end = req;
    l->queue[write].end = &req->next;
    if (first)
        arm(l, now);
    return true;
}

bool limit_try(const struct limit *l, const struct block_request *req) {
    bool write = is_write(req);

    return !throttle_active(&l->throttle) ||
           (!l->queue[write].first && throttle_wait(&l->throttle, write, now_ns()) == 0);
}

void limit_tried(struct limit *l, const struct block_request *req) {
    if (throttle_active(&l->throttle))
        throttle_charge(&l->throttle, is_write(req), bytes_of(req), now_ns());
}

void limit_release(struct limit *l) {
    uint64_t now = now_ns();

    for (unsigned w = 0; w < 2; w++)
        while (l->queue[w].first)
            let_go(l, w, now);
}

void limit_set(struct limit *l, const struct block_limits *limits) {
    throttle_set(&l->throttle, limits, now_ns());
    let_those_go_that_may(l);
}

struct limit *limit_new(struct block *b, struct error *err) {
    struct limit *l = calloc(1, sizeof(*l));

    if (!l) {
        error_set(err, -ENOMEM, "disk image '%s': out of memory", b->path);
        return NULL;
    }
    l->block = b;
    for (unsigned w = 0; w < 2; w++)
        l->queue[w].end = &l->queue[w].first;
    l->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (l->fd >= 0)
        l->watch = loop_add(b->loop, l->fd, EPOLLIN | EPOLLET, timer_ready, l);
    if (l->watch)
        return l;
    error_set(err, -EMFILE,
              "disk image '%s': no timer for its limits; raise the limit of open files (ulimit -n)",
              b->path);
    limit_free(l);
    return NULL;
}

void limit_free(struct limit *l) {
    if (!l)
        return;
    loop_remove(l->watch);
    if (l->fd >= 0)
        close(l->fd);
    free(l);
}

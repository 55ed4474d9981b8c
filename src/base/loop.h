/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Event loop of a process: descriptors, deferred calls, signals (epoll, eventfd, signalfd).
 *
 * Contract: one thread runs loop_run; every callback runs on it with the loop's lock held (the
 * machine lock when one was given). loop_post and loop_stop may be called from any thread; the
 * others with the lock held or before loop_run. A callback may remove any watch, its own included.
 */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct loop;
struct loop_watch;

typedef void loop_fd_fn(void *opaque, int fd, uint32_t events); /* events: EPOLLIN, EPOLLOUT, ... */
typedef void loop_fn(void *opaque);

/*
 * Something whose completions a thread that sleeps anyway can wait for in the loop's stead, which
 * spares the detour through the loop's thread. All with the lock held.
 */
struct loop_lender {
    /* Work is under way: the loop is not woken for it from now on, but one of the descriptors put
     * into fds (up to max) becomes readable. Returns how many; 0: there is nothing to wait for. */
    unsigned (*lend)(void *opaque, struct pollfd *fds, unsigned max);
    /* The loop is woken again; what is complete is dealt with, on the calling thread. */
    void (*take_back)(void *opaque);
    void *opaque;
    struct loop_lender *next; /* the loop's */
    bool lent;                /* the loop's */
};

struct loop *loop_new(pthread_mutex_t *lock /* may be NULL */, struct error *err);
/* Accepts NULL; frees remaining watches, closes no descriptor of others. */
void loop_free(struct loop *loop);

/* Never fails for a valid descriptor pollable by epoll; regular files are refused with NULL. */
struct loop_watch *loop_add(struct loop *loop, int fd, uint32_t events, loop_fd_fn *fn,
                            void *opaque);
void loop_modify(struct loop_watch *watch, uint32_t events);
/* Accepts NULL; comes before the close of its descriptor. */
void loop_remove(struct loop_watch *watch);

/* Calls fn(opaque) once, soon, on the loop's thread. */
void loop_post(struct loop *loop, loop_fn *fn, void *opaque);

/* Calls fn on signo, blocked in this thread from now on; call before other threads start. */
int loop_signal(struct loop *loop, int signo, loop_fn *fn, void *opaque, struct error *err);

/* The lender stays its owner's, who takes it away before it is freed. With the lock held. */
void loop_add_lender(struct loop *loop, struct loop_lender *lender);
void loop_remove_lender(struct loop *loop, struct loop_lender *lender);
/* Any thread, with the lock held: what is to be waited for, for one thread at a time; 0 = nothing.
 * Then the lock is released, poll called, the lock taken, and loop_take_back called. */
unsigned loop_lend(struct loop *loop, struct pollfd *fds, unsigned max);
void loop_take_back(struct loop *loop);

void loop_run(struct loop *loop);                  /* until loop_stop */
bool loop_step(struct loop *loop, int timeout_ms); /* one round, for tests; true if something ran */
void loop_stop(struct loop *loop);

#endif

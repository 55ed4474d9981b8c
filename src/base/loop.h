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

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct loop;
struct loop_watch;

typedef void loop_fd_fn(void *opaque, int fd, uint32_t events); /* events: EPOLLIN, EPOLLOUT, ... */
typedef void loop_fn(void *opaque);

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

void loop_run(struct loop *loop);                  /* until loop_stop */
bool loop_step(struct loop *loop, int timeout_ms); /* one round, for tests; true if something ran */
void loop_stop(struct loop *loop);

#endif

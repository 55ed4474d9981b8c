/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A ring of io_uring for one file; all calls with the machine lock held. */
#ifndef BLOCK_URING_H
#define BLOCK_URING_H

#include "block/block.h"

struct uring;

/* NULL if the host refuses io_uring (old kernel, sysctl, seccomp, locked memory): *ret_code is the
 * negative errno. event_fd is signalled at each completion. */
struct uring *uring_new(int fd, int event_fd, int *ret_code);
void uring_free(struct uring *u); /* nothing is in flight; accepts NULL */
/* Queues a READ or WRITE at req->at; false if there is no room. */
bool uring_submit(struct uring *u, struct block_request *req);
/* Whether the eventfd is signalled at completions from now on. Returns the descriptor that is
 * readable while there are some, or -1 if nothing is in flight or the host cannot do without. */
int uring_set_quiet(struct uring *u, bool quiet);
void uring_kick(struct uring *u); /* hands what is queued to the kernel */
/* Calls fn for each completion with the bytes transferred or a negative errno. */
void uring_reap(struct uring *u, void (*fn)(struct block_request *req, int result));

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Work that may block (making and removing files), on threads of its own.
 *
 * Contract: work(opaque) runs on some thread, then done(opaque) on the loop's. At most
 * WORKER_THREADS at the same time, the others wait in order.
 */
#ifndef HOST_WORKER_H
#define HOST_WORKER_H

#include "base/error.h"

enum { WORKER_THREADS = 4 };

struct loop;
struct workers;

struct workers *workers_new(struct loop *loop, struct error *err);
void workers_run(struct workers *w, void (*work)(void *opaque), void (*done)(void *opaque),
                 void *opaque);
/* Waits for what runs; `done` is not called any more, nor is what waits begun. Accepts NULL. */
void workers_free(struct workers *w);

#endif

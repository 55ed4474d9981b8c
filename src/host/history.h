/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kept history: every second what machines and the host use, or less often, so that it never
 * takes more than half a percent of a processor (history.c). Samples wait in memory for a minute
 * and are written by a worker, a machine's to machines/ID/history, the host's to history
 * (history_file.h): what a manager that is killed has not written yet is lost, nothing else.
 *
 * Contract: the loop's thread.
 */
#ifndef HOST_HISTORY_H
#define HOST_HISTORY_H

#include "host/history_file.h"
#include "host/manager.h"

struct histories;
struct history_series; /* of one machine, while there is something to do about it */
struct usage;
struct api_call;

struct histories *histories_new(struct manager *m);
void histories_begin(struct histories *h);
void histories_free(struct histories *h); /* writes what waits; accepts NULL */

/* What a machine uses now; NULL: it is not up. *series is the machine's, NULL at first. */
void history_saw(struct histories *h, const char *id, const struct usage *u,
                 struct history_series **series);
/* The machine is not looked after any more. */
void history_end(struct histories *h, struct history_series **series);

/* The operations `history` of machines and of the host. */
int history_of_vm(struct api_call *call);
int history_of_host(struct api_call *call);
const char *history_field(bool host, unsigned i); /* NULL behind the last one */

/* For history_ops.c: where the file is ("": the host's), and what waits: at most `room`. */
int history_open(struct manager *m, const char *id, int flags);
unsigned history_waiting(const struct histories *h, const char *id, struct history_sample *ret,
                         unsigned room);

#endif

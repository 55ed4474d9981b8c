/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Jobs: work of a machine that goes on after the command that asked for it was answered, such as a
 * snapshot or a copy of a disk. Clients are told of its beginning, progress and end.
 *
 * Contract: all on the loop's thread with the machine lock held; work on other threads comes back
 * by loop_post. Who starts a job ends it exactly once, by job_done or job_failed, and does not
 * touch it afterwards.
 */
#ifndef VM_JOB_H
#define VM_JOB_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct job;
struct jobs;

struct job_ops {
    const char *kind; /* "snapshot" */
    /* Give up soon: job_failed follows with -ECANCELED. NULL: it cannot be cancelled. */
    void (*cancel)(void *opaque);
    bool cancel_ends; /* it has followed when cancel returns */
    bool prepares;    /* it takes a moment of the machine: job_began says that this is over */
    void (*set_speed)(void *opaque, uint64_t bytes_a_second); /* 0: no limit. NULL: it has none */
    /* After job_ready: come to the end. NULL: it does so by itself. */
    void (*complete)(void *opaque);
};

/* NULL with a sentence: too many run. */
struct job *job_start(struct jobs *jobs, const struct job_ops *ops, void *opaque,
                      struct error *err);
unsigned job_id(const struct job *job);
void job_began(struct job *job);
/* How far it is, in a unit of its own (bytes, mostly); clients get a few events a second of it. */
void job_progress(struct job *job, uint64_t done, uint64_t total);
void job_ready(struct job *job);                /* only job-complete is missing */
void job_done(struct job *job, json_t *result); /* takes the reference; NULL = nothing to say */
void job_failed(struct job *job, const struct error *e); /* -ECANCELED: as was asked for */

/* ---- for the control socket ---- */

struct jobs *jobs_new(void (*changed)(void *opaque, json_t *view), void *opaque);
void jobs_free(struct jobs *jobs); /* every job without cancel_ends has ended; accepts NULL */
unsigned jobs_running(const struct jobs *jobs);
json_t *jobs_list(const struct jobs *jobs);
int jobs_cancel(struct jobs *jobs, unsigned id, struct error *err);
int jobs_complete(struct jobs *jobs, unsigned id, struct error *err);
int jobs_set_speed(struct jobs *jobs, unsigned id, uint64_t bytes_a_second, struct error *err);

#endif

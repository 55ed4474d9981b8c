/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Jobs of a machine: those that run, and the last ones that ended. */
#include "vm/job.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_RUNNING = 16, MAX_ENDED = 16, EVENT_NS = 200 * 1000 * 1000 };

enum job_state { PREPARING, RUNNING, READY, DONE, FAILED, CANCELLED };

static const char *const state_names[] = {"preparing", "running", "ready",
                                          "done",      "failed",  "cancelled"};

struct job {
    struct job *next;
    struct jobs *jobs;
    const struct job_ops *ops;
    void *opaque;
    unsigned id;
    enum job_state state;
    uint64_t done, total, told_at;
    json_t *result;
    struct error error;
};

struct jobs {
    struct job *first; /* newest first */
    unsigned last_id;
    void (*changed)(void *opaque, json_t *view);
    void *opaque;
};

static bool runs(const struct job *j) { return j->state <= READY; }

static json_t *view(const struct job *j) {
    json_t *v = json_pack("{s:i, s:s, s:s, s:I, s:I}", "id", (int)j->id, "kind", j->ops->kind,
                          "state", state_names[j->state], "done", (json_int_t)j->done, "total",
                          (json_int_t)j->total);

    if (j->state == FAILED)
        json_object_set_new(v, "error", json_string(j->error.text));
    if (j->result)
        json_object_set(v, "result", j->result);
    return v;
}

static uint64_t now_ns(void) {
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void tell(struct job *j) {
    j->told_at = now_ns();
    if (j->jobs->changed)
        j->jobs->changed(j->jobs->opaque, view(j));
}

static void job_free(struct job *j) {
    json_decref(j->result);
    free(j);
}

/* The oldest of those that ended go. */
static void forget(struct jobs *jobs) {
    unsigned ended = 0;

    for (struct job **link = &jobs->first, *j; (j = *link);) {
        if (runs(j) || ++ended <= MAX_ENDED) {
            link = &j->next;
            continue;
        }
        *link = j->next;
        job_free(j);
    }
}

struct job *job_start(struct jobs *jobs, const struct job_ops *ops, void *opaque,
                      struct error *err) {
    struct job *j;

    if (jobs_running(jobs) == MAX_RUNNING) {
        error_set(err, -EBUSY, "%d jobs run already: wait for one of them to end", MAX_RUNNING);
        return NULL;
    }
    j = calloc(1, sizeof(*j));
    if (!j) {
        error_set(err, -ENOMEM, "the job: out of memory");
        return NULL;
    }
    *j = (struct job){.next = jobs->first,
                      .jobs = jobs,
                      .ops = ops,
                      .opaque = opaque,
                      .id = ++jobs->last_id,
                      .state = ops->prepares ? PREPARING : RUNNING};
    jobs->first = j;
    tell(j);
    return j;
}

unsigned job_id(const struct job *job) { return job->id; }

void job_began(struct job *j) {
    if (j->state != PREPARING)
        return;
    j->state = RUNNING;
    tell(j);
}

void job_progress(struct job *j, uint64_t done, uint64_t total) {
    j->done = done;
    j->total = total;
    if (now_ns() - j->told_at >= EVENT_NS)
        tell(j);
}

void job_ready(struct job *j) {
    assert(runs(j));
    if (j->state == READY)
        return;
    j->state = READY;
    tell(j);
}

static void ended(struct job *j, enum job_state state) {
    assert(runs(j));
    j->state = state;
    tell(j);
    forget(j->jobs);
}

void job_done(struct job *j, json_t *result) {
    j->result = result;
    ended(j, DONE);
}

void job_failed(struct job *j, const struct error *e) {
    j->error = *e;
    ended(j, e->code == -ECANCELED ? CANCELLED : FAILED);
}

struct jobs *jobs_new(void (*changed)(void *opaque, json_t *view), void *opaque) {
    struct jobs *jobs = calloc(1, sizeof(*jobs));

    if (!jobs)
        return NULL;
    jobs->changed = changed;
    jobs->opaque = opaque;
    return jobs;
}

void jobs_free(struct jobs *jobs) {
    struct job *j;

    if (!jobs)
        return;
    jobs->changed = NULL;
    for (j = jobs->first; j; j = runs(j) && j->ops->cancel_ends ? jobs->first : j->next)
        if (runs(j) && j->ops->cancel_ends)
            j->ops->cancel(j->opaque);
    while ((j = jobs->first)) {
        jobs->first = j->next;
        job_free(j);
    }
    free(jobs);
}

unsigned jobs_running(const struct jobs *jobs) {
    unsigned n = 0;

    for (const struct job *j = jobs->first; j; j = j->next)
        n += runs(j);
    return n;
}

json_t *jobs_list(const struct jobs *jobs) {
    json_t *list = json_array();

    for (const struct job *j = jobs->first; j; j = j->next)
        json_array_insert_new(list, 0, view(j)); /* oldest first */
    return list;
}

static struct job *find_running(struct jobs *jobs, unsigned id, struct error *err) {
    for (struct job *j = jobs->first; j; j = j->next) {
        if (j->id != id)
            continue;
        if (runs(j))
            return j;
        error_set(err, -EALREADY, "job %u is over already: it is %s", id, state_names[j->state]);
        return NULL;
    }
    error_set(err, -ENOENT, "there is no job %u: 'jobs' lists them", id);
    return NULL;
}

int jobs_cancel(struct jobs *jobs, unsigned id, struct error *err) {
    struct job *j = find_running(jobs, id, err);

    if (!j)
        return err->code;
    if (!j->ops->cancel)
        return error_set(err, -EBUSY, "job %u, a %s, cannot be cancelled: wait for its end", id,
                         j->ops->kind);
    j->ops->cancel(j->opaque);
    return 0;
}

int jobs_complete(struct jobs *jobs, unsigned id, struct error *err) {
    struct job *j = find_running(jobs, id, err);

    if (!j)
        return err->code;
    if (j->state != READY || !j->ops->complete)
        return error_set(err, -EBUSY, "job %u, a %s, is not ready: wait for its event", id,
                         j->ops->kind);
    j->ops->complete(j->opaque);
    return 0;
}

int jobs_set_speed(struct jobs *jobs, unsigned id, uint64_t bytes_a_second, struct error *err) {
    struct job *j = find_running(jobs, id, err);

    if (!j)
        return err->code;
    if (!j->ops->set_speed)
        return error_set(err, -EINVAL, "job %u, a %s, has no limit of speed", id, j->ops->kind);
    j->ops->set_speed(j->opaque, bytes_a_second);
    return 0;
}

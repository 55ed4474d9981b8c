/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Jobs on several disks that share one instant.
 *
 * Theory of operation: each disk has a job of its own. The jobs meet (blockjob_meet) when they are
 * prepared, when all have closed the gates of their disks, and, if what follows can fail, at the
 * end. Between the second meeting and the first gate that opens no disk changes: that is the
 * instant. A meeting succeeds when all have come to it; whoever fails or is cancelled before makes
 * it fail for all, those who wait as well as those who come later, so that nobody goes on alone and
 * nobody waits with a closed gate for somebody who never comes.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/block_internal.h"
#include "block/blockjob_internal.h"

struct member {
    struct blockjob_group *group;
    struct blockjob *job; /* group->lock; NULL: not started, or ended */
    struct block *disk;   /* loop, and so on */
    uint64_t done, total;
};

struct blockjob_group {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned members, arrived, round;
    bool failed;
    struct error error; /* the first one */
    /* the loop's: */
    struct blockjob_fns fns;
    bool begun;   /* and told */
    bool refused; /* not all could be started: nobody is told */
    bool unwhole; /* a member has ended without success */
    unsigned running;
    struct member member[];
};

/* ------------------------------------------------------------------ any thread */

/* With the lock held. */
static void fail(struct blockjob_group *g, const struct error *err) {
    if (g->failed)
        return;
    g->failed = true;
    g->error = *err;
    for (unsigned i = 0; i < g->members; i++)
        if (g->member[i].job)
            blockjob_tell_cancelled(g->member[i].job);
    pthread_cond_broadcast(&g->changed);
}

void blockjob_group_fail(struct blockjob_group *g, const struct error *err) {
    pthread_mutex_lock(&g->lock);
    fail(g, err);
    pthread_mutex_unlock(&g->lock);
}

int blockjob_meet(struct blockjob *j, int result, struct error *err) {
    struct blockjob_group *g = blockjob_group_of(j);
    unsigned round;
    bool met;

    if (!g)
        return result;
    if (result < 0 && !err->code)
        error_set(err, result, "disk image '%s': %s", blockjob_disk(j)->image->path,
                  strerror(-result));
    pthread_mutex_lock(&g->lock);
    if (result < 0)
        fail(g, err);
    round = g->round;
    if (!g->failed && ++g->arrived == g->members) {
        g->arrived = 0;
        g->round++;
        pthread_cond_broadcast(&g->changed);
    }
    while (!g->failed && g->round == round)
        pthread_cond_wait(&g->changed, &g->lock);
    met = g->round != round; /* who fails afterwards does so for the next one */
    pthread_mutex_unlock(&g->lock);
    if (met || result < 0)
        return result;
    return error_set(err, -ECANCELED, "given up, since another disk failed");
}

int blockjob_meet_first(struct blockjob *j, int result, struct error *err) {
    struct disk *d = blockjob_disk(j);

    if (blockjob_group_of(j) && result == 0) { /* what comes now goes through threads */
        disk_gate_close(d);
        disk_gate_open(d);
    }
    return blockjob_meet(j, result, err);
}

/* ------------------------------------------------------------------ on the loop */

void blockjob_group_forget(struct blockjob_group *g, const struct blockjob *j) {
    pthread_mutex_lock(&g->lock);
    for (unsigned i = 0; i < g->members; i++)
        if (g->member[i].job == j)
            g->member[i].job = NULL;
    pthread_mutex_unlock(&g->lock);
}

static void group_free(struct blockjob_group *g) {
    pthread_mutex_destroy(&g->lock);
    pthread_cond_destroy(&g->changed);
    free(g);
}

/* The instant is one of all. */
static void member_began(void *opaque) {
    struct blockjob_group *g = ((struct member *)opaque)->group;

    if (g->fns.began && !g->refused && !g->begun)
        g->fns.began(g->fns.opaque);
    g->begun = true;
}

static void member_progress(void *opaque, uint64_t done, uint64_t total) {
    struct member *m = opaque;
    struct blockjob_group *g = m->group;
    uint64_t all_done = 0, all = 0;

    m->done = done;
    m->total = total;
    for (unsigned i = 0; i < g->members; i++) {
        all_done += g->member[i].done;
        all += g->member[i].total;
    }
    if (g->fns.progress && !g->refused)
        g->fns.progress(g->fns.opaque, all_done, all);
}

static void member_ended(void *opaque, const struct error *err) {
    struct blockjob_group *g = ((struct member *)opaque)->group;

    g->unwhole |= err != NULL;
    if (--g->running)
        return;
    if (g->fns.ended && !g->refused)
        g->fns.ended(g->fns.opaque, g->unwhole ? &g->error : NULL);
    group_free(g);
}

static struct blockjob_group *group_new(unsigned count, const struct blockjob_fns *fns) {
    struct blockjob_group *g = calloc(1, sizeof(*g) + count * sizeof(g->member[0]));

    if (!g)
        return NULL;
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->changed, NULL);
    g->members = count;
    g->fns = *fns;
    for (unsigned i = 0; i < count; i++)
        g->member[i].group = g;
    return g;
}

static int start_member(struct blockjob_group *g, unsigned i, struct block *disk,
                        const struct blockjob_spec *spec, struct error *err) {
    struct member *m = &g->member[i];
    struct blockjob_fns fns = {
        .began = member_began, .progress = member_progress, .ended = member_ended, .opaque = m};
    struct blockjob *j = blockjob_start_in(g, disk, spec, &fns, err);

    if (!j)
        return -EINVAL;
    pthread_mutex_lock(&g->lock);
    m->job = j;
    if (g->failed) /* by one that was started before */
        blockjob_tell_cancelled(j);
    pthread_mutex_unlock(&g->lock);
    g->running++;
    return 0;
}

/* The same disk twice would wait for itself, and what runs already cannot be joined. */
static int check(struct block *const *disks, unsigned count, struct error *err) {
    for (unsigned i = 0; i < count; i++)
        for (unsigned k = 0; k < i; k++)
            if (disks[i] == disks[k])
                return error_set(err, -EINVAL, "disk image '%s' is named twice",
                                 block_info(disks[i])->path);
    return 0;
}

struct blockjob_group *blockjob_start_group(struct block *const *disks,
                                            const struct blockjob_spec *specs, unsigned count,
                                            const struct blockjob_fns *fns, struct error *err) {
    struct blockjob_group *g = NULL;
    struct error refusal = {0};

    assert(count && count <= BLOCKJOB_GROUP_MAX);
    if (check(disks, count, err) < 0)
        return NULL;
    g = group_new(count, fns);
    if (!g) {
        error_set(err, -ENOMEM, "the jobs on %u disks: out of memory", count);
        return NULL;
    }
    for (unsigned i = 0; i < count; i++)
        if (start_member(g, i, disks[i], &specs[i], &refusal) < 0) {
            *err = refusal;
            g->refused = true;
            blockjob_group_fail(g, &refusal);
            if (!g->running)
                group_free(g);
            return NULL;
        }
    return g;
}

void blockjob_group_cancel(struct blockjob_group *g) {
    struct error err = {0};

    error_set(&err, -ECANCELED, "given up");
    blockjob_group_fail(g, &err);
}

/* What one does not use the others do not get: disks of very different sizes end at different
 * times. */
void blockjob_group_set_speed(struct blockjob_group *g, uint64_t bytes_a_second) {
    uint64_t each = bytes_a_second / g->members;

    for (unsigned i = 0; i < g->members; i++)
        if (g->member[i].job)
            blockjob_set_speed(g->member[i].job, bytes_a_second && !each ? 1 : each);
}

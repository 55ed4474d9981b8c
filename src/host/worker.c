/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A thread for each piece of work, a few at a time: they are rare, and idle threads cost memory. */
#include "host/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/loop.h"

enum { STACK = 512 * 1024 };

struct job {
    struct job *next;
    struct workers *workers;
    void (*work)(void *opaque);
    void (*done)(void *opaque);
    void *opaque;
};

struct workers {
    struct loop *loop;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    struct job *first, **last; /* waiting */
    unsigned running;
    bool closing;
};

struct workers *workers_new(struct loop *loop, struct error *err) {
    struct workers *w = calloc(1, sizeof(*w));

    if (!w) {
        error_set(err, -ENOMEM, "workers: out of memory");
        return NULL;
    }
    w->loop = loop;
    w->last = &w->first;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->ended, NULL);
    return w;
}

static void finish(void *opaque) {
    struct job *job = opaque;

    job->done(job->opaque);
    free(job);
}

static struct job *next_job(struct workers *w) {
    struct job *job = w->closing ? NULL : w->first;

    if (job) {
        w->first = job->next;
        if (!w->first)
            w->last = &w->first;
    }
    return job;
}

static void *thread_main(void *opaque) {
    struct job *job = opaque;
    struct workers *w = job->workers;

    do {
        job->work(job->opaque);
        pthread_mutex_lock(&w->lock);
        if (!w->closing)
            loop_post(w->loop, finish, job);
        else
            free(job);
        job = next_job(w);
        if (!job) {
            w->running--;
            pthread_cond_signal(&w->ended);
        }
        pthread_mutex_unlock(&w->lock);
    } while (job);
    return NULL;
}

/* False: no thread can be had. */
static bool start_thread(struct job *job) {
    pthread_attr_t attr;
    pthread_t id;
    bool good;

    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, STACK);
    good = pthread_create(&id, &attr, thread_main, job) == 0;
    pthread_attr_destroy(&attr);
    return good;
}

void workers_run(struct workers *w, void (*work)(void *opaque), void (*done)(void *opaque),
                 void *opaque) {
    struct job *job = calloc(1, sizeof(*job));
    bool here = false;

    if (!job)
        abort(); /* lost work would leave a resource half-done for ever */
    *job = (struct job){.workers = w, .work = work, .done = done, .opaque = opaque};
    pthread_mutex_lock(&w->lock);
    if (w->running == WORKER_THREADS) {
        *w->last = job;
        w->last = &job->next;
    } else if (start_thread(job)) {
        w->running++;
    } else {
        here = true;
    }
    pthread_mutex_unlock(&w->lock);
    if (here) { /* slower, but it is done */
        work(opaque);
        loop_post(w->loop, finish, job);
    }
}

void workers_free(struct workers *w) {
    struct job *job;

    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->closing = true;
    while (w->running)
        pthread_cond_wait(&w->ended, &w->lock);
    pthread_mutex_unlock(&w->lock);
    while ((job = w->first)) {
        w->first = job->next;
        free(job);
    }
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->ended);
    free(w);
}

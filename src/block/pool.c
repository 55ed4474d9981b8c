/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Threads that do blocking image I/O: a queue, and threads that start when there is more work than
 * idle threads.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/jail.h"
#include "block/block_internal.h"

/*
 * A thread's name is a file:
 *
 * Calls (main, vcpu, job): openat
 */

enum { MAX_THREADS = 16, STACK_SIZE = 512 * 1024 };

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct block_request *queue, **end;
    void (*run)(struct block_request *req);
    unsigned max, started, idle, queued;
    bool stop;
    pthread_t thread[MAX_THREADS];
};

static struct block_request *next_request(struct pool *p) {
    struct block_request *req;

    pthread_mutex_lock(&p->lock);
    p->idle++;
    while (!p->queue && !p->stop)
        pthread_cond_wait(&p->work, &p->lock);
    p->idle--;
    req = p->queue;
    if (req) {
        p->queue = req->next;
        p->queued--;
        if (!p->queue)
            p->end = &p->queue;
    }
    pthread_mutex_unlock(&p->lock);
    return req;
}

static void *thread_main(void *opaque) {
    struct pool *p = opaque;
    struct block_request *req;

    pthread_setname_np(pthread_self(), "viv-disk");
    jail_thread(JAIL_DISK);
    while ((req = next_request(p)))
        p->run(req);
    return NULL;
}

/* Called with p->lock held. */
static void start_thread(struct pool *p) {
    sigset_t all, old;
    pthread_attr_t attr;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    /* Signals are the loop's business; a write past a file size limit must give EFBIG, not SIGXFSZ.
     */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (!pthread_create(&p->thread[p->started], &attr, thread_main, p))
        p->started++;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
}

void pool_submit(struct pool *p, struct block_request *req) {
    bool queued = true;

    req->next = NULL;
    pthread_mutex_lock(&p->lock);
    if (p->queued >= p->idle && p->started < p->max)
        start_thread(p);
    if (p->started) {
        *p->end = req;
        p->end = &req->next;
        p->queued++;
        pthread_cond_signal(&p->work);
    } else {
        queued = false;
    }
    pthread_mutex_unlock(&p->lock);
    if (!queued)
        p->run(req); /* the host gives us no thread: slow, but right */
}

struct pool *pool_new(unsigned max, void (*run)(struct block_request *req), struct error *err) {
    struct pool *p = calloc(1, sizeof(*p));

    assert(max <= MAX_THREADS);
    if (!p) {
        error_set(err, -ENOMEM, "disk threads: out of memory");
        return NULL;
    }
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    p->end = &p->queue;
    p->run = run;
    p->max = max;
    return p;
}

void pool_free(struct pool *p) {
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->started; i++)
        pthread_join(p->thread[i], NULL);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

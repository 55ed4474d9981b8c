/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A share's life, and the threads that serve it.
 *
 * A request goes into a queue, from which threads take it, which are started when there is more to
 * do than threads that wait. What is served goes into a second queue, and an eventfd tells the
 * loop.
 */
#include "share/share.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/jail.h"
#include "base/loop.h"
#include "share/server.h"
#include "share/share_internal.h"

enum { STACK_SIZE = 512 << 10, DESCRIPTORS_MIN = 256, DESCRIPTORS_MAX = 1 << 16 };

/* ---- threads ---- */

static struct share_request *take(struct share *s) {
    struct share_request *r;

    pthread_mutex_lock(&s->queue_lock);
    s->waiting++;
    while (!s->queue && !s->stop)
        pthread_cond_wait(&s->work, &s->queue_lock);
    s->waiting--;
    r = s->queue;
    if (r) {
        s->queue = r->next;
        if (!s->queue)
            s->queue_end = &s->queue;
        s->queued--;
    }
    pthread_mutex_unlock(&s->queue_lock);
    return r;
}

static void completed(struct share *s, struct share_request *r) {
    bool first;

    pthread_mutex_lock(&s->queue_lock);
    first = !s->complete;
    r->next = NULL;
    *s->complete_end = r;
    s->complete_end = &r->next;
    if (!--s->active)
        pthread_cond_broadcast(&s->idle);
    pthread_mutex_unlock(&s->queue_lock);
    if (first)
        eventfd_write(s->event_fd, 1);
}

static void *thread_main(void *opaque) {
    struct share *s = opaque;
    struct share_request *r;

    prctl(PR_SET_NAME, "viv-share");
    jail_thread(JAIL_AUX);
    while ((r = take(s))) {
        r->written = share_serve(s, r);
        completed(s, r);
    }
    return NULL;
}

/* With queue_lock held. Signals are the loop's business. */
static void start_thread(struct share *s) {
    sigset_t all, old;
    pthread_attr_t attr;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (!pthread_create(&s->thread[s->threads], &attr, thread_main, s))
        s->threads++;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
}

void share_submit(struct share *s, struct share_request *r) {
    bool queued;

    pthread_mutex_lock(&s->queue_lock);
    if (s->queued >= s->waiting && s->threads < SHARE_THREADS)
        start_thread(s);
    s->active++;
    queued = s->threads != 0;
    if (queued) {
        r->next = NULL;
        *s->queue_end = r;
        s->queue_end = &r->next;
        s->queued++;
        pthread_cond_signal(&s->work);
    }
    pthread_mutex_unlock(&s->queue_lock);
    if (queued)
        return;
    r->written = share_serve(s, r); /* the host gives us no thread: slow, but right */
    completed(s, r);
}

/* ---- what is done ---- */

static void finish(struct share *s) {
    struct share_request *r, *next;
    bool any;

    pthread_mutex_lock(&s->queue_lock);
    r = s->complete;
    s->complete = NULL;
    s->complete_end = &s->complete;
    pthread_mutex_unlock(&s->queue_lock);
    any = r != NULL;
    for (; r; r = next) {
        next = r->next;
        if (!s->quiet)
            r->done(r, r->written);
    }
    if (any && !s->quiet && s->batch)
        s->batch(s->batch_opaque);
}

static void event(void *opaque, int fd, uint32_t events) {
    eventfd_t count;

    eventfd_read(fd, &count);
    finish(opaque);
}

/* A processor that halts while it waits for an answer takes it without the detour. */
static unsigned lend(void *opaque, struct pollfd *fds, unsigned max) {
    struct share *s = opaque;
    bool busy;

    pthread_mutex_lock(&s->queue_lock);
    busy = s->active != 0;
    pthread_mutex_unlock(&s->queue_lock);
    if (!busy || !max)
        return 0;
    loop_modify(s->watch, 0);
    fds[0] = (struct pollfd){.fd = s->event_fd, .events = POLLIN};
    return 1;
}

static void take_back(void *opaque) {
    struct share *s = opaque;

    loop_modify(s->watch, EPOLLIN);
    event(s, s->event_fd, EPOLLIN);
}

void share_drain(struct share *s) {
    for (;;) {
        bool any;

        pthread_mutex_lock(&s->queue_lock);
        while (s->active)
            pthread_cond_wait(&s->idle, &s->queue_lock);
        any = s->complete != NULL;
        pthread_mutex_unlock(&s->queue_lock);
        if (!any)
            return;
        finish(s); /* whose callbacks may submit more */
    }
}

void share_set_batch_fn(struct share *s, void (*batch)(void *opaque), void *opaque) {
    s->batch = batch;
    s->batch_opaque = opaque;
}

void share_reset(struct share *s) {
    share_drain(s);
    if (s->server) {
        share_server_reset(s->server);
        return;
    }
    handle_clear(s);
    node_table_clear(s);
    s->began = false;
}

/* ---- life ---- */

/* Programs keep many files open: as many descriptors as the host lets us have. */
static unsigned descriptors(void) {
    struct rlimit l;

    if (getrlimit(RLIMIT_NOFILE, &l) < 0)
        return DESCRIPTORS_MIN;
    if (l.rlim_cur < l.rlim_max && l.rlim_cur < DESCRIPTORS_MAX) {
        l.rlim_cur = l.rlim_max < DESCRIPTORS_MAX ? l.rlim_max : DESCRIPTORS_MAX;
        setrlimit(RLIMIT_NOFILE, &l);
        getrlimit(RLIMIT_NOFILE, &l);
    }
    return l.rlim_cur < DESCRIPTORS_MAX ? (unsigned)l.rlim_cur : DESCRIPTORS_MAX;
}

static int open_folder(struct share *s, const char *path, int proc_fd, struct error *err) {
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC), r;

    if (fd < 0)
        return error_set(err, -errno,
                         "the folder '%s' cannot be shared: %s; give a folder that is there, "
                         "as --share TAG=FOLDER",
                         path, strerror(errno));
    s->proc_fd = proc_fd ? proc_fd : open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (s->proc_fd < 0 || access(path, R_OK | X_OK) < 0) {
        r = error_set(err, -errno, "the folder '%s' cannot be shared: %s: %s", path,
                      s->proc_fd < 0 ? "/proc is needed" : "it cannot be read", strerror(errno));
        close(fd);
        return r;
    }
    r = node_table_init(s, fd, err);
    if (r < 0 && !s->root)
        close(fd);
    return r;
}

static int open_event(struct share *s, struct loop *loop, struct error *err) {
    s->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->event_fd < 0)
        return error_set(err, -errno, "a shared folder: %s; raise the limit of open files",
                         strerror(errno));
    if (!loop)
        return 0;
    s->watch = loop_add(loop, s->event_fd, EPOLLIN, event, s);
    if (!s->watch)
        return error_set(err, -ENOMEM, "a shared folder: out of memory");
    s->lender = (struct loop_lender){.lend = lend, .take_back = take_back, .opaque = s};
    loop_add_lender(loop, &s->lender);
    return 0;
}

struct share *share_open(struct loop *loop, const struct share_options *o, struct error *err) {
    struct share *s = calloc(1, sizeof(*s));
    unsigned fds = o->server ? 0 : descriptors();

    if (!s) {
        error_set(err, -ENOMEM, "a shared folder: out of memory");
        return NULL;
    }
    s->loop = loop;
    s->readonly = o->readonly;
    s->server = o->server;
    s->uid = geteuid();
    s->gid = getegid();
    s->proc_fd = s->event_fd = -1;
    s->max_node_fds = fds / 8;
    s->max_handles = fds / 4;
    s->queue_end = &s->queue;
    s->complete_end = &s->complete;
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->queue_lock, NULL);
    pthread_cond_init(&s->work, NULL);
    pthread_cond_init(&s->idle, NULL);
    if ((s->server || open_folder(s, o->path, o->proc_fd, err) == 0) &&
        open_event(s, loop, err) == 0)
        return s;
    share_close(s);
    return NULL;
}

void share_close(struct share *s) {
    if (!s)
        return;
    s->quiet = true;
    share_drain(s);
    pthread_mutex_lock(&s->queue_lock);
    s->stop = true;
    pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->queue_lock);
    for (unsigned i = 0; i < s->threads; i++)
        pthread_join(s->thread[i], NULL);
    if (s->root) {
        handle_clear(s);
        node_table_done(s);
    }
    if (s->watch)
        loop_remove_lender(s->loop, &s->lender);
    loop_remove(s->watch);
    if (s->event_fd >= 0)
        close(s->event_fd);
    if (s->proc_fd >= 0)
        close(s->proc_fd);
    pthread_cond_destroy(&s->idle);
    pthread_cond_destroy(&s->work);
    pthread_mutex_destroy(&s->queue_lock);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

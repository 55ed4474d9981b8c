/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Jobs on disks: their threads, and how they and the loop hear of each other.
 *
 * The thread leaves what there is to tell in the job and writes its eventfd; the loop tells it. So
 * the thread never takes the machine lock, which somebody may hold who waits for the disk.
 */
#include "block/blockjob.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/jail.h"
#include "base/loop.h"
#include "block/block_internal.h"
#include "block/blockjob_internal.h"
#include "block/qcow2_bitmap.h"
#include "block/throttle.h"

/*
 * Calls (main, job): unlink
 */

enum { TELL_NS = 200 * 1000 * 1000, MS = 1000 * 1000 };

const char *const blockjob_names[BLOCKJOB_KINDS] = {
    [BLOCKJOB_SNAPSHOT] = "disk-snapshot", [BLOCKJOB_COMMIT] = "disk-commit",
    [BLOCKJOB_STREAM] = "disk-stream",     [BLOCKJOB_MIRROR] = "disk-mirror",
    [BLOCKJOB_BACKUP] = "disk-backup",     [BLOCKJOB_RESIZE] = "disk-resize",
};

static blockjob_fn *const run_fns[BLOCKJOB_KINDS] = {
    [BLOCKJOB_SNAPSHOT] = blockjob_run_snapshot, [BLOCKJOB_COMMIT] = blockjob_run_commit,
    [BLOCKJOB_STREAM] = blockjob_run_stream,     [BLOCKJOB_MIRROR] = blockjob_run_mirror,
    [BLOCKJOB_BACKUP] = blockjob_run_backup,     [BLOCKJOB_RESIZE] = blockjob_run_resize,
};

struct blockjob {
    struct disk *disk;
    struct blockjob_group *group; /* NULL: none */
    struct blockjob_spec spec;    /* its strings are ours */
    struct blockjob_fns fns;
    pthread_t thread;
    int event_fd;
    struct loop_watch *watch;
    bool told_began, told_ready; /* loop */

    pthread_mutex_t lock; /* the rest */
    pthread_cond_t changed;
    bool cancelled, completing, began, ready, ended;
    struct throttle throttle;
    uint64_t done, total;
    struct error error; /* of the end */
    uint64_t told_at;   /* the thread's own */
};

static uint64_t now_ns(void) {
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ------------------------------------------------------------------ on the job's thread */

struct disk *blockjob_disk(struct blockjob *j) {
    return j->disk;
}
const struct blockjob_spec *blockjob_spec(const struct blockjob *j) { return &j->spec; }
struct blockjob_group *blockjob_group_of(struct blockjob *j) {
    return j->group;
}

static void wake_loop(struct blockjob *j) {
    uint64_t one = 1;

    if (write(j->event_fd, &one, sizeof(one)) < 0)
        return; /* the counter is full: awake anyway */
}

bool blockjob_is_cancelled(struct blockjob *j) {
    bool cancelled;

    pthread_mutex_lock(&j->lock);
    cancelled = j->cancelled;
    pthread_mutex_unlock(&j->lock);
    return cancelled;
}

int blockjob_check(struct blockjob *j, struct error *err) {
    return blockjob_is_cancelled(j) ? error_set(err, -ECANCELED, "given up") : 0;
}

void blockjob_tell(struct blockjob *j, uint64_t done, uint64_t total) {
    uint64_t now = now_ns();

    pthread_mutex_lock(&j->lock);
    j->done = done;
    j->total = total;
    pthread_mutex_unlock(&j->lock);
    if (now - j->told_at < TELL_NS)
        return;
    j->told_at = now;
    wake_loop(j);
}

static void tell_flag(struct blockjob *j, bool *flag) {
    pthread_mutex_lock(&j->lock);
    *flag = true;
    pthread_mutex_unlock(&j->lock);
    wake_loop(j);
}

void blockjob_began(struct blockjob *j) { tell_flag(j, &j->began); }

void blockjob_ready(struct blockjob *j) { tell_flag(j, &j->ready); }

static void wait_until(struct blockjob *j, uint64_t when) {
    struct timespec t = {(time_t)(when / 1000000000u), (long)(when % 1000000000u)};

    pthread_cond_timedwait(&j->changed, &j->lock, &t);
}

bool blockjob_wait(struct blockjob *j, unsigned ms) {
    uint64_t end = now_ns() + (uint64_t)ms * MS;
    bool told;

    pthread_mutex_lock(&j->lock);
    while (!(told = j->cancelled || (j->completing && j->ready)) && now_ns() < end)
        wait_until(j, end);
    pthread_mutex_unlock(&j->lock);
    return told;
}

/* In steps, so that a limit that is changed counts at once. */
void blockjob_pace(struct blockjob *j, uint64_t bytes) {
    pthread_mutex_lock(&j->lock);
    throttle_charge(&j->throttle, false, bytes, now_ns());
    for (;;) {
        uint64_t now = now_ns(), wait = throttle_wait(&j->throttle, false, now);

        if (!wait || j->cancelled)
            break;
        wait_until(j, now + wait);
    }
    pthread_mutex_unlock(&j->lock);
}

static void *thread_main(void *opaque) {
    struct blockjob *j = opaque;
    struct error err = {0};
    int r;

    pthread_setname_np(pthread_self(), "viv-job");
    jail_thread(JAIL_JOB);
    r = run_fns[j->spec.kind](j, &err);
    if (r < 0 && !err.code)
        error_set(&err, r, "%s: %s", blockjob_names[j->spec.kind], strerror(-r));
    if (r < 0 && j->group)
        blockjob_group_fail(j->group, &err);
    pthread_mutex_lock(&j->lock);
    if (r == 0)
        err.code = 0;
    j->error = err;
    j->ended = true;
    pthread_mutex_unlock(&j->lock);
    wake_loop(j);
    return NULL;
}

/* ------------------------------------------------------------------ images */

struct chain *blockjob_open_image(struct blockjob *j, const struct chain_options *options,
                                  struct error *err) {
    struct chain_options o = *options;

    o.block = j->disk->block;
    o.engine = &j->disk->engine;
    return chain_open(&o, err);
}

struct chain *blockjob_new_image(struct blockjob *j, const struct chain_create *c,
                                 struct error *err) {
    struct chain_options o = {.path = c->path, .format = c->format, .no_backing = true};
    struct chain *image;

    if (chain_create(c, err) < 0)
        return NULL;
    image = blockjob_open_image(j, &o, err);
    if (!image)
        unlink(c->path);
    return image;
}

int blockjob_carry_bitmaps(struct chain *to, struct chain *from, struct error *err) {
    return to->qcow2 && from->qcow2 ? qcow2_bitmaps_carry(to->qcow2, from->qcow2, err) : 0;
}

/* ------------------------------------------------------------------ on the loop */

static void job_free(struct blockjob *j) {
    loop_remove(j->watch);
    if (j->event_fd >= 0)
        close(j->event_fd);
    pthread_mutex_destroy(&j->lock);
    pthread_cond_destroy(&j->changed);
    free((char *)j->spec.path);
    free((char *)j->spec.format);
    free((char *)j->spec.top);
    free((char *)j->spec.base);
    free((char *)j->spec.bitmap);
    free((char *)j->spec.parent);
    free(j);
}

static void end(struct blockjob *j) {
    struct blockjob_fns fns = j->fns;
    struct disk *d = j->disk;
    struct error err;

    pthread_join(j->thread, NULL);
    err = j->error;
    d->job = NULL;
    disk_changed(d);
    if (j->group)
        blockjob_group_forget(j->group, j);
    job_free(j);
    if (fns.ended)
        fns.ended(fns.opaque, err.code ? &err : NULL);
}

static void heard(void *opaque, int fd, uint32_t events) {
    struct blockjob *j = opaque;
    bool began, ready, ended;
    uint64_t done, total;

    pthread_mutex_lock(&j->lock);
    began = j->began && !j->told_began;
    ready = j->ready && !j->told_ready;
    ended = j->ended;
    done = j->done;
    total = j->total;
    pthread_mutex_unlock(&j->lock);
    j->told_began |= began;
    if (began && j->fns.began)
        j->fns.began(j->fns.opaque);
    if (j->fns.progress)
        j->fns.progress(j->fns.opaque, done, total);
    j->told_ready |= ready;
    if (ready && j->fns.ready)
        j->fns.ready(j->fns.opaque);
    if (ended)
        end(j);
}

static bool keep(const char **s) {
    if (!*s)
        return true;
    *s = strdup(*s);
    return *s != NULL;
}

static bool keep_strings(struct blockjob_spec *s) {
    const char **all[] = {&s->path, &s->format, &s->top, &s->base, &s->bitmap, &s->parent};
    bool good = true;

    for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        good &= keep(all[i]);
    return good;
}

static struct blockjob *job_new(struct disk *d, const struct blockjob_spec *spec,
                                const struct blockjob_fns *fns) {
    struct blockjob *j = calloc(1, sizeof(*j));
    pthread_condattr_t attr;

    if (!j)
        return NULL;
    j->disk = d;
    j->spec = *spec;
    j->fns = *fns;
    pthread_mutex_init(&j->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&j->changed, &attr);
    pthread_condattr_destroy(&attr);
    throttle_set(&j->throttle, &(struct block_limits){.bps = {spec->speed}}, now_ns());
    j->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (j->event_fd >= 0)
        j->watch = loop_add(d->block->loop, j->event_fd, EPOLLIN | EPOLLET, heard, j);
    if (keep_strings(&j->spec) && j->watch)
        return j;
    job_free(j);
    return NULL;
}

static int start_thread(struct blockjob *j) {
    sigset_t all, old;
    int r;

    sigfillset(&all); /* signals are the loop's business */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    r = pthread_create(&j->thread, NULL, thread_main, j);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return -r;
}

struct blockjob *blockjob_start_in(struct blockjob_group *group, struct block *b,
                                   const struct blockjob_spec *spec, const struct blockjob_fns *fns,
                                   struct error *err) {
    struct disk *d = disk_of(b);
    struct blockjob *j;

    if (!d ||
        (b->info.readonly && spec->kind != BLOCKJOB_MIRROR && spec->kind != BLOCKJOB_BACKUP)) {
        error_set(err, -EBUSY,
                  "disk image '%s' is only read by this machine; jobs need one that "
                  "it writes",
                  b->path);
        return NULL;
    }
    if (d->job) {
        error_set(err, -EBUSY,
                  "disk image '%s': a job (%s) works on it already; wait for its end, or cancel it",
                  b->path, blockjob_running(b));
        return NULL;
    }
    j = job_new(d, spec, fns);
    if (!j) {
        error_set(err, -ENOMEM, "the job on disk image '%s': out of memory or descriptors",
                  b->path);
        return NULL;
    }
    j->group = group;
    d->job = j; /* from now on all requests go through the gate on threads */
    if (start_thread(j) == 0)
        return j;
    d->job = NULL;
    job_free(j);
    error_set(err, -EAGAIN, "the job on disk image '%s': the host gives no thread", b->path);
    return NULL;
}

struct blockjob *blockjob_start(struct block *b, const struct blockjob_spec *spec,
                                const struct blockjob_fns *fns, struct error *err) {
    return blockjob_start_in(NULL, b, spec, fns, err);
}

static void tell_thread(struct blockjob *j, bool *flag) {
    pthread_mutex_lock(&j->lock);
    *flag = true;
    pthread_cond_broadcast(&j->changed);
    pthread_mutex_unlock(&j->lock);
}

void blockjob_tell_cancelled(struct blockjob *j) { tell_thread(j, &j->cancelled); }

void blockjob_cancel(struct blockjob *j) {
    struct error err = {0};

    blockjob_tell_cancelled(j);
    if (!j->group)
        return;
    error_set(&err, -ECANCELED, "given up");
    blockjob_group_fail(j->group, &err);
}

void blockjob_complete(struct blockjob *j) { tell_thread(j, &j->completing); }

void blockjob_set_speed(struct blockjob *j, uint64_t bytes_a_second) {
    pthread_mutex_lock(&j->lock);
    throttle_set(&j->throttle, &(struct block_limits){.bps = {bytes_a_second}}, now_ns());
    pthread_cond_broadcast(&j->changed);
    pthread_mutex_unlock(&j->lock);
}

const char *blockjob_running(const struct block *b) {
    const struct disk *d = disk_of(b);

    return d && d->job ? blockjob_names[d->job->spec.kind] : NULL;
}

/* The job may wait for requests that are inside the gate: they need nobody's lock to come out, but
 * those that a file's ring has need somebody to reap them. */
void blockjob_stop(struct block *b) {
    struct disk *d = b->state ? disk_of(b) : NULL;

    if (!d || !d->job)
        return;
    blockjob_cancel(d->job);
    block_drain(b);
    end(d->job);
}

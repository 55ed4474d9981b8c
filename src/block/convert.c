/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Several threads copy, each a piece of the disk at a time; pieces are whole clusters of the
 * target, so that they do not wait for each other.
 */
#include "block/convert.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"

enum { COPY = 1 << 20, GRAIN = 4096, PIECE = 4 << 20, MAX_THREADS = 16, LOOK_MS = 200 };

/* ------------------------------------------------------------------ a range */

static int put(struct chain *to, uint8_t *data, uint64_t offset, uint64_t length) {
    struct iovec v = {data, length};
    struct span s = {&v, 1, 0};

    return chain_write(to, &s, offset, length);
}

/* Writes the grains that are not zero, as runs. */
static int put_sparse(struct chain *to, uint8_t *data, uint64_t offset, uint64_t length,
                      bool fresh) {
    uint64_t at = 0;
    int r = 0;

    while (r == 0 && at < length) {
        uint64_t from = at, grain = length - at < GRAIN ? length - at : GRAIN;
        bool zero = bytes_are_zero(data + at, grain);

        while (at < length) {
            grain = length - at < GRAIN ? length - at : GRAIN;
            if (bytes_are_zero(data + at, grain) != zero)
                break;
            at += grain;
        }
        if (!zero)
            r = put(to, data + from, offset + from, at - from);
        else if (!fresh)
            r = chain_zero(to, offset + from, at - from, true);
    }
    return r;
}

int convert_range(struct chain *from, struct chain *to, uint64_t offset, uint64_t length,
                  bool fresh) {
    uint8_t *data = malloc(COPY);
    int r = data ? 0 : -ENOMEM;

    while (r == 0 && length) {
        struct iovec v = {data, 0};
        struct span s = {&v, 1, 0};
        struct chain_run run;

        r = chain_map(from, offset, length, &run);
        if (r == 0 && !run.data) {
            r = fresh ? 0 : chain_zero(to, offset, run.length, true);
        } else if (r == 0) {
            run.length = run.length < COPY ? run.length : COPY;
            v.iov_len = run.length;
            r = chain_read(from, &s, offset, run.length);
            if (r == 0)
                r = put_sparse(to, data, offset, run.length, fresh);
        }
        offset += run.length;
        length -= run.length;
    }
    free(data);
    return r;
}

/* ------------------------------------------------------------------ all of it */

struct work {
    struct chain *from, *to;
    uint64_t size, next, piece, done; /* next, done: atomic */
    bool compress;
    const int *stop;
    int result; /* atomic: the first failure */
    unsigned running;
    pthread_mutex_t lock;
    pthread_cond_t ended;
};

static int compress_piece(struct work *w, uint64_t offset, uint64_t length) {
    uint8_t *data = malloc(w->piece);
    struct iovec v = {data, length};
    struct span s = {&v, 1, 0};
    struct chain_run run;
    int r = data ? chain_map(w->from, offset, length, &run) : -ENOMEM;

    if (r == 0 && (run.data || run.length < length)) {
        r = chain_read(w->from, &s, offset, length);
        if (r == 0 && !bytes_are_zero(data, length))
            r = qcow2_write_compressed(w->to->qcow2, data, offset, length);
    }
    free(data);
    return r;
}

static void *copy_thread(void *opaque) {
    struct work *w = opaque;

    while (__atomic_load_n(&w->result, __ATOMIC_RELAXED) == 0) {
        uint64_t at = __atomic_fetch_add(&w->next, w->piece, __ATOMIC_RELAXED), n;
        int r;

        if (at >= w->size)
            break;
        if (w->stop && __atomic_load_n(w->stop, __ATOMIC_RELAXED)) {
            __atomic_store_n(&w->result, -ECANCELED, __ATOMIC_RELAXED);
            break;
        }
        n = w->size - at < w->piece ? w->size - at : w->piece;
        r = w->compress ? compress_piece(w, at, n) : convert_range(w->from, w->to, at, n, true);
        if (r < 0)
            __atomic_store_n(&w->result, r, __ATOMIC_RELAXED);
        __atomic_fetch_add(&w->done, n, __ATOMIC_RELAXED);
    }
    pthread_mutex_lock(&w->lock);
    w->running--;
    pthread_cond_signal(&w->ended);
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static void wait_for_threads(const struct convert *c, struct work *w) {
    struct timespec t;

    pthread_mutex_lock(&w->lock);
    while (w->running) {
        clock_gettime(CLOCK_REALTIME, &t);
        t.tv_nsec += LOOK_MS * 1000000l;
        t.tv_sec += t.tv_nsec / 1000000000;
        t.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&w->ended, &w->lock, &t);
        if (c->progress)
            c->progress(c->opaque, __atomic_load_n(&w->done, __ATOMIC_RELAXED), w->size);
    }
    pthread_mutex_unlock(&w->lock);
}

static int run(const struct convert *c, struct work *w, unsigned threads) {
    pthread_t id[MAX_THREADS];
    unsigned started = 0;

    for (; started < threads && started < MAX_THREADS; started++) {
        pthread_mutex_lock(&w->lock);
        w->running++;
        pthread_mutex_unlock(&w->lock);
        if (pthread_create(&id[started], NULL, copy_thread, w) != 0) {
            pthread_mutex_lock(&w->lock);
            w->running--;
            pthread_mutex_unlock(&w->lock);
            break;
        }
    }
    if (!started) {
        w->running = 1;
        copy_thread(w);
    }
    wait_for_threads(c, w);
    for (unsigned i = 0; i < started; i++)
        pthread_join(id[i], NULL);
    return w->result;
}

int convert_all(const struct convert *c) {
    long threads = c->threads ? (long)c->threads : sysconf(_SC_NPROCESSORS_ONLN);
    struct work w = {.from = c->from,
                     .to = c->to,
                     .size = c->from->size,
                     .piece = PIECE,
                     .compress = c->compress,
                     .stop = c->stop};
    struct qcow2_info info;
    int r;

    if (c->compress) {
        qcow2_info(c->to->qcow2, &info);
        w.piece = info.cluster_size;
    }
    pthread_mutex_init(&w.lock, NULL);
    pthread_cond_init(&w.ended, NULL);
    r = run(c, &w, threads < 1 ? 1 : (unsigned)threads);
    pthread_cond_destroy(&w.ended);
    pthread_mutex_destroy(&w.lock);
    return r;
}

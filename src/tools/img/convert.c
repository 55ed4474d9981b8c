/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * viv-img convert, compare.
 *
 * Several threads copy, each a piece of the disk at a time; pieces are whole clusters of the
 * target, so that they do not wait for each other. Other formats than raw and qcow2 are qemu-img's
 * business; of an OVA (a tar archive) it is shown the disk inside.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/img/create.h"

enum { PIECE = 4 << 20, MAX_THREADS = 16, COMPARE = 1 << 20 };

struct work {
    struct chain *from, *to;
    uint64_t size, next, piece, done; /* next, done: atomic */
    bool compress;
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
        n = w->size - at < w->piece ? w->size - at : w->piece;
        r = w->compress ? compress_piece(w, at, n) : img_copy(w->from, w->to, at, n, true);
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

static void wait_for_threads(const struct img_args *a, struct work *w) {
    struct timespec t;

    pthread_mutex_lock(&w->lock);
    while (w->running) {
        clock_gettime(CLOCK_REALTIME, &t);
        t.tv_nsec += 200 * 1000 * 1000;
        t.tv_sec += t.tv_nsec / 1000000000;
        t.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&w->ended, &w->lock, &t);
        img_progress(a, __atomic_load_n(&w->done, __ATOMIC_RELAXED), w->size);
    }
    pthread_mutex_unlock(&w->lock);
}

static int copy_all(const struct img_args *a, struct work *w) {
    long threads = a->threads ? strtol(a->threads, NULL, 10) : sysconf(_SC_NPROCESSORS_ONLN);
    pthread_t id[MAX_THREADS];
    unsigned started = 0;

    if (threads < 1)
        threads = 1;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->ended, NULL);
    for (; started < threads && started < MAX_THREADS; started++) {
        pthread_mutex_lock(&w->lock);
        w->running++;
        pthread_mutex_unlock(&w->lock);
        if (pthread_create(&id[started], NULL, copy_thread, w) != 0) {
            w->running--;
            break;
        }
    }
    if (!started) {
        w->running = 1;
        copy_thread(w);
    }
    wait_for_threads(a, w);
    for (unsigned i = 0; i < started; i++)
        pthread_join(id[i], NULL);
    return w->result;
}

/* ------------------------------------------------------------------ OVA */

/* Where the first disk lies in a tar archive; 0: there is none. */
static uint64_t find_disk(const char *path, uint64_t *ret_size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint64_t at = 0, found = 0;
    char head[512];

    while (fd >= 0 && !found && pread(fd, head, sizeof(head), (off_t)at) == sizeof(head) && *head) {
        char name[101], size[13];
        const char *dot;

        memcpy(name, head, 100);
        memcpy(size, head + 124, 12);
        name[100] = size[12] = 0;
        *ret_size = strtoull(size, NULL, 8);
        dot = strrchr(name, '.');
        if (dot && (!strcasecmp(dot, ".vmdk") || !strcasecmp(dot, ".vhd")))
            found = at + sizeof(head);
        if (*ret_size > INT64_MAX / 2 - at)
            break;
        at += sizeof(head) + ((*ret_size + 511) & ~511ull);
    }
    if (fd >= 0)
        close(fd);
    return found;
}

static int convert_ova(const struct img_args *a, struct error *err) {
    uint64_t size, at = find_disk(a->word[0], &size);
    char *source, *argv[] = {"qemu-img",
                             "convert",
                             a->progress ? "-p" : "-q",
                             "-O",
                             (char *)(uintptr_t)(a->other_format ? a->other_format : "raw"),
                             NULL,
                             (char *)(uintptr_t)a->word[1],
                             NULL};
    struct img_args with = *a;

    if (!at)
        return error_set(err, -EINVAL, "the archive '%s' holds no disk (.vmdk)", a->word[0]);
    if (asprintf(&source,
                 "json:{\"file\":{\"driver\":\"raw\",\"offset\":%llu,\"size\":%llu,\"file\":"
                 "{\"driver\":\"file\",\"filename\":\"%s\"}}}",
                 (unsigned long long)at, (unsigned long long)size, a->word[0]) < 0)
        return -ENOMEM;
    argv[5] = source;
    with.argv = argv;
    return img_hand_over(&with, "ova", err);
}

/* ------------------------------------------------------------------ convert */

static struct chain *make_target(const struct img_args *a, const char *format, uint64_t size,
                                 struct error *err) {
    struct chain_options o = {
        .path = a->word[1], .format = format, .no_sync = true, .no_backing = true};

    if (!a->no_create && create_image(a->word[1], format, size, a->settings, NULL, NULL, err) < 0)
        return NULL;
    return chain_open(&o, err);
}

/* Nothing was synced on the way: one sync at the end does for all. */
static int sync_file(const char *path) {
    struct bytefile_options o = {.path = path};
    struct bytefile *f = bytefile_open(&o, NULL);
    int r = f ? f->ops->sync(f) : -EIO;

    bytefile_close(f);
    return r;
}

static int convert(const struct img_args *a, const char *format, struct error *err) {
    struct work w = {.piece = PIECE, .compress = a->compress};
    struct qcow2_info info;
    int r = -EINVAL, closed;

    w.from = img_open(a, a->word[0], a->format, IMG_READ, err);
    if (w.from)
        w.to = make_target(a, format, w.from->size, err);
    if (w.to && w.to->size < w.from->size)
        error_set(err, r, "'%s' is smaller than '%s'; enlarge it: viv-img resize", a->word[1],
                  a->word[0]);
    else if (w.to && a->compress && !w.to->qcow2)
        error_set(err, r, "-c: a raw image cannot be compressed; use -O qcow2");
    else if (w.to)
        r = 0;
    if (r == 0) {
        w.size = w.from->size;
        if (a->compress) {
            qcow2_info(w.to->qcow2, &info);
            w.piece = info.cluster_size;
        }
        if (a->no_create) /* it may hold something */
            r = chain_zero(w.to, 0, w.to->size, true);
    }
    if (r == 0)
        r = copy_all(a, &w);
    closed = chain_close(w.to);
    r = r < 0 ? r : closed;
    chain_close(w.from);
    if (r == 0)
        r = sync_file(a->word[1]);
    if (r < 0)
        return error_set(err, r, "'%s' could not be copied to '%s': %s", a->word[0], a->word[1],
                         strerror(-r));
    img_progress_end(a);
    return 0;
}

int img_convert(const struct img_args *a, struct error *err) {
    const char *format = a->other_format ? a->other_format : "raw";
    const char *foreign = img_foreign(a->word[0], a->format);

    if (foreign && !strcmp(foreign, "ova"))
        return convert_ova(a, err) < 0 ? IMG_EXIT_FAILED : 0;
    if (!foreign)
        foreign = img_foreign(a->word[1], format);
    if (foreign)
        return img_hand_over(a, foreign, err) < 0 ? IMG_EXIT_FAILED : 0;
    return convert(a, format, err) < 0 ? IMG_EXIT_FAILED : 0;
}

/* ------------------------------------------------------------------ compare */

/* The first byte that differs in the next piece, or its length: into *ret. */
static int compare_piece(struct chain *c[2], uint8_t *data[2], uint64_t at, uint64_t *length) {
    struct chain_run run[2] = {{.length = *length, .zero = true},
                               {.length = *length, .zero = true}};
    uint64_t n = *length;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < 2; i++) {
        if (at >= c[i]->size)
            continue;
        r = chain_map(c[i], at, n < c[i]->size - at ? n : c[i]->size - at, &run[i]);
        n = run[i].length < n ? run[i].length : n;
    }
    if (r == 0 && !run[0].data && !run[1].data) {
        *length = n;
        return 0;
    }
    n = n < COMPARE ? n : COMPARE;
    for (unsigned i = 0; r == 0 && i < 2; i++) {
        struct iovec v = {data[i], n};
        struct span s = {&v, 1, 0};

        if (at < c[i]->size)
            r = chain_read(c[i], &s, at, n);
        else
            memset(data[i], 0, n);
    }
    *length = n;
    if (r < 0 || !memcmp(data[0], data[1], n))
        return r;
    for (*length = 0; data[0][*length] == data[1][*length];)
        ++*length;
    return 1;
}

static int compare(const struct img_args *a, struct chain *c[2], struct error *err) {
    uint64_t size = c[0]->size > c[1]->size ? c[0]->size : c[1]->size, at = 0;
    uint8_t *data[2] = {malloc(COMPARE), malloc(COMPARE)};
    int r = data[0] && data[1] ? 0 : -ENOMEM;

    if (c[0]->size != c[1]->size && a->strict) {
        if (!a->quiet)
            printf("Strict mode: Image size mismatch!\n");
        r = 1;
    } else if (c[0]->size != c[1]->size && !a->quiet) {
        printf("Warning: Image size mismatch!\n");
    }
    while (r == 0 && at < size) {
        uint64_t n = size - at;

        r = compare_piece(c, data, at, &n);
        at += n;
        img_progress(a, at, size);
        if (r == 1 && !a->quiet)
            printf("Content mismatch at offset %llu!\n", (unsigned long long)at);
    }
    free(data[0]);
    free(data[1]);
    if (r == 0 && !a->quiet)
        printf("Images are identical.\n");
    return r < 0 ? error_set(err, r, "the images cannot be compared: %s", strerror(-r)) : r;
}

int img_compare(const struct img_args *a, struct error *err) {
    const char *formats[2] = {a->format, a->other_format};
    struct chain *c[2] = {NULL, NULL};
    int r = -EINVAL;

    for (unsigned i = 0; i < 2; i++)
        if (img_foreign(a->word[i], formats[i])) {
            img_hand_over(a, img_foreign(a->word[i], formats[i]), err);
            return 2;
        }
    c[0] = img_open(a, a->word[0], formats[0], IMG_READ, err);
    if (c[0])
        c[1] = img_open(a, a->word[1], formats[1], IMG_READ, err);
    if (c[1])
        r = compare(a, c, err);
    chain_close(c[0]);
    chain_close(c[1]);
    return r < 0 ? 2 : r; /* 1: they differ */
}

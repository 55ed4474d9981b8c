/* SPDX-License-Identifier: GPL-2.0-or-later */
/* viv-img convert, compare. Other formats than raw and qcow2 are qemu-img's business. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/convert.h"
#include "block/foreign.h"
#include "tools/img/create.h"

enum { COMPARE = 1 << 20 };

static void show_progress(void *opaque, uint64_t done, uint64_t total) {
    img_progress(opaque, done, total);
}

/* Of an OVA qemu-img is shown the disk inside. */
static int convert_ova(const struct img_args *a, struct error *err) {
    char *source = foreign_ova_source(a->word[0]);
    char *argv[] = {"qemu-img",
                    "convert",
                    a->progress ? "-p" : "-q",
                    "-O",
                    (char *)(uintptr_t)(a->other_format ? a->other_format : "raw"),
                    source,
                    (char *)(uintptr_t)a->word[1],
                    NULL};
    struct img_args with = *a;

    if (!source)
        return error_set(err, -EINVAL, "the archive '%s' holds no disk (.vmdk)", a->word[0]);
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
    struct convert w = {.compress = a->compress,
                        .threads = a->threads ? (unsigned)strtoul(a->threads, NULL, 10) : 0,
                        .progress = show_progress,
                        .opaque = (void *)(uintptr_t)a};
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
    if (r == 0 && a->no_create) /* it may hold something */
        r = chain_zero(w.to, 0, w.to->size, true);
    if (r == 0)
        r = convert_all(&w);
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

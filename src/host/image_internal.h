/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What image.c (the controller) and image_work.c (its workers) share.
 *
 * Contract: functions whose names end in _work run on a worker, with an image that is `busy`, so
 * that nobody else touches it. What fails is in its `error`.
 */
#ifndef HOST_IMAGE_INTERNAL_H
#define HOST_IMAGE_INTERNAL_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/timer.h"
#include "host/image.h"
#include "host/manager.h"

struct image {
    struct images *all;
    struct image *next, **link;
    char id[STORE_WORD], job[STORE_WORD];
    bool queued, busy, forgotten;
    enum { PHASE_CLEAN, PHASE_MAKE, PHASE_TIDY, PHASE_DONE, PHASE_FAILED, PHASE_REMOVED } phase;
    const struct image_known *known;
    char source[PATH_MAX];           /* "": by the script */
    char *packages, *mirror;         /* for the script */
    struct image_transfer *transfer; /* of an import or an export */
    struct template *template;
    struct builder *builder;
    int stop;           /* atomic: the worker is to give up */
    int64_t copied, of; /* atomic; bytes */
    int64_t used;
    struct error error;
    struct timer timer;
};

struct images {
    struct manager *m;
    struct image *first;
    unsigned active;
};

int64_t image_file_size(const char *path); /* -1: there is none */
/* The image's folder, made if it is not there; a negative errno. */
int image_make_folder(struct image *v);
void image_remove_work(void *image);
void image_copy_work(void *image);
void image_import_work(void *image);
void image_template_work(void *image);
void image_export_work(void *image);
/* What the script made gets the names of the library, the rest goes. */
void image_tidy_work(void *image);

#endif

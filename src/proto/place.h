/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where a manager keeps its things and listens: the same words for vivd and viv. */
#ifndef PROTO_PLACE_H
#define PROTO_PLACE_H

#include <limits.h>
#include <stdbool.h>

#include "base/error.h"

struct place {
    char data[PATH_MAX];    /* store.db, machines/, images/ */
    char runtime[PATH_MAX]; /* api, vivd.log */
    char socket[PATH_MAX];  /* runtime/api */
};

int place_find(struct place *p, bool system, struct error *err);
/* The path of another program of the project: beside the one that runs, or as it is in $PATH. */
void place_program(const char *name, char out[PATH_MAX]);

#endif

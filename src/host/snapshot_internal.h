/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What snapshot.c (tasks and what they do) and snapshot_finish.c (what came of them) share. */
#ifndef HOST_SNAPSHOT_INTERNAL_H
#define HOST_SNAPSHOT_INTERNAL_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "host/layers.h"
#include "host/snapshot.h"
#include "host/snapshot_live.h"

struct snapshot_task {
    enum { TASK_SNAPSHOT, TASK_REVERT, TASK_CLONE, TASK_SUSPEND, TASK_TIDY, TASK_MERGE } what;
    struct manager *m;
    struct snapshot_live live; /* folder, disks; the rest for a machine that runs */
    char id[STORE_WORD];       /* of the machine */
    char snapshot[STORE_WORD];
    char to[STORE_WORD], kind[8]; /* TASK_CLONE: the row that it is for */
    char target[PATH_MAX];        /* and its folder */
    bool process;
    bool joins;          /* TASK_TIDY: files may be joined */
    int64_t revision;    /* of the machine's row when it began */
    json_t *keep;        /* names of files and folders: an object */
    char was[8];         /* TASK_SUSPEND: its power */
    char base[PATH_MAX]; /* the same: what its files may lie on */
    char into[LAYER_NAME],
        from[LAYER_NAME]; /* TASK_TIDY: files that can be joined; TASK_MERGE: these */
    int stop;             /* atomic */
    struct error error;
};

/* The snapshots of a machine, as store_list tells them. */
int snapshot_list_of(struct manager *m, const char *vm,
                     bool (*fn)(void *opaque, const struct store_text *t), void *opaque);

#endif

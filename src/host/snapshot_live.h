/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The snapshot of a machine that runs: memory and disk at the same instant. */
#ifndef HOST_SNAPSHOT_LIVE_H
#define HOST_SNAPSHOT_LIVE_H

#include <limits.h>
#include <stdbool.h>

#include "base/error.h"

struct snapshot_live {
    char folder[PATH_MAX];   /* of the machine */
    char disk[64], next[64]; /* files in it; "": it has no disk */
    char memory[80];         /* folder in it */
    bool with_memory, agent; /* agent: one answers in the guest */
    bool runs;               /* it is to go on */
    bool go_on;              /* while its memory is written: the disk is frozen before */
    bool memory_done;        /* out */
};

/* Waits. After a failure the machine goes on, on the disk that it had. Done again after a crash it
 * finds out how far it was. */
int snapshot_live(struct snapshot_live *s, struct error *err);

/* Writes its memory, and ends its process when that is safe. `process`: there was one when this was
 * begun. Done again after a crash it finds out how far it was; after a failure the machine goes on.
 */
int snapshot_suspend(struct snapshot_live *s, bool process, struct error *err);

#endif

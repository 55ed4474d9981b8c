/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The working set of a snapshot: the pages that a machine touched in its first moments after a
 * restore, as a file in the snapshot's folder (docs/snapshot.md). It is advice about what to load
 * first; a machine runs without it, too.
 *
 * Contract: any thread. What is read has been checked against the snapshot.
 */
#ifndef STATE_WORKING_SET_H
#define STATE_WORKING_SET_H

#include <stdint.h>

#include "base/error.h"

struct snapshot;

struct working_set_run { /* pages of the snapshot's `memory` */
    uint32_t first, count;
};

struct working_set {
    struct working_set_run *run; /* ascending, none touches the next */
    uint32_t runs;
    uint64_t pages; /* in all of them */
};

/* -ENOENT with a sentence: there is none. */
int working_set_read(const struct snapshot *s, struct working_set *ret_set, struct error *err);
void working_set_done(struct working_set *set);
/* Replaces the one that is there. `touched` has a bit for each page of the snapshot, lowest first.
 */
int working_set_write(const struct snapshot *s, const uint8_t *touched, struct error *err);

#endif

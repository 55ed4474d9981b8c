/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Since which snapshot the machine knows what was written (bus/dirty.h), so that an increment of
 * that one need not look at everything.
 *
 * Contract: machine lock held, the machine paused. Where there is any doubt nothing is known, and
 * increments compare all pages.
 */
#ifndef MACHINE_DIRTY_H
#define MACHINE_DIRTY_H

#include "bus/dirty.h"
#include "state/snapshot.h"

struct machine;

struct machine_dirty {
    bool tracking;              /* its processors' writes are noted (cpu_ops.track) */
    uint8_t since[SNAPSHOT_ID]; /* all pages that differ from that snapshot are noted; 0: none */
    unsigned takes, unfinished;
};

/* What a snapshot that is being written needs, and what it changes when it is there. */
struct dirty_taken {
    struct dirty_log *log;      /* NULL: nothing is known */
    uint8_t since[SNAPSHOT_ID]; /* what the log is against */
    unsigned number;
};

/* For a snapshot of this moment; notes begin anew with it. */
void machine_dirty_take(struct machine *m, bool increment, struct dirty_taken *ret);
/* It has been written and is known by `id`; NULL: it has not. */
void machine_dirty_taken(struct machine *m, struct dirty_taken *t, const uint8_t *id);
/* A reset has written here and there. */
void machine_dirty_everything(struct machine *m);
/* Nothing is known any longer: other processors go on. */
void machine_dirty_lost(struct machine *m);

#endif

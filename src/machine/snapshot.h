/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Saving and loading a whole machine: the folder of state/snapshot.h filled from the board.
 *
 * Contract: on the loop's thread with the machine lock held. A machine is saved while it is paused;
 * it may go on as soon as machine_save_start has returned, the memory is written meanwhile by a
 * forked child. A machine is loaded between machine_new with `restoring` and machine_start.
 */
#ifndef MACHINE_SNAPSHOT_H
#define MACHINE_SNAPSHOT_H

#include <stdint.h>

#include "base/error.h"

struct machine;
struct machine_saving;
struct snapshot;
struct snapshot_sections;

struct machine_save {
    const char *dir;
    const char *parent; /* folder of the snapshot to build on, NULL: none */
    const char *json;   /* of machine.json */
    /* Adds sections of kind SNAPSHOT_RAW that are not the machine's. NULL allowed. */
    void (*add)(void *opaque, struct snapshot_sections *out);
    /* On the loop's thread. Progress in bytes of memory looked at; NULL allowed. */
    void (*progress)(void *opaque, uint64_t done, uint64_t total);
    void (*done)(void *opaque, const struct error *err); /* NULL: all is on the disk */
    void *opaque;
};

/* Everything that the guest wrote is on its disks; on failure a sentence names the disk. */
int machine_flush_disks(struct machine *m, struct error *err);
/* Flushes, and takes the state; `done` comes later. The strings need not outlive the call. NULL
 * with a sentence on failure; then `done` does not come. */
struct machine_saving *machine_save_start(struct machine *m, const struct machine_save *how,
                                          struct error *err);
/* Gives up and removes what is written; `done` does not come. Accepts NULL; not after `done`. */
void machine_save_cancel(struct machine_saving *s);
/* machine_save_start and the wait for its end; `progress` and `done` are not used. */
int machine_save(struct machine *m, const struct machine_save *how, struct error *err);

/* Checks everything against this machine, then loads it. On failure nothing has changed. */
int machine_load(struct machine *m, const struct snapshot *s, struct error *err);

#endif

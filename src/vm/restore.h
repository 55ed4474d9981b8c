/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * machine.json of a snapshot (docs/snapshot.md): the options that a machine was built from, and
 * back.
 *
 * Contract: loop's thread, machine lock held where disks are looked at.
 */
#ifndef VM_RESTORE_H
#define VM_RESTORE_H

#include "base/error.h"

struct block;
struct machine;
struct options;
struct snapshot;

/* The text, to be freed; NULL with a sentence. Disks at rest. */
char *restore_describe(const struct options *o, const struct machine *m, struct block *const *disk,
                       struct block *const *cdrom, struct error *err);

/* Fills in what was not given on the command line. Disks out of the snapshot must be as they were
 * left: -ESTALE. */
int restore_options(struct options *o, const struct snapshot *s, struct error *err);
/* The disks that were opened have the sizes that the guest knows; those given on the command line
 * that lie on the snapshot's own show what that held: -ESTALE or -EINVAL. */
int restore_check_disks(const struct options *o, struct block *const *disk,
                        const struct snapshot *s, struct error *err);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copies of machines: clones, and templates, which are images.
 *
 * The machine that is copied gets a task {"do": "clone", "to": id, "kind": "vm" or "image", "disk":
 * its next file, "memory": whether that is kept as well} (snapshot.h). It freezes the disk, if need
 * be while the machine runs, and links what the copy stands on into the copy's folder. What it
 * writes into the `wanted` of the copy's row:
 *   linked, frozen, layer   it is done; the newest of the linked files; numbers up to it are used
 *   broken, why             it is not
 * and of a clone's own:
 *   clone    {"from": id, "mode"}, until its disk is made
 *   renew    its guest is to get an identity of its own, as soon as an agent answers
 *   introduce  it is to be told its name, user and keys then, if nobody else does that
 *   mac      its address in its network
 *
 * Contract: the loop's thread.
 */
#ifndef HOST_VM_CLONE_H
#define HOST_VM_CLONE_H

#include "host/api.h"

/* Operations of machines. */
int vm_clone(struct api_call *call);
int vm_suspend(struct api_call *call);

/* Within a transaction: gives `vm` the task to be copied for `to`, a row of that kind. */
int clone_begin(struct api_call *call, struct store_row *vm, const char *kind, const char *to,
                bool memory);

#endif

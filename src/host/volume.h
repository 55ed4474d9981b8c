/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Volumes: disks that outlive machines. A volume is the file volumes/ID.FORMAT. A machine names
 * its volumes in spec.volumes, a volume its machine in status.vm and status.vm_id; both are written
 * in one transaction (volume_claim), so that each has one machine at most. viv-vm's lock on the
 * file is what tells whether one is in use. Members of a row's `wanted`:
 *   prepared    the file is made
 *   gave_up     the size that it could not be made
 *   later       the same of one that its machine uses; its next start makes it so
 *   deleting    nothing of it is to be left
 *
 * Contract: the loop's thread.
 */
#ifndef HOST_VOLUME_H
#define HOST_VOLUME_H

#include "host/manager.h"

enum { VOLUME_NAME = 20 /* characters: the serial number of a virtio disk has no more */ };

struct volumes;
struct api_call;

struct volumes *volumes_new(struct manager *m, struct error *err);
/* Goes on with what was begun, and removes files that belong to none. */
void volumes_load(struct volumes *vs);
void volumes_free(struct volumes *vs); /* accepts NULL */
void volumes_kick(struct volumes *vs, const char *id);
unsigned volumes_active(const struct volumes *vs);

/* May a machine with this row start? -EAGAIN: soon, it is kicked then; else a sentence. */
int volumes_ready(struct manager *m, const struct store_row *vm, struct error *err);
/* ",iops=N,bps=N" of an option --disk; 0: no limit. */
enum { VOLUME_LIMITS = 60 };
void volume_limits(int64_t iops, int64_t bps, char out[VOLUME_LIMITS]);
/* The words behind --disk of a volume of that name. */
int volume_disk(struct manager *m, const struct store_row *vm, const char *name, char *out,
                size_t size, struct error *err);
bool volume_in_use(const struct manager *m, const struct store_row *volume);

/* Within the transaction of an operation: spec.volumes of a machine was `before` (NULL: nothing)
 * and is now that of its row. api_fail. */
int volume_claim(struct api_call *call, const struct store_row *vm, const json_t *before);
/* Within the transaction in which a machine is deleted. */
int volume_forget_all(struct manager *m, const struct store_row *vm, struct error *err);
bool volume_any(const struct store_row *vm); /* does that machine have any? */

#endif

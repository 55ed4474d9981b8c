/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Snapshots: what is done with the disks of a machine, for its controller (vm.c).
 *
 * A machine's disk files are disk.qcow2, disk.1.qcow2, disk.2.qcow2 ... in its folder, each on top
 * of an earlier one. Only the newest in use is written; a snapshot freezes it and puts the next on
 * top, a revert puts the next on top of a frozen one. A file is removed when neither the machine
 * nor a snapshot stands on it. Memory is in memory.SNAPSHOT/.
 *
 * Members of a machine's `wanted`:
 *   disk           the file in use; none: disk.qcow2
 *   layer          number of the last file that was thought of
 *   task           {"do": "snapshot" or "revert", "snapshot": id, "disk": the next file};
 *                  {"do": "clone" ...}: vm_clone.h; {"do": "suspend", "memory": its name, "was":
 *                  power}
 *   tidy           files that nobody needs may be there, or some that can be joined
 *   merge          {"into", "from"}: files that are being joined (merge.h)
 *   base           the snapshot that it went on from
 *   restore, restore_cycle   the memory that this start is to go on with: a snapshot's, that of a
 *                  suspended machine, or (its own id) that of the machine it is a clone of
 *   suspended      the memory that the next start is to go on with
 *   resuming       `restore` was that
 * and of a snapshot's: file, the frozen one.
 *
 * A number is used once. So after a crash a whole file of the number that the task names is the
 * task's own work, whoever was killed in the middle: it is never made anew when it may have been
 * written to.
 */
#ifndef HOST_SNAPSHOT_H
#define HOST_SNAPSHOT_H

#include "host/manager.h"

struct snapshot_task;

const char *snapshot_disk(const struct store_row *vm);
/* The snapshot whose memory the next start goes on with; "" none. */
const char *snapshot_restore(const struct store_row *vm);

/* What is to be done next, NULL: nothing. `process`: it has one, which answers. */
struct snapshot_task *snapshot_task_new(struct manager *m, const struct store_row *vm,
                                        bool process);
void snapshot_task_work(struct snapshot_task *t); /* on a worker */
/* Writes down what came of it; `again`: what failed before and fails now is no news. */
int snapshot_task_finish(struct manager *m, struct store_row *vm, struct snapshot_task *t,
                         bool again, struct error *err);
/* It failed, and nothing but room on the disk depends on it: `tidy` stays, for another time. */
bool snapshot_task_is_for_later(const struct snapshot_task *t);
/* The row has changed while it works: what can wait makes room. */
void snapshot_task_look(struct snapshot_task *t, const struct store_row *vm);
void snapshot_task_stop(struct snapshot_task *t);
void snapshot_task_free(struct snapshot_task *t); /* accepts NULL */

/* Within a transaction: a copy of the machine `from` ("": of none) holds no files of it any more;
 * `id` is the copy's, whose own clones may be the only ones to hold them now. */
void snapshot_shares_no_more(struct manager *m, const char *from, const char *id,
                             struct error *err);
/* Within the transaction in which a machine is deleted. */
int snapshot_forget_all(struct manager *m, const struct store_row *vm, struct error *err);

#endif

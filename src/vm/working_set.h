/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * --record-working-set and --prefetch: what of a snapshot's memory is wanted first.
 *
 * Contract: main thread. Failures are warnings: the machine runs as well without.
 */
#ifndef VM_WORKING_SET_H
#define VM_WORKING_SET_H

struct loop;
struct machine;
struct options;
struct snapshot;
struct vm_working_set;

/* Between machine_load and machine_start, machine lock held; NULL: there is nothing to do. */
struct vm_working_set *vm_working_set_start(const struct options *o, struct loop *loop,
                                            struct machine *m, const struct snapshot *s);
/* Before the machine goes away, machine lock held; what was recorded until then is written. Accepts
 * NULL. */
void vm_working_set_stop(struct vm_working_set *w);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A template: a process that has opened a snapshot and forks machines from it (docs/snapshot.md).
 *
 * Theory of operation: most of what a restore costs is the start of a program. The template has
 * that behind it and does nothing but wait for clients; for each it forks at once, so that none
 * makes another wait. The child speaks with the client (the control protocol, of which a template
 * knows the command "clone" alone), and goes on as the machine that was asked for: it opens what
 * its own options name and builds it as after an exec.
 *
 * Contract: main thread, before there is any other.
 */
#ifndef VM_TEMPLATE_H
#define VM_TEMPLATE_H

#include "base/error.h"

struct clone;
struct options;
struct snapshot;

/*
 * Serves at o->control with the snapshot o->restore. Returns several times: 1 in each clone, where
 * *o has become its options and *ret_clone is set; 0 in the template when a signal has ended it;
 * -1 in a child whose client wanted no machine; else a negative errno with a sentence.
 */
int template_serve(struct options *o, int argc, char **argv, struct clone **ret_clone,
                   struct error *err);

struct snapshot *clone_take_snapshot(struct clone *c); /* the caller's from now on */
/* The client gets its answer, once: err->code 0: the machine is there. Accepts NULL. */
void clone_answer(struct clone *c, const struct error *err);
void clone_free(struct clone *c); /* after the options, whose words it holds; accepts NULL */

#endif

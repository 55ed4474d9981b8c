/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which pages a restored machine touches first, and having them loaded before it asks.
 *
 * Contract: loop's thread, machine lock held, after machine_load. Nothing of it changes what the
 * guest sees.
 */
#ifndef MACHINE_WORKING_SET_H
#define MACHINE_WORKING_SET_H

#include "base/error.h"

struct machine;
struct prefetch;
struct snapshot;

/* From now on only pages that are touched come into memory, one by one: before machine_start. */
void machine_watch_pages(struct machine *m, const struct snapshot *s);
/* Writes down those that were touched since. */
int machine_note_pages(struct machine *m, const struct snapshot *s, struct error *err);

/* Loads what was written down, in a thread of its own. NULL with a sentence; code -ENOENT: nothing
 * was written down. */
struct prefetch *machine_prefetch(struct machine *m, const struct snapshot *s, struct error *err);
void prefetch_stop(struct prefetch *p); /* accepts NULL; before the machine goes away */

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The shared folders of a machine: opened as the options say, saved and restored with it. On the
 * main thread with the machine lock held. */
#ifndef VM_SHARES_H
#define VM_SHARES_H

#include "machine/machine.h"

struct loop;
struct options;
struct snapshot;
struct snapshot_sections;

struct shares {
    struct share *share[MACHINE_MAX_SHARES];
    struct share_server *server[MACHINE_MAX_SHARES]; /* with a jail */
    unsigned count, servers;
};

/* The servers that a machine in a jail needs; before it gives anything up. */
int shares_start(struct shares *s, const struct options *o, struct error *err);

int shares_open(struct shares *s, struct loop *loop, const struct options *o,
                struct machine_config *m, struct error *err);
void shares_close(struct shares *s);
/* In their order, while the machine is paused. */
void shares_save(const struct shares *s, struct snapshot_sections *out);
int shares_load(struct shares *s, const struct options *o, const struct snapshot *from,
                struct error *err);

#endif

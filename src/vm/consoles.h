/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine's serial ports and its virtio console, with what the host has at their other ends.
 * On the main thread with the machine lock held.
 *
 * The host's ends are opened after the machine, so that a machine that cannot be built neither
 * touches the terminal nor empties a log file; devices may try to speak before.
 */
#ifndef VM_CONSOLES_H
#define VM_CONSOLES_H

#include "machine/machine.h"

struct chardev;
struct loop;
struct options;
struct snapshot;
struct snapshot_sections;

enum { CONSOLES = MACHINE_MAX_SERIALS + 1 }; /* the last one is the virtio console */

struct console_line {
    struct consoles *all;
    struct chardev *end; /* NULL: not there, or not yet */
    unsigned n;
};

struct consoles {
    struct loop *loop;
    struct machine *machine;
    struct console_line line[CONSOLES];
    void (*leave)(void *opaque); /* the user wants to */
    void *opaque;
};

/* Before the machine is made: its ends of the lines. */
void consoles_begin(struct consoles *c, struct loop *loop, const struct options *o,
                    struct machine_config *m);
int consoles_open(struct consoles *c, struct machine *m, const struct options *o,
                  struct error *err);
void consoles_resumed(struct consoles *c); /* devices take input again */
void consoles_flush(struct consoles *c);   /* the guest's last words */
/* What the host said and the guest has not taken. */
void consoles_save(const struct consoles *c, struct snapshot_sections *out);
void consoles_load(struct consoles *c, const struct snapshot *s);
void consoles_close(struct consoles *c);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Devices of the host that the options give to the machine. On the main thread with the machine
 * lock held, or before there are others. */
#ifndef VM_PASSED_H
#define VM_PASSED_H

#include "machine/machine.h"

struct loop;
struct options;

struct passed {
    struct vfio_host *host;      /* NULL: none was ever wanted */
    struct vfio_inventory *seen; /* of the host, from the first that is opened on; or NULL */
    struct vfio_function *function[MACHINE_MAX_PASSED];
};

/* As --device. */
int options_add_device(struct options *o, const char *text, struct error *err);
/* While the machine runs: the number of the new one, the lowest that is free, or negative. */
int options_plug_device(struct options *o, const char *text, const char *id, struct error *err);
void options_unplug_device(struct options *o, unsigned i);
/* What a machine with a device of the host cannot have; `what` begins the sentence. */
int options_refuse_devices(const struct options *o, const char *what, struct error *err);

/* Opens what the options say of number i, and says it to `m`. */
int passed_open(struct passed *p, struct loop *loop, const struct options *o, unsigned i,
                struct machine_config *m, struct error *err);
/* Before the jail: all memory may be pinned for a device that comes later, if this process may say
 * so. */
void passed_allow(const struct options *o);
void passed_opened(struct passed *p);            /* for now that was all: the host may change */
void passed_close(struct passed *p, unsigned i); /* the machine no longer has it */
void passed_done(struct passed *p);

#endif

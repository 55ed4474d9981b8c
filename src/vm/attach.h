/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disks, network interfaces and passed devices of the host's side: opened for a machine that is
 * built, or that runs.
 *
 * Contract: loop's thread, machine lock held. A number that is free in the options has NULL in
 * `disk` or `nic`.
 */
#ifndef VM_ATTACH_H
#define VM_ATTACH_H

#include <jansson.h>

#include "machine/machine.h"

struct options;
struct passed;

struct attach {
    struct loop *loop;
    struct options *options;
    struct machine *machine; /* NULL while it is built */
    struct block **disk;
    struct net_port **nic;
    uint8_t **nic_rom;
    struct passed *passed;
    void (*disk_failed)(void *opaque, const struct error *e);
    void (*disk_wants_pause)(void *opaque, const struct error *e);
    void *opaque;
};

/* Opens what the options say of number i, and says it to `m`. */
int attach_open_disk(struct attach *a, unsigned i, struct machine_config *m, struct error *err);
int attach_open_nic(struct attach *a, unsigned i, struct machine_config *m, struct error *err);
int attach_open_device(struct attach *a, unsigned i, struct machine_config *m, struct error *err);
/* Plugs one in, by its text on a command line; its number, or negative. */
int attach_add(struct attach *a, enum machine_part part, const char *text, const char *id,
               struct error *err);
/* The machine no longer has it. */
void attach_close(struct attach *a, enum machine_part part, unsigned i);
/* The data of an event. */
json_t *attach_event(const struct attach *a, enum machine_part part, unsigned i, const char *what);

#endif

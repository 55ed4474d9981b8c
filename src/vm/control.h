/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control of a machine: what programs may ask of it over a socket (docs/control.md) and what
 * they are told. The commands are declared in proto/control.c.
 *
 * Contract: loop's thread, machine lock held. No client can make the loop wait: input is limited,
 * output is kept up to a bound, beyond which a client's next commands wait and its events are
 * dropped and counted.
 */
#ifndef VM_CONTROL_H
#define VM_CONTROL_H

#include <jansson.h>

#include "base/error.h"
#include "vm/job.h"

struct attach;
struct block;
struct control;
struct loop;
struct jail;
struct machine;
struct net_port;
struct options;
struct options_nic;
struct snapshot_sections;
struct vm_screen;

struct control_vm { /* the machine and what belongs to it; outlives the control */
    struct loop *loop;
    struct machine *machine;
    const struct options *options;
    struct block *const *disk; /* as many as options->disks; NULL: none has this number */
    struct vm_screen *screen;  /* NULL: the machine has none */
    struct options_nic *nic;   /* those of the options: their forwards may change */
    struct net_port *const *port;
    struct block **cdrom; /* as many as options->cdroms; NULL: no medium */
    struct attach *attach;
    struct jail *jail; /* NULL: none */
    void (*quit)(void *opaque);
    /* What belongs into a snapshot and is not the machine's. */
    void (*save)(void *opaque, struct snapshot_sections *out);
    void *opaque;
};

struct control *control_new(const struct control_vm *vm, struct error *err);
int control_listen(struct control *c, const char *path, struct error *err);
/* Says what is left to say to clients that take it now; unlinks the socket. Accepts NULL. */
void control_free(struct control *c);

/* Pauses and tells everybody; the first reason counts until control_resume. */
void control_pause(struct control *c, const char *reason);
void control_resume(struct control *c);

/* What happened, to those who want to know: a row of control_events; takes the reference. */
void control_event(struct control *c, const char *name, json_t *data);
unsigned control_count(const struct control *c, const char *event); /* how often it happened */
json_t *control_state(const struct control *c); /* an object with state, and reason of a pause */
bool control_rests(const struct control *c); /* clients wait, as they asked too much; for tests */
struct jobs *control_jobs(struct control *c);

/* ---- for those who write commands: a row in proto/control.c, a function, a line in a table ----
 */

struct control_client;

struct control_call {
    struct control *control;
    const struct control_vm *vm;
    struct control_client *client;
    const json_t *args; /* checked against the row */
    json_t *result;     /* an empty object to be filled; a job's command puts "job" there */
};

struct control_handler {
    const char *name; /* NULL ends a table */
    /* 0, or a negative errno with a sentence: -EINVAL is the client's mistake, -EBUSY and -EALREADY
     * that it cannot be now, all others that it failed. Must not wait. */
    int (*fn)(struct control_call *call, struct error *err);
};

extern const struct control_handler control_machine_handlers[], control_snapshot_handlers[],
    control_disk_handlers[], control_disks_handlers[], control_bitmap_handlers[],
    control_screen_handlers[], control_net_handlers[], control_cdrom_handlers[],
    control_plug_handlers[], control_memory_handlers[];
void control_put_memory(const struct control_vm *vm, json_t *status);

json_t *control_forwards(const struct options_nic *n); /* as an array of texts */
/* The disk that the argument `disk` names. */
struct block *control_find_disk(const struct control_call *call, struct error *err);

#endif

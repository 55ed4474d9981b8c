/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Networks between machines. Each has a folder networks/ID/, and while a machine that runs is in it
 * a process viv-net, which is found again by the folder's lock (vm_process.h). What the process is
 * told is the file `config` there, made anew out of the rows of the machines whenever one of them
 * changes; so nothing about it needs to be remembered. Files: config, lock, run, log, log.old, and
 * the sockets control and ports.
 *
 * A machine names its networks in spec.network; its addresses in them are in status.networks, and
 * are its own until it has another network at a start, or is deleted. Member of a row's `wanted`:
 *   deleting    nothing of it is to be left
 *
 * Contract: the loop's thread.
 */
#ifndef HOST_VNET_H
#define HOST_VNET_H

#include "host/manager.h"

struct api_call;
struct vnets;

struct vnets *vnets_new(struct manager *m, struct error *err);
/* Finds processes again, and removes folders that belong to none. */
void vnets_load(struct vnets *ns);
void vnets_free(struct vnets *ns); /* processes stay; accepts NULL */
void vnets_kick(struct vnets *ns, const char *id);
unsigned vnets_active(const struct vnets *ns); /* that have a process, or something to do */

/* ---- for machines ---- */

/* The i-th name in spec.network, in `name`; false: there are fewer. */
bool vnet_name(const json_t *spec, unsigned i, char name[STORE_WORD]);
bool vnet_is_real(const char *name); /* neither user nor none */
/* After the change of a machine's row, and after its deletion. */
void vnets_vm_changed(struct vnets *ns, const char *id);
void vnets_vm_gone(struct vnets *ns, const struct store_row *vm);
/* Makes status.networks fit spec.network: 1 if it changed something, 0, or negative with a
 * sentence. The caller saves the row. */
int vnet_assign(struct manager *m, struct store_row *vm, struct error *err);
/* The same for one more of a machine that runs; nothing is taken away. */
int vnet_join(struct manager *m, struct store_row *vm, const char *name, struct error *err);
/* The words behind --nic for the network of that name. */
int vnet_nic(struct manager *m, const struct store_row *vm, const char *name, char *out,
             size_t size, struct error *err);
/* Of an operation: spec.network of a machine is possible. api_fail. */
int vnet_check(struct api_call *call, const json_t *spec);

/* ---- for vnet.c: what a network is to be (vnet_plan.c) ---- */

struct vnet_plan {
    json_t *config;    /* of viv-net */
    json_t *machines;  /* names */
    json_t *addresses; /* by name */
    json_t *ids;       /* ids of machines whose forwards lead through it */
    bool needed;       /* one of them runs, or is to */
};

int vnet_plan(struct manager *m, const struct store_row *network, struct vnet_plan *ret);
void vnet_plan_done(struct vnet_plan *p);
/* Does a machine name it, or use it? Its name goes to `user`. */
bool vnet_used(struct manager *m, const struct store_row *network, char user[STORE_WORD]);

#endif

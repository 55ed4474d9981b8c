/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Network interfaces of a machine: those that its process is started with, and operations on them.
 * What a process has by now, in its order, is wanted.nics, each NETWORK/MODEL/MAC; one that goes on
 * from a memory begins with those.
 */
#ifndef HOST_VM_NICS_H
#define HOST_VM_NICS_H

#include "host/api.h"
#include "host/words.h"

/* The options --nic of viv-vm. */
int nics_words(struct manager *m, struct words *w, const struct store_row *row, struct error *err);
/* Of a spec, or of a change of one: `vm` is the machine, NULL: a new one. */
int nics_check(struct api_call *call, const json_t *spec, const struct store_row *vm);
/* For the copy of a machine: no address of its own is another's. */
void nics_forget_addresses(struct store_row *row);

/* Operations. */
int nics_add(struct api_call *call);
int nics_remove(struct api_call *call);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices of the host that machines have: spec.devices, as people write them. What a machine has by
 * now is status.host_devices, why one does not come or go status.device_errors. status.lent has
 * those that the manager took from a driver of the host for it ({NAME: DRIVER}), and gives back
 * when the machine has them no more (vm_device_steps.c); it is written before the driver loses one.
 *
 * A device belongs to one machine, of all tenants; one IOMMU group as well, as the kernel hands out
 * whole groups.
 */
#ifndef HOST_VM_DEVICES_H
#define HOST_VM_DEVICES_H

#include "host/api.h"
#include "host/words.h"

/* Of a spec, or of a change of one: `vm` is the machine. */
int devices_check(struct api_call *call, const json_t *spec, const struct store_row *vm);
/* Does the spec name this one? As the kernel calls it. */
bool devices_wants(const json_t *spec, const char *name);
/* Has it some, or is it to have some? Nobody can save their state. */
bool devices_any(const struct store_row *vm);
/* Refuses what cannot be done with a machine that has some; `what` ends the sentence. */
int devices_refuse(struct api_call *call, const struct store_row *vm, const char *field,
                   const char *what);
/* The options --device of viv-vm. */
void devices_words(struct words *w, const struct store_row *row);

/* Operations. */
int devices_add(struct api_call *call);
int devices_remove(struct api_call *call);

#endif

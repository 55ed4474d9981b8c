/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disks, network interfaces and devices of the host that come and go while the machine runs.
 *
 * Contract: on the loop's thread, machine lock held. The guest is told by ACPI. What was asked for
 * ends with `unplugged` of the configuration, at any later time: when the guest has let go, when it
 * refuses, or when it is reset. A disk's requests in flight are finished and its image is flushed
 * before that.
 */
#ifndef MACHINE_PLUG_H
#define MACHINE_PLUG_H

#include <stdbool.h>

#include "base/error.h"
#include "machine/machine.h"

/* Takes what `from` says of the disk or interface `i`, which this machine must not have. */
int machine_plug_disk(struct machine *m, unsigned i, const struct machine_config *from,
                      struct error *err);
int machine_plug_nic(struct machine *m, unsigned i, const struct machine_config *from,
                     struct error *err);
int machine_plug_passed(struct machine *m, unsigned i, const struct machine_config *from,
                        struct error *err);
/* Asks the guest to let go. */
int machine_unplug(struct machine *m, enum machine_part part, unsigned i, struct error *err);
/* Takes it away, whatever the guest does with it. */
int machine_pull(struct machine *m, enum machine_part part, unsigned i, struct error *err);
/* How many processors are to be there. New ones are started by the guest; the guest is asked to let
 * the last ones go, and `unplugged` says which. */
int machine_set_cpus(struct machine *m, unsigned count, struct error *err);
bool machine_has_cpu(const struct machine *m, unsigned i);
unsigned machine_cpus(const struct machine *m); /* that are there */
bool machine_unplugging(const struct machine *m, enum machine_part part, unsigned i);
/* How the function is called and where it sits, or of a disk on a shared adapter, what says where
 * it hangs (no slot); false: neither. */
bool machine_site_of(const struct machine *m, enum machine_part part, unsigned i,
                     struct machine_site *ret);
/* All functions that may be anywhere: as many as fit into `ret`. */
unsigned machine_sites(const struct machine *m, struct machine_site ret[MACHINE_MAX_SITES]);

#endif

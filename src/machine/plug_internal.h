/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the machine itself does with hot-plug. */
#ifndef MACHINE_PLUG_INTERNAL_H
#define MACHINE_PLUG_INTERNAL_H

#include <stdbool.h>

struct acpi_plug_config;
struct device;
struct error;
struct machine;
struct machine_config;
struct plug;

/* The machine's own copy of the configuration, which follows what is plugged. */
struct plug *plug_new(struct machine *m, struct machine_config *config,
                      struct acpi_plug_config *ret_unplug, struct acpi_plug_config *ret_unplug_cpu,
                      struct error *err);
void plug_free(struct plug *p); /* accepts NULL */
/* Removes what the guest has ejected; on the loop's thread. */
void plug_finish(struct plug *p);
/* The same, and what it was asked for. */
void plug_reset(struct plug *p);
/* Pulled out: a snapshot has it no more. */
bool plug_is_husk(const struct plug *p, const struct device *d);

#endif

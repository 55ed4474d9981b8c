/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the DSDT says of hot-plug: the driver of devices/acpi_plug.h. Inside of machine/acpi.c. */
#ifndef MACHINE_ACPI_PLUG_H
#define MACHINE_ACPI_PLUG_H

#include "base/bytes.h"

/* Inside of the PCI root: its registers, and an ejectable device for each of these slots. */
void acpi_plug_slots(struct buf *b, uint32_t slots);
/* Inside of \_GPE: the method that looks at what has changed. */
void acpi_plug_event(struct buf *b);

/* The same for processors: inside of \_SB, one device for each of `count`. */
void acpi_plug_cpus(struct buf *b, unsigned count);
void acpi_plug_cpu_event(struct buf *b);

#endif

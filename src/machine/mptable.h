/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tables of the time before ACPI, for kernels that do without it (acpi=off). Source: MultiProcessor
 * Specification 1.4 chapter 4; Microsoft PCI IRQ Routing Table Specification 1.0. */
#ifndef MACHINE_MPTABLE_H
#define MACHINE_MPTABLE_H

#include "base/error.h"
#include "bus/mem.h"

/* Writes both at MAP_MP_TABLES; on reset, under the machine lock. `lpc`: devfn of the PIRQ router.
 */
int mptable_write(struct mem *mem, unsigned cpus, unsigned lpc, struct error *err);

#endif

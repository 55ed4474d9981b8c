/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ACPI tables of the board: RSDP, XSDT, FADT, FACS, DSDT, MADT, MCFG. Source: ACPI 6.5 section 5.2,
 * PCI Firmware 3.3. */
#ifndef MACHINE_ACPI_H
#define MACHINE_ACPI_H

#include "base/error.h"
#include "bus/mem.h"

struct acpi_config {
    unsigned cpus;
    uint64_t pci64_base, pci64_end; /* 64-bit PCI window, 0 = none */
    bool serial;                    /* COM1 is there */
};

/* Writes the tables at MAP_ACPI_TABLES; the RSDP stands at that very address. */
int acpi_write(struct mem *mem, const struct acpi_config *config, struct error *err);

#endif

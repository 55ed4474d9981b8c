/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ACPI tables of the board: RSDP, XSDT, FADT, FACS, DSDT, MADT, MCFG, and SRAT, SLIT and HPET
 * where there is need. Source: ACPI 6.5 section 5.2,
 * PCI Firmware 3.3. */
#ifndef MACHINE_ACPI_H
#define MACHINE_ACPI_H

#include "base/bytes.h"
#include "base/error.h"
#include "bus/mem.h"

struct machine_numa;

struct acpi_config {
    unsigned cpus;
    uint64_t pci64_base, pci64_end; /* 64-bit PCI window, empty: none */
    unsigned serials;               /* COM1 and so on */
    bool screen;                    /* a display adapter and a PS/2 mouse are */
    bool hpet;
    uint32_t cpus_absent; /* of them, a bit each: they may come. 0: none ever does */
    bool cpus_plug;
    uint64_t memory, memory_more;    /* what is there, and may come; 0: never, and no SRAT */
    const struct machine_numa *numa; /* NULL: no topology */
    uint32_t plug_slots;             /* PCI slots that can be plugged at run time, a bit each */
};

/* Addresses in the tables, which are a table's place in the blob plus that of the blob. */
struct acpi_pointer {
    uint32_t at;
    uint8_t size;
};
enum { ACPI_MAX_POINTERS = 12, ACPI_MAX_SUMS = 4, ACPI_RSDP_SIZE = 36 };

/* Tables for firmware, which finds a place for them: all addresses are relative to the blob. */
struct acpi_blob {
    struct buf tables; /* the RSDP is not among them */
    uint8_t rsdp[ACPI_RSDP_SIZE];
    struct acpi_pointer pointer[ACPI_MAX_POINTERS];
    unsigned pointers;
    struct { /* tables with pointers, whose sums change with them */
        uint32_t at, size;
    } sum[ACPI_MAX_SUMS];
    unsigned sums;
    uint32_t generation; /* where the DSDT says at which address the generation is, 4 bytes */
};
enum { ACPI_RSDP_XSDT = 24, ACPI_TABLE_SUM = 9 };
void acpi_build(struct acpi_blob *ret, const struct acpi_config *config);

/* Writes the tables at MAP_ACPI_TABLES; the RSDP stands at that very address. */
int acpi_write(struct mem *mem, const struct acpi_config *config, struct error *err);

#endif

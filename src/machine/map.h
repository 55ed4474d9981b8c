/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The board's address map: one place for what ACPI, boot protocols, PCI windows and mounting must
 * agree on. */
#ifndef MACHINE_MAP_H
#define MACHINE_MAP_H

#include <stdint.h>

#define MAP_LOW_MAX      0xb0000000ull /* RAM below 4 GiB ends here at most: the ECAM window follows */
#define MAP_HIGH         0x100000000ull /* the rest of RAM */
#define MAP_VGA_HOLE     0xa0000ull     /* no RAM from here ... */
#define MAP_SHADOW       0xc0000ull /* ... to here; RAM for option ROMs and tables up to 1 MiB */
#define MAP_ACPI_TABLES  0xe0000ull /* RSDP first; up to the next but one */
#define MAP_GENERATION   0xef000ull /* 16 bytes alone in their page */
#define MAP_MP_TABLES    0xf0000ull /* MP and $PIR tables, where they are looked for */
#define MAP_SMBIOS       0xf8000ull /* SMBIOS anchor and tables, up to 1 MiB */
#define MAP_1M           0x100000ull
#define MAP_ECAM         0xb0000000ull
#define MAP_ECAM_SIZE    0x10000000ull
#define MAP_PCI_MMIO     0xc0000000ull
#define MAP_PCI_MMIO_END 0xfec00000ull
#define MAP_PCI_IO       0xc000u
#define MAP_IOAPIC       0xfec00000ull
#define MAP_HPET         0xfed00000ull
#define MAP_LAPIC        0xfee00000ull
#define MAP_PCI64_END    0x8000000000ull /* 39 bits: many hosts' processors have no more */
#define MAP_FLASH_CELLS                                                                            \
    0xfffff00000ull /* of the UEFI variables; the guest has them below its ROM */

/* Where direct boot puts its structures, below 640 KiB. */
#define MAP_BOOT_GDT         0x5000ull
#define MAP_BOOT_INFO        0x6000ull /* PVH start_info, or Linux boot_params at + 0x1000 */
#define MAP_BOOT_PARAMS      0x7000ull
#define MAP_BOOT_PAGES       0x9000ull /* PML4, PDPT, four page directories */
#define MAP_BOOT_PAGES_END   0xf000ull
#define MAP_BOOT_STACK       0x8ff0ull
#define MAP_BOOT_CMDLINE     0x20000ull
#define MAP_BOOT_CMDLINE_MAX 0x10000ull
#define MAP_EBDA             0x9fc00ull

enum { MAP_PM1_EVENT = 0x600, MAP_PM1_CONTROL = 0x604, MAP_PM_TIMER = 0x608, MAP_GPE0 = 0x620 };
enum { MAP_SMI = 0x630 };
enum { MAP_PVPANIC = 0x505, MAP_SERIALS = 4 };

/* COM1 to COM4, two on a wire each, as on a PC. */
static inline unsigned map_serial_port(unsigned i) {
    return (i & 2 ? 0x3e8 : 0x3f8) - 0x100 * (i & 1);
}
static inline unsigned map_serial_irq(unsigned i) { return 4 - (i & 1); }

/* Slots of the PCI bus for disks, networks and the like. */
enum { MAP_FIRST_SLOT = 1, MAP_LAST_SLOT = 0x1b };
/* The DSDT's methods have these numbers in their names. */
enum { MAP_GPE_GENERATION = 5, MAP_GPE_PLUG = 6, MAP_GPE_CPUS = 7 };
enum { MAP_PLUG = 0xae00, MAP_CPU_PLUG = 0xae20 }; /* below what the PCI bus gives away */
enum { MAP_SCI_IRQ = 9, MAP_GSI_PCI = 16 };

/* The interrupts of the 8259s to which the PCI wires A to D go, by pairs. */
static inline unsigned map_pci_isa_irq(unsigned wire) { return wire & 1 ? 11 : 10; }

/* RAM by the total size: how much is below and above the hole. */
static inline uint64_t map_low_size(uint64_t total) {
    return total < MAP_LOW_MAX ? total : MAP_LOW_MAX;
}
static inline uint64_t map_high_size(uint64_t total) { return total - map_low_size(total); }

/* Where memory that comes later begins: behind the rest, at whole GiB, as Linux wants its blocks of
 * memory. */
static inline uint64_t map_plugged(uint64_t total) {
    return (MAP_HIGH + map_high_size(total) + (1ull << 30) - 1) & ~((1ull << 30) - 1);
}

/* PCI addresses above 4 GiB, up to MAP_PCI64_END, begin behind all memory that there can be. */
static inline uint64_t map_pci64(uint64_t total, uint64_t more) {
    return more ? map_plugged(total) + more : MAP_HIGH + map_high_size(total);
}

#endif

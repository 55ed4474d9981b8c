/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Firmware: its ROM, which ends at 4 GiB, and the files with which it is told what machine it runs
 * on. Source: Intel 3 Series Express Chipset datasheet (system address map), QEMU docs/specs/fw_cfg
 * and hw/acpi/bios-linker-loader (commands of etc/table-loader), Coreboot's bootorder paths.
 *
 * Contract: main thread. A ROM file is hostile input: what cannot be firmware is refused with a
 * sentence. Its bytes are read once, so that a package that is replaced meanwhile does no harm.
 *
 * The RAM from c0000 to 1 MiB is always readable: at each reset the last 128 KiB of the ROM are
 * copied there, as if the chipset's PAM registers mapped it, and stay until the firmware makes
 * something else of them. What PAM forbids to write is not protected.
 */
#ifndef MACHINE_FIRMWARE_H
#define MACHINE_FIRMWARE_H

#include "base/error.h"
#include "bus/mem.h"
#include "cpu/x86.h"
#include "devices/device.h"

#define FIRMWARE_MAX_SIZE (16ull << 20)
enum { FIRMWARE_GENERATION_OFFSET = 40 }; /* in its page: a header of zeros, so it is no table */

struct firmware {
    const char *path; /* the caller's word, or the file that it stands for */
    uint8_t *rom;     /* NULL: none */
    uint64_t size;
};

/* `name`: bios, uefi, uefi-secure, or the path of a ROM image. */
int firmware_open(struct firmware *f, const char *name, struct error *err);
/* Its file's name, links followed, says that it keeps its variables behind system management mode.
 */
bool firmware_needs_smm(const struct firmware *f);
void firmware_close(struct firmware *f); /* idempotent */
/* ROM and shadow into memory, the boot processor to its power-on state. */
int firmware_load(const struct firmware *f, struct mem *mem, struct x86_state *ret_state,
                  struct error *err);

struct smbios_config;
struct machine_numa;

struct firmware_config {
    unsigned cpus;        /* all that may ever be */
    uint32_t cpus_absent; /* of them, at the start */
    bool cpus_plug;
    uint64_t memory, memory_more; /* at the start, and what may come */
    uint64_t pci_large;           /* bytes of 64-bit BARs that want a place above 4 GiB */
    const struct machine_numa *numa;
    const char *boot_order; /* lines for the file bootorder, NULL: none */
    bool boot_menu, hpet;
    unsigned serials;
    const struct smbios_config *smbios; /* NULL: no such tables */
    uint32_t plug_slots;                /* of the PCI bus, a bit each */
    bool screen; /* there is a VGA adapter; without it a BIOS speaks through COM1 */
};
#define FIRMWARE_ANSWER "etc/vmgenid_addr" /* where the firmware put the generation's page */
int firmware_configure(struct device *fw_cfg, const struct firmware_config *config,
                       struct error *err);

#endif

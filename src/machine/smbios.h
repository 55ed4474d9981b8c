/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SMBIOS 3 tables: what dmidecode shows. Source: DMTF DSP0134, System Management BIOS 3.4.
 *
 * Contract: main thread. Settings are strings for fields of the tables BIOS information (type 0),
 * system (1), base board (2), chassis (3), processor (4), OEM strings (11) and memory (17).
 */
#ifndef MACHINE_SMBIOS_H
#define MACHINE_SMBIOS_H

#include "base/bytes.h"
#include "base/error.h"
#include "bus/mem.h"

enum { SMBIOS_SETTINGS = 64, SMBIOS_TEXT_MAX = 255, SMBIOS_ANCHOR_SIZE = 24 };

struct smbios_setting {
    unsigned type;
    const char *name, *value; /* the caller's */
};

struct smbios_config {
    unsigned cpus;
    uint64_t memory;
    struct smbios_setting setting[SMBIOS_SETTINGS];
    unsigned settings;
};

/* Whether there is such a field, and whether the value fits it. */
int smbios_check(unsigned type, const char *name, const char *value, struct error *err);
/* The tables; `anchor` says their size, and their address is still 0 in it. */
void smbios_build(const struct smbios_config *config, struct buf *ret_tables,
                  uint8_t ret_anchor[SMBIOS_ANCHOR_SIZE]);
/* Both into memory at `at` (a multiple of 16 between f0000 and 1 MiB), at most `room` bytes. */
int smbios_write(struct mem *mem, const struct smbios_config *config, gpa at, uint64_t room,
                 struct error *err);

#endif

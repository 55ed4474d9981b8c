/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NOR flash memory with the Intel command set: class `pflash`, where UEFI firmware keeps its
 * variables. Source: Intel StrataFlash P30 datasheet; JEDEC JEP137, JESD68 (CFI query).
 *
 * Region 0 = the chip, config->size bytes of memory space (without config: 64 KiB, erased). Byte
 * wide, erase blocks of 4 KiB. The bits themselves are memory of the machine, at a place where the
 * guest does not look: so they outlive resets and are saved with the rest of it. `changed` tells
 * the host's side of each change, at once, so that it can keep them in a file.
 */
#ifndef DEVICES_PFLASH_H
#define DEVICES_PFLASH_H

#include "devices/device.h"

enum { PFLASH_BLOCK = 4096, PFLASH_MAX_SIZE = 1 << 20 };

struct pflash_config {
    gpa cells;     /* read-only memory of that size */
    uint32_t size; /* a multiple of PFLASH_BLOCK, at most PFLASH_MAX_SIZE */
    void (*changed)(void *opaque, uint32_t offset, const uint8_t *p, uint32_t n); /* NULL allowed */
    void *opaque;
    /* NULL: anybody may write. Else only while this is set; otherwise writes do nothing and reads
     * give the contents. */
    const bool *unlocked;
};

/* Tells `changed` of everything: after a saved state was loaded. */
void pflash_tell_all(struct device *dev);

#endif

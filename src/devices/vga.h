/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VGA with Bochs' display interface over PCI: class `vga`, function 1234:1111.
 *
 * Regions: 0 = ports 3b0-3df, 1 = ports 1ce-1d0 (display interface), 2 = the window at a0000. BARs:
 * 0 = video memory, 2 = EDID, VGA ports, display interface and byte order by MMIO; the expansion
 * ROM if the config gives one.
 *
 * The video memory is the board's, so that processors reach it as they reach RAM: `place` is told
 * where the guest has BAR 0. Without it the device has memory of its own, and accesses go through
 * it.
 */
#ifndef DEVICES_VGA_H
#define DEVICES_VGA_H

#include "devices/pci.h"
#include "display/screen.h"

enum { VGA_MEMORY = 16 << 20 };

struct vga_config {
    uint8_t *memory; /* VGA_MEMORY bytes; NULL: the device's own */
    /* BAR 0 is at `base`, or nowhere (MEM_NOWHERE). */
    void (*place)(void *opaque, uint64_t base);
    void *opaque;
    struct screen *screen; /* NULL: nobody ever looks */
    const uint8_t *rom;    /* of rom_size bytes, a power of two from 2 KiB; copied */
    uint32_t rom_size;
};

/* Text mode 3 (80x25) with a font and palette, as firmware leaves it: for guests without one. */
void vga_boot_text(struct device *dev);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Direct boot: puts a kernel, its initial RAM disk and command line into guest memory and says in which
 * state the boot processor starts.
 * Source: Linux Documentation/arch/x86/boot.rst (protocol 2.15), Xen PVH boot ABI (start_info), ELF-64.
 *
 * Contract: main thread, before processors run, and again at every reset. Files are hostile input: each
 * mistake in them is a sentence, nothing is written outside guest RAM.
 */
#ifndef MACHINE_BOOT_H
#define MACHINE_BOOT_H

#include "base/error.h"
#include "bus/mem.h"
#include "cpu/x86.h"

struct boot_image { /* files read once, kept for resets */
    uint8_t *kernel, *initrd;
    size_t kernel_size, initrd_size;
    const char *kernel_path, *initrd_path, *cmdline; /* the caller's, must stay valid */
};

/* initrd and cmdline may be NULL. */
int boot_open(struct boot_image *image, const char *kernel, const char *initrd, const char *cmdline,
              struct error *err);
void boot_close(struct boot_image *image);

/* Loads whichever format the kernel has; *ret_state is complete (from x86_reset). */
int boot_load(const struct boot_image *image, struct mem *mem, struct x86_state *ret_state, struct error *err);

/* ---- for the loaders ---- */
enum boot_ram { BOOT_RAM = 1, BOOT_RESERVED = 2 };
struct boot_range {
    uint64_t base, size;
    uint32_t type;
};
enum { BOOT_MAX_RANGES = 12 };
unsigned boot_memory_map(const struct mem *mem, struct boot_range *ret_range);
/* Highest page-aligned place for `size` bytes in low RAM below `limit`, at or above `floor`; 0 if none. */
uint64_t boot_place_high(const struct mem *mem, uint64_t size, uint64_t floor, uint64_t limit);
int boot_write_cmdline(const struct boot_image *image, struct mem *mem, uint32_t max, struct error *err);
void boot_flat_state(struct x86_state *s, bool long_mode, struct mem *mem); /* GDT, page tables, registers */

bool boot_is_linux(const struct boot_image *image);
int boot_linux(const struct boot_image *image, struct mem *mem, struct x86_state *s, struct error *err);
bool boot_is_elf(const struct boot_image *image);
int boot_pvh(const struct boot_image *image, struct mem *mem, struct x86_state *s, struct error *err);

#endif

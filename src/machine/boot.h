/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Direct boot: puts a kernel, its initial RAM disk and command line into guest memory and says in
 * which state the boot processor starts. Source: Linux Documentation/arch/x86/boot.rst
 * (protocol 2.15), Xen PVH boot ABI (start_info), ELF-64.
 *
 * Contract: main thread, before processors run, and again at every reset. The files stay open for
 * that, so a kernel that is replaced meanwhile does no harm; their bytes go straight into guest
 * memory. Files are hostile input: each mistake in them is a sentence, nothing is written outside
 * guest RAM, and the work is bounded by the size of that RAM.
 */
#ifndef MACHINE_BOOT_H
#define MACHINE_BOOT_H

#include "base/error.h"
#include "bus/mem.h"
#include "cpu/x86.h"

struct boot_file {
    const char *what, *path; /* for sentences; the path is the caller's and must stay valid */
    int fd;                  /* -1: not given */
    uint64_t size;
};

struct boot_image {
    struct boot_file kernel, initrd;
    const char *cmdline; /* the caller's */
    bool text_screen;    /* there is a VGA, in text mode 3 */
};

/* initrd and cmdline may be NULL. */
int boot_open(struct boot_image *image, const char *kernel, const char *initrd, const char *cmdline,
              struct error *err);
void boot_close(struct boot_image *image); /* idempotent after boot_open, also a failed one */

/* Loads whichever format the kernel has; *ret_state is complete (from x86_reset). */
int boot_load(const struct boot_image *image, struct mem *mem, struct x86_state *ret_state,
              struct error *err);

/* ---- for the loaders ---- */
enum boot_ram { BOOT_RAM = 1, BOOT_RESERVED = 2 };
struct boot_range {
    uint64_t base, size;
    uint32_t type;
};
enum { BOOT_MAX_RANGES = MEM_MAX_RANGES + 4 };
unsigned boot_memory_map(const struct mem *mem, struct boot_range *ret_range);

/* Exactly n bytes of a file, into our memory or the guest's (which must be RAM). */
int boot_read(const struct boot_file *f, uint64_t offset, void *buf, size_t n, struct error *err);
int boot_read_guest(const struct boot_file *f, uint64_t offset, struct mem *mem, gpa to, uint64_t n,
                    struct error *err);
/* True if the loader's own structures, or the firmware's, lie there. */
bool boot_is_taken(gpa base, uint64_t size);
/* Puts the initial RAM disk at the top of low RAM, at or above `floor` and below `limit`. */
int boot_place_initrd(const struct boot_image *image, struct mem *mem, uint64_t floor,
                      uint64_t limit, gpa *ret_at, struct error *err);
int boot_write_cmdline(const struct boot_image *image, struct mem *mem, uint32_t max,
                       struct error *err);
void boot_flat_state(struct x86_state *s, bool long_mode,
                     struct mem *mem); /* GDT, page tables, registers */

bool boot_is_linux(const struct boot_image *image);
int boot_linux(const struct boot_image *image, struct mem *mem, struct x86_state *s,
               struct error *err);
bool boot_is_elf(const struct boot_image *image);
int boot_pvh(const struct boot_image *image, struct mem *mem, struct x86_state *s,
             struct error *err);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Direct boot: puts a kernel, its initial RAM disk and command line into guest memory and says in
 * which state the boot processor starts. Source: Linux Documentation/arch/x86/boot.rst
 * (protocol 2.15), Xen PVH boot ABI (start_info), Multiboot 0.6.96 and Multiboot2 2.0, ELF.
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

enum { BOOT_MAX_MODULES = 32 };
struct boot_module {
    struct boot_file file;
    const char *text; /* as it was given, the caller's: a path, and arguments behind a space */
    char *path;       /* what of it is the path; ours */
};

/* A screen that a kernel may ask for. */
struct boot_framebuffer {
    uint64_t address;                     /* 0: a text screen of 80 columns at 0xb8000 */
    uint32_t pitch, width, height, depth; /* 16 (5:6:5), 24 or 32 bits, blue lowest */
};
struct boot_screen {
    /* Sets the nearest mode; wishes of 0 are none. False: it has none. */
    bool (*set)(void *opaque, uint32_t width, uint32_t height, uint32_t depth,
                struct boot_framebuffer *ret);
    void *opaque;
};

struct boot_image {
    struct boot_file kernel;
    struct boot_module module[BOOT_MAX_MODULES]; /* for Linux, parts of one initial RAM disk */
    unsigned modules;
    const char *cmdline;       /* the caller's */
    bool text_screen;          /* there is a VGA, in text mode 3 */
    struct boot_screen screen; /* set NULL: there is none */
};

/* A kernel that is compressed by gzip is unpacked. Modules are given as "FILE" or "FILE ARGUMENTS";
 * the caller's strings, NULL as cmdline is none. */
int boot_open(struct boot_image *image, const char *kernel, const char *const *modules,
              unsigned count, const char *cmdline, struct error *err);
void boot_close(struct boot_image *image); /* idempotent after boot_open, also a failed one */

/* Loads whichever format the kernel has; *ret_state is complete (from x86_reset). */
int boot_load(const struct boot_image *image, struct mem *mem, struct x86_state *ret_state,
              struct error *err);

/* How much of a module's text is the path: all of it if there is such a file, else up to the first
 * space. */
size_t boot_module_path(const char *text);

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
/* The modules behind each other, each padded to four bytes, as boot loaders give Linux several. */
uint64_t boot_initrd_size(const struct boot_image *image);
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
bool boot_is_multiboot(const struct boot_image *image);
int boot_multiboot(const struct boot_image *image, struct mem *mem, struct x86_state *s,
                   struct error *err);
bool boot_is_elf(const struct boot_image *image);
int boot_pvh(const struct boot_image *image, struct mem *mem, struct x86_state *s,
             struct error *err);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of the multiboot loader share: one reads the kernel's header, two load, one tells
 * the kernel about it. */
#ifndef MACHINE_BOOT_MULTIBOOT_H
#define MACHINE_BOOT_MULTIBOOT_H

#include "machine/boot.h"

enum { MULTIBOOT_MAX_USED = BOOT_MAX_MODULES + 4 };

struct multiboot_range {
    gpa base, end;
};

struct multiboot {
    const struct boot_image *image;
    struct mem *mem;
    bool second; /* Multiboot2 */

    /* What the header asks for. */
    uint64_t header; /* its place in the file */
    bool addresses;  /* it says itself what to load where, else ELF does */
    uint32_t header_addr, load_addr, load_end, bss_end;
    bool has_entry;
    uint32_t entry_addr;
    bool efi_only; /* it has an entry for EFI, and none for us so far */
    bool graphics;
    uint32_t width, height, depth; /* 0: any */
    bool relocatable;
    uint32_t min, max, align, preference;

    /* What lies in memory. */
    struct multiboot_range used[MULTIBOOT_MAX_USED];
    unsigned useds;
    uint64_t load_base, entry;
    struct multiboot_range module[BOOT_MAX_MODULES];
    uint8_t *sections; /* ELF section headers with the addresses where they are now; ours */
    unsigned section_count, section_size, section_names;
    struct boot_framebuffer screen;
    bool has_screen;
};

/* The lowest free place in RAM of [floor, limit). It is used then. */
bool multiboot_place(struct multiboot *m, uint64_t size, uint64_t align, gpa floor, gpa limit,
                     gpa *ret);
bool multiboot_use(struct multiboot *m, gpa base, gpa end);

/* True where our tables are, and those of the firmware that there is not. */
bool multiboot_is_taken(gpa base, uint64_t size);
/* How far a relocatable kernel goes from [base, base + size), for which it was linked; 0 for
 * others. */
int multiboot_relocate(const struct multiboot *m, uint64_t base, uint64_t size, uint64_t *ret_delta,
                       struct error *err);

int multiboot_parse(struct multiboot *m, struct error *err);
int multiboot_load_elf(struct multiboot *m, struct error *err);
int multiboot_bad(const struct multiboot *m, struct error *err, const char *why);

/* Writes the information; *ret is its address. */
int multiboot_tell(struct multiboot *m, gpa *ret, struct error *err);

#endif

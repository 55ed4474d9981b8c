/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ELF kernels of both classes: their headers, and their segments into guest memory. What is common
 * to the boot protocols that use ELF. Source: ELF-64 object file format 1.5, System V ABI
 * (ELF-32).
 *
 * Contract: as of boot.h. The file is hostile: headers are checked against its size, segments
 * against RAM, and their sum is bounded by it.
 */
#ifndef MACHINE_BOOT_ELF_H
#define MACHINE_BOOT_ELF_H

#include "machine/boot.h"

struct boot_elf {
    const struct boot_image *image;
    struct mem *mem;
    bool wide; /* ELF-64 */
    uint64_t entry, phoff, shoff;
    unsigned phnum, shnum, shentsize, shstrndx;
    uint64_t loaded; /* bytes put into memory */
};

struct boot_segment { /* a program header of either class, widened */
    uint32_t type, flags;
    uint64_t offset, vaddr, paddr, filesz, memsz;
};

int boot_elf_open(struct boot_elf *e, const struct boot_image *image, struct mem *mem,
                  struct error *err);
int boot_elf_segment(const struct boot_elf *e, unsigned i, struct boot_segment *ret,
                     struct error *err);
/* Puts a PT_LOAD segment to its physical address plus `delta`, which must not be taken. */
int boot_elf_load(struct boot_elf *e, const struct boot_segment *s, uint64_t delta,
                  bool (*taken)(gpa base, uint64_t size), struct error *err);
int boot_elf_bad(const struct boot_elf *e, struct error *err, const char *why);

#endif

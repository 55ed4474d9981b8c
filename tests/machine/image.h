/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Kernel images built in memory, for tests of the loaders and for machines with guests of a few
 * bytes. */
#ifndef TESTS_MACHINE_IMAGE_H
#define TESTS_MACHINE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Guest code in the test's own sections: GUEST32(name, "...") gives name and name_end. The code
 * must not depend on where it lies, or use "name_at(symbol)" for where symbol is when the code is
 * at IMAGE_BASE. */
#define GUEST32(name, text)                                                                        \
    extern const uint8_t name[], name##_end[];                                                     \
    __asm__(".pushsection .rodata\n.code32\n" #name ":\n.set base_" #name ", " #name "\n" text     \
            "\n" #name "_end:\n.code64\n.popsection\n")

enum { IMAGE_BASE = 0x100000 };

struct image { /* bytes under a path that any open() takes */
    int fd;
    uint8_t *data;
    size_t size;
    char path[64];
};

void image_done(struct image *i);
void image_sync(struct image *i); /* after changes of data or size: what readers see */

/* A PVH kernel: one segment with the code at `paddr`, one with the note. Offsets for changes are
 * fixed. */
struct elf_shape {
    bool narrow;           /* ELF-32 */
    uint32_t paddr, entry; /* 0: IMAGE_BASE */
    uint64_t memsz;        /* 0: size of the code */
};
void image_elf(struct image *i, const struct elf_shape *shape, const void *code, size_t n);

/* A bzImage; head fields can be changed in data (offsets as in boot.rst), then image_sync. */
void image_linux(struct image *i, bool wide, const void *code, size_t n);

/* A multiboot kernel of version 1 or 2 that its header's addresses put to IMAGE_BASE, the code
 * behind the header at IMAGE_MULTIBOOT_CODE; version 2 is relocatable. */
enum { IMAGE_MULTIBOOT_CODE = 0x80 };
void image_multiboot(struct image *i, unsigned version, const void *code, size_t n);
void image_raw(struct image *i, const void *bytes, size_t n);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ELF kernels: see boot_elf.h. */
#include "machine/boot_elf.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#include "base/bytes.h"

/* Real kernels have ten; a file's mistake must not keep us busy. */
enum { SEGMENTS_MAX = 1024 };

bool boot_is_elf(const struct boot_image *image) {
    uint8_t h[sizeof(Elf64_Ehdr)];

    return image->kernel.size >= sizeof(h) &&
           boot_read(&image->kernel, 0, h, sizeof(h), NULL) == 0 && !memcmp(h, ELFMAG, SELFMAG) &&
           (h[EI_CLASS] == ELFCLASS64 || h[EI_CLASS] == ELFCLASS32) && h[EI_DATA] == ELFDATA2LSB;
}

int boot_elf_bad(const struct boot_elf *e, struct error *err, const char *why) {
    return error_set(
        err, -ENOEXEC,
        "the kernel '%s' cannot be booted: %s; use an intact ELF kernel built with PVH or "
        "multiboot support",
        e->image->kernel.path, why);
}

int boot_elf_open(struct boot_elf *e, const struct boot_image *image, struct mem *mem,
                  struct error *err) {
    uint8_t h[sizeof(Elf64_Ehdr)];
    uint64_t size, table;
    int r = boot_read(&image->kernel, 0, h, sizeof(h), err);

    if (r < 0)
        return r;
    *e = (struct boot_elf){.image = image, .mem = mem, .wide = h[EI_CLASS] == ELFCLASS64};
    e->entry = e->wide ? load_le64(h + 24) : load_le32(h + 24);
    e->phoff = e->wide ? load_le64(h + 32) : load_le32(h + 28);
    e->shoff = e->wide ? load_le64(h + 40) : load_le32(h + 32);
    size = load_le16(h + (e->wide ? 54 : 42));
    e->phnum = load_le16(h + (e->wide ? 56 : 44));
    e->shentsize = load_le16(h + (e->wide ? 58 : 46));
    e->shnum = load_le16(h + (e->wide ? 60 : 48));
    e->shstrndx = load_le16(h + (e->wide ? 62 : 50));
    if (e->phnum > SEGMENTS_MAX)
        return boot_elf_bad(e, err, "it has more than 1024 program headers");
    if (e->phnum && size != (e->wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)))
        return boot_elf_bad(e, err, "its program headers have an unknown size");
    table = e->phnum * size;
    if (e->phoff > image->kernel.size || table > image->kernel.size - e->phoff)
        return boot_elf_bad(e, err, "a program header lies outside the file (truncated?)");
    return 0;
}

int boot_elf_segment(const struct boot_elf *e, unsigned i, struct boot_segment *s,
                     struct error *err) {
    uint8_t h[sizeof(Elf64_Phdr)];
    size_t size = e->wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
    uint64_t file = e->image->kernel.size;
    int r = boot_read(&e->image->kernel, e->phoff + i * size, h, size, err);

    if (r < 0)
        return r;
    if (e->wide)
        *s = (struct boot_segment){load_le32(h),      load_le32(h + 4),  load_le64(h + 8),
                                   load_le64(h + 16), load_le64(h + 24), load_le64(h + 32),
                                   load_le64(h + 40)};
    else
        *s = (struct boot_segment){load_le32(h),     load_le32(h + 24), load_le32(h + 4),
                                   load_le32(h + 8), load_le32(h + 12), load_le32(h + 16),
                                   load_le32(h + 20)};
    if (s->type != PT_LOAD && s->type != PT_NOTE)
        return 0;
    if (s->offset > file || s->filesz > file - s->offset)
        return boot_elf_bad(e, err, "a segment lies outside the file (truncated?)");
    if (s->type == PT_LOAD && s->filesz > s->memsz)
        return boot_elf_bad(e, err, "a segment is larger in the file than in memory");
    return 0;
}

int boot_elf_load(struct boot_elf *e, const struct boot_segment *s, uint64_t delta,
                  bool (*taken)(gpa base, uint64_t size), struct error *err) {
    gpa at = s->paddr + delta;
    uint8_t *to = mem_ptr(e->mem, at, s->memsz, true);
    int r;

    if (!s->memsz)
        return 0;
    if (!to)
        return error_set(err, -ENOSPC,
                         "the kernel '%s' wants %llu KiB at %#llx, where there is no RAM: give the "
                         "machine more --memory",
                         e->image->kernel.path, (unsigned long long)s->memsz >> 10,
                         (unsigned long long)at);
    if (taken(at, s->memsz))
        return boot_elf_bad(e, err,
                            "a segment lies below 1 MiB, where the boot structures and tables are");
    e->loaded += s->memsz;
    if (e->loaded > e->mem->ram_size)
        return boot_elf_bad(e, err, "its segments overlap");
    r = boot_read_guest(&e->image->kernel, s->offset, e->mem, at, s->filesz, err);
    if (r < 0)
        return r;
    memset(to + s->filesz, 0, s->memsz - s->filesz);
    mem_written(e->mem, at, s->memsz);
    return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ELF kernels with a PVH entry: note XEN_ELFNOTE_PHYS32_ENTRY names a 32-bit entry without paging,
 * which gets struct hvm_start_info in EBX. Source: Xen docs/misc/pvh.pandoc and
 * public/arch-x86/hvm/start_info.h (layout); ELF-64 object file format 1.5.
 */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "machine/boot.h"
#include "machine/map.h"

// clang-format off
enum {
    NOTE_PHYS32_ENTRY = 18, START_INFO_MAGIC = 0x336ec578,
    START_INFO_SIZE = 56, MODULE_SIZE = 32, MEMMAP_SIZE = 24,
    SEGMENTS_MAX = 1024, /* real kernels have ten; a file's mistake must not keep us busy */
    NOTES_MAX = 65536,
};
// clang-format on

bool boot_is_elf(const struct boot_image *image) {
    uint8_t h[sizeof(Elf64_Ehdr)];

    return image->kernel.size >= sizeof(h) &&
           boot_read(&image->kernel, 0, h, sizeof(h), NULL) == 0 && !memcmp(h, ELFMAG, SELFMAG) &&
           (h[EI_CLASS] == ELFCLASS64 || h[EI_CLASS] == ELFCLASS32) && h[EI_DATA] == ELFDATA2LSB;
}

static int bad_elf(const struct boot_image *image, struct error *err, const char *why) {
    return error_set(
        err, -ENOEXEC,
        "the kernel '%s' cannot be booted: %s; use an intact ELF kernel built with PVH support",
        image->kernel.path, why);
}

struct elf {
    const struct boot_image *image;
    struct mem *mem;
    bool wide;
    uint64_t phoff;
    unsigned phnum;
    uint64_t loaded, end; /* bytes put into memory, highest address behind them */
    bool have_entry;
    uint32_t entry;
};

/* One program header of either class, widened. */
struct segment {
    uint32_t type;
    uint64_t offset, paddr, filesz, memsz;
};

static int read_header(struct elf *e, struct error *err) {
    uint8_t h[sizeof(Elf64_Ehdr)];
    uint64_t size, table;
    int r = boot_read(&e->image->kernel, 0, h, sizeof(h), err);

    if (r < 0)
        return r;
    e->wide = h[EI_CLASS] == ELFCLASS64;
    e->phoff = e->wide ? load_le64(h + 32) : load_le32(h + 28);
    size = load_le16(h + (e->wide ? 54 : 42));
    e->phnum = load_le16(h + (e->wide ? 56 : 44));
    if (e->phnum > SEGMENTS_MAX)
        return bad_elf(e->image, err, "it has more than 1024 program headers");
    if (e->phnum && size != (e->wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)))
        return bad_elf(e->image, err, "its program headers have an unknown size");
    table = e->phnum * size;
    if (e->phoff > e->image->kernel.size || table > e->image->kernel.size - e->phoff)
        return bad_elf(e->image, err, "a program header lies outside the file (truncated?)");
    return 0;
}

static int read_segment(const struct elf *e, unsigned i, struct segment *s, struct error *err) {
    uint8_t h[sizeof(Elf64_Phdr)];
    size_t size = e->wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
    uint64_t file = e->image->kernel.size;
    int r = boot_read(&e->image->kernel, e->phoff + i * size, h, size, err);

    if (r < 0)
        return r;
    if (e->wide)
        *s = (struct segment){load_le32(h), load_le64(h + 8), load_le64(h + 24), load_le64(h + 32),
                              load_le64(h + 40)};
    else
        *s = (struct segment){load_le32(h), load_le32(h + 4), load_le32(h + 12), load_le32(h + 16),
                              load_le32(h + 20)};
    if (s->type != PT_LOAD && s->type != PT_NOTE)
        return 0;
    if (s->offset > file || s->filesz > file - s->offset)
        return bad_elf(e->image, err, "a segment lies outside the file (truncated?)");
    if (s->type == PT_LOAD && s->filesz > s->memsz)
        return bad_elf(e->image, err, "a segment is larger in the file than in memory");
    return 0;
}

/* Walks the notes of a PT_NOTE segment. */
static bool find_entry(const uint8_t *p, uint64_t n, uint32_t *ret_entry) {
    struct reader r = {.p = p, .left = n};

    while (r.left >= 12) {
        uint32_t name_size = reader_le32(&r), desc_size = reader_le32(&r), type = reader_le32(&r);
        const uint8_t *name = reader_take(&r, ((uint64_t)name_size + 3) & ~3ull);
        const uint8_t *desc = reader_take(&r, ((uint64_t)desc_size + 3) & ~3ull);

        if (r.bad)
            return false;
        if (type == NOTE_PHYS32_ENTRY && name_size == 4 && !memcmp(name, "Xen", 4) &&
            desc_size >= 4) {
            *ret_entry = load_le32(desc);
            return true;
        }
    }
    return false;
}

static int look_at_notes(struct elf *e, const struct segment *s, struct error *err) {
    uint64_t n = s->filesz < NOTES_MAX ? s->filesz : NOTES_MAX;
    uint8_t *notes;
    int r;

    if (e->have_entry || !n)
        return 0;
    notes = malloc(n);
    if (!notes)
        return error_set(err, -ENOMEM, "the kernel '%s': out of memory for its notes",
                         e->image->kernel.path);
    r = boot_read(&e->image->kernel, s->offset, notes, n, err);
    if (r == 0)
        e->have_entry = find_entry(notes, n, &e->entry);
    free(notes);
    return r;
}

static int load_segment(struct elf *e, const struct segment *s, struct error *err) {
    uint8_t *to = mem_ptr(e->mem, s->paddr, s->memsz, true);
    int r;

    if (!s->memsz)
        return 0;
    if (!to)
        return error_set(err, -ENOSPC,
                         "the kernel '%s' wants %llu KiB at %#llx, where there is no RAM: give the "
                         "machine more --memory",
                         e->image->kernel.path, (unsigned long long)s->memsz >> 10,
                         (unsigned long long)s->paddr);
    if (boot_is_taken(s->paddr, s->memsz))
        return bad_elf(e->image, err,
                       "a segment lies below 1 MiB, where the boot structures and tables are");
    e->loaded += s->memsz;
    if (e->loaded > e->mem->ram_size)
        return bad_elf(e->image, err, "its segments overlap");
    r = boot_read_guest(&e->image->kernel, s->offset, e->mem, s->paddr, s->filesz, err);
    if (r < 0)
        return r;
    memset(to + s->filesz, 0, s->memsz - s->filesz);
    mem_written(e->mem, s->paddr, s->memsz);
    if (s->paddr + s->memsz > e->end)
        e->end = s->paddr + s->memsz;
    return 0;
}

static int load_elf(struct elf *e, struct error *err) {
    struct segment s;
    bool inside = false;
    int r = read_header(e, err);

    for (unsigned i = 0; r == 0 && i < e->phnum; i++) {
        r = read_segment(e, i, &s, err);
        if (r == 0 && s.type == PT_NOTE)
            r = look_at_notes(e, &s, err);
        else if (r == 0 && s.type == PT_LOAD)
            r = load_segment(e, &s, err);
    }
    if (r == 0 && !e->have_entry)
        r = bad_elf(e->image, err, "it has no PVH entry note (XEN_ELFNOTE_PHYS32_ENTRY)");
    for (unsigned i = 0; r == 0 && !inside && i < e->phnum; i++) {
        r = read_segment(e, i, &s, err);
        inside = r == 0 && s.type == PT_LOAD && e->entry >= s.paddr && e->entry - s.paddr < s.memsz;
    }
    if (r == 0 && !inside)
        r = bad_elf(e->image, err, "its PVH entry lies outside of its segments");
    return r;
}

static int write_start_info(const struct boot_image *image, struct mem *mem, gpa initrd) {
    uint8_t info[START_INFO_SIZE + MODULE_SIZE + BOOT_MAX_RANGES * MEMMAP_SIZE] = {0};
    uint8_t *module = info + START_INFO_SIZE, *map = module + MODULE_SIZE;
    struct boot_range range[BOOT_MAX_RANGES];
    unsigned n = boot_memory_map(mem, range);

    store_le32(info, START_INFO_MAGIC);
    store_le32(info + 4, 1); /* version */
    store_le32(info + 12, initrd ? 1 : 0);
    store_le64(info + 16, initrd ? MAP_BOOT_INFO + START_INFO_SIZE : 0);
    store_le64(info + 24, MAP_BOOT_CMDLINE);
    store_le64(info + 32, MAP_ACPI_TABLES);
    store_le64(info + 40, MAP_BOOT_INFO + START_INFO_SIZE + MODULE_SIZE);
    store_le32(info + 48, n);
    store_le64(module, initrd);
    store_le64(module + 8, initrd ? image->initrd.size : 0);
    for (unsigned i = 0; i < n; i++) {
        store_le64(map + MEMMAP_SIZE * i, range[i].base);
        store_le64(map + MEMMAP_SIZE * i + 8, range[i].size);
        store_le32(map + MEMMAP_SIZE * i + 16, range[i].type);
    }
    return mem_load(mem, MAP_BOOT_INFO, info, sizeof(info));
}

int boot_pvh(const struct boot_image *image, struct mem *mem, struct x86_state *s,
             struct error *err) {
    struct elf e = {.image = image, .mem = mem};
    gpa initrd = 0;
    int r = load_elf(&e, err);

    if (r == 0)
        r = boot_place_initrd(image, mem, e.end > MAP_1M ? e.end : MAP_1M, MAP_HIGH, &initrd, err);
    if (r == 0)
        r = boot_write_cmdline(image, mem, UINT32_MAX, err);
    if (r < 0)
        return r;
    if (write_start_info(image, mem, initrd) < 0)
        return error_set(err, -ENOSPC,
                         "the machine has less RAM than its boot structures need: give it more "
                         "--memory");
    boot_flat_state(s, false, mem);
    s->gpr[X86_RBX] = MAP_BOOT_INFO;
    s->rip = e.entry;
    return 0;
}

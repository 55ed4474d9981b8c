/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ELF kernels with a PVH entry: note XEN_ELFNOTE_PHYS32_ENTRY names a 32-bit entry without paging, which
 * gets struct hvm_start_info in EBX.
 * Source: Xen docs/misc/pvh.pandoc and public/arch-x86/hvm/start_info.h (layout); ELF-64 object file format 1.5.
 */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "machine/boot.h"
#include "machine/map.h"

enum { NOTE_PHYS32_ENTRY = 18, START_INFO_MAGIC = 0x336ec578, START_INFO_SIZE = 56, MODULE_SIZE = 32, MEMMAP_SIZE = 24 };

bool boot_is_elf(const struct boot_image *image)
{
    const uint8_t *f = image->kernel;

    return image->kernel_size >= sizeof(Elf64_Ehdr) && !memcmp(f, ELFMAG, SELFMAG) &&
           (f[EI_CLASS] == ELFCLASS64 || f[EI_CLASS] == ELFCLASS32) && f[EI_DATA] == ELFDATA2LSB;
}

static int bad_elf(const struct boot_image *image, struct error *err, const char *why)
{
    return error_set(err, -ENOEXEC, "the kernel '%s' cannot be booted: %s; use an intact ELF kernel built with PVH support",
                     image->kernel_path, why);
}

/* One program header of either class, widened. */
struct segment {
    uint32_t type;
    uint64_t offset, paddr, filesz, memsz;
};

static bool segment_get(const struct boot_image *image, unsigned i, struct segment *s)
{
    const uint8_t *f = image->kernel;
    bool wide = f[EI_CLASS] == ELFCLASS64;
    uint64_t phoff = wide ? load_le64(f + 32) : load_le32(f + 28);
    uint64_t size = load_le16(f + (wide ? 54 : 42)), at;

    if (size < (wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)))
        return false;
    if (__builtin_add_overflow(phoff, i * size, &at) || at > image->kernel_size || image->kernel_size - at < size)
        return false;
    f += at;
    if (wide)
        *s = (struct segment){load_le32(f), load_le64(f + 8), load_le64(f + 24), load_le64(f + 32), load_le64(f + 40)};
    else
        *s = (struct segment){load_le32(f), load_le32(f + 4), load_le32(f + 12), load_le32(f + 16), load_le32(f + 20)};
    return s->offset <= image->kernel_size && image->kernel_size - s->offset >= s->filesz && s->filesz <= s->memsz;
}

static unsigned segment_count(const struct boot_image *image)
{
    return load_le16(image->kernel + (image->kernel[EI_CLASS] == ELFCLASS64 ? 56 : 44));
}

/* Walks the notes of a PT_NOTE segment. */
static bool find_entry(const uint8_t *p, uint64_t n, uint32_t *ret_entry)
{
    struct reader r = {.p = p, .left = n};

    while (r.left >= 12) {
        uint32_t name_size = reader_le32(&r), desc_size = reader_le32(&r), type = reader_le32(&r);
        const uint8_t *name = reader_take(&r, ((uint64_t)name_size + 3) & ~3ull);
        const uint8_t *desc = reader_take(&r, ((uint64_t)desc_size + 3) & ~3ull);
        if (r.bad)
            return false;
        if (type == NOTE_PHYS32_ENTRY && name_size == 4 && !memcmp(name, "Xen", 4) && desc_size >= 4) {
            *ret_entry = load_le32(desc);
            return true;
        }
    }
    return false;
}

static int load_segments(const struct boot_image *image, struct mem *mem, uint32_t *ret_entry, uint64_t *ret_end,
                         struct error *err)
{
    bool have_entry = false;

    for (unsigned i = 0; i < segment_count(image); i++) {
        struct segment s;
        uint8_t *to;
        if (!segment_get(image, i, &s))
            return bad_elf(image, err, "a program header lies outside the file (truncated?)");
        if (s.type == PT_NOTE && !have_entry)
            have_entry = find_entry(image->kernel + s.offset, s.filesz, ret_entry);
        if (s.type != PT_LOAD || !s.memsz)
            continue;
        to = mem_ptr(mem, s.paddr, s.memsz, true);
        if (!to)
            return error_set(err, -ENOSPC, "the kernel '%s' wants %llu MiB at %#llx, where there is no RAM: give the machine more --memory",
                             image->kernel_path, (unsigned long long)s.memsz >> 20, (unsigned long long)s.paddr);
        memcpy(to, image->kernel + s.offset, s.filesz);
        memset(to + s.filesz, 0, s.memsz - s.filesz);
        mem_written(mem, s.paddr, s.memsz);
        if (s.paddr + s.memsz > *ret_end)
            *ret_end = s.paddr + s.memsz;
    }
    return have_entry ? 0 : bad_elf(image, err, "it has no PVH entry note (XEN_ELFNOTE_PHYS32_ENTRY)");
}

static int write_start_info(const struct boot_image *image, struct mem *mem, uint64_t initrd)
{
    uint8_t info[START_INFO_SIZE + MODULE_SIZE + BOOT_MAX_RANGES * MEMMAP_SIZE] = {0};
    uint8_t *module = info + START_INFO_SIZE, *map = module + MODULE_SIZE;
    struct boot_range range[BOOT_MAX_RANGES];
    unsigned n = boot_memory_map(mem, range);

    store_le32(info, START_INFO_MAGIC);
    store_le32(info + 4, 1); /* version */
    store_le32(info + 12, image->initrd ? 1 : 0);
    store_le64(info + 16, MAP_BOOT_INFO + START_INFO_SIZE);
    store_le64(info + 24, MAP_BOOT_CMDLINE);
    store_le64(info + 32, MAP_ACPI_TABLES);
    store_le64(info + 40, MAP_BOOT_INFO + START_INFO_SIZE + MODULE_SIZE);
    store_le32(info + 48, n);
    store_le64(module, initrd);
    store_le64(module + 8, image->initrd_size);
    for (unsigned i = 0; i < n; i++) {
        store_le64(map + MEMMAP_SIZE * i, range[i].base);
        store_le64(map + MEMMAP_SIZE * i + 8, range[i].size);
        store_le32(map + MEMMAP_SIZE * i + 16, range[i].type);
    }
    return mem_load(mem, MAP_BOOT_INFO, info, sizeof(info));
}

int boot_pvh(const struct boot_image *image, struct mem *mem, struct x86_state *s, struct error *err)
{
    uint64_t end = 0, initrd = 0;
    uint32_t entry = 0;
    int r = load_segments(image, mem, &entry, &end, err);

    if (r < 0)
        return r;
    if (image->initrd) {
        initrd = boot_place_high(mem, image->initrd_size, end > MAP_1M ? end : MAP_1M, 0x100000000);
        if (!initrd || mem_load(mem, initrd, image->initrd, image->initrd_size) < 0)
            return error_set(err, -ENOSPC,
                             "the initial RAM disk '%s' (%zu MiB) does not fit beside the kernel: give the machine more --memory",
                             image->initrd_path, image->initrd_size >> 20);
    }
    r = boot_write_cmdline(image, mem, MAP_BOOT_CMDLINE_MAX - 1, err);
    if (r < 0)
        return r;
    if (write_start_info(image, mem, initrd) < 0)
        return error_set(err, -ENOSPC, "the machine has less RAM than its boot structures need: give it more --memory");
    boot_flat_state(s, false, mem);
    s->gpr[X86_RBX] = MAP_BOOT_INFO;
    s->rip = entry;
    return 0;
}

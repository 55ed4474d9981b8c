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
#include "machine/boot_elf.h"
#include "machine/map.h"

// clang-format off
enum {
    NOTE_PHYS32_ENTRY = 18, START_INFO_MAGIC = 0x336ec578,
    START_INFO_SIZE = 56, MODULE_SIZE = 32, MEMMAP_SIZE = 24,
    NOTES_MAX = 65536,
};
// clang-format on

struct pvh {
    struct boot_elf elf;
    uint64_t end; /* highest address behind the segments */
    bool have_entry;
    uint32_t entry;
};

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

static int look_at_notes(struct pvh *p, const struct boot_segment *s, struct error *err) {
    const struct boot_file *kernel = &p->elf.image->kernel;
    uint64_t n = s->filesz < NOTES_MAX ? s->filesz : NOTES_MAX;
    uint8_t *notes;
    int r;

    if (p->have_entry || !n)
        return 0;
    notes = malloc(n);
    if (!notes)
        return error_set(err, -ENOMEM, "the kernel '%s': out of memory for its notes",
                         kernel->path);
    r = boot_read(kernel, s->offset, notes, n, err);
    if (r == 0)
        p->have_entry = find_entry(notes, n, &p->entry);
    free(notes);
    return r;
}

static int load_segment(struct pvh *p, const struct boot_segment *s, struct error *err) {
    int r = boot_elf_load(&p->elf, s, 0, boot_is_taken, err);

    if (r == 0 && s->paddr + s->memsz > p->end)
        p->end = s->paddr + s->memsz;
    return r;
}

static int load_elf(struct pvh *p, struct error *err) {
    struct boot_segment s;
    bool inside = false;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < p->elf.phnum; i++) {
        r = boot_elf_segment(&p->elf, i, &s, err);
        if (r == 0 && s.type == PT_NOTE)
            r = look_at_notes(p, &s, err);
        else if (r == 0 && s.type == PT_LOAD)
            r = load_segment(p, &s, err);
    }
    if (r == 0 && !p->have_entry)
        r = boot_elf_bad(&p->elf, err, "it has no PVH entry note (XEN_ELFNOTE_PHYS32_ENTRY)");
    for (unsigned i = 0; r == 0 && !inside && i < p->elf.phnum; i++) {
        r = boot_elf_segment(&p->elf, i, &s, err);
        inside = r == 0 && s.type == PT_LOAD && p->entry >= s.paddr && p->entry - s.paddr < s.memsz;
    }
    if (r == 0 && !inside)
        r = boot_elf_bad(&p->elf, err, "its PVH entry lies outside of its segments");
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
    store_le64(module + 8, initrd ? boot_initrd_size(image) : 0);
    for (unsigned i = 0; i < n; i++) {
        store_le64(map + MEMMAP_SIZE * i, range[i].base);
        store_le64(map + MEMMAP_SIZE * i + 8, range[i].size);
        store_le32(map + MEMMAP_SIZE * i + 16, range[i].type);
    }
    return mem_load(mem, MAP_BOOT_INFO, info, sizeof(info));
}

int boot_pvh(const struct boot_image *image, struct mem *mem, struct x86_state *s,
             struct error *err) {
    struct pvh p = {0};
    gpa initrd = 0;
    int r = boot_elf_open(&p.elf, image, mem, err);

    if (r == 0)
        r = load_elf(&p, err);
    if (r == 0)
        r = boot_place_initrd(image, mem, p.end > MAP_1M ? p.end : MAP_1M, MAP_HIGH, &initrd, err);
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
    s->rip = p.entry;
    return 0;
}

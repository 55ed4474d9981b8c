/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Multiboot kernels that are ELF files: their segments, and the sections that a kernel may want for
 * its symbols. */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "machine/boot_elf.h"
#include "machine/boot_multiboot.h"
#include "machine/map.h"

/* ---- segments ---- */

struct extent {
    uint64_t low, high;
};

static int measure(const struct boot_elf *e, struct extent *x, struct error *err) {
    struct boot_segment s;
    int r = 0;

    *x = (struct extent){UINT64_MAX, 0};
    for (unsigned i = 0; r == 0 && i < e->phnum; i++) {
        r = boot_elf_segment(e, i, &s, err);
        if (r < 0 || s.type != PT_LOAD || !s.memsz)
            continue;
        if (s.paddr >= MAP_HIGH || s.memsz > MAP_HIGH - s.paddr)
            return boot_elf_bad(e, err, "a segment lies above 4 GiB");
        if (s.paddr < x->low)
            x->low = s.paddr;
        if (s.paddr + s.memsz > x->high)
            x->high = s.paddr + s.memsz;
    }
    if (r == 0 && !x->high)
        r = boot_elf_bad(e, err, "it has nothing to load");
    return r;
}

static bool has(uint64_t base, uint64_t size, uint64_t at) {
    return at >= base && at - base < size;
}

/* 2: a virtual address of this segment; 1: a physical one. */
static unsigned entry_in(const struct boot_elf *e, const struct boot_segment *s, uint64_t *ret) {
    if (has(s->vaddr, s->memsz, e->entry)) {
        *ret = e->entry - s->vaddr + s->paddr;
        return 2;
    }
    if (has(s->paddr, s->memsz, e->entry)) {
        *ret = e->entry;
        return 1;
    }
    return 0;
}

/* Below and above 1 MiB apart: what lies between is not the kernel's. */
static void use_segment(const struct boot_segment *s, uint64_t delta, struct multiboot_range *low,
                        struct multiboot_range *high) {
    gpa base = s->paddr + delta, end = base + s->memsz;
    struct multiboot_range *to = base < MAP_1M ? low : high;

    if (!to->end || base < to->base)
        to->base = base;
    if (end > to->end)
        to->end = end;
}

static int load_segments(struct multiboot *m, struct boot_elf *e, uint64_t delta,
                         struct error *err) {
    struct multiboot_range low = {0}, high = {0};
    struct boot_segment s;
    uint64_t entry = 0, at;
    unsigned found = 0, how;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < e->phnum; i++) {
        r = boot_elf_segment(e, i, &s, err);
        if (r < 0 || s.type != PT_LOAD || !s.memsz)
            continue;
        r = boot_elf_load(e, &s, delta, multiboot_is_taken, err);
        use_segment(&s, delta, &low, &high);
        how = entry_in(e, &s, &at);
        if (how > found) {
            found = how;
            entry = at;
        }
    }
    if (r < 0)
        return r;
    if (!m->has_entry && !found)
        return boot_elf_bad(e, err, "its entry lies outside of its segments");
    m->entry = (m->has_entry ? m->entry_addr : entry) + delta;
    multiboot_use(m, low.base, low.end);
    multiboot_use(m, high.base, high.end);
    return 0;
}

/* ---- ELF sections, which a kernel may want for its symbols ---- */

struct section {
    uint64_t addr, offset, size, align;
    uint32_t type;
};

static struct section read_section(const uint8_t *h, bool wide) {
    if (wide)
        return (struct section){.type = load_le32(h + 4),
                                .addr = load_le64(h + 16),
                                .offset = load_le64(h + 24),
                                .size = load_le64(h + 32),
                                .align = load_le64(h + 48)};
    return (struct section){.type = load_le32(h + 4),
                            .addr = load_le32(h + 12),
                            .offset = load_le32(h + 16),
                            .size = load_le32(h + 20),
                            .align = load_le32(h + 32)};
}

/* No segment has it, but the file. */
static bool is_extra(const struct multiboot *m, const struct section *s) {
    return !s->addr && s->size && s->type != SHT_NULL && s->type != SHT_NOBITS &&
           s->offset < m->image->kernel.size && s->size <= m->image->kernel.size - s->offset;
}

static uint64_t aligned(uint64_t at, const struct section *s) {
    uint64_t align =
        s->align > 16 && s->align <= 4096 && !(s->align & (s->align - 1)) ? s->align : 16;

    return (at + align - 1) & ~(align - 1);
}

/* How much memory the extra sections need; 0: none, or more than there is. */
static uint64_t measure_sections(const struct multiboot *m, bool wide) {
    uint64_t size = 0;

    for (unsigned i = 0; i < m->section_count; i++) {
        struct section s = read_section(m->sections + (size_t)i * m->section_size, wide);

        if (!is_extra(m, &s))
            continue;
        if (s.size > m->mem->ram_size || size > m->mem->ram_size)
            return 0;
        size = aligned(size, &s) + s.size;
    }
    return size;
}

static int load_sections(struct multiboot *m, bool wide, gpa base, struct error *err) {
    uint64_t at = base;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < m->section_count; i++) {
        uint8_t *h = m->sections + (size_t)i * m->section_size;
        struct section s = read_section(h, wide);

        if (!is_extra(m, &s))
            continue;
        at = aligned(at, &s);
        r = boot_read_guest(&m->image->kernel, s.offset, m->mem, at, s.size, err);
        if (wide)
            store_le64(h + 16, at);
        else
            store_le32(h + 12, (uint32_t)at);
        at += s.size;
    }
    return r;
}

/* A kernel boots without: mistakes in the table, or too little memory, leave it out. */
static int take_sections(struct multiboot *m, const struct boot_elf *e, struct error *err) {
    uint64_t size = (uint64_t)e->shnum * e->shentsize, extra, file = m->image->kernel.size;
    gpa at;
    int r;

    if (!e->shnum || e->shentsize != (e->wide ? sizeof(Elf64_Shdr) : sizeof(Elf32_Shdr)) ||
        e->shoff > file || size > file - e->shoff)
        return 0;
    m->sections = malloc(size);
    if (!m->sections)
        return error_set(err, -ENOMEM, "the kernel '%s': out of memory for its sections",
                         m->image->kernel.path);
    m->section_count = e->shnum;
    m->section_size = e->shentsize;
    m->section_names = e->shstrndx;
    r = boot_read(&m->image->kernel, e->shoff, m->sections, size, err);
    if (r < 0)
        return r;
    extra = measure_sections(m, e->wide);
    if (extra && multiboot_place(m, extra, MEM_PAGE_SIZE, MAP_1M, MAP_LOW_MAX, &at))
        r = load_sections(m, e->wide, at, err);
    return r;
}

int multiboot_load_elf(struct multiboot *m, struct error *err) {
    struct boot_elf e;
    struct extent x = {0};
    uint64_t delta;
    int r;

    if (!boot_is_elf(m->image))
        return multiboot_bad(m, err,
                             "it is no ELF file, and its multiboot header has no addresses");
    r = boot_elf_open(&e, m->image, m->mem, err);
    if (r == 0)
        r = measure(&e, &x, err);
    if (r == 0)
        r = multiboot_relocate(m, x.low, x.high - x.low, &delta, err);
    if (r == 0)
        r = load_segments(m, &e, delta, err);
    if (r < 0)
        return r;
    m->load_base = x.low + delta;
    return take_sections(m, &e, err);
}

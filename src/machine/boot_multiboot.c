/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Multiboot kernels of both versions: finding the header, loading by ELF or by the header's own
 * addresses, modules, the first state. Source: Multiboot Specification 0.6.96, 3.1 to 3.2;
 * Multiboot2 Specification 2.0, 3.1 to 3.3. What they leave open is as boot loaders do it:
 *
 * - An image with headers of both versions is booted by the second.
 * - The entry of an ELF file is a virtual address if a segment has it, else a physical one.
 * - Modules are aligned to pages, behind the kernel. All text begins with the name of the file.
 * - Tags about EFI are for loaders that run under EFI, and pass unheeded.
 */
#include "machine/boot_multiboot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "machine/map.h"

enum { MB1_EAX = 0x2badb002, MB2_EAX = 0x36d76289 };
enum { BIOS_DATA_END = 0x500 };
enum { PREFER_NONE, PREFER_LOW, PREFER_HIGH };

int multiboot_bad(const struct multiboot *m, struct error *err, const char *why) {
    return error_set(err, -ENOEXEC,
                     "the kernel '%s' cannot be booted: %s; use an intact multiboot kernel",
                     m->image->kernel.path, why);
}

/* ---- places ---- */

bool multiboot_use(struct multiboot *m, gpa base, gpa end) {
    if (m->useds == MULTIBOOT_MAX_USED)
        return false;
    m->used[m->useds++] = (struct multiboot_range){base, end};
    return true;
}

static const struct multiboot_range *in_the_way(const struct multiboot *m, gpa at, uint64_t size) {
    for (unsigned i = 0; i < m->useds; i++)
        if (at < m->used[i].end && m->used[i].base < at + size)
            return &m->used[i];
    return NULL;
}

bool multiboot_place(struct multiboot *m, uint64_t size, uint64_t align, gpa floor, gpa limit,
                     gpa *ret) {
    const struct multiboot_range *used;
    gpa at = (floor + align - 1) & ~(align - 1);

    if (size > limit)
        return false;
    while (at <= limit - size && (used = in_the_way(m, at, size)))
        at = (used->end + align - 1) & ~(align - 1);
    if (at > limit - size || !mem_ptr(m->mem, at, size, true) || !multiboot_use(m, at, at + size))
        return false;
    *ret = at;
    return true;
}

/* Our tables and those of the firmware that there is not. */
bool multiboot_is_taken(gpa base, uint64_t size) {
    return base < BIOS_DATA_END || (base < MAP_1M && base + size > MAP_EBDA) ||
           (base < MAP_BOOT_INFO && base + size > MAP_BOOT_GDT);
}

static int no_room(const struct multiboot *m, uint64_t size, uint64_t at, struct error *err) {
    return error_set(err, -ENOSPC,
                     "the kernel '%s' wants %llu KiB at %#llx, where there is no RAM: give the "
                     "machine more --memory",
                     m->image->kernel.path, (unsigned long long)size >> 10, (unsigned long long)at);
}

/* ---- where a relocatable kernel goes ---- */

static bool fits(const struct multiboot *m, uint64_t at, uint64_t size) {
    return at >= MAP_1M && at >= m->min && at + size - 1 <= m->max &&
           mem_ptr(m->mem, at, size, true);
}

/* The distance from [base, base + size), for which it was linked. */
int multiboot_relocate(const struct multiboot *m, uint64_t base, uint64_t size, uint64_t *ret_delta,
                       struct error *err) {
    uint64_t align = m->align ? m->align : 1, floor = m->min > MAP_1M ? m->min : MAP_1M, at;
    const struct mem_range *low = mem_find(m->mem, MAP_1M);
    uint64_t end = low ? low->base + low->size : 0;

    *ret_delta = 0;
    if (!m->relocatable || !size)
        return 0;
    if (align & (align - 1))
        return multiboot_bad(m, err,
                             "its multiboot header wants an alignment that is no power of two");
    if (m->max < end - 1)
        end = (uint64_t)m->max + 1;
    at = m->preference == PREFER_HIGH && end > size ? (end - size) & ~(align - 1) : 0;
    if (m->preference == PREFER_NONE && !(base & (align - 1)))
        at = base;
    if (!fits(m, at, size))
        at = (floor + align - 1) & ~(align - 1);
    if (!fits(m, at, size))
        return no_room(m, size, at, err);
    *ret_delta = at - base;
    return 0;
}

/* ---- loading by the header's addresses ---- */

static int load_by_addresses(struct multiboot *m, struct error *err) {
    const struct boot_file *f = &m->image->kernel;
    uint64_t start, size, whole, delta;
    uint8_t *to;
    gpa at;
    int r;

    if (m->second && m->load_addr == UINT32_MAX) /* all of the file */
        m->load_addr = m->header_addr - (uint32_t)m->header;
    if (m->load_addr > m->header_addr || m->header_addr - m->load_addr > m->header)
        return multiboot_bad(m, err, "the addresses of its multiboot header begin before the file");
    start = m->header - (m->header_addr - m->load_addr);
    size = m->load_end ? (uint64_t)m->load_end - m->load_addr : f->size - start;
    if (m->load_end && m->load_end < m->load_addr)
        return multiboot_bad(m, err, "the addresses of its multiboot header are not in order");
    if (size > f->size - start)
        return multiboot_bad(m, err,
                             "the file is shorter than its multiboot header says (truncated?)");
    whole = size;
    if (m->bss_end > m->load_addr + size)
        whole = m->bss_end - m->load_addr;
    r = multiboot_relocate(m, m->load_addr, whole, &delta, err);
    if (r < 0)
        return r;
    at = m->load_addr + delta;
    to = mem_ptr(m->mem, at, whole, true);
    if (!whole || !to)
        return no_room(m, whole, at, err);
    if (multiboot_is_taken(at, whole))
        return multiboot_bad(
            m, err, "it wants to lie below 1 MiB, where the boot structures and tables are");
    memset(to + size, 0, whole - size);
    m->load_base = at;
    m->entry = m->entry_addr + delta;
    multiboot_use(m, at, at + whole);
    return boot_read_guest(f, start, m->mem, at, size, err);
}

/* ---- the whole ---- */

static int load_modules(struct multiboot *m, struct error *err) {
    int r = 0;

    for (unsigned i = 0; r == 0 && i < m->image->modules; i++) {
        const struct boot_file *f = &m->image->module[i].file;
        gpa at;

        if (!multiboot_place(m, f->size, MEM_PAGE_SIZE, MAP_1M, MAP_LOW_MAX, &at))
            return error_set(err, -ENOSPC,
                             "the module '%s' (%llu KiB) does not fit beside the kernel: give the "
                             "machine more --memory",
                             f->path, (unsigned long long)f->size >> 10);
        m->module[i] = (struct multiboot_range){at, at + f->size};
        r = boot_read_guest(f, 0, m->mem, at, f->size, err);
    }
    return r;
}

/* Kernels that go back to real mode and call the BIOS (Xen, for its map of memory and the screen)
 * are told that no function is supported: carry is set in the caller's flags. Interrupts just
 * return. */
static void write_vectors(const struct multiboot *m) {
    static const uint8_t stub[] = {0x55,             /* push %bp */
                                   0x89, 0xe5,       /* mov %sp, %bp */
                                   0x80, 0x4e, 6, 1, /* orb $1, 6(%bp) */
                                   0x5d,             /* pop %bp */
                                   0xcf};            /* iret */
    enum { STUB = 0x4f0, RETURN = STUB + sizeof(stub) - 1 };
    uint8_t vector[256 * 4] = {0};

    for (unsigned i = 0; i < 256; i++) {
        bool irq = (i >= 0x08 && i < 0x10) || (i >= 0x70 && i < 0x78);

        store_le16(vector + (size_t)4 * i, i < 8 || irq ? RETURN : STUB);
    }
    mem_write(m->mem, 0, vector, sizeof(vector));
    mem_write(m->mem, STUB, stub, sizeof(stub));
}

/* What a BIOS leaves in its data area, which kernels of such loaders look up: Xen puts its first
 * stack below what this says of memory. */
static void write_bios_data(const struct multiboot *m) {
    static const struct {
        uint16_t at, value;
    } words[] = {{0x400, 0x3f8}, {0x40e, MAP_EBDA >> 4}, {0x413, MAP_EBDA >> 10}},
      screen[] = {{0x449, 3}, {0x44a, 80}, {0x44c, 4000}, {0x463, 0x3d4}, {0x484, 0x1018}};
    uint16_t equipment = 0x0204 | (m->image->text_screen ? 0x20 : 0); /* a line, a mouse, 80x25 */

    for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        mem_write(m->mem, words[i].at, &words[i].value, 2);
    mem_write(m->mem, 0x410, &equipment, 2);
    for (unsigned i = 0; m->image->text_screen && i < sizeof(screen) / sizeof(screen[0]); i++)
        mem_write(m->mem, screen[i].at, &screen[i].value, 2);
}

static int load(struct multiboot *m, gpa *ret_info, struct error *err) {
    const struct boot_screen *screen = &m->image->screen;
    int r = multiboot_parse(m, err);

    if (r == 0)
        r = m->addresses ? load_by_addresses(m, err) : multiboot_load_elf(m, err);
    if (r == 0 && !mem_ptr(m->mem, m->entry, 1, false))
        r = multiboot_bad(m, err, "its entry lies outside of RAM");
    if (r == 0)
        r = load_modules(m, err);
    if (r < 0)
        return r;
    if (m->graphics && screen->set)
        m->has_screen = screen->set(screen->opaque, m->width, m->height, m->depth, &m->screen);
    if (!m->has_screen && m->image->text_screen) {
        m->has_screen = true;
        m->screen = (struct boot_framebuffer){.pitch = 160, .width = 80, .height = 25, .depth = 16};
    }
    write_vectors(m);
    write_bios_data(m);
    return multiboot_tell(m, ret_info, err);
}

int boot_multiboot(const struct boot_image *image, struct mem *mem, struct x86_state *s,
                   struct error *err) {
    struct multiboot m = {.image = image, .mem = mem};
    gpa info = 0;
    int r = load(&m, &info, err);

    free(m.sections);
    if (r < 0)
        return r;
    boot_flat_state(s, false, mem);
    s->gpr[X86_RAX] = m.second ? MB2_EAX : MB1_EAX;
    s->gpr[X86_RBX] = info;
    s->gpr[X86_RSP] = MAP_BOOT_STACK;
    s->rip = m.entry;
    return 0;
}

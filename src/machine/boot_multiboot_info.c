/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a multiboot kernel is told: the information structure of either version, in one piece.
 * Source: Multiboot Specification 0.6.96, 3.3; Multiboot2 Specification 2.0, 3.6; VESA BIOS
 * Extension 3.0 (mode information).
 */
#include <errno.h>

#include "base/bytes.h"
#include "base/version.h"
#include "machine/boot_multiboot.h"
#include "machine/map.h"

// clang-format off
enum { /* flags, and offsets in the structure of version 1 */
    MB1_MEMORY = 1 << 0, MB1_CMDLINE = 1 << 2, MB1_MODULES = 1 << 3, MB1_ELF = 1 << 5, MB1_MAP = 1 << 6, MB1_LOADER = 1 << 9,
    MB1_VBE = 1 << 11, MB1_FRAMEBUFFER = 1 << 12,
    AT_LOWER = 4, AT_UPPER = 8, AT_CMDLINE = 16, AT_MODULES = 20, AT_ELF = 28, AT_MAP = 44, AT_LOADER = 64, AT_VBE = 72,
    AT_FRAMEBUFFER = 88, MB1_SIZE = 116, MB1_MODULE = 16,
};
enum mb2_tag {
    TAG_END, TAG_CMDLINE, TAG_LOADER, TAG_MODULE, TAG_MEMORY, TAG_BIOS_DISK, TAG_MAP, TAG_VBE, TAG_FRAMEBUFFER, TAG_ELF,
    TAG_ACPI1 = 14, TAG_ACPI2 = 15, TAG_LOAD_BASE = 21,
};
enum { COLOUR_RGB = 1, COLOUR_TEXT = 2, TEXT_SCREEN = 0xb8000 };
enum { VBE_CONTROL = 512, VBE_MODE = 256, RSDP1_SIZE = 20, RSDP2_SIZE = 36 };
// clang-format on

static const char loader[] = "viv-vm " VIVARIUM_VERSION;

/* KiB of RAM from 0 and from 1 MiB on. */
static uint32_t lower_memory(void) { return MAP_EBDA >> 10; }
static uint32_t upper_memory(const struct multiboot *m) {
    const struct mem_range *low = mem_find(m->mem, MAP_1M);

    return low ? (uint32_t)((low->base + low->size - MAP_1M) >> 10) : 0;
}

/* The file's name first, as on every command line. */
static void put_cmdline(struct buf *b, const struct multiboot *m) {
    const char *cmdline = m->image->cmdline;

    buf_printf(b, "%s%s%s", m->image->kernel.path, *cmdline ? " " : "", cmdline);
    buf_put(b, "", 1);
}

/* Pitch to the colours' places, as both versions have them one behind the other. */
static void put_screen(struct buf *b, const struct multiboot *m) {
    static const uint8_t narrow[6] = {11, 5, 5, 6, 0, 5}, wide[6] = {16, 8, 8, 8, 0, 8};
    const struct boot_framebuffer *f = &m->screen;

    buf_put_le64(b, f->address ? f->address : TEXT_SCREEN);
    buf_put_le32(b, f->pitch);
    buf_put_le32(b, f->width);
    buf_put_le32(b, f->height);
    buf_put(b, (uint8_t[]){(uint8_t)f->depth, f->address ? COLOUR_RGB : COLOUR_TEXT}, 2);
    if (m->second)
        buf_put_le16(b, 0);
    if (f->address)
        buf_put(b, f->depth == 16 ? narrow : wide, 6);
}

static void put_vbe(struct buf *b, const struct multiboot *m) {
    const struct boot_framebuffer *f = &m->screen;
    uint8_t *control = buf_grow(b, VBE_CONTROL), *mode;
    bool narrow = f->depth == 16;

    memcpy(control, "VESA", 4);
    store_le16(control + 4, 0x0300);
    mode = buf_grow(b, VBE_MODE);
    store_le16(mode, 0x9b); /* supported, colour, graphics, linear */
    store_le16(mode + 16, (uint16_t)f->pitch);
    store_le16(mode + 18, (uint16_t)f->width);
    store_le16(mode + 20, (uint16_t)f->height);
    mode[24] = 1; /* planes */
    mode[25] = (uint8_t)f->depth;
    mode[27] = 6; /* direct colour */
    memcpy(mode + 31, narrow ? (uint8_t[]){5, 11, 6, 5, 5, 0} : (uint8_t[]){8, 16, 8, 8, 8, 0}, 6);
    store_le32(mode + 40, (uint32_t)f->address);
}

/* ---- version 1 ---- */

static uint32_t next_at(const struct buf *b, gpa base) { return (uint32_t)(base + b->len); }

static void align_buf(struct buf *b, size_t align) {
    while (b->len % align)
        buf_put(b, "", 1);
}

static void build_modules(struct buf *b, const struct multiboot *m, gpa base) {
    unsigned n = m->image->modules;
    size_t list = b->len;

    store_le32(b->data + AT_MODULES, n);
    store_le32(b->data + AT_MODULES + 4, next_at(b, base));
    buf_grow(b, (size_t)n * MB1_MODULE);
    for (unsigned i = 0; i < n; i++) {
        uint8_t *one = b->data + list + (size_t)i * MB1_MODULE;

        store_le32(one, (uint32_t)m->module[i].base);
        store_le32(one + 4, (uint32_t)m->module[i].end);
        store_le32(one + 8, next_at(b, base));
        buf_put(b, m->image->module[i].text, strlen(m->image->module[i].text) + 1);
    }
    align_buf(b, 8);
}

static void build_map(struct buf *b, const struct multiboot *m, gpa base) {
    struct boot_range range[BOOT_MAX_RANGES];
    unsigned n = boot_memory_map(m->mem, range);

    store_le32(b->data + AT_MAP, n * 24);
    store_le32(b->data + AT_MAP + 4, next_at(b, base));
    for (unsigned i = 0; i < n; i++) {
        buf_put_le32(b, 20);
        buf_put_le64(b, range[i].base);
        buf_put_le64(b, range[i].size);
        buf_put_le32(b, range[i].type);
    }
}

static void build_screen(struct buf *b, const struct multiboot *m, gpa base, uint32_t *flags) {
    struct buf screen = {0};

    put_screen(&screen, m);
    memcpy(b->data + AT_FRAMEBUFFER, screen.data, screen.len);
    buf_done(&screen);
    *flags |= MB1_FRAMEBUFFER;
    if (!m->screen.address)
        return;
    *flags |= MB1_VBE;
    store_le32(b->data + AT_VBE, next_at(b, base));
    store_le32(b->data + AT_VBE + 4, next_at(b, base) + VBE_CONTROL);
    put_vbe(b, m);
}

static void build1(struct buf *b, const struct multiboot *m, gpa base) {
    uint32_t flags = MB1_MEMORY | MB1_CMDLINE | MB1_MODULES | MB1_MAP | MB1_LOADER;

    buf_grow(b, MB1_SIZE);
    align_buf(b, 8);
    store_le32(b->data + AT_LOWER, lower_memory());
    store_le32(b->data + AT_UPPER, upper_memory(m));
    build_map(b, m, base);
    if (m->has_screen)
        build_screen(b, m, base, &flags);
    if (m->sections) {
        flags |= MB1_ELF;
        store_le32(b->data + AT_ELF, m->section_count);
        store_le32(b->data + AT_ELF + 4, m->section_size);
        store_le32(b->data + AT_ELF + 8, next_at(b, base));
        store_le32(b->data + AT_ELF + 12, m->section_names);
        buf_put(b, m->sections, (size_t)m->section_count * m->section_size);
    }
    build_modules(b, m, base);
    store_le32(b->data + AT_CMDLINE, next_at(b, base));
    put_cmdline(b, m);
    store_le32(b->data + AT_LOADER, next_at(b, base));
    buf_put(b, loader, sizeof(loader));
    store_le32(b->data, flags);
}

/* ---- version 2 ---- */

static size_t begin(struct buf *b, enum mb2_tag type) {
    size_t at;

    align_buf(b, 8);
    at = b->len;
    buf_put_le32(b, type);
    buf_put_le32(b, 0);
    return at;
}

static void end(struct buf *b, size_t at) { store_le32(b->data + at + 4, (uint32_t)(b->len - at)); }

static void tag_modules(struct buf *b, const struct multiboot *m) {
    for (unsigned i = 0; i < m->image->modules; i++) {
        size_t at = begin(b, TAG_MODULE);

        buf_put_le32(b, (uint32_t)m->module[i].base);
        buf_put_le32(b, (uint32_t)m->module[i].end);
        buf_put(b, m->image->module[i].text, strlen(m->image->module[i].text) + 1);
        end(b, at);
    }
}

static void tag_memory(struct buf *b, const struct multiboot *m) {
    struct boot_range range[BOOT_MAX_RANGES];
    unsigned n = boot_memory_map(m->mem, range);
    size_t at = begin(b, TAG_MEMORY);

    buf_put_le32(b, lower_memory());
    buf_put_le32(b, upper_memory(m));
    end(b, at);
    at = begin(b, TAG_MAP);
    buf_put_le32(b, 24);
    buf_put_le32(b, 0);
    for (unsigned i = 0; i < n; i++) {
        buf_put_le64(b, range[i].base);
        buf_put_le64(b, range[i].size);
        buf_put_le32(b, range[i].type);
        buf_put_le32(b, 0);
    }
    end(b, at);
}

static void tag_screen(struct buf *b, const struct multiboot *m) {
    size_t at;

    if (m->screen.address) {
        at = begin(b, TAG_VBE);
        buf_put_le64(b, 0); /* no mode number, no protected mode interface */
        put_vbe(b, m);
        end(b, at);
    }
    at = begin(b, TAG_FRAMEBUFFER);
    put_screen(b, m);
    end(b, at);
}

static void tag_sections(struct buf *b, const struct multiboot *m) {
    size_t at = begin(b, TAG_ELF);

    buf_put_le32(b, m->section_count);
    buf_put_le32(b, m->section_size);
    buf_put_le32(b, m->section_names);
    buf_put(b, m->sections, (size_t)m->section_count * m->section_size);
    end(b, at);
}

static void tag_acpi(struct buf *b, const struct multiboot *m) {
    const uint8_t *rsdp = mem_ptr(m->mem, MAP_ACPI_TABLES, RSDP2_SIZE, false);
    size_t at;

    if (!rsdp || memcmp(rsdp, "RSD PTR ", 8) != 0)
        return;
    at = begin(b, TAG_ACPI1);
    buf_put(b, rsdp, RSDP1_SIZE);
    end(b, at);
    at = begin(b, TAG_ACPI2);
    buf_put(b, rsdp, RSDP2_SIZE);
    end(b, at);
}

static void build2(struct buf *b, const struct multiboot *m) {
    size_t at;

    buf_put_le64(b, 0);
    at = begin(b, TAG_CMDLINE);
    put_cmdline(b, m);
    end(b, at);
    at = begin(b, TAG_LOADER);
    buf_put(b, loader, sizeof(loader));
    end(b, at);
    tag_modules(b, m);
    tag_memory(b, m);
    if (m->has_screen)
        tag_screen(b, m);
    if (m->sections)
        tag_sections(b, m);
    tag_acpi(b, m);
    at = begin(b, TAG_LOAD_BASE);
    buf_put_le32(b, (uint32_t)m->load_base);
    end(b, at);
    end(b, begin(b, TAG_END));
    store_le32(b->data, (uint32_t)b->len);
}

/* Twice: its own address is in it, and its size says where it fits. Below 640 KiB if it does, which
 * kernels map first and give away last. */
int multiboot_tell(struct multiboot *m, gpa *ret, struct error *err) {
    struct buf b = {0};
    bool placed;
    int r = 0;

    for (unsigned round = 0; round < 2 && r == 0; round++) {
        b.len = 0;
        if (m->second)
            build2(&b, m);
        else
            build1(&b, m, round ? *ret : 0);
        if (round)
            break;
        placed = multiboot_place(m, b.len, 8, 0x10000, MAP_EBDA, ret) ||
                 multiboot_place(m, b.len, MEM_PAGE_SIZE, MAP_1M, MAP_LOW_MAX, ret);
        if (!placed)
            r = error_set(err, -ENOSPC,
                          "what the kernel '%s' is to be told does not fit beside it: give the "
                          "machine more --memory",
                          m->image->kernel.path);
    }
    if (r == 0 && mem_load(m->mem, *ret, b.data, b.len) < 0)
        r = error_set(err, -EFAULT, "the kernel '%s': its information does not fit",
                      m->image->kernel.path);
    buf_done(&b);
    return r;
}

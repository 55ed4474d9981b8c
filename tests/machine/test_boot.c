/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel loaders: what lies where in guest memory, the first state of the processor, and a
 * sentence for every mistake in a file. Expectations from Linux' boot.rst and zero-page.rst, Xen's
 * start_info.h.
 */
#include "machine/boot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "machine/image.h"
#include "machine/map.h"
#include "support/test.h"

enum { CS = 1, DS = 3, RAM = 64 << 20 };

static struct mem mem;
static struct boot_image image;
static struct x86_state state;
static struct error err;

static void make_ram(uint64_t low, uint64_t high) {
    assert_int_equal(mem_init(&mem, &err), 0);
    assert_int_equal(mem_add(&mem, 0, MAP_VGA_HOLE, false, &err), 0);
    assert_int_equal(mem_add(&mem, MAP_SHADOW, MAP_1M - MAP_SHADOW, false, &err), 0);
    assert_int_equal(mem_add(&mem, MAP_1M, low - MAP_1M, false, &err), 0);
    if (high)
        assert_int_equal(mem_add(&mem, MAP_HIGH, high, false, &err), 0);
}

static int setup(void **opaque) {
    memset(&err, 0, sizeof(err));
    make_ram(RAM, 0);
    return 0;
}

static int teardown(void **opaque) {
    mem_done(&mem);
    return 0;
}

static int load(const struct image *kernel, const struct image *initrd, const char *cmdline) {
    int r;

    memset(&err, 0, sizeof(err));
    memset(&state, 0xee, sizeof(state));
    r = boot_open(&image, kernel->path, (const char *[]){initrd ? initrd->path : NULL},
                  initrd != NULL, cmdline, &err);
    if (r == 0)
        r = boot_load(&image, &mem, &state, &err);
    boot_close(&image);
    return r;
}

static void must_load(const struct image *kernel, const struct image *initrd, const char *cmdline) {
    if (load(kernel, initrd, cmdline) < 0)
        fail_msg("%s", err.text);
}

static void refused(const struct image *kernel, const struct image *initrd, const char *cmdline,
                    const char *text) {
    assert_true(load(kernel, initrd, cmdline) < 0);
    if (!strstr(err.text, text))
        fail_msg("'%s' says nothing of '%s'", err.text, text);
}

static uint8_t *guest(gpa at, uint64_t n) {
    uint8_t *p = mem_ptr(&mem, at, n, false);

    assert_non_null(p);
    return p;
}

static uint32_t get32(gpa at) { return load_le32(guest(at, 4)); }
static uint64_t get64(gpa at) { return load_le64(guest(at, 8)); }

static const char code[] = "the code of the kernel, which need not be code";

/* ------------------------------------------------------------------ Linux */

static void flat_segments(unsigned attr) {
    assert_int_equal(state.seg[CS].sel, 0x10);
    assert_int_equal(state.seg[CS].attr, attr);
    assert_int_equal(state.seg[DS].sel, 0x18);
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(state.seg[i].base, 0);
        assert_int_equal(state.seg[i].limit, 0xffffffff);
    }
    assert_int_equal(state.rflags & X86_FLAG_IF, 0);
    assert_true(state.gdtr.limit >= 0x27);
    assert_int_equal(get64(state.gdtr.base + 0x10) >> 40 & 0xff, 0x9b); /* what a reload finds */
    assert_int_equal(get64(state.gdtr.base + 0x18) >> 40 & 0xff, 0x93);
}

/* The address that the tables behind CR3 give, as the processor would walk them. */
static uint64_t walk(uint64_t va) {
    uint64_t entry = get64((state.cr3 & ~0xfffull) + (va >> 39 & 511) * 8);

    assert_true(entry & 1);
    entry = get64((entry & ~0xfffull) + (va >> 30 & 511) * 8);
    assert_true(entry & 1);
    entry = get64((entry & ~0xfffull) + (va >> 21 & 511) * 8);
    assert_int_equal(entry & 0x83, 0x83);
    return (entry & ~0x1fffffull) | (va & 0x1fffff);
}

static void a_bzimage_starts_at_its_64_bit_entry_in_long_mode(void **opaque) {
    struct image k;

    image_linux(&k, true, code, sizeof(code));
    must_load(&k, NULL, NULL);
    assert_int_equal(state.rip, 0x100200);
    assert_memory_equal(guest(0x100200, sizeof(code)), code, sizeof(code));
    flat_segments(0xa09b);
    assert_int_equal(state.efer & (X86_EFER_LMA | X86_EFER_LME), X86_EFER_LMA | X86_EFER_LME);
    assert_int_equal(state.cr0 & (X86_CR0_PE | X86_CR0_PG), X86_CR0_PE | X86_CR0_PG);
    assert_true(state.cr4 & X86_CR4_PAE);
    assert_int_equal(walk(0), 0);
    assert_int_equal(walk(0x7fff123), 0x7fff123);
    assert_int_equal(walk(0xffffffff), 0xffffffff);
    assert_int_equal(state.activity, X86_RUNNING);
    image_done(&k);
}

static void a_bzimage_without_it_starts_at_the_32_bit_entry(void **opaque) {
    struct image k;

    image_linux(&k, false, code, sizeof(code));
    must_load(&k, NULL, NULL);
    assert_int_equal(state.rip, 0x100000);
    flat_segments(0xc09b);
    assert_int_equal(state.cr0 & (X86_CR0_PE | X86_CR0_PG), X86_CR0_PE);
    assert_int_equal(state.efer, 0);
    assert_int_equal(state.gpr[X86_RBP] | state.gpr[X86_RDI] | state.gpr[X86_RBX], 0);
    image_done(&k);
}

static void boot_params_carry_the_header_and_what_the_loader_must_fill_in(void **opaque) {
    static const char line[] = "console=ttyS0 root=/dev/vda";
    struct image k, initrd;
    gpa params, at;

    image_linux(&k, true, code, sizeof(code));
    store_le64(k.data + 0x250, 0x1234567); /* setup_data is ours to give */
    store_le16(k.data + 0x1fa, 0xffff);    /* vid_mode, an ordinary field */
    image_sync(&k);
    image_raw(&initrd, "an initial RAM disk", 19);
    must_load(&k, &initrd, line);
    params = state.gpr[X86_RSI];
    assert_memory_equal(guest(params + 0x202, 4), "HdrS", 4);
    assert_int_equal(load_le16(guest(params + 0x1fa, 2)), 0xffff);
    assert_int_equal(*guest(params + 0x210, 1), 0xff);
    assert_int_equal(*guest(params + 0x1ef, 1), 0); /* the sentinel: cleared by a good loader */
    assert_int_equal(get32(params + 0x214), 0x100000);
    assert_string_equal(guest(get32(params + 0x228), sizeof(line)), line);
    assert_int_equal(get64(params + 0x250), 0);
    assert_int_equal(get64(params + 0x070), MAP_ACPI_TABLES);
    at = get32(params + 0x218);
    assert_int_equal(get32(params + 0x21c), 19);
    assert_memory_equal(guest(at, 19), "an initial RAM disk", 19);
    assert_int_equal(at % 4096, 0);
    assert_int_equal(at, RAM - 4096);
    image_done(&k);
    image_done(&initrd);
}

static void without_an_initrd_none_is_announced(void **opaque) {
    struct image k;

    image_linux(&k, true, code, sizeof(code));
    store_le64(k.data + 0x218, 0x1111111122222222); /* rubbish in the file */
    image_sync(&k);
    must_load(&k, NULL, NULL);
    assert_int_equal(get64(state.gpr[X86_RSI] + 0x218), 0);
    assert_string_equal(guest(get32(state.gpr[X86_RSI] + 0x228), 1), "");
    image_done(&k);
}

/* The map of a machine with RAM on both sides of the hole, from whichever structure. */
static void check_map(gpa map, unsigned count, unsigned stride, uint64_t low, uint64_t high) {
    uint64_t ram = 0, end = 0;
    bool ecam = false, tables = false;

    for (unsigned i = 0; i < count; i++) {
        uint64_t base = get64(map + i * stride), size = get64(map + i * stride + 8);
        uint32_t type = get32(map + i * stride + 16);

        assert_true(base >= end && size > 0); /* sorted, no overlaps */
        end = base + size;
        if (type == 1) {
            const struct mem_range *r = mem_find(&mem, base);

            assert_true(r && end <= r->base + r->size);
            assert_false(boot_is_taken(base, size) && base >= 0x30000);
            ram += size;
        } else {
            assert_int_equal(type, 2);
            ecam |= base == MAP_ECAM && size == MAP_ECAM_SIZE;
            tables |= base <= MAP_ACPI_TABLES && end >= MAP_1M;
        }
    }
    assert_true(ecam && tables);
    assert_int_equal(ram, 0x9fc00 + (low - MAP_1M) + high);
}

static void the_memory_map_has_ram_on_both_sides_of_the_hole(void **opaque) {
    static const uint64_t high[] = {0, 1 << 20, 3ull << 30};
    struct image k;

    image_linux(&k, true, code, sizeof(code));
    for (unsigned i = 0; i < 3; i++) {
        mem_done(&mem);
        make_ram(RAM, high[i]);
        must_load(&k, NULL, NULL);
        check_map(state.gpr[X86_RSI] + 0x2d0, *guest(state.gpr[X86_RSI] + 0x1e8, 1), 20, RAM,
                  high[i]);
    }
    image_done(&k);
}

static void a_kernel_goes_to_its_preferred_address(void **opaque) {
    struct image k;

    image_linux(&k, true, code, sizeof(code));
    store_le64(k.data + 0x258, 0x1000000);
    image_sync(&k);
    must_load(&k, NULL, NULL);
    assert_int_equal(state.rip, 0x1000200);
    assert_int_equal(get32(state.gpr[X86_RSI] + 0x214), 0x1000000);
    store_le64(k.data + 0x258, 0); /* none preferred */
    image_sync(&k);
    must_load(&k, NULL, NULL);
    assert_int_equal(state.rip, 0x100200);
    store_le64(k.data + 0x258, 0x1000000); /* before the field existed */
    store_le16(k.data + 0x206, 0x209);
    image_sync(&k);
    must_load(&k, NULL, NULL);
    assert_int_equal(state.rip, 0x100000); /* and before the 64-bit entry did */
    image_done(&k);
}

/* Wherever the sizes lie, disk and kernel do not touch, or there is a sentence. */
static void the_initial_ram_disk_never_touches_the_kernel(void **opaque) {
    uint32_t init_size[] = {0x1000, 0x1234567, RAM - MAP_1M - 0x5000, RAM - MAP_1M - 0x4fff};
    struct image k, initrd;
    uint8_t bytes[0x5001];
    unsigned fitted = 0;

    memset(bytes, 0x5a, sizeof(bytes));
    image_linux(&k, true, code, sizeof(code));
    image_raw(&initrd, bytes, sizeof(bytes));
    for (unsigned i = 0; i < 4; i++)
        for (initrd.size = 0x4ffe; initrd.size <= 0x5001; initrd.size++) {
            uint64_t at;

            store_le32(k.data + 0x260, init_size[i]);
            image_sync(&k);
            image_sync(&initrd);
            if (load(&k, &initrd, NULL) < 0) {
                assert_non_null(strstr(err.text, "does not fit beside the kernel"));
                continue;
            }
            fitted++;
            at = get32(state.gpr[X86_RSI] + 0x218);
            assert_true(at >= MAP_1M + init_size[i] && at + initrd.size <= RAM);
        }
    assert_int_equal(fitted, 4 + 4 + 3 + 0);
    image_done(&k);
    image_done(&initrd);
}

static void the_initial_ram_disk_stays_below_what_the_kernel_can_reach(void **opaque) {
    struct image k, initrd;

    image_linux(&k, true, code, sizeof(code));
    store_le32(k.data + 0x22c, 0x1ffffff);
    image_sync(&k);
    image_raw(&initrd, "x", 1);
    must_load(&k, &initrd, NULL);
    assert_int_equal(get32(state.gpr[X86_RSI] + 0x218), 0x1fff000);
    store_le32(k.data + 0x22c, 0x100fff);
    image_sync(&k);
    refused(&k, &initrd, NULL, "does not fit beside the kernel");
    image_done(&k);
    image_done(&initrd);
}

static void the_command_line_may_be_as_long_as_the_kernel_says(void **opaque) {
    char *line = malloc(70000);
    struct image k;

    memset(line, 'a', 70000);
    image_linux(&k, true, code, sizeof(code));
    line[2047] = 0;
    must_load(&k, NULL, line);
    assert_string_equal(guest(get32(state.gpr[X86_RSI] + 0x228), 2048), line);
    line[2047] = 'a';
    line[2048] = 0;
    refused(&k, NULL, line, "2048 characters, the kernel takes 2047");
    store_le32(k.data + 0x238, 0xffffffff); /* a kernel that promises more than we have room for */
    image_sync(&k);
    line[2048] = 'a';
    line[65535] = 0;
    must_load(&k, NULL, line);
    line[65535] = 'a';
    line[65536] = 0;
    refused(&k, NULL, line, "65536 characters, the kernel takes 65535");
    store_le32(k.data + 0x238, 0);
    image_sync(&k);
    line[256] = 0;
    refused(&k, NULL, line, "takes 255");
    free(line);
    image_done(&k);
}

static void change_linux(unsigned at, unsigned size, uint64_t value, const char *text) {
    struct image k;

    image_linux(&k, true, code, sizeof(code));
    memcpy(k.data + at, &value, size);
    image_sync(&k);
    refused(&k, NULL, NULL, text);
    image_done(&k);
}

static void every_mistake_in_a_bzimage_is_a_sentence(void **opaque) {
    change_linux(0x206, 2, 0x205, "older than 2.06");
    change_linux(0x211, 1, 0, "zImage");
    change_linux(0x1f1, 1, 200, "ends inside its setup");
    change_linux(0x1f4, 4, 0x1000, "shorter than its header says");
    change_linux(0x1f4, 4, 0xffffffff, "shorter than its header says");
    change_linux(0x258, 8, 0x8000, "outside of 1 MiB to 4 GiB");
    change_linux(0x258, 8, 0x100000000, "outside of 1 MiB to 4 GiB");
    change_linux(0x258, 8, ~0ull, "outside of 1 MiB to 4 GiB");
    change_linux(0x258, 8, RAM, "more --memory");
    change_linux(0x260, 4, 0xffffffff, "more --memory");
    change_linux(0x202, 4, 0, "neither a Linux bzImage nor a multiboot kernel nor an ELF");
    change_linux(0x1fe, 2, 0, "neither a Linux bzImage nor a multiboot kernel nor an ELF");
}

static void several_initial_ram_disks_become_one(void **opaque) {
    struct boot_image several;
    struct image k, part[2];
    uint32_t at;

    image_linux(&k, true, code, sizeof(code));
    image_raw(&part[0], "first", 5);
    image_raw(&part[1], "second", 6);
    memset(guest(RAM - 4096, 4096), 0xee, 4096);
    assert_int_equal(
        boot_open(&several, k.path, (const char *[]){part[0].path, part[1].path}, 2, NULL, &err),
        0);
    assert_int_equal(boot_load(&several, &mem, &state, &err), 0);
    boot_close(&several);
    at = get32(MAP_BOOT_PARAMS + 0x218);
    assert_int_equal(get32(MAP_BOOT_PARAMS + 0x21c), 8 + 6);
    assert_memory_equal(guest(at, 14), "first\0\0\0second", 14);
    image_done(&k);
    image_done(&part[0]);
    image_done(&part[1]);
}

/* ------------------------------------------------------------------ PVH */

static void check_pvh(bool narrow) {
    struct elf_shape shape = {
        .narrow = narrow, .paddr = 0x200000, .entry = 0x200004, .memsz = 0x3000};
    struct image k, initrd;
    gpa info;

    image_elf(&k, &shape, code, sizeof(code));
    image_raw(&initrd, "module", 6);
    memset(guest(0x200000, 0x4000), 0xff, 0x4000);
    must_load(&k, &initrd, "a line");
    assert_int_equal(state.rip, 0x200004);
    flat_segments(0xc09b);
    assert_int_equal(state.cr0 & (X86_CR0_PE | X86_CR0_PG), X86_CR0_PE);
    assert_int_equal(state.cr4, 0);
    assert_memory_equal(guest(0x200000, sizeof(code)), code, sizeof(code));
    for (unsigned i = sizeof(code); i < 0x3000; i++)
        assert_int_equal(*guest(0x200000 + i, 1), 0);
    assert_int_equal(*guest(0x203000, 1), 0xff);
    info = state.gpr[X86_RBX];
    assert_int_equal(get32(info), 0x336ec578);
    assert_int_equal(get32(info + 4), 1);
    assert_int_equal(get32(info + 12), 1);
    assert_int_equal(get64(get64(info + 16)), RAM - 4096);
    assert_int_equal(get64(get64(info + 16) + 8), 6);
    assert_memory_equal(guest(RAM - 4096, 6), "module", 6);
    assert_string_equal(guest(get64(info + 24), 7), "a line");
    assert_int_equal(get64(info + 32), MAP_ACPI_TABLES);
    check_map(get64(info + 40), get32(info + 48), 24, RAM, 0);
    image_done(&k);
    image_done(&initrd);
}

static void an_elf64_kernel_gets_start_info(void **opaque) { check_pvh(false); }

static void an_elf32_kernel_gets_start_info(void **opaque) { check_pvh(true); }

enum { PHDR = 64, PHDR_SIZE = 56 }; /* of image_elf's ELF-64 file */

static void change_elf(unsigned at, unsigned size, uint64_t value, const char *text) {
    struct elf_shape shape = {.paddr = 0x200000};
    struct image k;

    image_elf(&k, &shape, code, sizeof(code));
    memcpy(k.data + at, &value, size);
    image_sync(&k);
    refused(&k, NULL, NULL, text);
    image_done(&k);
}

static void every_mistake_in_an_elf_file_is_a_sentence(void **opaque) {
    change_elf(4, 1, 3, "neither a Linux bzImage nor a multiboot kernel nor an ELF");
    change_elf(4 + 1, 1, 2,
               "neither a Linux bzImage nor a multiboot kernel nor an ELF"); /* big-endian */
    change_elf(32, 8, 1 << 20, "program header lies outside");
    change_elf(32, 8, ~0ull - 8, "program header lies outside");
    change_elf(54, 2, 8, "unknown size");
    change_elf(56, 2, 0, "no PVH entry note");
    change_elf(56, 2, 40, "program header lies outside");
    change_elf(56, 2, 0xffff, "more than 1024");
    change_elf(PHDR + 8, 8, 1 << 20, "segment lies outside the file");
    change_elf(PHDR + 8, 8, ~0ull, "segment lies outside the file");
    change_elf(PHDR + 32, 8, 1 << 20, "segment lies outside the file");
    change_elf(PHDR + 32, 8, ~0ull, "segment lies outside the file");
    change_elf(PHDR + 40, 8, 3, "larger in the file");
    change_elf(PHDR + 40, 8, RAM, "no RAM: give the machine more --memory");
    change_elf(PHDR + 40, 8, ~0ull, "no RAM");
    change_elf(PHDR + 24, 8, ~0ull - 2, "no RAM");
    change_elf(PHDR + 24, 8, 0xa0000, "no RAM");
    change_elf(PHDR + 24, 8, MAP_BOOT_PARAMS, "below 1 MiB");
    change_elf(PHDR + 24, 8, MAP_BOOT_GDT - 1, "below 1 MiB");
    change_elf(PHDR + 24, 8, MAP_BOOT_CMDLINE + 1, "below 1 MiB");
    change_elf(PHDR + 24, 8, MAP_ACPI_TABLES, "below 1 MiB");
    change_elf(PHDR + 24, 8, 0x300000, "entry lies outside");
    change_elf(PHDR, 4, 0, "entry lies outside");
    change_elf(PHDR + PHDR_SIZE, 4, 0, "no PVH entry note");
    change_elf(PHDR + PHDR_SIZE + 32, 8, 1 << 20, "segment lies outside the file");
    change_elf(PHDR + PHDR_SIZE + 32, 8, 16, "no PVH entry note"); /* the note is cut off */
}

static void a_segment_below_1_mib_is_fine_where_nothing_else_is(void **opaque) {
    struct elf_shape shape = {.paddr = 0x40000};
    struct image k;

    image_elf(&k, &shape, code, sizeof(code));
    must_load(&k, NULL, NULL);
    assert_int_equal(state.rip, 0x40000);
    image_done(&k);
}

static void put_note(uint8_t *p, uint32_t name_size, uint32_t desc_size, uint32_t type,
                     const char *name) {
    store_le32(p, name_size);
    store_le32(p + 4, desc_size);
    store_le32(p + 8, type);
    memcpy(p + 12, name, 4);
}

static void the_entry_note_is_found_among_others_and_damage_does_no_harm(void **opaque) {
    struct elf_shape shape = {.paddr = 0x200000};
    uint8_t notes[0x100] = {0}, *at;
    struct image k;

    put_note(notes, 4, 8, 5, "GNU");
    put_note(notes + 24, 4, 4, 6, "Xen");
    put_note(notes + 44, 4, 8, 18, "Xen"); /* 8 bytes wide, as Linux writes it */
    store_le32(notes + 60, 0x200001);
    image_elf(&k, &shape, notes, sizeof(notes));
    at = k.data + k.size - sizeof(notes); /* the loaded segment is the note segment too */
    store_le64(k.data + PHDR + PHDR_SIZE + 8, (uint64_t)(at - k.data));
    store_le64(k.data + PHDR + PHDR_SIZE + 32, 68);
    image_sync(&k);
    must_load(&k, NULL, NULL);
    assert_int_equal(state.rip, 0x200001);
    for (unsigned i = 0; i < 68; i++) { /* every byte of it wrong in turn: no crash, no overrun */
        uint8_t was = at[i];

        at[i] = 0xff;
        image_sync(&k);
        load(&k, NULL, NULL);
        at[i] = was;
    }
    store_le64(k.data + PHDR + PHDR_SIZE + 32, 12); /* ends behind a header */
    image_sync(&k);
    refused(&k, NULL, NULL, "no PVH entry note");
    image_done(&k);
}

static void segments_that_overlap_for_ever_are_refused_soon(void **opaque) {
    struct elf_shape shape = {.paddr = 0x200000};
    static uint8_t many[1024 * PHDR_SIZE];
    struct image k;

    image_elf(&k, &shape, many, sizeof(many));
    for (unsigned i = 0; i < 1000; i++) { /* a thousand times all of RAM */
        uint8_t *p = k.data + k.size - sizeof(many) + i * PHDR_SIZE;

        store_le32(p, 1);
        store_le64(p + 24, 0x200000);
        store_le64(p + 40, RAM - 0x200000);
    }
    store_le64(k.data + 32, k.size - sizeof(many));
    store_le16(k.data + 56, 1000);
    image_sync(&k);
    refused(&k, NULL, NULL, "segments overlap");
    image_done(&k);
}

/* ------------------------------------------------------------------ files */

static void a_file_that_changes_between_opening_and_loading_is_a_sentence(void **opaque) {
    struct image k, initrd;

    image_linux(&k, true, code, sizeof(code));
    image_raw(&initrd, "0123456789", 10);
    assert_int_equal(boot_open(&image, k.path, (const char *[]){initrd.path}, 1, NULL, &err), 0);
    assert_int_equal(ftruncate(initrd.fd, 5), 0);
    assert_true(boot_load(&image, &mem, &state, &err) < 0);
    assert_non_null(strstr(err.text, "the initial RAM disk"));
    assert_non_null(strstr(err.text, "become shorter"));
    boot_close(&image);
    boot_close(&image); /* twice is harmless */
    image_done(&k);
    image_done(&initrd);
}

static void loading_again_gives_the_same_whatever_the_guest_did(void **opaque) {
    struct x86_state first;
    struct image k, initrd;

    image_linux(&k, true, code, sizeof(code));
    image_raw(&initrd, "disk", 4);
    assert_int_equal(boot_open(&image, k.path, (const char *[]){initrd.path}, 1, "line", &err), 0);
    assert_int_equal(boot_load(&image, &mem, &first, &err), 0);
    memset(guest(0, 0xa0000), 0xcc, 0xa0000);
    memset(guest(MAP_1M, RAM - MAP_1M), 0xcc, RAM - MAP_1M);
    assert_int_equal(boot_load(&image, &mem, &state, &err), 0);
    assert_memory_equal(&first, &state, sizeof(state));
    assert_memory_equal(guest(state.rip, sizeof(code)), code, sizeof(code));
    assert_string_equal(guest(get32(state.gpr[X86_RSI] + 0x228), 5), "line");
    assert_int_equal(walk(0x12345678), 0x12345678);
    boot_close(&image);
    image_done(&k);
    image_done(&initrd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(several_initial_ram_disks_become_one, setup, teardown),
        cmocka_unit_test_setup_teardown(a_bzimage_starts_at_its_64_bit_entry_in_long_mode, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_bzimage_without_it_starts_at_the_32_bit_entry, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            boot_params_carry_the_header_and_what_the_loader_must_fill_in, setup, teardown),
        cmocka_unit_test_setup_teardown(without_an_initrd_none_is_announced, setup, teardown),
        cmocka_unit_test_setup_teardown(the_memory_map_has_ram_on_both_sides_of_the_hole, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_kernel_goes_to_its_preferred_address, setup, teardown),
        cmocka_unit_test_setup_teardown(the_initial_ram_disk_never_touches_the_kernel, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_initial_ram_disk_stays_below_what_the_kernel_can_reach,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(the_command_line_may_be_as_long_as_the_kernel_says, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(every_mistake_in_a_bzimage_is_a_sentence, setup, teardown),
        cmocka_unit_test_setup_teardown(an_elf64_kernel_gets_start_info, setup, teardown),
        cmocka_unit_test_setup_teardown(an_elf32_kernel_gets_start_info, setup, teardown),
        cmocka_unit_test_setup_teardown(every_mistake_in_an_elf_file_is_a_sentence, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_segment_below_1_mib_is_fine_where_nothing_else_is, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            the_entry_note_is_found_among_others_and_damage_does_no_harm, setup, teardown),
        cmocka_unit_test_setup_teardown(segments_that_overlap_for_ever_are_refused_soon, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            a_file_that_changes_between_opening_and_loading_is_a_sentence, setup, teardown),
        cmocka_unit_test_setup_teardown(loading_again_gives_the_same_whatever_the_guest_did, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

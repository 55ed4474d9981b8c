/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Kernel images built in memory: see image.h. */
#include "machine/image.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "support/test.h"

enum { NOTE_SIZE = 20, CODE_MIN = 0x400 };

static void make(struct image *i, size_t size) {
    i->fd = memfd_create("image", MFD_CLOEXEC);
    assert_true(i->fd >= 0);
    snprintf(i->path, sizeof(i->path), "/proc/self/fd/%d", i->fd);
    i->size = size;
    i->data = calloc(1, size ? size : 1);
    assert_non_null(i->data);
}

void image_sync(struct image *i) {
    assert_int_equal(ftruncate(i->fd, 0), 0);
    assert_int_equal(pwrite(i->fd, i->data, i->size, 0), i->size);
}

void image_done(struct image *i) {
    close(i->fd);
    free(i->data);
}

void image_raw(struct image *i, const void *bytes, size_t n) {
    make(i, n);
    memcpy(i->data, bytes, n);
    image_sync(i);
}

static void put_note(uint8_t *p, uint32_t entry) {
    store_le32(p, 4);
    store_le32(p + 4, 4);
    store_le32(p + 8, 18); /* XEN_ELFNOTE_PHYS32_ENTRY */
    memcpy(p + 12, "Xen", 4);
    store_le32(p + 16, entry);
}

static void elf64(struct image *i, uint32_t paddr, uint64_t memsz, const void *code, size_t n) {
    size_t at = sizeof(Elf64_Ehdr) + 2 * sizeof(Elf64_Phdr);
    Elf64_Ehdr h = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                    .e_type = ET_EXEC,
                    .e_machine = EM_X86_64,
                    .e_version = EV_CURRENT,
                    .e_phoff = sizeof(h),
                    .e_ehsize = sizeof(h),
                    .e_phentsize = sizeof(Elf64_Phdr),
                    .e_phnum = 2};
    Elf64_Phdr p[2] = {{.p_type = PT_LOAD, .p_paddr = paddr, .p_filesz = n, .p_memsz = memsz},
                       {.p_type = PT_NOTE, .p_filesz = NOTE_SIZE, .p_memsz = NOTE_SIZE}};

    make(i, at + NOTE_SIZE + n);
    p[0].p_offset = at + NOTE_SIZE;
    p[1].p_offset = at;
    memcpy(i->data, &h, sizeof(h));
    memcpy(i->data + sizeof(h), p, sizeof(p));
    memcpy(i->data + p[0].p_offset, code, n);
}

static void elf32(struct image *i, uint32_t paddr, uint32_t memsz, const void *code, size_t n) {
    size_t at = sizeof(Elf32_Ehdr) + 2 * sizeof(Elf32_Phdr);
    Elf32_Ehdr h = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, EV_CURRENT},
                    .e_type = ET_EXEC,
                    .e_machine = EM_386,
                    .e_version = EV_CURRENT,
                    .e_phoff = sizeof(h),
                    .e_ehsize = sizeof(h),
                    .e_phentsize = sizeof(Elf32_Phdr),
                    .e_phnum = 2};
    Elf32_Phdr p[2] = {
        {.p_type = PT_LOAD, .p_paddr = paddr, .p_filesz = (uint32_t)n, .p_memsz = memsz},
        {.p_type = PT_NOTE, .p_filesz = NOTE_SIZE, .p_memsz = NOTE_SIZE}};

    make(i, at + NOTE_SIZE + n);
    p[0].p_offset = (uint32_t)at + NOTE_SIZE;
    p[1].p_offset = (uint32_t)at;
    memcpy(i->data, &h, sizeof(h));
    memcpy(i->data + sizeof(h), p, sizeof(p));
    memcpy(i->data + p[0].p_offset, code, n);
}

void image_elf(struct image *i, const struct elf_shape *shape, const void *code, size_t n) {
    uint32_t paddr = shape->paddr ? shape->paddr : IMAGE_BASE;
    uint32_t entry = shape->entry ? shape->entry : paddr;
    uint64_t memsz = shape->memsz ? shape->memsz : n;

    if (shape->narrow)
        elf32(i, paddr, (uint32_t)memsz, code, n);
    else
        elf64(i, paddr, memsz, code, n);
    put_note(i->data + i->size - n - NOTE_SIZE, entry);
    image_sync(i);
}

static void put_words(uint8_t *p, const uint32_t *words, unsigned n) {
    for (unsigned i = 0; i < n; i++)
        store_le32(p + (size_t)4 * i, words[i]);
}

void image_multiboot(struct image *i, unsigned version, const void *code, size_t n) {
    enum { ENTRY = IMAGE_BASE + IMAGE_MULTIBOOT_CODE, LENGTH = 96 };
    const uint32_t end = ENTRY + (uint32_t)n, bss = end + 0x100;
    const uint32_t first[] = {0x1badb002, 0x10003,    0xffffffff - 0x1badb002 - 0x10003 + 1,
                              IMAGE_BASE, IMAGE_BASE, end,
                              bss,        ENTRY},
                   second[] = {0xe85250d6, 0, LENGTH, 0xffffffff - 0xe85250d6 - LENGTH + 1,
                               /* addresses, entry, relocatable, information, end */
                               2, 24, IMAGE_BASE, IMAGE_BASE, end, bss, 3, 12, ENTRY, 0, 10, 24,
                               IMAGE_BASE, 0xffffffff, 0x1000, 0, 0, 8};

    make(i, IMAGE_MULTIBOOT_CODE + n);
    if (version == 1)
        put_words(i->data, first, sizeof(first) / sizeof(first[0]));
    else
        put_words(i->data, second, sizeof(second) / sizeof(second[0]));
    memcpy(i->data + IMAGE_MULTIBOOT_CODE, code, n);
    image_sync(i);
}

void image_linux(struct image *i, bool wide, const void *code, size_t n) {
    size_t skip = wide ? 0x200 : 0, body = skip + n;
    uint8_t *h;

    body = body < CODE_MIN ? CODE_MIN : (body + 15) & ~15ul;
    make(i, 1024 + body);
    h = i->data;
    h[0x1f1] = 1; /* setup sectors behind the first */
    store_le32(h + 0x1f4, (uint32_t)(body / 16));
    store_le16(h + 0x1fe, 0xaa55);
    h[0x201] = 0x68;
    memcpy(h + 0x202, "HdrS", 4);
    store_le16(h + 0x206, 0x20f);
    h[0x211] = 1; /* LOADED_HIGH */
    store_le32(h + 0x22c, 0x7fffffff);
    store_le32(h + 0x230, 0x200000);
    h[0x234] = 1;
    store_le16(h + 0x236, wide ? 1 : 0);
    store_le32(h + 0x238, 2047);
    store_le64(h + 0x258, IMAGE_BASE);
    store_le32(h + 0x260, (uint32_t)body);
    memcpy(h + 1024 + skip, code, n);
    image_sync(i);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The loader of multiboot kernels: what is where, what the kernel is told, and a sentence for what
 * a header asks for and cannot get. tests/guest/test_multiboot.py has kernels that look themselves.
 * Expectations from the Multiboot Specification 0.6.96 and the Multiboot2 Specification 2.0.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "machine/boot.h"
#include "machine/image.h"
#include "machine/map.h"
#include "support/test.h"

enum { RAM = 16 << 20, ENTRY = IMAGE_BASE + IMAGE_MULTIBOOT_CODE };

static struct mem mem;
static struct x86_state state;
static struct error err;
static const char code[] = "code and data of a kernel";

static int setup(void **opaque) {
    memset(&err, 0, sizeof(err));
    assert_int_equal(mem_init(&mem, &err), 0);
    assert_int_equal(mem_add(&mem, 0, MAP_VGA_HOLE, false, &err), 0);
    assert_int_equal(mem_add(&mem, MAP_SHADOW, MAP_1M - MAP_SHADOW, false, &err), 0);
    assert_int_equal(mem_add(&mem, MAP_1M, RAM - MAP_1M, false, &err), 0);
    return 0;
}

static int teardown(void **opaque) {
    mem_done(&mem);
    return 0;
}

static bool screen_set(void *opaque, uint32_t width, uint32_t height, uint32_t depth,
                       struct boot_framebuffer *ret) {
    *ret = (struct boot_framebuffer){0xc0000000, width * 4, width, height, 32};
    return *(bool *)opaque;
}

static int load(const struct image *kernel, const char *const *modules, unsigned n, bool *screen) {
    struct boot_image image;
    int r;

    memset(&err, 0, sizeof(err));
    r = boot_open(&image, kernel->path, modules, n, "the line", &err);
    if (screen)
        image.screen = (struct boot_screen){screen_set, screen};
    image.text_screen = screen;
    if (r == 0)
        r = boot_load(&image, &mem, &state, &err);
    boot_close(&image);
    return r;
}

static void must_load(const struct image *k, const char *const *modules, unsigned n, bool *screen) {
    if (load(k, modules, n, screen) < 0)
        fail_msg("%s", err.text);
}

static uint8_t *guest(gpa at, uint64_t n) {
    uint8_t *p = mem_ptr(&mem, at, n, false);

    assert_non_null(p);
    return p;
}

static uint32_t get32(gpa at) { return load_le32(guest(at, 4)); }

static void flat_without_paging(uint32_t eax) {
    assert_int_equal(state.gpr[X86_RAX], eax);
    assert_int_equal(state.cr0 & (X86_CR0_PE | X86_CR0_PG), X86_CR0_PE);
    assert_int_equal(state.rflags & X86_FLAG_IF, 0);
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(state.seg[i].base, 0);
        assert_int_equal(state.seg[i].limit, 0xffffffff);
    }
}

static void the_first_version_gets_its_structure(void **opaque) {
    struct image k;
    uint32_t info, map, ram = 0;

    image_multiboot(&k, 1, code, sizeof(code));
    memset(guest(IMAGE_BASE, 0x1000), 0xee, 0x1000); /* a run before */
    must_load(&k, NULL, 0, NULL);
    flat_without_paging(0x2badb002);
    assert_int_equal(state.rip, ENTRY);
    assert_memory_equal(guest(ENTRY, sizeof(code)), code, sizeof(code));
    for (unsigned i = 0; i < 0x100; i++) /* bss */
        assert_int_equal(*guest(ENTRY + sizeof(code) + i, 1), 0);
    info = (uint32_t)state.gpr[X86_RBX];
    assert_int_equal(get32(info), 1 << 0 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9);
    assert_int_equal(get32(info + 4), 639);
    assert_int_equal(get32(info + 8), (RAM - MAP_1M) >> 10);
    map = get32(info + 48);
    for (uint32_t at = map; at < map + get32(info + 44); at += get32(at) + 4)
        if (get32(at + 20) == 1 && get32(at + 4) == MAP_1M)
            ram = get32(at + 12);
    assert_int_equal(ram, RAM - MAP_1M);
    assert_non_null(strstr((char *)guest(get32(info + 16), 64), " the line"));
    image_done(&k);
}

/* The tag of a type in the information, 0: there is none. */
static gpa find_tag(unsigned type) {
    gpa at = state.gpr[X86_RBX], end = at + get32(at);

    for (at += 8; at < end; at += (get32(at + 4) + 7) & ~7u)
        if (get32(at) == type)
            return at;
    return 0;
}

static void the_second_version_gets_tags(void **opaque) {
    struct image k, module;
    char text[80];
    gpa at;

    image_multiboot(&k, 2, code, sizeof(code));
    image_raw(&module, "xyz", 3);
    snprintf(text, sizeof(text), "%s with words", module.path);
    must_load(&k, (const char *[]){text, module.path}, 2, NULL);
    flat_without_paging(0x36d76289);
    assert_int_equal(state.rip, ENTRY);
    assert_int_equal(get32(find_tag(21) + 8), IMAGE_BASE);
    at = find_tag(3);
    assert_string_equal((char *)guest(at + 16, 64), text);
    assert_int_equal(get32(at + 8) % 4096, 0);
    assert_int_equal(get32(at + 12) - get32(at + 8), 3);
    assert_memory_equal(guest(get32(at + 8), 3), "xyz", 3);
    assert_true(get32(at + 8) >= ENTRY + sizeof(code) + 0x100); /* behind the kernel and its bss */
    assert_int_equal(get32(find_tag(6) + 8), 24);
    assert_int_not_equal(find_tag(0), 0);
    assert_int_equal(find_tag(8), 0);
    image_done(&k);
    image_done(&module);
}

static void preferences_choose_the_place(void **opaque) {
    enum { MIN = 16, MAX = 17, ALIGN = 18, PREFERENCE = 19 };
    struct image k;

    image_multiboot(&k, 2, code, sizeof(code));
    store_le32(k.data + 4 * PREFERENCE, 2);
    image_sync(&k);
    must_load(&k, NULL, 0, NULL);
    assert_int_equal(state.rip, RAM - 0x1000 + IMAGE_MULTIBOOT_CODE);
    assert_int_equal(get32(find_tag(21) + 8), RAM - 0x1000);
    store_le32(k.data + 4 * MIN, 0x300001);
    store_le32(k.data + 4 * PREFERENCE, 1);
    image_sync(&k);
    must_load(&k, NULL, 0, NULL);
    assert_int_equal(state.rip, 0x301000 + IMAGE_MULTIBOOT_CODE);
    store_le32(k.data + 4 * MAX, 0x301010);
    image_sync(&k);
    assert_int_equal(load(&k, NULL, 0, NULL), -ENOSPC);
    store_le32(k.data + 4 * ALIGN, 3);
    image_sync(&k);
    assert_int_equal(load(&k, NULL, 0, NULL), -ENOEXEC);
    image_done(&k);
}

static void a_picture_is_given_if_there_is_a_screen(void **opaque) {
    struct image k;
    bool graphics = true;
    gpa info;

    image_multiboot(&k, 1, code, sizeof(code));
    store_le32(k.data + 4, 0x10007);
    store_le32(k.data + 8, 0u - 0x1badb002 - 0x10007);
    for (unsigned i = 32; i < 48; i += 4)
        store_le32(k.data + i, 0);
    store_le32(k.data + 36, 640);
    store_le32(k.data + 40, 480);
    image_sync(&k);
    must_load(&k, NULL, 0, &graphics);
    info = state.gpr[X86_RBX];
    assert_int_equal(get32(info) >> 11 & 3, 3);
    assert_int_equal(get32(info + 88), 0xc0000000);
    assert_int_equal(get32(info + 100), 640);
    assert_int_equal(guest(info, 116)[109], 1);
    assert_int_equal(get32(get32(info + 76) + 40), 0xc0000000); /* VBE */
    graphics = false;
    must_load(&k, NULL, 0, &graphics);
    info = state.gpr[X86_RBX];
    assert_int_equal(get32(info) >> 11 & 3, 2);
    assert_int_equal(get32(info + 88), 0xb8000);
    assert_int_equal(guest(info, 116)[109], 2);
    must_load(&k, NULL, 0, NULL);
    assert_int_equal(get32((gpa)state.gpr[X86_RBX]) >> 11 & 3, 0);
    image_done(&k);
}

static void refuse(struct image *k, unsigned word, uint32_t value, const char *text) {
    uint32_t was = load_le32(k->data + 4 * (size_t)word);

    store_le32(k->data + 4 * (size_t)word, value);
    if (load_le32(k->data) == 0x1badb002)
        store_le32(k->data + 8, 0u - 0x1badb002 - load_le32(k->data + 4));
    else
        store_le32(k->data + 12, 0u - 0xe85250d6 - load_le32(k->data + 4) - load_le32(k->data + 8));
    image_sync(k);
    assert_true(load(k, NULL, 0, NULL) < 0);
    if (!strstr(err.text, text))
        fail_msg("'%s' says nothing of '%s'", err.text, text);
    store_le32(k->data + 4 * (size_t)word, was);
}

static void what_cannot_be_is_refused(void **opaque) {
    struct image k;

    image_multiboot(&k, 1, code, sizeof(code));
    refuse(&k, 1, 0x10008, "asks for what nobody knows");
    refuse(&k, 1, 3, "no ELF file");
    refuse(&k, 4, IMAGE_BASE + 4, "begin before the file");
    refuse(&k, 3, IMAGE_BASE + 4, "begin before the file");
    refuse(&k, 5, IMAGE_BASE + 4096, "truncated?");
    refuse(&k, 6, RAM + 4096, "no RAM");
    refuse(&k, 7, 0xfffffff0, "its entry lies outside of RAM");
    image_done(&k);
    image_multiboot(&k, 2, code, sizeof(code));
    refuse(&k, 1, 4, "another kind of processor");
    refuse(&k, 2, 65536, "longer than the file");
    refuse(&k, 5, 4, "impossible size");
    refuse(&k, 5, 0xfffffff0, "impossible size");
    refuse(&k, 5, 16, "too short");
    refuse(&k, 10, 77, "unknown type 77");
    refuse(&k, 10, 9, "an entry for EFI only");
    refuse(&k, 10, 4, "no entry");
    image_done(&k);
}

static void modules_must_fit(void **opaque) {
    struct image k, module;

    image_multiboot(&k, 1, code, sizeof(code));
    image_raw(&module, "", 1);
    free(module.data);
    module.size = RAM;
    module.data = calloc(1, RAM);
    image_sync(&module);
    assert_int_equal(load(&k, (const char *[]){module.path}, 1, NULL), -ENOSPC);
    assert_non_null(strstr(err.text, "does not fit beside the kernel"));
    image_done(&k);
    image_done(&module);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_first_version_gets_its_structure, setup, teardown),
        cmocka_unit_test_setup_teardown(the_second_version_gets_tags, setup, teardown),
        cmocka_unit_test_setup_teardown(preferences_choose_the_place, setup, teardown),
        cmocka_unit_test_setup_teardown(a_picture_is_given_if_there_is_a_screen, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(modules_must_fit, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

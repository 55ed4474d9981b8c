/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Kernel files into a small guest memory. The first byte chooses: any bytes as a file, or a good
 * bzImage, ELF-64, ELF-32 or multiboot kernel with some bytes replaced (each by three of the input:
 * offset, value), with and without an initial RAM disk. Whatever loads must start in RAM, and the
 * disk must not lie on the kernel.
 */
#include "machine/boot.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "machine/image.h"
#include "machine/map.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RAM = 8 << 20, FILE_MAX = 8192, SHAPES = 6 };

static struct mem mem;
static struct image file, disk, shape[SHAPES];

static void set_up(void) {
    static const uint8_t code[600];
    struct error err = {0};

    if (mem_init(&mem, &err) < 0 || mem_add(&mem, 0, MAP_VGA_HOLE, false, &err) < 0 ||
        mem_add(&mem, MAP_SHADOW, MAP_1M - MAP_SHADOW, false, &err) < 0 ||
        mem_add(&mem, MAP_1M, RAM - MAP_1M, false, &err) < 0)
        abort();
    image_linux(&shape[0], true, code, sizeof(code));
    image_linux(&shape[1], false, code, sizeof(code));
    image_elf(&shape[2], &(struct elf_shape){0}, code, sizeof(code));
    image_elf(&shape[3], &(struct elf_shape){.narrow = true}, code, sizeof(code));
    image_multiboot(&shape[4], 1, code, sizeof(code));
    image_multiboot(&shape[5], 2, code, sizeof(code));
    image_raw(&disk, code, sizeof(code));
    image_raw(&file, code, 0);
    free(file.data);
    file.data = malloc(FILE_MAX);
    if (!file.data)
        abort();
}

/* The choice 0 is a file of the very bytes. */
static void make_file(unsigned choice, const uint8_t *data, size_t size) {
    const struct image *s;

    if (!choice) {
        file.size = size < FILE_MAX ? size : FILE_MAX;
        memcpy(file.data, data, file.size);
    } else {
        s = &shape[choice - 1];
        file.size = s->size;
        memcpy(file.data, s->data, s->size);
        for (; size >= 3; size -= 3, data += 3)
            file.data[load_le16(data) % s->size] = data[2];
    }
    image_sync(&file);
}

static void check(const struct x86_state *s, bool with_disk) {
    uint32_t at;

    if (!mem_find(&mem, s->rip))
        abort();
    if (!s->gpr[X86_RSI] || !with_disk)
        return;
    at = load_le32((uint8_t *)mem_ptr(&mem, s->gpr[X86_RSI] + 0x218, 4, false));
    if (at < MAP_1M || at + 2 * disk.size > RAM || at <= s->rip)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct boot_image image;
    struct x86_state state;
    struct error err = {0};
    bool with_disk;
    int r;

    if (!mem.count)
        set_up();
    if (!size)
        return 0;
    with_disk = data[0] & 0x80;
    make_file(data[0] % (SHAPES + 1), data + 1, size - 1);
    r = boot_open(&image, file.path, (const char *[]){disk.path, disk.path}, with_disk ? 2 : 0,
                  "a command line", &err);
    if (r == 0)
        r = boot_load(&image, &mem, &state, &err);
    boot_close(&image);
    if (r == 0)
        check(&state, with_disk);
    else if (r > 0 || err.code >= 0 || !*err.text)
        abort();
    return 0;
}

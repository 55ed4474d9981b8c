/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fuzz target: a file of UEFI variables of any size and contents beside firmware of any size is
 * taken or refused with a sentence; what the guest changes in one is in the file. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "devices/pflash.h"
#include "devices/rig.h"
#include "fuzz/memory_path.h"
#include "vm/uefi_vars.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_BLOCKS = 6, CHANGES = 8, SIGNATURE = 40, LENGTH = 32 };

static void check(bool good) {
    if (!good)
        abort();
}

/* A file of whole blocks, or nearly, with the input in front and a header that is mostly right. */
static int make_file(struct choices *c, char path[MEMORY_PATH]) {
    size_t n = choices_draw(c, 1) % MOST_BLOCKS * PFLASH_BLOCK;
    unsigned kind = (unsigned)choices_draw(c, 1);
    uint8_t *p;
    int fd;

    if (kind % 16 == 0)
        n += choices_draw(c, 2);
    p = calloc(1, n + PFLASH_BLOCK);
    check(p);
    memcpy(p, c->p, c->left < n ? c->left : n);
    if (kind & 0x20) {
        memcpy(p + SIGNATURE, "_FVH", 4);
        store_le64(p + LENGTH, kind & 0x40 ? n : n / 2);
    }
    fd = memory_path(p, n, path);
    free(p);
    return fd;
}

static void change(struct uefi_vars *v, struct choices *c, int fd, uint32_t size) {
    uint32_t offset = (uint32_t)choices_draw(c, 4) % size;
    uint8_t out[64], in[64];
    uint32_t n = (uint32_t)(1 + choices_draw(c, 1) % sizeof(out));

    n = n < size - offset ? n : size - offset;
    for (uint32_t i = 0; i < n; i++)
        out[i] = (uint8_t)choices_draw(c, 1);
    uefi_vars_changed(v, offset, out, n);
    check(pread(fd, in, n, offset) == (ssize_t)n && !memcmp(in, out, n));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct choices c = {.p = data, .left = size};
    uint64_t rom_size = 1ull << choices_draw(&c, 1) % 24;
    char path[MEMORY_PATH];
    int fd = make_file(&c, path);
    struct uefi_vars *v = NULL, *second = NULL;
    struct error e = {0};
    struct stat st;

    check(fstat(fd, &st) == 0);
    rom_size -=
        rom_size > (uint64_t)st.st_size && choices_draw(&c, 1) % 4 ? (uint64_t)st.st_size : 0;
    if (uefi_vars_open(path, "/nowhere/CODE.fd", rom_size, &v, &e) < 0) {
        check(!v && e.code < 0 && *e.text);
    } else {
        uint32_t n;
        const uint8_t *p = uefi_vars_data(v, &n);

        check(p && n == st.st_size && n % PFLASH_BLOCK == 0 && n <= PFLASH_MAX_SIZE);
        check(!memcmp(p + SIGNATURE, "_FVH", 4));
        check(uefi_vars_open(path, "/nowhere/CODE.fd", rom_size, &second, &e) < 0 &&
              !second); /* in use */
        for (unsigned i = 0; i < CHANGES && c.left; i++)
            change(v, &c, fd, n);
        check(fstat(fd, &st) == 0 && st.st_size == n);
        uefi_vars_close(v);
    }
    close(fd);
    return 0;
}

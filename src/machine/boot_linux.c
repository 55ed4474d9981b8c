/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Linux bzImage: 64-bit entry (code32_start + 0x200), or the 32-bit entry for kernels that have no
 * other. Source: Linux Documentation/arch/x86/boot.rst, protocol 2.15; zero-page.rst. Offsets are
 * of the file's first sectors, which are boot_params' setup_header at the same offsets.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "machine/boot.h"
#include "machine/map.h"

// clang-format off
enum setup_header {
    SETUP_SECTS = 0x1f1, SETUP_HEADER = 0x1f1, SETUP_SYSSIZE = 0x1f4, SETUP_BOOT_FLAG = 0x1fe,
    SETUP_JUMP_LEN = 0x201, SETUP_MAGIC = 0x202, SETUP_VERSION = 0x206, SETUP_LOADER = 0x210,
    SETUP_LOADFLAGS = 0x211, SETUP_CODE32 = 0x214, SETUP_INITRD = 0x218, SETUP_INITRD_SIZE = 0x21c,
    SETUP_HEAP_END = 0x224, SETUP_CMDLINE = 0x228, SETUP_INITRD_MAX = 0x22c, SETUP_XLOADFLAGS = 0x236, SETUP_CMDLINE_SIZE = 0x238,
    SETUP_DATA = 0x250, SETUP_PREF_ADDRESS = 0x258, SETUP_INIT_SIZE = 0x260,
    SETUP_LEAST = 0x268, /* shorter files are no kernels */
    SETUP_END = 0x290,   /* where the header must end in boot_params */
};
enum boot_params {
    PARAMS_CURSOR_X = 0x000, PARAMS_CURSOR_Y = 0x001, PARAMS_VIDEO_MODE = 0x006, PARAMS_COLUMNS = 0x007, PARAMS_LINES = 0x00e,
    PARAMS_IS_VGA = 0x00f, PARAMS_FONT_HEIGHT = 0x010, PARAMS_RSDP = 0x070, PARAMS_E820_COUNT = 0x1e8, PARAMS_E820 = 0x2d0, PARAMS_SIZE = 4096 };
enum { XLF_KERNEL_64 = 1, LOADED_HIGH = 1, CAN_USE_HEAP = 0x80, LOADER_UNASSIGNED = 0xff };
enum { SECTOR = 512, ENTRY64 = 0x200 };
// clang-format on

/* The versions of the protocol that brought these fields. */
enum { VERSION_CMDLINE_SIZE = 0x206, VERSION_PREF_ADDRESS = 0x20a, VERSION_XLOADFLAGS = 0x20c };

struct linux_kernel {
    uint8_t head[SETUP_END];  /* the file's first bytes, zeroes behind its end */
    uint64_t code, code_size; /* the protected-mode part, in the file */
    uint64_t load, init_size;
    uint32_t cmdline_max, initrd_max;
    bool wide; /* has the 64-bit entry */
};

static int read_head(const struct boot_image *image, uint8_t head[SETUP_END], struct error *err) {
    uint64_t n = image->kernel.size < SETUP_END ? image->kernel.size : SETUP_END;

    memset(head, 0, SETUP_END);
    return boot_read(&image->kernel, 0, head, n, err);
}

bool boot_is_linux(const struct boot_image *image) {
    uint8_t head[SETUP_END];

    return image->kernel.size >= SETUP_LEAST && read_head(image, head, NULL) == 0 &&
           !memcmp(head + SETUP_MAGIC, "HdrS", 4) && load_le16(head + SETUP_BOOT_FLAG) == 0xaa55;
}

static int bad_kernel(const struct boot_image *image, struct error *err, const char *why) {
    return error_set(err, -ENOEXEC, "the kernel '%s' cannot be booted: %s; use an intact bzImage",
                     image->kernel.path, why);
}

static int parse(const struct boot_image *image, struct linux_kernel *k, struct error *err) {
    const uint8_t *h = k->head;
    unsigned version, sectors;
    int r = read_head(image, k->head, err);

    if (r < 0)
        return r;
    version = load_le16(h + SETUP_VERSION);
    sectors = h[SETUP_SECTS] ? h[SETUP_SECTS] : 4;
    if (version < VERSION_CMDLINE_SIZE || !(h[SETUP_LOADFLAGS] & LOADED_HIGH))
        return bad_kernel(image, err, "its boot protocol is older than 2.06 or it is a zImage");
    k->code = (sectors + 1) * SECTOR;
    if (k->code + 2 * ENTRY64 > image->kernel.size)
        return bad_kernel(image, err, "the file ends inside its setup sectors (truncated?)");
    k->code_size = image->kernel.size - k->code;
    /* Counted in units of 16 bytes, the last of which need not be full. */
    if (k->code_size + 15 < (uint64_t)load_le32(h + SETUP_SYSSIZE) * 16)
        return bad_kernel(image, err, "the file is shorter than its header says (truncated?)");
    k->wide = version >= VERSION_XLOADFLAGS && (load_le16(h + SETUP_XLOADFLAGS) & XLF_KERNEL_64);
    k->cmdline_max = load_le32(h + SETUP_CMDLINE_SIZE);
    k->initrd_max = load_le32(h + SETUP_INITRD_MAX);
    k->init_size = k->code_size;
    k->load = MAP_1M;
    if (version < VERSION_PREF_ADDRESS)
        return 0;
    if (load_le32(h + SETUP_INIT_SIZE) > k->init_size)
        k->init_size = load_le32(h + SETUP_INIT_SIZE);
    /* "Preferred", and kernels that call themselves relocatable could go higher. But they go
     * nowhere below it: loaded there, they move up by themselves without asking whether there is
     * RAM. */
    if (load_le64(h + SETUP_PREF_ADDRESS))
        k->load = load_le64(h + SETUP_PREF_ADDRESS);
    return 0;
}

static int load_code(const struct boot_image *image, struct mem *mem, const struct linux_kernel *k,
                     struct error *err) {
    /* Below 1 MiB are our structures; above 4 GiB neither entry could reach it. */
    if (k->load < MAP_1M || k->load >= MAP_HIGH)
        return bad_kernel(image, err, "it wants to be loaded outside of 1 MiB to 4 GiB");
    if (!mem_ptr(mem, k->load, k->init_size, true))
        return error_set(err, -ENOSPC,
                         "the kernel '%s' needs RAM up to %llu KiB (%llu KiB at %#llx): give the "
                         "machine more --memory",
                         image->kernel.path, (unsigned long long)(k->load + k->init_size) >> 10,
                         (unsigned long long)k->init_size >> 10, (unsigned long long)k->load);
    return boot_read_guest(&image->kernel, k->code, mem, k->load, k->code_size, err);
}

static void fill_params(const struct boot_image *image, const struct mem *mem,
                        const struct linux_kernel *k, gpa initrd, uint8_t *params) {
    struct boot_range range[BOOT_MAX_RANGES];
    unsigned n = boot_memory_map(mem, range), end = SETUP_MAGIC + k->head[SETUP_JUMP_LEN];

    if (end > SETUP_END)
        end = SETUP_END;
    memcpy(params + SETUP_HEADER, k->head + SETUP_HEADER, end - SETUP_HEADER);
    params[SETUP_LOADER] = LOADER_UNASSIGNED;
    params[SETUP_LOADFLAGS] |= CAN_USE_HEAP;
    store_le16(params + SETUP_HEAP_END, 0xfe00);
    store_le32(params + SETUP_CMDLINE, MAP_BOOT_CMDLINE);
    store_le32(params + SETUP_CODE32, (uint32_t)k->load);
    store_le32(params + SETUP_INITRD, (uint32_t)initrd);
    store_le32(params + SETUP_INITRD_SIZE, initrd ? (uint32_t)boot_initrd_size(image) : 0);
    store_le64(params + SETUP_DATA, 0);
    if (image->text_screen) {
        params[PARAMS_VIDEO_MODE] = 3;
        params[PARAMS_COLUMNS] = 80;
        params[PARAMS_LINES] = 25;
        params[PARAMS_IS_VGA] = 1;
        store_le16(params + PARAMS_FONT_HEIGHT, 16);
    }
    store_le64(params + PARAMS_RSDP, MAP_ACPI_TABLES);
    params[PARAMS_E820_COUNT] = (uint8_t)n;
    for (unsigned i = 0; i < n; i++) {
        store_le64(params + PARAMS_E820 + 20 * i, range[i].base);
        store_le64(params + PARAMS_E820 + 20 * i + 8, range[i].size);
        store_le32(params + PARAMS_E820 + 20 * i + 16, range[i].type);
    }
}

int boot_linux(const struct boot_image *image, struct mem *mem, struct x86_state *s,
               struct error *err) {
    uint8_t params[PARAMS_SIZE] = {0};
    struct linux_kernel k = {0};
    gpa initrd = 0;
    int r = parse(image, &k, err);

    if (r == 0)
        r = load_code(image, mem, &k, err);
    if (r == 0)
        r = boot_place_initrd(image, mem, k.load + k.init_size, (uint64_t)k.initrd_max + 1, &initrd,
                              err);
    if (r == 0)
        r = boot_write_cmdline(image, mem, k.cmdline_max ? k.cmdline_max : 255, err);
    if (r < 0)
        return r;
    fill_params(image, mem, &k, initrd, params);
    mem_load(mem, MAP_BOOT_PARAMS, params, sizeof(params));
    boot_flat_state(s, k.wide, mem);
    s->gpr[X86_RSI] = MAP_BOOT_PARAMS;
    s->gpr[X86_RSP] = MAP_BOOT_STACK;
    s->rip = k.load + (k.wide ? ENTRY64 : 0);
    return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Linux bzImage: 64-bit entry (code32_start + 0x200), or the 32-bit entry for kernels that have no other.
 * Source: Linux Documentation/arch/x86/boot.rst, protocol 2.15; zero-page.rst. Offsets are of the file's
 * first sectors, which are boot_params' setup_header at the same offsets.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "machine/boot.h"
#include "machine/map.h"

enum setup_header {
    SETUP_SECTS = 0x1f1, SETUP_HEADER = 0x1f1, SETUP_JUMP_LEN = 0x201, SETUP_MAGIC = 0x202, SETUP_VERSION = 0x206,
    SETUP_LOADER = 0x210, SETUP_LOADFLAGS = 0x211, SETUP_CODE32 = 0x214, SETUP_INITRD = 0x218,
    SETUP_INITRD_SIZE = 0x21c, SETUP_HEAP_END = 0x224, SETUP_CMDLINE = 0x228, SETUP_INITRD_MAX = 0x22c,
    SETUP_ALIGNMENT = 0x230, SETUP_RELOCATABLE = 0x234, SETUP_XLOADFLAGS = 0x236, SETUP_CMDLINE_SIZE = 0x238,
    SETUP_PREF_ADDRESS = 0x258, SETUP_INIT_SIZE = 0x260, SETUP_END = 0x268,
};
enum boot_params { PARAMS_RSDP = 0x070, PARAMS_E820_COUNT = 0x1e8, PARAMS_E820 = 0x2d0, PARAMS_SIZE = 4096 };
enum { XLF_KERNEL_64 = 1, LOADED_HIGH = 1, CAN_USE_HEAP = 0x80 };

bool boot_is_linux(const struct boot_image *image)
{
    return image->kernel_size > SETUP_END && !memcmp(image->kernel + SETUP_MAGIC, "HdrS", 4) &&
           load_le16(image->kernel + 0x1fe) == 0xaa55;
}

struct linux_kernel {
    const uint8_t *code; /* the protected-mode part */
    size_t code_size;
    uint64_t load, init_size;
    uint32_t cmdline_max, initrd_max;
    bool wide; /* has the 64-bit entry */
};

static int bad_kernel(const struct boot_image *image, struct error *err, const char *why)
{
    return error_set(err, -ENOEXEC, "the kernel '%s' cannot be booted: %s; use an intact bzImage", image->kernel_path, why);
}

static int parse(const struct boot_image *image, const struct mem *mem, struct linux_kernel *k, struct error *err)
{
    const uint8_t *f = image->kernel;
    unsigned version = load_le16(f + SETUP_VERSION), sectors = f[SETUP_SECTS] ? f[SETUP_SECTS] : 4;
    size_t setup = (sectors + 1) * 512ul;
    uint64_t align, pref;

    if (version < 0x0206 || !(f[SETUP_LOADFLAGS] & LOADED_HIGH))
        return bad_kernel(image, err, "its boot protocol is older than 2.06 or it is a zImage");
    if (setup + 0x400 > image->kernel_size)
        return bad_kernel(image, err, "the file ends inside its setup sectors (truncated?)");
    k->code = f + setup;
    k->code_size = image->kernel_size - setup;
    k->wide = version >= 0x020c && (load_le16(f + SETUP_XLOADFLAGS) & XLF_KERNEL_64);
    k->cmdline_max = load_le32(f + SETUP_CMDLINE_SIZE);
    k->initrd_max = load_le32(f + SETUP_INITRD_MAX);
    k->init_size = k->code_size;
    k->load = MAP_1M;
    if (version < 0x020a)
        return 0;
    if (load_le32(f + SETUP_INIT_SIZE) > k->init_size)
        k->init_size = load_le32(f + SETUP_INIT_SIZE);
    align = load_le32(f + SETUP_ALIGNMENT);
    pref = load_le64(f + SETUP_PREF_ADDRESS);
    if (!f[SETUP_RELOCATABLE] || mem_ptr(mem, pref, k->init_size, true))
        k->load = pref;
    else if (align && !(align & (align - 1)) && align <= 0x1000000)
        k->load = (MAP_1M + align - 1) & ~(align - 1);
    return 0;
}

static int place_initrd(const struct boot_image *image, struct mem *mem, const struct linux_kernel *k,
                        uint8_t *params, struct error *err)
{
    uint64_t at;

    if (!image->initrd)
        return 0;
    at = boot_place_high(mem, image->initrd_size, k->load + k->init_size, (uint64_t)k->initrd_max + 1);
    if (!at || mem_load(mem, at, image->initrd, image->initrd_size) < 0)
        return error_set(err, -ENOSPC,
                         "the initial RAM disk '%s' (%zu MiB) does not fit beside the kernel: give the machine more --memory",
                         image->initrd_path, image->initrd_size >> 20);
    store_le32(params + SETUP_INITRD, (uint32_t)at);
    store_le32(params + SETUP_INITRD_SIZE, (uint32_t)image->initrd_size);
    return 0;
}

static void fill_params(const struct boot_image *image, const struct mem *mem, const struct linux_kernel *k,
                        uint8_t *params)
{
    struct boot_range range[BOOT_MAX_RANGES];
    unsigned n = boot_memory_map(mem, range), end = SETUP_MAGIC + image->kernel[SETUP_JUMP_LEN];

    if (end > 0x290) /* where the header must end in boot_params */
        end = 0x290;
    if (end > image->kernel_size)
        end = SETUP_END;
    memcpy(params + SETUP_HEADER, image->kernel + SETUP_HEADER, end - SETUP_HEADER);
    params[SETUP_LOADER] = 0xff; /* a loader without an assigned number */
    params[SETUP_LOADFLAGS] |= CAN_USE_HEAP;
    store_le16(params + SETUP_HEAP_END, 0xfe00);
    store_le32(params + SETUP_CMDLINE, MAP_BOOT_CMDLINE);
    store_le32(params + SETUP_CODE32, (uint32_t)k->load);
    store_le32(params + SETUP_INITRD, 0);
    store_le32(params + SETUP_INITRD_SIZE, 0);
    store_le64(params + PARAMS_RSDP, MAP_ACPI_TABLES);
    params[PARAMS_E820_COUNT] = (uint8_t)n;
    for (unsigned i = 0; i < n; i++) {
        store_le64(params + PARAMS_E820 + 20 * i, range[i].base);
        store_le64(params + PARAMS_E820 + 20 * i + 8, range[i].size);
        store_le32(params + PARAMS_E820 + 20 * i + 16, range[i].type);
    }
}

int boot_linux(const struct boot_image *image, struct mem *mem, struct x86_state *s, struct error *err)
{
    uint8_t params[PARAMS_SIZE] = {0};
    struct linux_kernel k = {0};
    int r = parse(image, mem, &k, err);

    if (r < 0)
        return r;
    if (!mem_ptr(mem, k.load, k.init_size, true) || mem_load(mem, k.load, k.code, k.code_size) < 0)
        return error_set(err, -ENOSPC, "the kernel '%s' needs %llu MiB at %#llx: give the machine more --memory",
                         image->kernel_path, (unsigned long long)k.init_size >> 20, (unsigned long long)k.load);
    fill_params(image, mem, &k, params);
    r = place_initrd(image, mem, &k, params, err);
    if (r == 0)
        r = boot_write_cmdline(image, mem, k.cmdline_max ? k.cmdline_max : 255, err);
    if (r < 0)
        return r;
    mem_load(mem, MAP_BOOT_PARAMS, params, sizeof(params));
    boot_flat_state(s, k.wide, mem);
    s->gpr[X86_RSI] = MAP_BOOT_PARAMS;
    s->gpr[X86_RSP] = MAP_BOOT_STACK;
    s->rip = k.load + (k.wide ? 0x200 : 0);
    return 0;
}

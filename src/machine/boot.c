/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Direct boot: reading the files, the memory map, the command line, and the first processor state. */
#include "machine/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "machine/map.h"

enum { BOOT_CS = 1 }; /* of struct x86_state.seg, in the order of the sreg encoding */
#define FILE_MAX ((off_t)4 << 30)

static int read_file(const char *what, const char *path, uint8_t **ret_data, size_t *ret_size, struct error *err)
{
    struct stat st;
    uint8_t *data = NULL;
    size_t got = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC), r = 0;

    if (fd < 0)
        return error_set(err, -errno, "%s '%s' cannot be opened: %s; check the path and its permissions", what, path,
                         strerror(errno));
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0 || st.st_size > FILE_MAX) {
        r = error_set(err, -EINVAL, "%s '%s' is %s; give the path of an image file", what, path,
                      !S_ISREG(st.st_mode) ? "not a regular file" : st.st_size ? "larger than 4 GiB" : "empty");
        goto out;
    }
    data = malloc((size_t)st.st_size);
    if (!data) {
        r = error_set(err, -ENOMEM, "%s '%s': out of memory for its %lld bytes", what, path, (long long)st.st_size);
        goto out;
    }
    while (got < (size_t)st.st_size) {
        ssize_t n = read(fd, data + got, (size_t)st.st_size - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            r = error_set(err, n ? -errno : -EIO, "%s '%s' cannot be read: %s", what, path,
                          n ? strerror(errno) : "it got shorter meanwhile");
            goto out;
        }
        got += (size_t)n;
    }
    *ret_data = data;
    *ret_size = got;
    data = NULL;
out:
    free(data);
    close(fd);
    return r;
}

int boot_open(struct boot_image *image, const char *kernel, const char *initrd, const char *cmdline,
              struct error *err)
{
    int r;

    *image = (struct boot_image){.kernel_path = kernel, .initrd_path = initrd, .cmdline = cmdline ? cmdline : ""};
    r = read_file("the kernel", kernel, &image->kernel, &image->kernel_size, err);
    if (r == 0 && initrd)
        r = read_file("the initial RAM disk", initrd, &image->initrd, &image->initrd_size, err);
    if (r == 0 && !boot_is_linux(image) && !boot_is_elf(image))
        r = error_set(err, -ENOEXEC,
                      "the kernel '%s' is neither a Linux bzImage nor an ELF file with a PVH entry: give one of these",
                      kernel);
    if (r < 0)
        boot_close(image);
    return r;
}

void boot_close(struct boot_image *image)
{
    free(image->kernel);
    free(image->initrd);
    image->kernel = image->initrd = NULL;
}

/* RAM as firmware would report it: tables, EBDA and the ECAM window reserved. */
unsigned boot_memory_map(const struct mem *mem, struct boot_range *r)
{
    unsigned n = 0;

    r[n++] = (struct boot_range){0, MAP_EBDA, BOOT_RAM};
    r[n++] = (struct boot_range){MAP_EBDA, MAP_VGA_HOLE - MAP_EBDA, BOOT_RESERVED};
    r[n++] = (struct boot_range){MAP_ACPI_TABLES, MAP_1M - MAP_ACPI_TABLES, BOOT_RESERVED};
    for (unsigned i = 0; i < mem->count && n < BOOT_MAX_RANGES - 2; i++)
        if (mem->range[i].base >= MAP_1M && !mem->range[i].readonly)
            r[n++] = (struct boot_range){mem->range[i].base, mem->range[i].size, BOOT_RAM};
    r[n++] = (struct boot_range){MAP_ECAM, MAP_ECAM_SIZE, BOOT_RESERVED};
    for (unsigned i = 1; i < n; i++) /* by address */
        for (unsigned k = i; k && r[k].base < r[k - 1].base; k--) {
            struct boot_range t = r[k];
            r[k] = r[k - 1];
            r[k - 1] = t;
        }
    return n;
}

uint64_t boot_place_high(const struct mem *mem, uint64_t size, uint64_t floor, uint64_t limit)
{
    const struct mem_range *low = mem_find(mem, MAP_1M);
    uint64_t end;

    if (!low)
        return 0;
    end = low->base + low->size;
    if (limit < end)
        end = limit;
    if (size > end || (end - size) < floor)
        return 0;
    return (end - size) & ~4095ull;
}

int boot_write_cmdline(const struct boot_image *image, struct mem *mem, uint32_t max, struct error *err)
{
    size_t n = strlen(image->cmdline) + 1;

    if (n > MAP_BOOT_CMDLINE_MAX || n - 1 > max)
        return error_set(err, -E2BIG, "the kernel command line has %zu characters, the kernel takes %u: shorten --append",
                         n - 1, max);
    return mem_load(mem, MAP_BOOT_CMDLINE, image->cmdline, n);
}

static struct x86_segment flat(uint16_t sel, uint32_t attr)
{
    return (struct x86_segment){.sel = sel, .attr = attr, .limit = 0xffffffff};
}

/* Identity map of the first 4 GiB by 2 MiB pages. */
static void write_page_tables(struct mem *mem)
{
    uint64_t entry[512] = {0};

    entry[0] = (MAP_BOOT_PAGES + 0x1000) | 3;
    mem_load(mem, MAP_BOOT_PAGES, entry, sizeof(entry));
    for (unsigned i = 0; i < 4; i++)
        entry[i] = (MAP_BOOT_PAGES + 0x2000 + i * 0x1000ull) | 3;
    mem_load(mem, MAP_BOOT_PAGES + 0x1000, entry, sizeof(entry));
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned k = 0; k < 512; k++)
            entry[k] = ((uint64_t)i << 30 | (uint64_t)k << 21) | 0x83;
        mem_load(mem, MAP_BOOT_PAGES + 0x2000 + i * 0x1000ull, entry, sizeof(entry));
    }
}

/* Code selector 0x10, data 0x18, TSS 0x20, as the Linux boot protocol wants (__BOOT_CS, __BOOT_DS). */
void boot_flat_state(struct x86_state *s, bool long_mode, struct mem *mem)
{
    uint64_t gdt[5] = {0, 0, long_mode ? 0x00af9b000000ffff : 0x00cf9b000000ffff, 0x00cf93000000ffff,
                       0x008b89000000ffff};

    x86_reset(s, false);
    mem_load(mem, MAP_BOOT_GDT, gdt, sizeof(gdt));
    s->gdtr = (struct x86_table){.base = MAP_BOOT_GDT, .limit = sizeof(gdt) - 1};
    s->idtr = (struct x86_table){0};
    s->seg[BOOT_CS] = flat(0x10, long_mode ? 0xa09b : 0xc09b);
    for (unsigned i = 0; i < 6; i++)
        if (i != BOOT_CS)
            s->seg[i] = flat(0x18, 0xc093);
    s->tr = (struct x86_segment){.sel = 0x20, .attr = 0x8b, .limit = 0x67};
    s->cr0 = X86_CR0_PE | X86_CR0_ET;
    s->rflags = X86_FLAG_FIXED;
    if (!long_mode)
        return;
    write_page_tables(mem);
    s->cr3 = MAP_BOOT_PAGES;
    s->cr4 = X86_CR4_PAE;
    s->efer = X86_EFER_LME | X86_EFER_LMA;
    s->cr0 |= X86_CR0_PG | X86_CR0_WP;
}

int boot_load(const struct boot_image *image, struct mem *mem, struct x86_state *ret_state, struct error *err)
{
    return boot_is_linux(image) ? boot_linux(image, mem, ret_state, err) : boot_pvh(image, mem, ret_state, err);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Direct boot: reading the files, the memory map, the command line, and the first processor state.
 */
#include "machine/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "machine/map.h"

enum { BOOT_CS = 1 }; /* of struct x86_state.seg, in the order of the sreg encoding */

/* ---- files ---- */

static int open_file(struct boot_file *f, const char *what, const char *path, struct error *err) {
    struct stat st;

    *f = (struct boot_file){.what = what, .path = path, .fd = -1};
    /* Not to wait for the other end of a FIFO; regular files do not care. */
    f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (f->fd < 0)
        return error_set(err, -errno,
                         "%s '%s' cannot be opened: %s; check the path and its permissions", what,
                         path, strerror(errno));
    if (fstat(f->fd, &st) < 0)
        return error_set(err, -errno, "%s '%s' cannot be examined: %s", what, path,
                         strerror(errno));
    if (!S_ISREG(st.st_mode) || st.st_size == 0)
        return error_set(err, -EINVAL, "%s '%s' is %s; give the path of an image file", what, path,
                         S_ISDIR(st.st_mode)   ? "a directory"
                         : S_ISREG(st.st_mode) ? "empty"
                                               : "not a regular file");
    f->size = (uint64_t)st.st_size;
    return 0;
}

static void close_file(struct boot_file *f) {
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
}

int boot_read(const struct boot_file *f, uint64_t offset, void *buf, size_t n, struct error *err) {
    for (size_t got = 0; got < n;) {
        ssize_t r = pread(f->fd, (char *)buf + got, n - got, (off_t)(offset + got));

        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return error_set(err, r ? -errno : -EIO, "%s '%s' cannot be read: %s", f->what, f->path,
                             r ? strerror(errno) : "it has become shorter since it was opened");
        got += (size_t)r;
    }
    return 0;
}

int boot_read_guest(const struct boot_file *f, uint64_t offset, struct mem *mem, gpa to, uint64_t n,
                    struct error *err) {
    void *host = mem_ptr(mem, to, n, true);
    int r;

    if (!host)
        return error_set(err, -EFAULT, "%s '%s' does not fit into guest memory", f->what, f->path);
    r = boot_read(f, offset, host, n, err);
    mem_written(mem, to, n); /* some of it may have been written even if it failed */
    return r;
}

int boot_open(struct boot_image *image, const char *kernel, const char *initrd, const char *cmdline,
              struct error *err) {
    int r;

    *image =
        (struct boot_image){.kernel.fd = -1, .initrd.fd = -1, .cmdline = cmdline ? cmdline : ""};
    r = open_file(&image->kernel, "the kernel", kernel, err);
    if (r == 0 && initrd)
        r = open_file(&image->initrd, "the initial RAM disk", initrd, err);
    if (r == 0 && !boot_is_linux(image) && !boot_is_elf(image))
        r = error_set(err, -ENOEXEC,
                      "the kernel '%s' is neither a Linux bzImage nor an ELF file with a PVH "
                      "entry: give one of these",
                      kernel);
    if (r < 0)
        boot_close(image);
    return r;
}

void boot_close(struct boot_image *image) {
    close_file(&image->kernel);
    close_file(&image->initrd);
}

/* ---- memory ---- */

/* RAM as firmware would report it: tables, EBDA and the ECAM window reserved. */
unsigned boot_memory_map(const struct mem *mem, struct boot_range *r) {
    unsigned n = 0;

    r[n++] = (struct boot_range){0, MAP_EBDA, BOOT_RAM};
    r[n++] = (struct boot_range){MAP_EBDA, MAP_VGA_HOLE - MAP_EBDA, BOOT_RESERVED};
    r[n++] = (struct boot_range){MAP_ACPI_TABLES, MAP_1M - MAP_ACPI_TABLES, BOOT_RESERVED};
    for (unsigned i = 0; i < mem->count && n < BOOT_MAX_RANGES - 1; i++)
        if (mem->range[i].base >= MAP_1M && !mem->range[i].readonly && !mem->range[i].moving)
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

bool boot_is_taken(gpa base, uint64_t size) {
    static const struct {
        gpa base, end;
    } taken[] = {
        {MAP_BOOT_GDT, MAP_BOOT_PAGES_END},
        {MAP_BOOT_CMDLINE, MAP_BOOT_CMDLINE + MAP_BOOT_CMDLINE_MAX},
        {MAP_EBDA, MAP_1M},
    };

    for (unsigned i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
        if (base < taken[i].end && (base >= taken[i].base || size > taken[i].base - base))
            return true;
    return false;
}

/* Highest page-aligned place for `size` bytes in low RAM; 0 if there is none. */
static gpa highest_place(const struct mem *mem, uint64_t size, uint64_t floor, uint64_t limit) {
    const struct mem_range *low = mem_find(mem, MAP_1M);
    uint64_t end, at;

    if (!low)
        return 0;
    end = low->base + low->size;
    if (limit < end)
        end = limit;
    if (size > end)
        return 0;
    at = (end - size) & ~4095ull;
    return at >= floor && at >= MAP_1M ? at : 0;
}

int boot_place_initrd(const struct boot_image *image, struct mem *mem, uint64_t floor,
                      uint64_t limit, gpa *ret_at, struct error *err) {
    gpa at;
    int r;

    if (image->initrd.fd < 0)
        return 0;
    at = highest_place(mem, image->initrd.size, floor, limit);
    if (!at)
        return error_set(err, -ENOSPC,
                         "the initial RAM disk '%s' (%llu KiB) does not fit beside the kernel: "
                         "give the machine more --memory",
                         image->initrd.path, (unsigned long long)image->initrd.size >> 10);
    r = boot_read_guest(&image->initrd, 0, mem, at, image->initrd.size, err);
    if (r == 0)
        *ret_at = at;
    return r;
}

int boot_write_cmdline(const struct boot_image *image, struct mem *mem, uint32_t max,
                       struct error *err) {
    size_t n = strlen(image->cmdline);

    if (max > MAP_BOOT_CMDLINE_MAX - 1)
        max = MAP_BOOT_CMDLINE_MAX - 1;
    if (n > max)
        return error_set(err, -E2BIG,
                         "the kernel command line has %zu characters, the kernel takes %u: shorten "
                         "--append",
                         n, max);
    if (mem_load(mem, MAP_BOOT_CMDLINE, image->cmdline, n + 1) < 0)
        return error_set(err, -ENOSPC,
                         "the kernel command line does not fit into guest memory: give the machine "
                         "more --memory");
    return 0;
}

/* ---- the first state ---- */

static struct x86_segment flat(uint16_t sel, uint32_t attr) {
    return (struct x86_segment){.sel = sel, .attr = attr, .limit = 0xffffffff};
}

/* Identity map of the first 4 GiB by 2 MiB pages. */
static void write_page_tables(struct mem *mem) {
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

/* Code selector 0x10, data 0x18, TSS 0x20, as the Linux boot protocol wants (__BOOT_CS, __BOOT_DS).
 */
void boot_flat_state(struct x86_state *s, bool long_mode, struct mem *mem) {
    uint64_t gdt[6] = {0,
                       0,
                       long_mode ? 0x00af9b000000ffff : 0x00cf9b000000ffff,
                       0x00cf93000000ffff,
                       0x00008b0000000067,
                       0}; /* upper half of the TSS descriptor in long mode */

    x86_reset(s, false);
    mem_load(mem, MAP_BOOT_GDT, gdt, sizeof(gdt));
    s->gdtr = (struct x86_table){.base = MAP_BOOT_GDT, .limit = sizeof(gdt) - 1};
    s->idtr = (struct x86_table){0};
    s->gpr[X86_RDX] = 0; /* not the processor's signature as at power-on */
    s->seg[BOOT_CS] = flat(0x10, long_mode ? 0xa09b : 0xc09b);
    for (unsigned i = 0; i < 6; i++)
        if (i != BOOT_CS)
            s->seg[i] = flat(0x18, 0xc093);
    s->tr = (struct x86_segment){.sel = 0x20, .attr = 0x8b, .limit = 0x67};
    s->cr0 = X86_CR0_PE | X86_CR0_ET;
    s->rflags = X86_FLAG_FIXED;
    s->mtrr_def_type =
        0xc06; /* on, write-back, as firmware leaves them: Linux sets up PAT only then */
    if (!long_mode)
        return;
    write_page_tables(mem);
    s->cr3 = MAP_BOOT_PAGES;
    s->cr4 = X86_CR4_PAE;
    s->efer = X86_EFER_LME | X86_EFER_LMA;
    s->cr0 |= X86_CR0_PG | X86_CR0_WP;
}

int boot_load(const struct boot_image *image, struct mem *mem, struct x86_state *ret_state,
              struct error *err) {
    return boot_is_linux(image) ? boot_linux(image, mem, ret_state, err)
                                : boot_pvh(image, mem, ret_state, err);
}

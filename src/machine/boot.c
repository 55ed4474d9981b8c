/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Direct boot: reading the files, the memory map, the command line, and the first processor state.
 */
#include "machine/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/write.h"
#include "machine/map.h"

/*
 * Calls (main): openat memfd_create ftruncate
 */

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

/* ---- compressed kernels ---- */

enum { PIECE = 64 << 10 };
/* No kernel is that large; a file of zeroes that grows a thousandfold is not to fill the host. */
#define UNPACKED_MAX (512ull << 20)

static int unpack_piece(z_stream *z, int to, uint64_t *total) {
    uint8_t out[PIECE];
    int r;

    do {
        z->next_out = out;
        z->avail_out = sizeof(out);
        r = inflate(z, Z_NO_FLUSH);
        if (r != Z_OK && r != Z_STREAM_END)
            return r == Z_BUF_ERROR ? 0 : -EBADMSG;
        *total += sizeof(out) - z->avail_out;
        if (*total > UNPACKED_MAX)
            return -EFBIG;
        if (write_all(to, out, sizeof(out) - z->avail_out) < 0)
            return -EIO;
        if (r == Z_STREAM_END)
            return 1;
    } while (!z->avail_out);
    return 0;
}

/* 1 at the end of the compressed stream. */
static int unpack_stream(const struct boot_file *f, z_stream *z, int to, uint64_t *total,
                         struct error *err) {
    uint8_t in[PIECE];
    int r = 0;

    for (uint64_t at = 0; r == 0 && at < f->size; at += sizeof(in)) {
        size_t n = f->size - at < sizeof(in) ? f->size - at : sizeof(in);

        r = boot_read(f, at, in, n, err);
        if (r < 0)
            return r;
        z->next_in = in;
        z->avail_in = (unsigned)n;
        r = unpack_piece(z, to, total);
    }
    if (r == 1)
        return 1;
    return error_set(err, r ? r : -EBADMSG, "%s '%s' cannot be unpacked: %s", f->what, f->path,
                     r == -EFBIG ? "it has more than 512 MiB"
                     : r == -EIO ? strerror(errno)
                     : r < 0     ? "its gzip stream is damaged"
                                 : "its gzip stream ends early (truncated?)");
}

/* Multiboot kernels are distributed as .gz, which boot loaders unpack. */
static int unpack(struct boot_file *f, struct error *err) {
    z_stream z = {0};
    uint64_t total = 0;
    uint8_t magic[2];
    int to, r;

    if (f->size < 18 || boot_read(f, 0, magic, 2, NULL) < 0 || magic[0] != 0x1f || magic[1] != 0x8b)
        return 0;
    to = memfd_create("kernel", MFD_CLOEXEC);
    if (to < 0 || inflateInit2(&z, 16 + MAX_WBITS) != Z_OK) {
        if (to >= 0)
            close(to);
        return error_set(err, -ENOMEM, "%s '%s' cannot be unpacked: out of memory", f->what,
                         f->path);
    }
    r = unpack_stream(f, &z, to, &total, err);
    inflateEnd(&z);
    if (r < 0) {
        close(to);
        return r;
    }
    close(f->fd);
    f->fd = to;
    f->size = total;
    return 0;
}

/* ---- the image as a whole ---- */

size_t boot_module_path(const char *text) {
    const char *space = strchr(text, ' ');

    return space && access(text, F_OK) < 0 ? (size_t)(space - text) : strlen(text);
}

static int open_module(struct boot_module *m, const char *text, struct error *err) {
    *m = (struct boot_module){.file.fd = -1, .text = text};
    m->path = strndup(text, boot_module_path(text));
    if (!m->path)
        return error_set(err, -ENOMEM, "the initial RAM disk '%s': out of memory", text);
    return open_file(&m->file, "the initial RAM disk", m->path, err);
}

static int check_format(const struct boot_image *image, struct error *err) {
    if (boot_is_linux(image) || boot_is_multiboot(image) || boot_is_elf(image))
        return 0;
    return error_set(err, -ENOEXEC,
                     "the kernel '%s' is neither a Linux bzImage nor a multiboot kernel nor an ELF "
                     "file with a PVH entry: give one of these",
                     image->kernel.path);
}

int boot_open(struct boot_image *image, const char *kernel, const char *const *modules,
              unsigned count, const char *cmdline, struct error *err) {
    int r;

    *image = (struct boot_image){.kernel.fd = -1, .cmdline = cmdline ? cmdline : ""};
    if (count > BOOT_MAX_MODULES)
        return error_set(err, -E2BIG, "at most %d initial RAM disks or modules can be given",
                         BOOT_MAX_MODULES);
    r = open_file(&image->kernel, "the kernel", kernel, err);
    if (r == 0)
        r = unpack(&image->kernel, err);
    while (r == 0 && image->modules < count) {
        unsigned i = image->modules++;

        r = open_module(&image->module[i], modules[i], err);
    }
    if (r == 0)
        r = check_format(image, err);
    if (r < 0)
        boot_close(image);
    return r;
}

void boot_close(struct boot_image *image) {
    close_file(&image->kernel);
    while (image->modules) {
        struct boot_module *m = &image->module[--image->modules];

        close_file(&m->file);
        free(m->path);
    }
}

/* ---- memory ---- */

/* RAM as firmware would report it: tables, EBDA and the ECAM window reserved. */
unsigned boot_memory_map(const struct mem *mem, struct boot_range *r) {
    unsigned n = 0;

    r[n++] = (struct boot_range){0, MAP_EBDA, BOOT_RAM};
    r[n++] = (struct boot_range){MAP_EBDA, MAP_VGA_HOLE - MAP_EBDA, BOOT_RESERVED};
    r[n++] = (struct boot_range){MAP_ACPI_TABLES, MAP_1M - MAP_ACPI_TABLES, BOOT_RESERVED};
    for (unsigned i = 0; i < mem->count && n < BOOT_MAX_RANGES - 1; i++)
        if (mem->range[i].base >= MAP_1M && !mem->range[i].readonly && !mem->range[i].moving &&
            !mem->range[i].room)
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

static uint64_t padded(uint64_t size) { return (size + 3) & ~3ull; }

uint64_t boot_initrd_size(const struct boot_image *image) {
    uint64_t size = 0;

    for (unsigned i = 0; i < image->modules; i++)
        size += i + 1 < image->modules ? padded(image->module[i].file.size)
                                       : image->module[i].file.size;
    return size;
}

int boot_place_initrd(const struct boot_image *image, struct mem *mem, uint64_t floor,
                      uint64_t limit, gpa *ret_at, struct error *err) {
    uint64_t size = boot_initrd_size(image);
    gpa at;
    int r = 0;

    if (!size)
        return 0;
    at = highest_place(mem, size, floor, limit);
    if (!at)
        return error_set(err, -ENOSPC,
                         "the initial RAM disk '%s' (%llu KiB%s) does not fit beside the kernel: "
                         "give the machine more --memory",
                         image->module[0].file.path, (unsigned long long)size >> 10,
                         image->modules > 1 ? " with the others" : "");
    *ret_at = at;
    /* What pads a part must be zeroes, also where the guest's last run left others. */
    if (image->modules > 1)
        memset(mem_ptr(mem, at, size, true), 0, size);
    for (unsigned i = 0; i < image->modules && r == 0; i++) {
        r = boot_read_guest(&image->module[i].file, 0, mem, at, image->module[i].file.size, err);
        at += padded(image->module[i].file.size);
    }
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
    return boot_is_linux(image)       ? boot_linux(image, mem, ret_state, err)
           : boot_is_multiboot(image) ? boot_multiboot(image, mem, ret_state, err)
                                      : boot_pvh(image, mem, ret_state, err);
}

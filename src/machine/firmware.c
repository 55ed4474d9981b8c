/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Firmware: the ROM file, and what stands in the firmware configuration. */
#include "machine/firmware.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/fw_cfg.h"
#include "machine/acpi.h"
#include "machine/map.h"
#include "machine/smbios.h"

enum { ROM_ALIGN = 4096, RESET_CODE = 16, SHADOW_MAX = 128 << 10 };

/* ---- the ROM ---- */

static const struct {
    const char *name, *package, *file[3];
} known[] = {
    {"bios", "seabios", {"/usr/share/seabios/bios-256k.bin", "/usr/share/qemu/bios-256k.bin"}},
    {"uefi", "ovmf", {"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_CODE.fd"}},
    {"uefi-secure",
     "ovmf",
     {"/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_CODE.ms.fd"}},
};

static int find_file(const char *name, const char **ret, struct error *err) {
    *ret = name;
    for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(known[i].name, name) != 0)
            continue;
        for (unsigned k = 0; known[i].file[k]; k++)
            if (access(known[i].file[k], R_OK) == 0) {
                *ret = known[i].file[k];
                return 0;
            }
        return error_set(err, -ENOENT,
                         "the firmware '%s' is not installed (%s): install the package %s, or give "
                         "the path of a ROM image",
                         name, known[i].file[0], known[i].package);
    }
    return 0;
}

/* What the processor executes first must be something. */
static bool has_reset_code(const uint8_t *rom, uint64_t size) {
    const uint8_t *p = rom + size - RESET_CODE;

    for (unsigned i = 0; i < RESET_CODE; i++)
        if (p[i] != p[0])
            return true;
    return false;
}

static int read_rom(struct firmware *f, int fd, struct error *err) {
    f->rom = malloc(f->size);
    if (!f->rom)
        return error_set(err, -ENOMEM, "the firmware '%s': out of memory", f->path);
    for (uint64_t got = 0; got < f->size;) {
        ssize_t n = pread(fd, f->rom + got, f->size - got, (off_t)got);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_set(err, n ? -errno : -EIO, "the firmware '%s' cannot be read: %s",
                             f->path, n ? strerror(errno) : "it became shorter meanwhile");
        got += (uint64_t)n;
    }
    if (!has_reset_code(f->rom, f->size))
        return error_set(err, -ENOEXEC,
                         "the firmware '%s' has no code at its end, where processors begin: it is "
                         "no ROM image of a PC (of UEFI firmware, give the file with the code, not "
                         "that with the variables)",
                         f->path);
    return 0;
}

static int open_rom(struct firmware *f, int fd, struct error *err) {
    struct stat st;

    if (fstat(fd, &st) < 0)
        return error_set(err, -errno, "the firmware '%s' cannot be examined: %s", f->path,
                         strerror(errno));
    if (!S_ISREG(st.st_mode))
        return error_set(err, -EINVAL, "the firmware '%s' is %s; give the path of a ROM image",
                         f->path, S_ISDIR(st.st_mode) ? "a directory" : "not a regular file");
    if (st.st_size == 0 || st.st_size % ROM_ALIGN || (uint64_t)st.st_size > FIRMWARE_MAX_SIZE)
        return error_set(err, -EINVAL,
                         "the firmware '%s' has %lld bytes: a ROM image has a multiple of 4096, at "
                         "most 16 MiB; the file is truncated or something else",
                         f->path, (long long)st.st_size);
    f->size = (uint64_t)st.st_size;
    return read_rom(f, fd, err);
}

int firmware_open(struct firmware *f, const char *name, struct error *err) {
    int fd, r;

    *f = (struct firmware){.path = name};
    r = find_file(name, &f->path, err);
    if (r < 0)
        return r;
    fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return error_set(
            err, -errno,
            "the firmware '%s' cannot be opened: %s; give bios, uefi, uefi-secure or the path of "
            "a ROM image",
            f->path, strerror(errno));
    r = open_rom(f, fd, err);
    close(fd);
    if (r < 0)
        firmware_close(f);
    return r;
}

/* The builds of Debian, Fedora and Arch have the one word in their names, those of openSUSE the
 * other. */
bool firmware_needs_smm(const struct firmware *f) {
    char *real = realpath(f->path, NULL);
    const char *name = real ? strrchr(real, '/') : NULL;
    bool needs = name && (strstr(name, "secboot") || strstr(name, "-smm-"));

    free(real);
    return needs;
}

void firmware_close(struct firmware *f) {
    free(f->rom);
    f->rom = NULL;
}

int firmware_load(const struct firmware *f, struct mem *mem, struct x86_state *ret_state,
                  struct error *err) {
    uint64_t shadow = f->size < SHADOW_MAX ? f->size : SHADOW_MAX;
    static const uint8_t zeros[MAP_1M - MAP_SHADOW];

    if (mem_load(mem, MAP_HIGH - f->size, f->rom, f->size) < 0 ||
        mem_load(mem, MAP_SHADOW, zeros, sizeof(zeros)) < 0 ||
        mem_load(mem, MAP_1M - shadow, f->rom + f->size - shadow, shadow) < 0)
        return error_set(err, -EFAULT, "the firmware '%s' does not fit below 4 GiB", f->path);
    x86_reset(ret_state, false);
    return 0;
}

/* ---- what it is told ---- */

static void put_range(struct buf *b, uint64_t base, uint64_t size) {
    if (!size)
        return;
    buf_put_le64(b, base);
    buf_put_le64(b, size);
    buf_put_le32(b, 1); /* RAM */
}

static int add_memory_map(struct device *d, uint64_t memory, struct error *err) {
    struct buf b = {0};
    int r;

    put_range(&b, 0, map_low_size(memory));
    put_range(&b, MAP_HIGH, map_high_size(memory));
    r = fw_cfg_set_file(d, "etc/e820", b.data, b.len, err);
    buf_done(&b);
    return r;
}

/* Where the firmware may put what it finds place for above 4 GiB. */
static int add_memory_end(struct device *d, const struct firmware_config *c, struct error *err) {
    uint8_t end[8];

    store_le64(end, map_plugged(c->memory) + c->memory_more);
    return fw_cfg_set_file(d, "etc/reserved-memory-end", end, sizeof(end), err);
}

/* OVMF gives 32 GiB of addresses to 64-bit BARs unless it is told of more; as they are aligned,
 * twice what they have is enough. SeaBIOS looks for itself. */
static int add_pci_room(struct device *d, uint64_t large, struct error *err) {
    uint64_t mib = 32 << 10;
    char text[24];

    while (mib << 20 < 2 * large)
        mib *= 2;
    if (mib == 32 << 10)
        return 0;
    snprintf(text, sizeof(text), "%llu", (unsigned long long)mib);
    return fw_cfg_set_file(d, "opt/ovmf/X-PciMmio64Mb", text, strlen(text), err);
}

/* Commands of etc/table-loader: 128 bytes each. */
enum { ALLOCATE = 1, ADD_POINTER = 2, ADD_CHECKSUM = 3, WRITE_POINTER = 4, COMMAND_SIZE = 128 };
enum { ZONE_HIGH = 1, ZONE_LOW = 2, NAME_SIZE = 56 };
static const char tables_file[] = "etc/acpi/tables", rsdp_file[] = "etc/acpi/rsdp",
                  generation_file[] = "etc/vmgenid_guid";

static uint8_t *command(struct buf *b, unsigned kind, const char *file) {
    uint8_t *c = buf_grow(b, COMMAND_SIZE);

    store_le32(c, kind);
    memcpy(c + 4, file, strlen(file));
    return c + 4 + NAME_SIZE;
}

static void allocate(struct buf *b, const char *file, unsigned align, unsigned zone) {
    uint8_t *p = command(b, ALLOCATE, file);

    store_le32(p, align);
    p[4] = (uint8_t)zone;
}

static void add_pointer(struct buf *b, const char *in, uint32_t at, unsigned size, const char *to) {
    uint8_t *p = command(b, ADD_POINTER, in);

    memcpy(p, to, strlen(to));
    store_le32(p + NAME_SIZE, at);
    p[NAME_SIZE + 4] = (uint8_t)size;
}

static void add_checksum(struct buf *b, const char *file, uint32_t sum, uint32_t at,
                         uint32_t size) {
    uint8_t *p = command(b, ADD_CHECKSUM, file);

    store_le32(p, sum);
    store_le32(p + 4, at);
    store_le32(p + 8, size);
}

static void loader(struct buf *b, const struct acpi_blob *a) {
    uint8_t *p;

    allocate(b, rsdp_file, 16, ZONE_LOW);
    allocate(b, tables_file, 64, ZONE_HIGH);
    allocate(b, generation_file, 4096, ZONE_HIGH);
    for (unsigned i = 0; i < a->pointers; i++)
        add_pointer(b, tables_file, a->pointer[i].at, a->pointer[i].size, tables_file);
    add_pointer(b, tables_file, a->generation, 4, generation_file);
    for (unsigned i = 0; i < a->sums; i++)
        add_checksum(b, tables_file, a->sum[i].at + ACPI_TABLE_SUM, a->sum[i].at, a->sum[i].size);
    add_pointer(b, rsdp_file, ACPI_RSDP_XSDT, 8, tables_file);
    add_checksum(b, rsdp_file, 8, 0, 20);
    add_checksum(b, rsdp_file, 32, 0, ACPI_RSDP_SIZE);
    p = command(b, WRITE_POINTER, FIRMWARE_ANSWER);
    memcpy(p, generation_file, strlen(generation_file));
    p[NAME_SIZE + 8] = FW_CFG_ANSWER_SIZE;
}

/* OVMF computes a sum with what stands in its place. */
static void clear_sums(struct acpi_blob *a) {
    for (unsigned i = 0; i < a->sums; i++)
        a->tables.data[a->sum[i].at + ACPI_TABLE_SUM] = 0;
    a->rsdp[8] = a->rsdp[32] = 0;
}

/* The loader adds addresses to what stands in the tables, and mends the sums. */
static int add_acpi(struct device *d, const struct firmware_config *config, struct error *err) {
    struct acpi_config c = {.cpus = config->cpus,
                            .serials = config->serials,
                            .hpet = config->hpet,
                            .screen = config->screen,
                            .cpus_absent = config->cpus_absent,
                            .cpus_plug = config->cpus_plug,
                            .memory = config->memory,
                            .memory_more = config->memory_more,
                            .numa = config->numa,
                            .pci64_base = map_pci64(config->memory, config->memory_more),
                            .pci64_end = MAP_PCI64_END,
                            .plug_slots = config->plug_slots};
    uint8_t page[MEM_PAGE_SIZE] = {0};
    struct acpi_blob a;
    struct buf b = {0};
    int r;

    if (getrandom(page + FIRMWARE_GENERATION_OFFSET, 16, 0) != 16)
        return error_set(err, -EIO, "the machine's generation: no random numbers from the host");
    acpi_build(&a, &c);
    clear_sums(&a);
    store_le32(a.tables.data + a.generation, FIRMWARE_GENERATION_OFFSET);
    loader(&b, &a);
    r = fw_cfg_set_file(d, tables_file, a.tables.data, a.tables.len, err);
    if (r == 0)
        r = fw_cfg_set_file(d, rsdp_file, a.rsdp, sizeof(a.rsdp), err);
    if (r == 0)
        r = fw_cfg_set_file(d, generation_file, page, sizeof(page), err);
    if (r == 0)
        r = fw_cfg_set_file(d, "etc/table-loader", b.data, b.len, err);
    buf_done(&b);
    buf_done(&a.tables);
    return r;
}

static int add_smbios(struct device *d, const struct smbios_config *c, struct error *err) {
    uint8_t anchor[SMBIOS_ANCHOR_SIZE];
    struct buf tables = {0};
    int r;

    smbios_build(c, &tables, anchor);
    r = fw_cfg_set_file(d, "etc/smbios/smbios-tables", tables.data, tables.len, err);
    if (r == 0)
        r = fw_cfg_set_file(d, "etc/smbios/smbios-anchor", anchor, sizeof(anchor), err);
    buf_done(&tables);
    return r;
}

static int add_numbers(struct device *d, const struct firmware_config *c, struct error *err) {
    const struct {
        unsigned key, bytes;
        uint64_t value;
    } number[] = {
        {FW_CFG_RAM_SIZE, 8, c->memory},
        {FW_CFG_NOGRAPHIC, 2, !c->screen},
        {FW_CFG_NB_CPUS, 2, c->cpus - (unsigned)__builtin_popcount(c->cpus_absent)},
        {FW_CFG_MAX_CPUS, 2, c->cpus},
        {FW_CFG_BOOT_MENU, 2, c->boot_menu},
        {FW_CFG_IRQ0_OVERRIDE, 4, 1},
        {FW_CFG_NUMA, 8, 0},
    };
    int r = 0;

    for (unsigned i = 0; r == 0 && i < sizeof(number) / sizeof(number[0]); i++)
        r = fw_cfg_set_number(d, number[i].key, number[i].bytes, number[i].value, err);
    return r;
}

int firmware_configure(struct device *d, const struct firmware_config *c, struct error *err) {
    /* Which sleep states there are: S5 only (bit 7), the others with their types. */
    static const uint8_t sleep[6] = {0x80, 0, 0, 1, 2, 0x80};
    static const uint8_t com1[2] = {0xf8, 0x03};
    int r = add_numbers(d, c, err);

    if (r == 0)
        r = add_memory_map(d, c->memory, err);
    if (r == 0 && c->memory_more)
        r = add_memory_end(d, c, err);
    if (r == 0)
        r = add_pci_room(d, c->pci_large, err);
    if (r == 0)
        r = add_acpi(d, c, err);
    if (r == 0 && c->smbios)
        r = add_smbios(d, c->smbios, err);
    if (r == 0)
        r = fw_cfg_set_file(d, "etc/system-states", sleep, sizeof(sleep), err);
    if (r == 0 && !c->screen)
        r = fw_cfg_set_file(d, "etc/sercon-port", com1, sizeof(com1), err);
    if (r == 0 && c->boot_order)
        r = fw_cfg_set_file(d, "bootorder", c->boot_order, strlen(c->boot_order) + 1, err);
    return r;
}

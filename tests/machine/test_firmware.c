/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of firmware: what is refused as a ROM, and machines that begin in one. */
#include "machine/firmware.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/loop.h"
#include "devices/fw_cfg.h"
#include "machine/image.h"
#include "machine/machine.h"
#include "support/test.h"

extern const struct device_class fw_cfg_class;

enum { ROM_SIZE = 64 << 10, RUN_SECONDS = 60 };

static void refused(const void *bytes, size_t n, const char *because) {
    struct error err = {0};
    struct firmware f;
    struct image i;

    image_raw(&i, bytes, n);
    assert_true(firmware_open(&f, i.path, &err) < 0);
    if (!strstr(err.text, because))
        fail_msg("%s", err.text);
    assert_null(f.rom);
    image_done(&i);
}

static void what_is_no_rom_is_refused(void **state) {
    static uint8_t zeros[ROM_SIZE];

    refused(zeros, ROM_SIZE, "no code at its end");
    refused(zeros, 1000, "multiple of 4096");
    refused(zeros, 0, "multiple of 4096");
}

static void files_that_are_not_there_are_named(void **state) {
    struct error err = {0};
    struct firmware f;

    assert_true(firmware_open(&f, "/nowhere/rom.bin", &err) < 0);
    assert_non_null(strstr(err.text, "/nowhere/rom.bin"));
    err = (struct error){0};
    assert_true(firmware_open(&f, "/", &err) < 0);
    assert_non_null(strstr(err.text, "a directory"));
}

static void the_files_name_tells_who_needs_system_management_mode(void **state) {
    static const char *const need[] = {"OVMF_CODE_4M.secboot.fd", "ovmf-x86_64-smm-ms-code.bin"};
    static const char *const others[] = {"OVMF_CODE_4M.fd", "bios-256k.bin"};
    char folder[] = "/tmp/viv-secboot-XXXXXX", path[100], link[100];

    assert_non_null(mkdtemp(folder)); /* a folder's name does not count */
    snprintf(link, sizeof(link), "%s/CODE.ms.fd", folder);
    for (unsigned i = 0; i < 2; i++)
        for (unsigned yes = 0; yes < 2; yes++) {
            struct firmware f = {.path = path}, by_link = {.path = link};
            FILE *file;

            snprintf(path, sizeof(path), "%s/%s", folder, yes ? need[i] : others[i]);
            file = fopen(path, "w");
            assert_non_null(file);
            fclose(file);
            assert_int_equal(symlink(path, link), 0);
            assert_int_equal(firmware_needs_smm(&f), yes);
            assert_int_equal(firmware_needs_smm(&by_link), yes);
            unlink(link);
            unlink(path);
        }
    rmdir(folder);
}

/* ---- machines ---- */

/* At f000:0: changes a byte of the shadow, reads it back, tries to change the ROM at 4 GiB - 64 KiB
 * + 0x100 through a flat segment, and ends with (shadow byte << 8 | ROM byte's low nibble). */
extern const uint8_t rom_code[], rom_code_end[], rom_gdt[];
__asm__(".pushsection .rodata\n.code16\nrom_code:\n"
        "cli\n"
        "movb $0x5a, %cs:0x200\n" /* real mode lets code segments be written */
        "movb %cs:0x200, %bl\n"
        "lgdtl %cs:rom_gdt - rom_code\n"
        "mov %cr0, %eax\nor $1, %al\nmov %eax, %cr0\n"
        "mov $8, %ax\nmov %ax, %ds\n"
        "mov %cr0, %eax\nand $0xfe, %al\nmov %eax, %cr0\n"
        "mov $0xffff0100, %esi\n"
        "movb $0x77, (%esi)\n"
        "movb (%esi), %cl\n" /* 0x21 as it was */
        "mov $0xf0200, %esi\n"
        "movb (%esi), %ch\n" /* the same byte as above, by its address */
        "cmpb $0x5a, %bl\njne 1f\n"
        "cmpb $0x21, %cl\njne 1f\n"
        "cmpb $0x5a, %ch\njne 1f\n"
        "mov $20, %eax\njmp 2f\n"
        "1: mov $30, %eax\n"
        "2: mov $0xf4, %dx\nout %eax, %dx\n"
        "3: hlt\njmp 3b\n"
        ".align 8\n"
        "rom_gdt: .word 15\n.long 0xf0000 + rom_table - rom_code\n"
        ".align 8\n"
        "rom_table: .quad 0, 0x00cf93000000ffff\n"
        "rom_code_end:\n.code64\n.popsection\n");

/* Puts a handler where SMIs go at first and 41 into what becomes TSEG, the last of 16 MiB; hides
 * and locks it. Each SMI then counts there and copies the count to 0x2000. In between neither the
 * processor nor a device (the firmware configuration) reaches it. */
extern const uint8_t smm_code[], smm_code_end[];
__asm__(".pushsection .rodata\n.code16\nsmm_code:\n"
        "cli\n"
        "lgdtl %cs:smm_gdt - smm_code\n"
        "mov %cr0, %eax\nor $1, %al\nmov %eax, %cr0\n"
        "mov $8, %ax\nmov %ax, %ds\n"
        "mov %cr0, %eax\nand $0xfe, %al\nmov %eax, %cr0\n"
        "mov $0xf0000 + smm_handler - smm_code, %esi\nmov $0x38000, %edi\n"
        "mov $smm_handler_end - smm_handler, %cx\n"
        "1: movb (%esi), %al\nmovb %al, (%edi)\ninc %esi\ninc %edi\nloop 1b\n"
        "mov $0xf00010, %esi\nmovl $41, (%esi)\n"
        "mov $0x8000009c, %eax\nmov $0xcf8, %dx\nout %eax, %dx\n"
        "mov $0xcfe, %dx\nmov $0x01, %al\nout %al, %dx\n" /* ESMRAMC: 1 MiB */
        "mov $0xcfd, %dx\nmov $0x1a, %al\nout %al, %dx\n" /* SMRAM: enabled, locked */
        "mov $0xcfe, %dx\nmov $0x00, %al\nout %al, %dx\n" /* too late */
        "mov $0x630, %dx\nmov $0x21, %eax\nout %eax, %dx\n"
        "out %al, $0xb2\n"
        "mov $0x2000, %edi\ncmpl $42, (%edi)\njne 8f\n"
        "cmpl $-1, (%esi)\njne 8f\n"
        "movl $0, (%esi)\n"
        "mov $0x1000, %ebx\n" /* read the signature into it */
        "movl $0x0a000000, (%ebx)\nmovl $0x04000000, 4(%ebx)\n"
        "movl $0, 8(%ebx)\nmovl $0x1000f000, 12(%ebx)\n"
        "mov $0x514, %dx\nxor %eax, %eax\nout %eax, %dx\n"
        "mov $0x518, %dx\nmov $0x00100000, %eax\nout %eax, %dx\n"
        "cmpl $0x01000000, (%ebx)\njne 8f\n"
        "out %al, $0xb2\n"
        "cmpl $43, (%edi)\njne 8f\n"
        "mov $20, %eax\njmp 9f\n"
        "8: mov $30, %eax\n"
        "9: mov $0xf4, %dx\nout %eax, %dx\n"
        "3: hlt\njmp 3b\n"
        "smm_handler: addr32 incl 0xf00010\naddr32 mov 0xf00010, %eax\n"
        "addr32 mov %eax, 0x2000\nrsm\nsmm_handler_end:\n"
        ".align 8\n"
        "smm_gdt: .word 15\n.long 0xf0000 + smm_table - smm_code\n"
        ".align 8\n"
        "smm_table: .quad 0, 0x00cf93000000ffff\n"
        "smm_code_end:\n.code64\n.popsection\n");

static void ended(void *opaque, enum machine_end how, unsigned code) {
    ((unsigned *)opaque)[0] = how == MACHINE_DEBUG_EXIT ? code : 1000 + how;
    loop_stop(*(struct loop **)((unsigned *)opaque + 2));
}

static void run_rom(const char *cpu, const uint8_t *code, const uint8_t *end, bool smm) {
    static const uint8_t far_jump[5] = {0xea, 0, 0, 0, 0xf0}; /* f000:0 */
    struct {
        unsigned code, pad;
        struct loop *loop;
    } seen = {0};
    struct machine_config config = {.name = "rom",
                                    .cpus = 1,
                                    .memory = 16 << 20,
                                    .cpu = cpu,
                                    .smm = smm,
                                    .debug_exit = true,
                                    .ended = ended,
                                    .opaque = &seen};
    uint8_t *rom = calloc(1, ROM_SIZE);
    struct error err = {0};
    pthread_mutex_t lock;
    struct machine *m;
    struct firmware firmware;
    struct image i;

    assert_true((size_t)(end - code) < 0x200);
    memcpy(rom, code, (size_t)(end - code));
    if (!smm)
        rom[0x100] = 0x21;
    memcpy(rom + ROM_SIZE - 16, far_jump, sizeof(far_jump));
    image_raw(&i, rom, ROM_SIZE);
    free(rom);
    assert_int_equal(firmware_open(&firmware, i.path, &err), 0);
    config.firmware = &firmware;
    pthread_mutex_init(&lock, NULL);
    seen.loop = loop_new(&lock, &err);
    m = machine_new(&config, seen.loop, &lock, &err);
    if (!m || machine_start(m, &err) < 0)
        fail_msg("%s", err.text);
    alarm(RUN_SECONDS);
    loop_run(seen.loop);
    alarm(0);
    machine_free(m);
    loop_free(seen.loop);
    firmware_close(&firmware);
    image_done(&i);
    assert_int_equal(seen.code, 41);
}

static void a_machine_begins_in_its_rom_and_can_write_its_shadow(void **state) {
    run_rom("ref", rom_code, rom_code_end, false);
    run_rom("soft", rom_code, rom_code_end, false);
}

static void smram_is_for_system_management_mode_and_no_device(void **state) {
    run_rom("ref", smm_code, smm_code_end, true);
    run_rom("soft", smm_code, smm_code_end, true);
}

/* ---- what it is told ---- */

static uint32_t read_file(struct device *d, struct mem *mem, const char *name, uint8_t *to) {
    uint8_t request[16] = {0}, dir[4 + 64 * FW_CFG_FILES];
    const struct io_ops *dma = d->region[1].ops;
    uint32_t size = 0, key = FW_CFG_FILE_DIR;

    for (unsigned round = 0; round < 2; round++) {
        store_be32(request, key << 16 | 8 | 2);
        store_be32(request + 4, round ? size : sizeof(dir));
        store_be64(request + 8, 0x1000);
        mem_write(mem, 0, request, sizeof(request));
        dma->write(d, 0, 8, 0);
        if (round)
            break;
        mem_read(mem, 0x1000, dir, sizeof(dir));
        for (unsigned i = 0; i < load_be32(dir); i++)
            if (!strcmp((char *)dir + 4 + 64 * i + 8, name)) {
                size = load_be32(dir + 4 + 64 * i);
                key = load_be16(dir + 4 + 64 * i + 4);
            }
        if (!size)
            fail_msg("there is no file %s", name);
    }
    mem_read(mem, 0x1000, to, size);
    return size;
}

/* Does what firmware does with the commands, with the tables at `base` in `tables`. */
static void link_tables(const uint8_t *loader, uint32_t n, uint8_t *tables, uint8_t *rsdp,
                        uint64_t base) {
    for (uint32_t at = 0; at < n; at += 128) {
        const uint8_t *c = loader + at, *p = c + 60;
        uint8_t *file = strstr((char *)c + 4, "rsdp") ? rsdp : tables, sum = 0;
        uint64_t v = 0;

        if (load_le32(c) == 2) {
            uint64_t target = strstr((char *)p, "vmgenid") ? 0x7000 : base;

            memcpy(&v, file + load_le32(p + 56), p[60]);
            v += target;
            memcpy(file + load_le32(p + 56), &v, p[60]);
        } else if (load_le32(c) == 3) {
            for (uint32_t i = 0; i < load_le32(p + 8); i++)
                sum = (uint8_t)(sum + file[load_le32(p + 4) + i]);
            file[load_le32(p)] = (uint8_t)-sum; /* as OVMF does; SeaBIOS subtracts */
        }
    }
}

static void check_table(const uint8_t *tables, uint64_t at, const char *signature) {
    uint8_t sum = 0;

    assert_memory_equal(tables + at, signature, 4);
    for (uint32_t i = 0; i < load_le32(tables + at + 4); i++)
        sum = (uint8_t)(sum + tables[at + i]);
    assert_int_equal(sum, 0);
}

static void its_acpi_tables_can_be_put_anywhere(void **state) {
    struct firmware_config config = {.cpus = 2, .memory = 5ull << 30};
    static uint8_t tables[64 << 10], rsdp[64], loader[16 << 10], map[256];
    const struct fw_cfg_config answer = {FIRMWARE_ANSWER};
    struct device_env env = {.config = &answer};
    uint64_t base = 0x12345000, xsdt, fadt, dsdt;
    struct error err = {0};
    struct device *d;
    struct mem mem;
    uint32_t n;

    assert_int_equal(mem_init(&mem, &err), 0);
    assert_int_equal(mem_add(&mem, 0, 256 << 10, false, &err), 0);
    env.mem = &mem;
    d = device_new(&fw_cfg_class, "fw_cfg0", &env, &err);
    assert_non_null(d);
    assert_int_equal(firmware_configure(d, &config, &err), 0);
    read_file(d, &mem, "etc/acpi/tables", tables);
    read_file(d, &mem, "etc/acpi/rsdp", rsdp);
    n = read_file(d, &mem, "etc/table-loader", loader);
    link_tables(loader, n, tables, rsdp, base);
    xsdt = load_le64(rsdp + 24) - base;
    check_table(tables, xsdt, "XSDT");
    fadt = load_le64(tables + xsdt + 36) - base;
    check_table(tables, fadt, "FACP");
    dsdt = load_le64(tables + fadt + 140) - base;
    assert_int_equal(dsdt, load_le32(tables + fadt + 40) - base);
    check_table(tables, dsdt, "DSDT");
    check_table(tables, load_le64(tables + xsdt + 44) - base, "APIC");
    check_table(tables, load_le64(tables + xsdt + 52) - base, "MCFG");
    /* RAM below and above the hole */
    n = read_file(d, &mem, "etc/e820", map);
    assert_int_equal(n, 40);
    assert_int_equal(load_le64(map + 20), 4ull << 30);
    assert_int_equal(load_le64(map + 8) + load_le64(map + 28), 5ull << 30);
    device_free(d);
    mem_done(&mem);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_rom_is_refused),
        cmocka_unit_test(files_that_are_not_there_are_named),
        cmocka_unit_test(the_files_name_tells_who_needs_system_management_mode),
        cmocka_unit_test(a_machine_begins_in_its_rom_and_can_write_its_shadow),
        cmocka_unit_test(smram_is_for_system_management_mode_and_no_device),
        cmocka_unit_test(its_acpi_tables_can_be_put_anywhere),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

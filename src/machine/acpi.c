/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ACPI tables of the board. Source: ACPI 6.5 section 5.2.
 *
 * The interpreter of the guest needs little: the PCI root with its windows and interrupt routing,
 * the ISA devices, and the sleep type of S5. The power button is fixed hardware (FADT flag
 * PWR_BUTTON = 0).
 */
#include "machine/acpi.h"

#include <errno.h>
#include <string.h>

#include "devices/acpi_pm.h"
#include "devices/hpet.h"
#include "machine/acpi_plug.h"
#include "machine/aml.h"
#include "machine/map.h"
#include "machine/numa.h"

enum { HEADER_SIZE = 36, FADT_SIZE = 276, FACS_SIZE = 64 };

static uint8_t checksum(const uint8_t *p, size_t n) {
    uint8_t sum = 0;

    while (n--)
        sum = (uint8_t)(sum + *p++);
    return (uint8_t)-sum;
}

/* Starts a table; the length and checksum are filled in by table_end. */
static size_t table_begin(struct buf *b, const char *signature, unsigned revision) {
    size_t at = b->len;
    uint8_t *h = buf_grow(b, HEADER_SIZE);

    memcpy(h, signature, 4);
    h[8] = (uint8_t)revision;
    memcpy(h + 10, "VIVARM", 6);
    memcpy(h + 16, "VIVARIUM", 8);
    store_le32(h + 24, 1);
    memcpy(h + 28, "VIV ", 4);
    store_le32(h + 32, 1);
    return at;
}

static void table_end(struct buf *b, size_t at) {
    store_le32(b->data + at + 4, (uint32_t)(b->len - at));
    b->data[at + 9] = 0;
    b->data[at + 9] = checksum(b->data + at, b->len - at);
    while (b->len % 16)
        buf_grow(b, 1);
}

/* ---- DSDT ---- */

static void dsdt_routes(struct buf *b, const char *name, bool apic) {
    size_t all;

    aml_name(b, name);
    all = aml_package(b, 32 * 4);
    for (unsigned slot = 0; slot < 32; slot++)
        for (unsigned pin = 0; pin < 4; pin++) {
            size_t one = aml_package(b, 4);
            aml_integer(b, slot << 16 | 0xffff);
            aml_integer(b, pin);
            aml_integer(b, 0); /* a global system interrupt, no link device */
            aml_integer(b,
                        apic ? MAP_GSI_PCI + (slot + pin) % 4 : map_pci_isa_irq((slot + pin) % 4));
            aml_close(b, one);
        }
    aml_close(b, all);
}

/* By \_PIC the system says whether it uses the I/O APIC (section 5.8.1). */
static void dsdt_routing(struct buf *b) {
    size_t prt, use_apic;

    dsdt_routes(b, "PRTP", false);
    dsdt_routes(b, "PRTA", true);
    prt = aml_method(b, "_PRT", 0);
    use_apic = aml_if(b, "PICF");
    aml_return_name(b, "PRTA");
    aml_close(b, use_apic);
    aml_return_name(b, "PRTP");
    aml_close(b, prt);
}

static void dsdt_windows(struct buf *b, const struct acpi_config *config) {
    size_t r;

    aml_name(b, "_CRS");
    r = aml_resources(b);
    aml_bus_range(b, 0, 0xff);
    aml_io(b, 0xcf8, 8);
    aml_io_range(b, 0x0000, 0x0cf7);
    aml_io_range(b, 0x0d00, 0xffff);
    aml_memory_range32(b, MAP_VGA_HOLE, MAP_SHADOW - 1);
    aml_memory_range32(b, MAP_PCI_MMIO, MAP_PCI_MMIO_END - 1);
    if (config->pci64_base < config->pci64_end)
        aml_memory_range64(b, config->pci64_base, config->pci64_end - 1);
    aml_close_resources(b, r);
}

static void dsdt_isa_device(struct buf *b, const char *name, const char *hid, unsigned uid,
                            uint16_t io, uint8_t io_len, uint16_t io2, unsigned irq) {
    size_t d = aml_device(b, name), r;

    aml_name(b, "_HID");
    aml_eisa_id(b, hid);
    aml_name(b, "_UID");
    aml_integer(b, uid);
    aml_name(b, "_STA");
    aml_integer(b, 0xf);
    aml_name(b, "_CRS");
    r = aml_resources(b);
    aml_io(b, io, io_len);
    if (io2)
        aml_io(b, io2, 1);
    aml_irq(b, irq);
    aml_close_resources(b, r);
    aml_close(b, d);
}

/* The port through which Linux says that it has panicked (QEMU docs/specs/pvpanic). */
static void dsdt_panic(struct buf *b) {
    size_t d = aml_device(b, "PEVT"), r;

    aml_name(b, "_HID");
    aml_string(b, "QEMU0001");
    aml_name(b, "_STA");
    aml_integer(b, 0xf);
    aml_name(b, "_CRS");
    r = aml_resources(b);
    aml_io(b, MAP_PVPANIC, 1);
    aml_close_resources(b, r);
    aml_close(b, d);
}

/* It shares the keyboard's ports, which are named there. */
static void dsdt_mouse(struct buf *b) {
    size_t d = aml_device(b, "MOU"), r;

    aml_name(b, "_HID");
    aml_eisa_id(b, "PNP0F13");
    aml_name(b, "_STA");
    aml_integer(b, 0xf);
    aml_name(b, "_CRS");
    r = aml_resources(b);
    aml_irq(b, 12);
    aml_close_resources(b, r);
    aml_close(b, d);
}

static void dsdt_isa(struct buf *b, const struct acpi_config *config) {
    size_t isa = aml_device(b, "ISA");

    aml_name(b, "_ADR");
    aml_integer(b, 0x001f0000);
    dsdt_isa_device(b, "RTC", "PNP0B00", 0, 0x70, 8, 0, 8);
    dsdt_isa_device(b, "KBD", "PNP0303", 0, 0x60, 1, 0x64, 1);
    if (config->screen)
        dsdt_mouse(b);
    for (unsigned i = 0; i < config->serials; i++) {
        const char name[] = {'C', 'O', 'M', (char)('1' + i), 0};

        dsdt_isa_device(b, name, "PNP0501", i + 1, (uint16_t)map_serial_port(i), 8, 0,
                        map_serial_irq(i));
    }
    dsdt_panic(b);
    aml_close(b, isa);
}

/* The ECAM window must be claimed by a motherboard resource, or Linux does not trust it (PCI
 * Firmware 4.1.2). */
static void dsdt_motherboard(struct buf *b) {
    size_t d = aml_device(b, "MBRD"), r;

    aml_name(b, "_HID");
    aml_eisa_id(b, "PNP0C02");
    aml_name(b, "_CRS");
    r = aml_resources(b);
    aml_fixed_memory(b, MAP_ECAM, MAP_ECAM_SIZE);
    aml_io(b, MAP_PM1_EVENT, 0x80);
    aml_io(b, MAP_PLUG, 0x40);
    aml_close_resources(b, r);
    aml_close(b, d);
}

/* Tells the guest that it goes on from a snapshot, so that it makes new random numbers (Microsoft,
 * "Virtual Machine Generation ID", 2012-08). */
static uint32_t dsdt_generation(struct buf *b) {
    size_t d = aml_device(b, "VGEN"), p, at;

    aml_name(b, "_HID");
    aml_string(b, "VIVA0001");
    aml_name(b, "_CID");
    aml_string(b, "VM_Gen_Counter");
    aml_name(b, "_DDN");
    aml_string(b, "VM_Gen_Counter");
    aml_name(b, "ADDR");
    p = aml_package(b, 2);
    at = b->len + 1;
    aml_integer(b, MAP_GENERATION); /* four bytes behind its opcode */
    aml_integer(b, 0);
    aml_close(b, p);
    aml_close(b, d);
    return (uint32_t)at;
}

static uint32_t dsdt(struct buf *b, const struct acpi_config *config) {
    size_t sb, pci, m, gpe;
    uint32_t generation;

    aml_name(b, "PICF");
    aml_integer(b, 0);
    m = aml_method(b, "_PIC", 1);
    aml_store_arg(b, 0, "PICF");
    aml_close(b, m);
    sb = aml_scope(b, "\\_SB");
    dsdt_motherboard(b);
    generation = dsdt_generation(b);
    if (config->cpus_plug)
        acpi_plug_cpus(b, config->cpus);
    pci = aml_device(b, "PCI0");
    aml_name(b, "_HID");
    aml_eisa_id(b, "PNP0A08");
    aml_name(b, "_CID");
    aml_eisa_id(b, "PNP0A03");
    aml_name(b, "_UID");
    aml_integer(b, 0);
    dsdt_windows(b, config);
    dsdt_routing(b);
    m = aml_method(b, "_OSC", 4); /* the system may control everything that it asks for */
    aml_return_arg(b, 3);
    aml_close(b, m);
    dsdt_isa(b, config);
    acpi_plug_slots(b, config->plug_slots);
    aml_close(b, pci);
    aml_close(b, sb);
    gpe = aml_scope(b, "\\_GPE");
    m = aml_method(b, "_E05", 0); /* MAP_GPE_GENERATION */
    aml_notify(b, "_SB", "VGEN", 0x80);
    aml_close(b, m);
    if (config->plug_slots)
        acpi_plug_event(b);
    if (config->cpus_plug)
        acpi_plug_cpu_event(b);
    aml_close(b, gpe);
    aml_name(b, "\\_S5");
    m = aml_package(b, 4);
    for (unsigned i = 0; i < 4; i++)
        aml_integer(b, i < 2 ? ACPI_PM_SLP_TYP_S5 : 0);
    aml_close(b, m);
    return generation;
}

/* ---- the other tables ---- */

/* Generic address structure of an I/O port (section 5.2.3.2). */
static void gas_io(uint8_t *p, unsigned bits, unsigned access, uint64_t addr) {
    p[0] = 1;
    p[1] = (uint8_t)bits;
    p[2] = 0;
    p[3] = (uint8_t)access;
    store_le64(p + 4, addr);
}

static void fadt(struct buf *b, const struct acpi_config *config, uint64_t facs, uint64_t dsdt_at) {
    size_t at = table_begin(b, "FACP", 6);
    uint8_t *t;

    buf_grow(b, FADT_SIZE - HEADER_SIZE);
    t = b->data + at;
    store_le32(t + 36, (uint32_t)facs);
    store_le32(t + 40, (uint32_t)dsdt_at);
    t[45] = 1; /* preferred profile: desktop */
    store_le16(t + 46, MAP_SCI_IRQ);
    store_le32(t + 56, MAP_PM1_EVENT);
    store_le32(t + 64, MAP_PM1_CONTROL);
    store_le32(t + 76, MAP_PM_TIMER);
    store_le32(t + 80, MAP_GPE0);
    t[88] = 4;
    t[89] = 2;
    t[91] = 4;
    t[92] = 16;
    store_le16(t + 96, 0xfff); /* no C2 */
    store_le16(t + 98, 0xfff); /* no C3 */
    t[108] = 0x32;             /* RTC century */
    /* Legacy devices, 8042, no VGA. */
    store_le16(t + 109, (uint16_t)(1 << 0 | 1 << 1 | (config->screen ? 0 : 1 << 2)));
    /* WBINVD, PROC_C1, SLP_BUTTON absent, RESET_REG_SUP. PWR_BUTTON = 0: fixed power button. */
    store_le32(t + 112, 1 << 0 | 1 << 2 | 1 << 5 | 1 << 10);
    gas_io(t + 116, 8, 1, 0xcf9);
    t[128] = 0x0e;
    /*
     * Minor version. From 6.3 on processors that may come later bear a flag (online capable)
     * instead of none; memtest86+ takes those that bear it for present, and waits for them for
     * ever.
     */
    t[131] = 2;
    store_le64(t + 132, facs);
    store_le64(t + 140, dsdt_at);
    gas_io(t + 148, 32, 2, MAP_PM1_EVENT);
    gas_io(t + 172, 16, 2, MAP_PM1_CONTROL);
    gas_io(t + 208, 32, 3, MAP_PM_TIMER);
    gas_io(t + 220, 128, 1, MAP_GPE0);
    table_end(b, at);
}

static void madt_override(struct buf *b, unsigned source, unsigned gsi, unsigned flags) {
    uint8_t e[10] = {2, 10, 0, (uint8_t)source};

    store_le32(e + 4, gsi);
    store_le16(e + 8, (uint16_t)flags);
    buf_put(b, e, sizeof(e));
}

/*
 * Departure: of a machine with one processor a second one is told of that could come later, and
 * never does. Linux gives a disk as many queues as it may ever have processors, and to a disk with
 * one queue an I/O scheduler and a kernel thread, which a request of 4 KiB costs three times as
 * much with.
 */
static void madt(struct buf *b, unsigned cpus, uint32_t may_come) {
    static const uint8_t absent[8] = {0, 8, 1, 1, 0}; /* not enabled */
    size_t at = table_begin(b, "APIC", 4);
    uint8_t ioapic[12] = {1, 12}, nmi[6] = {4, 6, 0xff, 0, 0, 1};

    buf_put_le32(b, MAP_LAPIC);
    buf_put_le32(b, 1); /* PCAT_COMPAT: there are 8259s */
    for (unsigned i = 0; i < cpus; i++) {
        uint8_t e[8] = {0, 8, (uint8_t)i, (uint8_t)i, i >= 32 || !(may_come >> i & 1)};
        buf_put(b, e, sizeof(e));
    }
    if (cpus == 1)
        buf_put(b, absent, sizeof(absent));
    store_le32(ioapic + 4, MAP_IOAPIC);
    buf_put(b, ioapic, sizeof(ioapic));
    madt_override(b, 0, 2, 0);
    madt_override(b, MAP_SCI_IRQ, MAP_SCI_IRQ, 0xd); /* active high, level */
    buf_put(b, nmi, sizeof(nmi));
    table_end(b, at);
}

static void mcfg(struct buf *b) {
    size_t at = table_begin(b, "MCFG", 1);

    buf_grow(b, 8);
    buf_put_le64(b, MAP_ECAM);
    buf_put_le16(b, 0);      /* segment */
    buf_put_le16(b, 0xff00); /* buses 0 to 255 */
    buf_put_le32(b, 0);
    table_end(b, at);
}

/* IA-PC HPET Specification 1.0a, 3.2.4. */
static void hpet(struct buf *b) {
    static const uint8_t memory[4] = {0, 64, 0, 0};
    size_t at = table_begin(b, "HPET", 1);

    buf_put_le32(b, HPET_BLOCK_ID);
    buf_put(b, memory, sizeof(memory));
    buf_put_le64(b, MAP_HPET);
    buf_put(b, "", 1);       /* number */
    buf_put_le16(b, 0x0080); /* shortest period */
    buf_put(b, "", 1);
    table_end(b, at);
}

static void rsdp(uint8_t *p, uint64_t xsdt) {
    memcpy(p, "RSD PTR ", 8);
    memcpy(p + 9, "VIVARM", 6);
    p[15] = 2;
    store_le32(p + 20, ACPI_RSDP_SIZE);
    store_le64(p + 24, xsdt);
    p[8] = checksum(p, 20);
    p[32] = checksum(p, ACPI_RSDP_SIZE);
}

static void note_pointer(struct acpi_blob *a, size_t at, unsigned size) {
    a->pointer[a->pointers++] = (struct acpi_pointer){(uint32_t)at, (uint8_t)size};
}

static void note_sum(struct acpi_blob *a, size_t at) {
    a->sum[a->sums].at = (uint32_t)at;
    a->sum[a->sums++].size = load_le32(a->tables.data + at + 4);
}

static bool has_nodes(const struct acpi_config *c) { return c->numa && c->numa->nodes; }

/* The blob as it is at the address `base`. */
static void build(struct acpi_blob *a, const struct acpi_config *config, uint64_t base) {
    struct buf *b = &a->tables;
    size_t dsdt_at, at, entry[6];
    unsigned entries = 3;

    *a = (struct acpi_blob){.pointers = 0};
    memcpy(buf_grow(b, FACS_SIZE), "FACS", 4); /* first, for it wants an alignment of 64 */
    store_le32(b->data + 4, FACS_SIZE);
    b->data[32] = 2;
    dsdt_at = table_begin(b, "DSDT", 2);
    a->generation = dsdt(b, config);
    table_end(b, dsdt_at);
    note_sum(a, dsdt_at);
    entry[0] = b->len;
    fadt(b, config, base, base + dsdt_at);
    note_pointer(a, entry[0] + 36, 4);
    note_pointer(a, entry[0] + 40, 4);
    note_pointer(a, entry[0] + 132, 8);
    note_pointer(a, entry[0] + 140, 8);
    note_sum(a, entry[0]);
    entry[1] = b->len;
    madt(b, config->cpus, config->cpus_absent);
    entry[2] = b->len;
    mcfg(b);
    if (config->hpet) {
        entry[entries++] = b->len;
        hpet(b);
    }
    if (config->memory_more || has_nodes(config)) {
        entry[entries++] = b->len;
        at = table_begin(b, "SRAT", 3);
        numa_srat(b, config);
        table_end(b, at);
    }
    if (has_nodes(config)) {
        entry[entries++] = b->len;
        at = table_begin(b, "SLIT", 1);
        numa_slit(b, config->numa);
        table_end(b, at);
    }
    at = table_begin(b, "XSDT", 1);
    for (unsigned i = 0; i < entries; i++) {
        note_pointer(a, b->len, 8);
        buf_put_le64(b, base + entry[i]);
    }
    table_end(b, at);
    note_sum(a, at);
    rsdp(a->rsdp, base + at);
}

void acpi_build(struct acpi_blob *ret, const struct acpi_config *config) { build(ret, config, 0); }

int acpi_write(struct mem *mem, const struct acpi_config *config, struct error *err) {
    enum { RSDP_ROOM = 64 };
    struct acpi_blob a;
    int r = 0;

    build(&a, config, MAP_ACPI_TABLES + RSDP_ROOM);
    if (MAP_ACPI_TABLES + RSDP_ROOM + a.tables.len > MAP_GENERATION ||
        mem_load(mem, MAP_ACPI_TABLES, a.rsdp, sizeof(a.rsdp)) < 0 ||
        mem_load(mem, MAP_ACPI_TABLES + RSDP_ROOM, a.tables.data, a.tables.len) < 0)
        r = error_set(
            err, -ENOSPC,
            "the ACPI tables (%zu bytes) do not fit into their 60 KiB: fewer processors make "
            "them smaller",
            a.tables.len);
    buf_done(&a.tables);
    return r;
}

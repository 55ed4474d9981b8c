/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ACPI tables as a guest reads them: from the RSDP on, every checksum and length, and the DSDT
 * by a small parser of our own that knows the objects which the board uses (ACPI 6.5 section 20.2).
 */
#include "machine/acpi.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "machine/map.h"
#include "machine/numa.h"
#include "support/test.h"

static struct mem mem;

static uint8_t sum(const uint8_t *p, size_t n) {
    uint8_t s = 0;

    while (n--)
        s = (uint8_t)(s + *p++);
    return s;
}

static const uint8_t *at(uint64_t addr, uint64_t n) {
    const uint8_t *p = mem_ptr(&mem, addr, n, false);

    assert_non_null(p);
    assert_true(addr >= MAP_ACPI_TABLES && addr + n <= MAP_1M); /* what e820 says is reserved */
    return p;
}

/* A table at a guest address with good length and checksum. */
static const uint8_t *table(uint64_t addr, const char *signature) {
    const uint8_t *t = at(addr, 36);

    assert_memory_equal(t, signature, 4);
    at(addr, load_le32(t + 4));
    if (strcmp(signature, "FACS") != 0)
        assert_int_equal(sum(t, load_le32(t + 4)), 0);
    assert_int_equal(addr % 16, 0);
    return t;
}

static const uint8_t *find_table(const char *signature) {
    const uint8_t *rsdp = at(MAP_ACPI_TABLES, 36), *xsdt = table(load_le64(rsdp + 24), "XSDT");

    for (unsigned i = 36; i + 8 <= load_le32(xsdt + 4); i += 8)
        if (!memcmp(at(load_le64(xsdt + i), 4), signature, 4))
            return table(load_le64(xsdt + i), signature);
    fail_msg("no %s", signature);
    return NULL;
}

static int setup(void **state) {
    struct error err = {0};

    assert_int_equal(mem_init(&mem, &err), 0);
    assert_int_equal(mem_add(&mem, MAP_SHADOW, MAP_1M - MAP_SHADOW, false, &err), 0);
    return 0;
}

static int teardown(void **state) {
    mem_done(&mem);
    return 0;
}

static void write_tables(unsigned cpus, unsigned serials) {
    struct acpi_config config = {.cpus = cpus, .serials = serials};
    struct error err = {0};

    assert_int_equal(acpi_write(&mem, &config, &err), 0);
}

/* ------------------------------------------------------------------ the static tables */

static void the_rsdp_has_two_checksums_and_leads_to_all_tables(void **state) {
    const uint8_t *rsdp;

    write_tables(1, 1);
    rsdp = at(MAP_ACPI_TABLES, 36);
    assert_memory_equal(rsdp, "RSD PTR ", 8);
    assert_int_equal(rsdp[15], 2);
    assert_int_equal(load_le32(rsdp + 20), 36);
    assert_int_equal(sum(rsdp, 20), 0);
    assert_int_equal(sum(rsdp, 36), 0);
    find_table("FACP");
    find_table("APIC");
    find_table("MCFG");
}

static void generic_address_is(const uint8_t *p, unsigned bits, uint64_t addr) {
    assert_int_equal(p[0], 1); /* I/O space */
    assert_int_equal(p[1], bits);
    assert_int_equal(load_le64(p + 4), addr);
}

static void the_fadt_says_where_the_fixed_hardware_is(void **state) {
    const uint8_t *t;

    write_tables(1, 1);
    t = find_table("FACP");
    assert_int_equal(load_le32(t + 4), 276);
    assert_int_equal(load_le32(table(load_le32(t + 36), "FACS") + 4), 64);
    assert_int_equal(load_le64(t + 132), load_le32(t + 36));
    table(load_le32(t + 40), "DSDT");
    assert_int_equal(load_le64(t + 140), load_le32(t + 40));
    assert_int_equal(load_le16(t + 46), 9); /* SCI */
    assert_int_equal(load_le32(t + 48), 0); /* no SMI command: ACPI is always on */
    assert_int_equal(load_le32(t + 56), 0x600);
    assert_int_equal(load_le32(t + 64), 0x604);
    assert_int_equal(load_le32(t + 76), 0x608);
    assert_int_equal(load_le32(t + 80), 0x620);
    assert_int_equal(t[88], 4);
    assert_int_equal(t[89], 2);
    assert_int_equal(t[91], 4);
    assert_int_equal(t[92], 16);
    assert_int_equal(load_le32(t + 112) & 1 << 4, 0);  /* power button is fixed hardware */
    assert_int_equal(load_le32(t + 112) & 1 << 8, 0);  /* the timer has 24 bits */
    assert_int_equal(load_le32(t + 112) & 1 << 20, 0); /* not hardware-reduced */
    assert_true(load_le32(t + 112) & 1 << 10);
    generic_address_is(t + 116, 8, 0xcf9);
    assert_int_equal(t[128], 0x0e);
    generic_address_is(t + 148, 32, 0x600);
    generic_address_is(t + 172, 16, 0x604);
    generic_address_is(t + 208, 32, 0x608);
    generic_address_is(t + 220, 128, 0x620);
}

static void processors_that_may_come_are_listed_and_not_enabled(void **state) {
    struct acpi_config config = {
        .cpus = 4, .cpus_absent = 1 << 1 | 1 << 3, .cpus_plug = true, .serials = 1};
    struct error err = {0};
    unsigned found = 0;
    const uint8_t *t;

    assert_int_equal(acpi_write(&mem, &config, &err), 0);
    t = find_table("APIC");
    for (unsigned i = 44; i < load_le32(t + 4); i += t[i + 1])
        if (t[i] == 0) {
            assert_int_equal(t[i + 2], found); /* number, as _UID says it */
            assert_int_equal(t[i + 3], found);
            assert_int_equal(load_le32(t + i + 4), found == 0 || found == 2);
            found++;
        }
    assert_int_equal(found, 4);
}

static void the_madt_lists_every_processor_and_the_overrides(void **state) {
    unsigned cpus = 0, ioapics = 0, overrides = 0, nmis = 0, end;
    const uint8_t *t;

    write_tables(32, 1);
    t = find_table("APIC");
    end = load_le32(t + 4);
    assert_int_equal(load_le32(t + 36), MAP_LAPIC);
    assert_int_equal(load_le32(t + 40), 1); /* 8259s */
    for (unsigned i = 44; i < end; i += t[i + 1]) {
        assert_true(t[i + 1] >= 2 && i + t[i + 1] <= end);
        switch (t[i]) {
        case 0:
            assert_int_equal(t[i + 3], cpus); /* APIC id */
            assert_int_equal(load_le32(t + i + 4), 1);
            cpus++;
            break;
        case 1:
            assert_int_equal(load_le32(t + i + 4), MAP_IOAPIC);
            assert_int_equal(load_le32(t + i + 8), 0);
            ioapics++;
            break;
        case 2: /* the timer at pin 2; the SCI active high and level-triggered */
            assert_int_equal(load_le32(t + i + 4), t[i + 3] == 0 ? 2 : 9);
            assert_int_equal(load_le16(t + i + 8), t[i + 3] == 0 ? 0 : 0xd);
            overrides++;
            break;
        case 4:
            assert_int_equal(t[i + 2], 0xff);
            assert_int_equal(t[i + 5], 1);
            nmis++;
            break;
        default:
            fail_msg("entry of type %u", t[i]);
        }
    }
    assert_int_equal(cpus, 32);
    assert_int_equal(ioapics, 1);
    assert_int_equal(overrides, 2);
    assert_int_equal(nmis, 1);
}

static void the_madt_of_one_processor_names_a_second_that_could_come(void **state) {
    unsigned present = 0, absent = 0;
    const uint8_t *t;

    write_tables(1, 1);
    t = find_table("APIC");
    for (unsigned i = 44; i < load_le32(t + 4); i += t[i + 1]) {
        if (t[i] != 0)
            continue;
        assert_int_equal(t[i + 3], present + absent);
        present += load_le32(t + i + 4) == 1; /* enabled */
        absent += load_le32(t + i + 4) == 0;
    }
    assert_int_equal(present, 1);
    assert_int_equal(absent, 1);
}

static void the_mcfg_gives_the_window_for_all_buses(void **state) {
    const uint8_t *t;

    write_tables(1, 1);
    t = find_table("MCFG");
    assert_int_equal(load_le32(t + 4), 60);
    assert_int_equal(load_le64(t + 44), MAP_ECAM);
    assert_int_equal(load_le16(t + 52), 0);
    assert_int_equal(t[54], 0);
    assert_int_equal(t[55], 0xff);
}

/* ------------------------------------------------------------------ the DSDT */

struct value {
    enum { INTEGER, STRING, PACKAGE, BUFFER } kind;
    uint64_t number;
    const uint8_t *data; /* contents of a package or buffer, or the string */
    size_t size;
    unsigned count;
};

static const uint8_t *wanted_end; /* where the object must end that is being parsed */
static const char *wanted_path;   /* what find_object looks for */
static struct value *wanted_value;
static bool found;

static size_t take_length(const uint8_t **p) {
    const uint8_t *start = *p;
    unsigned more = *start >> 6;
    size_t n = more ? *start & 15 : *start & 63;

    for (unsigned i = 1; i <= more; i++)
        n |= (size_t)start[i] << (8 * i - 4);
    *p += 1 + more;
    assert_true(n >= 1 + more && start + n <= wanted_end);
    return n - 1 - more;
}

static void take_path(const uint8_t **p, char *path, size_t size) {
    size_t n;

    if (**p == '\\') {
        ++*p;
        path[0] = 0;
    }
    n = strlen(path);
    assert_true(n + 6 < size);
    for (unsigned i = 0; i < 4; i++)
        assert_true((*p)[i] == '_' || ((*p)[i] >= 'A' && (*p)[i] <= 'Z') ||
                    (i && (*p)[i] >= '0' && (*p)[i] <= '9'));
    path[n] = n ? '.' : '\\';
    memcpy(path + n + 1, *p, 4);
    path[n + 5] = 0;
    *p += 4;
}

static struct value take_value(const uint8_t **p) {
    static const uint8_t sizes[] = {[0x0a] = 1, [0x0b] = 2, [0x0c] = 4, [0x0e] = 8};
    struct value v = {0};
    uint8_t op = *(*p)++;

    if (op <= 1) {
        v.number = op;
    } else if (op < sizeof(sizes) && sizes[op]) {
        memcpy(&v.number, *p, sizes[op]);
        *p += sizes[op];
    } else if (op == 0x0d) {
        v = (struct value){.kind = STRING, .data = *p, .size = strlen((const char *)*p)};
        *p += v.size + 1;
    } else if (op == 0x12 || op == 0x11) {
        v.size = take_length(p);
        v.data = *p;
        *p += v.size;
        v.kind = op == 0x12 ? PACKAGE : BUFFER;
        if (op == 0x12) {
            v.count = *v.data++;
            v.size--;
        } else {
            struct value n;

            n = take_value(&v.data);
            assert_int_equal(n.kind, INTEGER);
            v.size = (size_t)(*p - v.data);
            assert_int_equal(n.number, v.size);
        }
    } else {
        fail_msg("value with opcode %02x", op);
    }
    return v;
}

/* Elements must fill the package exactly. */
static void check_package(const struct value *v) {
    const uint8_t *p = v->data;

    for (unsigned i = 0; i < v->count; i++) {
        struct value e = take_value(&p);

        if (e.kind == PACKAGE)
            check_package(&e);
    }
    assert_ptr_equal(p, v->data + v->size);
}

/* Descriptors must fill the buffer and end with the end tag. */
static void check_resources(const struct value *v) {
    size_t i = 0;

    while (v->data[i] != 0x79) {
        i += v->data[i] & 0x80 ? 3 + load_le16(v->data + i + 1) : 1 + (v->data[i] & 7);
        assert_true(i < v->size);
    }
    assert_int_equal(i + 2, v->size);
}

/* An argument or a name. */
static void take_operand(const uint8_t **p) {
    char path[80] = "";

    if (**p >= 0x68 && **p <= 0x6e)
        ++*p;
    else
        take_path(p, path, sizeof(path));
}

/* The statements that the board's methods are made of: Return, Store, Notify, If. */
static void check_statements(const uint8_t *p, const uint8_t *end) {
    while (p < end) {
        const uint8_t *inner_end;
        size_t n;

        switch (*p++) {
        case 0x70:
            take_operand(&p);
            take_operand(&p);
            break;
        case 0xa4:
            take_operand(&p);
            break;
        case 0x86:
            assert_memory_equal(p, "\\.", 2); /* a path of two segments */
            p += 2;
            take_operand(&p);
            take_operand(&p);
            take_value(&p);
            break;
        case 0xa0:
            n = take_length(&p);
            inner_end = p + n;
            take_operand(&p);
            check_statements(p, inner_end);
            p = inner_end;
            break;
        default:
            fail_msg("statement with opcode %02x", p[-1]);
        }
    }
    assert_ptr_equal(p, end);
}

static void parse_terms(const uint8_t *p, const uint8_t *end, const char *scope) {
    while (p < end) {
        const uint8_t *inner_end, *outer = wanted_end;
        char path[80];
        uint8_t op = *p++;
        struct value v;
        size_t n;

        snprintf(path, sizeof(path), "%s", scope);
        if (op == 0x5b)
            op = *p++;
        switch (op) {
        case 0x10: /* scope */
        case 0x82: /* device */
        case 0x14: /* method */
            n = take_length(&p);
            inner_end = p + n;
            take_path(&p, path, sizeof(path));
            wanted_end = inner_end;
            if (op != 0x14)
                parse_terms(p, inner_end, path);
            else
                check_statements(p + 1, inner_end); /* behind the flags */
            wanted_end = outer;
            p = inner_end;
            break;
        case 0x08:
            take_path(&p, path, sizeof(path));
            v = take_value(&p);
            if (v.kind == PACKAGE)
                check_package(&v);
            if (v.kind == BUFFER)
                check_resources(&v);
            if (wanted_path && !strcmp(path, wanted_path)) {
                *wanted_value = v;
                found = true;
            }
            break;
        default:
            fail_msg("opcode %02x in %s", op, scope);
        }
    }
    assert_ptr_equal(p, end);
}

static bool find_object(const char *path, struct value *ret) {
    const uint8_t *t = table(load_le32(find_table("FACP") + 40), "DSDT");

    wanted_path = path;
    wanted_value = ret;
    found = false;
    wanted_end = t + load_le32(t + 4);
    parse_terms(t + 36, wanted_end, "");
    return found;
}

static void the_dsdt_is_well_formed_down_to_the_last_byte(void **state) {
    write_tables(1, 1);
    assert_false(find_object(NULL, NULL));
}

static void the_root_bridge_is_a_pci_express_one_without_an_address(void **state) {
    struct value v;

    write_tables(1, 1);
    assert_true(find_object("\\_SB_.PCI0._HID", &v));
    assert_int_equal(v.number, 0x080ad041); /* PNP0A08 */
    assert_true(find_object("\\_SB_.PCI0._CID", &v));
    assert_int_equal(v.number, 0x030ad041);
    assert_false(find_object("\\_SB_.PCI0._ADR", &v)); /* a device has one or the other */
}

static void routes_are_as_the_bus_is_wired(bool apic) {
    struct value v;
    const uint8_t *p;

    assert_true(find_object(apic ? "\\_SB_.PCI0.PRTA" : "\\_SB_.PCI0.PRTP", &v));
    assert_int_equal(v.count, 32 * 4);
    p = v.data;
    for (unsigned i = 0; i < 32 * 4; i++) {
        struct value route = take_value(&p);
        const uint8_t *q = route.data;

        assert_int_equal(route.count, 4);
        assert_int_equal(take_value(&q).number, i / 4 << 16 | 0xffff);
        assert_int_equal(take_value(&q).number, i % 4);
        assert_int_equal(take_value(&q).number, 0);
        assert_int_equal(take_value(&q).number,
                         apic ? 16 + (i / 4 + i) % 4 : map_pci_isa_irq((i / 4 + i) % 4));
    }
}

static void every_slot_and_pin_is_routed_with_and_without_the_io_apic(void **state) {
    write_tables(1, 1);
    routes_are_as_the_bus_is_wired(true);
    routes_are_as_the_bus_is_wired(false);
}

static void the_sleep_state_is_the_one_that_the_chip_knows(void **state) {
    struct value v;
    const uint8_t *p;

    write_tables(1, 1);
    assert_true(find_object("\\_S5_", &v));
    assert_int_equal(v.count, 4);
    p = v.data;
    assert_int_equal(take_value(&p).number, 0);
    assert_int_equal(take_value(&p).number, 0);
}

static void devices_are_named_with_their_ports(void **state) {
    struct value v;

    write_tables(1, 1);
    assert_true(find_object("\\_SB_.PCI0.ISA_.COM1._CRS", &v));
    assert_int_equal(load_le16(v.data + 2), 0x3f8);
    assert_true(find_object("\\_SB_.PCI0.ISA_.RTC_._CRS", &v));
    assert_int_equal(load_le16(v.data + 2), 0x70);
    assert_true(find_object("\\_SB_.PCI0.ISA_.PEVT._CRS", &v));
    assert_int_equal(load_le16(v.data + 2), 0x505);
    assert_true(find_object("\\_SB_.PCI0.ISA_.PEVT._HID", &v));
    assert_int_equal(v.kind, STRING);
    assert_true(find_object("\\_SB_.MBRD._CRS", &v)); /* claims the ECAM window */
    assert_int_equal(load_le32(v.data + 4), MAP_ECAM);
    assert_false(find_object("\\_SB_.PCI0.ISA_.COM2._CRS", &v));
    write_tables(1, 0);
    assert_false(find_object("\\_SB_.PCI0.ISA_.COM1._CRS", &v));
    write_tables(1, 4);
    assert_true(find_object("\\_SB_.PCI0.ISA_.COM4._CRS", &v));
    assert_int_equal(load_le16(v.data + 2), 0x2e8);
    assert_true(find_object("\\_SB_.PCI0.ISA_.COM3._CRS", &v));
    assert_int_equal(load_le16(v.data + 2), 0x3e8);
}

static void tables_that_do_not_fit_are_an_error_and_no_overflow(void **state) {
    struct acpi_config config = {.cpus = 20000, .serials = 1};
    struct error err = {0};

    assert_true(acpi_write(&mem, &config, &err) < 0);
    assert_non_null(strstr(err.text, "do not fit"));
}

static void both_64_bit_and_32_bit_windows_are_given(void **state) {
    struct acpi_config config = {
        .cpus = 1, .pci64_base = 0x8000000000, .pci64_end = 0x9000000000, .serials = 1};
    struct error err = {0};
    struct value v;
    bool wide = false, narrow = false;

    assert_int_equal(acpi_write(&mem, &config, &err), 0);
    assert_true(find_object("\\_SB_.PCI0._CRS", &v));
    for (size_t i = 0; v.data[i] != 0x79;
         i += v.data[i] & 0x80 ? 3 + load_le16(v.data + i + 1) : 1 + (v.data[i] & 7)) {
        if (v.data[i] == 0x8a)
            wide |= load_le64(v.data + i + 14) == config.pci64_base &&
                    load_le64(v.data + i + 38) == 0x1000000000;
        if (v.data[i] == 0x87)
            narrow |= load_le32(v.data + i + 10) == MAP_PCI_MMIO &&
                      load_le32(v.data + i + 14) == MAP_PCI_MMIO_END - 1;
    }
    assert_true(wide && narrow);
}

/* ------------------------------------------------------------------ NUMA */

static void nodes_of_the_guest_have_their_processors_memory_and_distances(void **state) {
    struct machine_numa numa = {
        .nodes = 3,
        .node = {{.cpus = 1, .memory = 1ull << 30, .distance = {0, 15, 30}},
                 {.cpus = 6, .memory = 3ull << 30, .distance = {15}},
                 {.cpus = 8, .memory = 2 << 20, .distance = {30}}},
    };
    struct acpi_config config = {.cpus = 4, .memory = (4ull << 30) + (2 << 20), .numa = &numa};
    /* The hole of the PCI bus parts the second node's. */
    static const struct {
        unsigned node;
        uint64_t base, size;
    } memory[] = {{0, 0, 1ull << 30},
                  {1, 1ull << 30, MAP_LOW_MAX - (1ull << 30)},
                  {1, MAP_HIGH, (4ull << 30) - MAP_LOW_MAX},
                  {2, MAP_HIGH + (4ull << 30) - MAP_LOW_MAX, 2 << 20}};
    static const uint8_t owner[] = {0, 1, 1, 2}, distances[] = {10, 15, 30, 15, 10, 20, 30, 20, 10};
    unsigned cpus = 0, pieces = 0;
    struct error err = {0};
    const uint8_t *t;

    assert_int_equal(acpi_write(&mem, &config, &err), 0);
    t = find_table("SRAT");
    assert_int_equal(load_le32(t + 36), 1);
    for (const uint8_t *e = t + 48; e < t + load_le32(t + 4); e += e[1]) {
        assert_true(e[1] == 16 || e[1] == 40);
        if (*e == 0) {
            assert_int_equal(e[3], cpus);
            assert_int_equal(e[2], owner[cpus++]);
            assert_int_equal(load_le32(e + 4), 1);
            continue;
        }
        assert_int_equal(load_le32(e + 2), memory[pieces].node);
        assert_true(load_le64(e + 8) == memory[pieces].base);
        assert_true(load_le64(e + 16) == memory[pieces++].size);
        assert_int_equal(load_le32(e + 28), 1);
    }
    assert_int_equal(cpus, 4);
    assert_int_equal(pieces, 4);
    t = find_table("SLIT");
    assert_int_equal(load_le64(t + 36), 3);
    assert_int_equal(load_le32(t + 4), 44 + 9);
    assert_memory_equal(t + 44, distances, 9);
}

static void without_nodes_there_are_no_such_tables(void **state) {
    const uint8_t *rsdp, *xsdt;

    write_tables(2, 1);
    rsdp = at(MAP_ACPI_TABLES, 36);
    xsdt = table(load_le64(rsdp + 24), "XSDT");
    for (unsigned i = 36; i + 8 <= load_le32(xsdt + 4); i += 8) {
        assert_memory_not_equal(at(load_le64(xsdt + i), 4), "SRAT", 4);
        assert_memory_not_equal(at(load_le64(xsdt + i), 4), "SLIT", 4);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rsdp_has_two_checksums_and_leads_to_all_tables),
        cmocka_unit_test(the_fadt_says_where_the_fixed_hardware_is),
        cmocka_unit_test(processors_that_may_come_are_listed_and_not_enabled),
        cmocka_unit_test(the_madt_lists_every_processor_and_the_overrides),
        cmocka_unit_test(the_madt_of_one_processor_names_a_second_that_could_come),
        cmocka_unit_test(the_mcfg_gives_the_window_for_all_buses),
        cmocka_unit_test(the_dsdt_is_well_formed_down_to_the_last_byte),
        cmocka_unit_test(the_root_bridge_is_a_pci_express_one_without_an_address),
        cmocka_unit_test(every_slot_and_pin_is_routed_with_and_without_the_io_apic),
        cmocka_unit_test(the_sleep_state_is_the_one_that_the_chip_knows),
        cmocka_unit_test(devices_are_named_with_their_ports),
        cmocka_unit_test(both_64_bit_and_32_bit_windows_are_given),
        cmocka_unit_test(nodes_of_the_guest_have_their_processors_memory_and_distances),
        cmocka_unit_test(without_nodes_there_are_no_such_tables),
        cmocka_unit_test(tables_that_do_not_fit_are_an_error_and_no_overflow),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}

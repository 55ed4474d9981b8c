/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hot-plug in the DSDT: registers, a device with _EJ0 for each slot, and the method that passes on
 * what has changed. Source: ACPI 6.5 sections 6.3.3 (_EJ0), 6.3.5 (_OST), 6.1.11 (_SUN), 5.6.4.1
 * (_Exx).
 *
 * No _STA: systems then look whether the slot's function answers (Linux,
 * drivers/pci/hotplug/acpiphp_glue.c).
 */
#include "machine/acpi_plug.h"

#include <stdio.h>

#include "devices/acpi_plug.h"
#include "machine/aml.h"
#include "machine/map.h"

enum { NOTIFY_DEVICE_CHECK = 1, NOTIFY_EJECT = 3, SLOTS = 32 };

static const char *slot_name(unsigned slot, char name[5]) {
    snprintf(name, 5, "S%02X_", slot & 0xff);
    return name;
}

static const char *cpu_name(unsigned slot, char name[5]) {
    snprintf(name, 5, "C%02X_", slot & 0xff);
    return name;
}

typedef const char *slot_namer(unsigned slot, char name[5]);

static void slot_device(struct buf *b, unsigned slot) {
    char name[5];
    size_t d = aml_device(b, slot_name(slot, name)), m;

    aml_name(b, "_SUN");
    aml_integer(b, slot);
    aml_name(b, "_ADR");
    aml_integer(b, slot << 16);
    m = aml_method(b, "_EJ0", 1);
    aml_store_integer(b, 1u << slot, "PHEJ");
    aml_close(b, m);
    m = aml_method(b, "_OST", 3);
    aml_store_packed(b, slot, "PHOS");
    aml_close(b, m);
    aml_close(b, d);
}

/* Tells the slots of a register, which reading clears. */
static void notify(struct buf *b, const char *reg, uint32_t slots, slot_namer *namer,
                   unsigned event) {
    char name[5];

    aml_store_local(b, reg, 0);
    for (unsigned slot = 0; slot < SLOTS; slot++)
        if (slots & 1u << slot) {
            size_t one = aml_if_bits(b, 0, 1u << slot);

            aml_notify_near(b, namer(slot, name), event);
            aml_close(b, one);
        }
}

void acpi_plug_slots(struct buf *b, uint32_t slots) {
    static const char *const fields[] = {"PHUP", "PHDN", "PHEJ", "PHOS"};
    size_t m;

    if (!slots)
        return;
    aml_ports(b, "PHRG", MAP_PLUG, sizeof(fields) / sizeof(fields[0]) * 4);
    aml_fields32(b, "PHRG", fields, sizeof(fields) / sizeof(fields[0]));
    for (unsigned slot = 0; slot < SLOTS; slot++)
        if (slots & 1u << slot)
            slot_device(b, slot);
    m = aml_method(b, "PHNT", 0x08); /* serialized: a register is read once */
    notify(b, "PHUP", slots, slot_name, NOTIFY_DEVICE_CHECK);
    notify(b, "PHDN", slots, slot_name, NOTIFY_EJECT);
    aml_close(b, m);
}

void acpi_plug_event(struct buf *b) {
    char name[5];
    size_t m;

    snprintf(name, sizeof(name), "_E%02X", MAP_GPE_PLUG);
    m = aml_method(b, name, 0);
    aml_call(b, "PCI0", "PHNT");
    aml_close(b, m);
}

/* ---- processors ---- */

static void cpu_status(struct buf *b, unsigned cpu) {
    size_t m = aml_method(b, "_STA", 0), there;

    aml_store_local(b, "CHPR", 0);
    there = aml_if_bits(b, 0, 1u << cpu);
    aml_return_integer(b, 0xf);
    aml_close(b, there);
    aml_return_integer(b, 0);
    aml_close(b, m);
}

/* _MAT is what the MADT would say of it (ACPI 6.5, 6.2.10): a local APIC, enabled. */
static void cpu_device(struct buf *b, unsigned cpu) {
    const uint8_t lapic[8] = {0, 8, (uint8_t)cpu, (uint8_t)cpu, 1};
    char name[5];
    size_t d = aml_device(b, cpu_name(cpu, name)), m;

    aml_name(b, "_HID");
    aml_string(b, "ACPI0007");
    aml_name(b, "_UID");
    aml_integer(b, cpu);
    aml_name(b, "_MAT");
    aml_bytes(b, lapic, sizeof(lapic));
    cpu_status(b, cpu);
    if (cpu) { /* the first one stays */
        m = aml_method(b, "_EJ0", 1);
        aml_store_integer(b, 1u << cpu, "CHEJ");
        aml_close(b, m);
        m = aml_method(b, "_OST", 3);
        aml_store_packed(b, cpu, "CHOS");
        aml_close(b, m);
    }
    aml_close(b, d);
}

void acpi_plug_cpus(struct buf *b, unsigned count) {
    static const char *const fields[] = {"CHUP", "CHDN", "CHEJ", "CHOS", "CHPR"};
    uint32_t slots = (uint32_t)((1ull << count) - 1);
    size_t m;

    aml_ports(b, "CHRG", MAP_CPU_PLUG, sizeof(fields) / sizeof(fields[0]) * 4);
    aml_fields32(b, "CHRG", fields, sizeof(fields) / sizeof(fields[0]));
    for (unsigned i = 0; i < count; i++)
        cpu_device(b, i);
    m = aml_method(b, "CHNT", 0x08);
    notify(b, "CHUP", slots, cpu_name, NOTIFY_DEVICE_CHECK);
    notify(b, "CHDN", slots, cpu_name, NOTIFY_EJECT);
    aml_close(b, m);
}

void acpi_plug_cpu_event(struct buf *b) {
    char name[5];
    size_t m;

    snprintf(name, sizeof(name), "_E%02X", MAP_GPE_CPUS);
    m = aml_method(b, name, 0);
    aml_call_here(b, "CHNT");
    aml_close(b, m);
}

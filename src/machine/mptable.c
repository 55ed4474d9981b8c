/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MP configuration table and PCI IRQ routing table ($PIR) of the board.
 * Source: MultiProcessor Specification 1.4 chapter 4; Microsoft PCI IRQ Routing Table Specification
 * 1.0; Intel ICH9 datasheet 13.1 (PIRQ routing registers).
 *
 * Both say what the DSDT's _PRT says: wire (slot + pin) % 4 reaches pin 16 + wire of the I/O APIC,
 * and the 8259 input that the LPC bridge's routing register names.
 */
#include "machine/mptable.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "cpu/cpuid.h"
#include "machine/map.h"

enum { POINTER_SIZE = 16, MP_HEADER_SIZE = 44, PIR_HEADER_SIZE = 32, SLOTS = 31 };
enum { BUS_PCI, BUS_ISA, IOAPIC_ID = 0, ALL_LAPICS = 0xff };
enum { INT = 0, NMI = 1, EXTINT = 3 };          /* interrupt types */
enum { CONFORMS = 0, ACTIVE_HIGH_LEVEL = 0xd }; /* polarity and trigger mode */

static uint8_t checksum(const uint8_t *p, size_t n) {
    uint8_t sum = 0;

    while (n--)
        sum = (uint8_t)(sum + *p++);
    return (uint8_t)-sum;
}

/* ---- MP configuration table ---- */

static void processor(struct buf *b, unsigned id) {
    uint8_t e[20] = {0, (uint8_t)id, 0x14, (uint8_t)(1 | (id == 0) << 1)};

    store_le32(e + 4, CPUID_SIGNATURE);
    store_le32(e + 8, 1 << 0 | 1 << 9); /* FPU, APIC */
    buf_put(b, e, sizeof(e));
}

static void bus(struct buf *b, unsigned id, const char *type) {
    uint8_t e[8] = {1, (uint8_t)id};

    memcpy(e + 2, type, 6);
    buf_put(b, e, sizeof(e));
}

static void ioapic(struct buf *b) {
    uint8_t e[8] = {2, IOAPIC_ID, 0x20, 1};

    store_le32(e + 4, MAP_IOAPIC);
    buf_put(b, e, sizeof(e));
}

/* Entry type 3: to a pin of the I/O APIC; 4: to a local interrupt input of all processors. */
static void interrupt(struct buf *b, unsigned entry, unsigned type, unsigned flags,
                      unsigned source_bus, unsigned source, unsigned pin) {
    const uint8_t e[8] = {(uint8_t)entry,
                          (uint8_t)type,
                          (uint8_t)flags,
                          0,
                          (uint8_t)source_bus,
                          (uint8_t)source,
                          entry == 3 ? IOAPIC_ID : ALL_LAPICS,
                          (uint8_t)pin};

    buf_put(b, e, sizeof(e));
}

static unsigned interrupts(struct buf *b) {
    unsigned n = 0;

    for (unsigned irq = 0; irq < 16; irq++, n++) {
        if (irq == 2) { /* the cascade */
            n--;
            continue;
        }
        interrupt(b, 3, INT, irq == MAP_SCI_IRQ ? ACTIVE_HIGH_LEVEL : CONFORMS, BUS_ISA, irq,
                  irq ? irq : 2);
    }
    for (unsigned slot = 1; slot <= SLOTS; slot++)
        for (unsigned pin = 0; pin < 4; pin++, n++)
            interrupt(b, 3, INT, CONFORMS, BUS_PCI, slot << 2 | pin,
                      MAP_GSI_PCI + (slot + pin) % 4);
    interrupt(b, 4, EXTINT, CONFORMS, BUS_ISA, 0, 0);
    interrupt(b, 4, NMI, CONFORMS, BUS_ISA, 0, 1);
    return n + 2;
}

static void mp_table(struct buf *b, unsigned cpus) {
    size_t at = b->len;
    unsigned entries = cpus + 3;
    uint8_t *h = buf_grow(b, MP_HEADER_SIZE);

    memcpy(h, "PCMP", 4);
    h[6] = 4; /* version 1.4 */
    memcpy(h + 8, "VIVARIUM", 8);
    memcpy(h + 16, "VIRTUAL PC  ", 12);
    store_le32(h + 36, MAP_LAPIC);
    for (unsigned i = 0; i < cpus; i++)
        processor(b, i);
    bus(b, BUS_PCI, "PCI   ");
    bus(b, BUS_ISA, "ISA   ");
    ioapic(b);
    entries += interrupts(b);
    h = b->data + at;
    store_le16(h + 4, (uint16_t)(b->len - at));
    store_le16(h + 34, (uint16_t)entries);
    h[7] = checksum(h, b->len - at);
}

/* ---- $PIR ---- */

static void pir_table(struct buf *b, unsigned lpc) {
    size_t at = b->len;
    uint8_t *h = buf_grow(b, PIR_HEADER_SIZE);

    memcpy(h, "$PIR", 4);
    h[5] = 1; /* version 1.0 */
    store_le16(h + 6, PIR_HEADER_SIZE + 16 * SLOTS);
    h[9] = (uint8_t)lpc;
    /* Routed as the PIIX3 does it, with the same registers: what every system knows. */
    store_le32(h + 12, 0x70008086);
    for (unsigned slot = 1; slot <= SLOTS; slot++) {
        uint8_t *e = buf_grow(b, 16);
        e[1] = (uint8_t)(slot << 3);
        for (unsigned pin = 0; pin < 4; pin++) {
            e[2 + 3 * pin] = (uint8_t)(0x60 + (slot + pin) % 4); /* PIRQA to PIRQD */
            store_le16(e + 3 + 3 * pin, 1 << 5 | 1 << 10 | 1 << 11);
        }
        e[14] = (uint8_t)slot;
    }
    h = b->data + at;
    h[31] = checksum(h, b->len - at);
}

int mptable_write(struct mem *mem, unsigned cpus, unsigned lpc, struct error *err) {
    struct buf b = {0};
    uint8_t *p = buf_grow(&b, POINTER_SIZE);
    int r = 0;

    memcpy(p, "_MP_", 4);
    store_le32(p + 4, MAP_MP_TABLES + POINTER_SIZE);
    p[8] = 1; /* in units of 16 bytes */
    p[9] = 4;
    p[10] = checksum(p, POINTER_SIZE);
    mp_table(&b, cpus);
    while (b.len % 16)
        buf_grow(&b, 1);
    pir_table(&b, lpc);
    if (MAP_MP_TABLES + b.len > MAP_SMBIOS || mem_load(mem, MAP_MP_TABLES, b.data, b.len) < 0)
        r = error_set(err, -ENOSPC,
                      "the MP tables (%zu bytes) do not fit below 1 MiB: fewer processors make "
                      "them smaller",
                      b.len);
    buf_done(&b);
    return r;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * LPC bridge of the ICH9: PIRQ routing, and the registers by which firmware places the ISA side.
 * Source: Intel I/O Controller Hub 9 datasheet (316972), section 13.1 (D31:F0 configuration
 * registers).
 *
 *   40 PMBASE      15:7 base, 0 = 1     44 ACPI_CNTL  7 enable, 2:0 SCI routing
 *   48 GPIOBASE    15:6 base, 0 = 1     4c GPIO control  4 enable, 0 lock
 *   60-63, 68-6b   PIRQA-D, PIRQE-H: 7 = not routed to the PIC (reset 80), 3:0 ISA interrupt
 *   64 SIRQ_CNTL   80-93 I/O decode     a0-a4 GEN_PMCON  (a0 bit 4 SMI_LOCK stays set)
 *   d0-dc firmware hub, BIOS_CNTL       f0 RCBA  31:14 base, 0 enable
 */
#include "devices/lpc.h"

#include "base/bytes.h"
#include "base/trace.h"
#include "devices/pci_internal.h"

// clang-format off
enum {
    VENDOR_INTEL = 0x8086, DEVICE_LPC = 0x2918, CLASS_ISA_BRIDGE = 0x06010002, SUBSYS = 0x1100,
    PMBASE = 0x40, GPIOBASE = 0x48, PIRQ_A = 0x60, PIRQ_E = 0x68, GEN_PMCON = 0xa0, RCBA = 0xf0,
    PIRQ_OFF = 0x80, SMI_LOCK = 0x10,
    ISA_IRQS = 16,
    ISA_ROUTABLE = 0xdef8, /* 3-7, 9-12, 14, 15: other values are reserved */
};
// clang-format on

struct lpc {
    struct pci_device pci; /* first */
    uint8_t pirq;          /* levels of the inputs, bit 0 = PIRQA */
    uint16_t isa;          /* what irq[0..15] carry now */
};

// clang-format off
static const struct { /* power-on values; `wmask` bits of them can be changed */
    uint8_t offset, size;
    uint32_t wmask, reset;
} registers[] = {
    {0x40, 4, 0x0000ff80, 0},              /* PMBASE */
    {0x44, 1, 0x87, 0},                    /* ACPI_CNTL */
    {0x48, 4, 0x0000ffc0, 0},              /* GPIOBASE */
    {0x4c, 1, 0x11, 0},                    /* GPIO control */
    {0x60, 4, 0x8f8f8f8f, 0x80808080},     /* PIRQA-D */
    {0x64, 1, 0xdf, 0x10},                 /* SIRQ_CNTL */
    {0x68, 4, 0x8f8f8f8f, 0x80808080},     /* PIRQE-H */
    {0x80, 2, 0x1377, 0},                  /* LPC_I/O_DEC */
    {0x82, 2, 0x3fff, 0},                  /* LPC_EN */
    {0x84, 4, 0x00fcfffd, 0},              /* GEN1_DEC */
    {0x88, 4, 0x00fcfffd, 0},              /* GEN2_DEC */
    {0x8c, 4, 0x00fcfffd, 0},              /* GEN3_DEC */
    {0x90, 4, 0x00fcfffd, 0},              /* GEN4_DEC */
    {0xa0, 2, 0x16bf, 0},                  /* GEN_PMCON_1 */
    {0xa2, 1, 0xbe, 0},                    /* GEN_PMCON_2 */
    {0xa4, 1, 0xfb, 0},                    /* GEN_PMCON_3 */
    {0xb8, 4, 0xffffffff, 0},              /* GPI_ROUT */
    {0xd0, 4, 0xfffffff0, 0x00112233},     /* FWH_SEL1 */
    {0xd4, 2, 0xffff, 0x4567},             /* FWH_SEL2 */
    {0xd8, 2, 0x7fcf, 0xffcf},             /* FWH_DEC_EN1 */
    {0xdc, 1, 0x1f, 0},                    /* BIOS_CNTL */
    {0xf0, 4, 0xffffc001, 0},              /* RCBA */
};
// clang-format on

static uint8_t route(const struct lpc *l, unsigned pirq) {
    return l->pci.config[pirq < 4 ? PIRQ_A + pirq : PIRQ_E + pirq - 4];
}

/* An ISA interrupt is asserted while any PIRQ routed to it is. */
static void update_isa(struct lpc *l) {
    uint16_t isa = 0, changed;

    for (unsigned i = 0; i < LPC_PIRQS; i++)
        if ((l->pirq & 1 << i) && !(route(l, i) & PIRQ_OFF))
            isa |= (uint16_t)(1 << (route(l, i) & 0xf));
    isa &= ISA_ROUTABLE;
    changed = isa ^ l->isa;
    l->isa = isa;
    for (unsigned i = 0; i < ISA_IRQS; i++)
        if (changed & 1 << i)
            irq_set(&l->pci.dev.env.irq[i], isa & 1 << i);
}

static void pirq_set(void *opaque, unsigned n, bool level) {
    struct lpc *l = opaque;

    l->pirq = (uint8_t)(level ? l->pirq | 1 << n : l->pirq & ~(1 << n));
    irq_set(&l->pci.dev.env.irq[ISA_IRQS + n], level);
    update_isa(l);
}

struct irq lpc_pirq_wire(struct device *dev, unsigned pirq) {
    return (struct irq){.fn = pirq_set, .opaque = dev, .n = pirq % LPC_PIRQS};
}

bool lpc_smi_locked(const struct device *dev) {
    return ((const struct lpc *)dev)->pci.config[GEN_PMCON] & SMI_LOCK;
}

static void update_lock(struct lpc *l) {
    if (l->pci.config[GEN_PMCON] & SMI_LOCK)
        l->pci.wmask[GEN_PMCON] &= (uint8_t)~SMI_LOCK;
    else
        l->pci.wmask[GEN_PMCON] |= SMI_LOCK;
}

static void config_written(struct pci_device *d, unsigned offset, unsigned size) {
    struct lpc *l = (struct lpc *)d;

    if (pci_overlaps(offset, size, PIRQ_A, PIRQ_E + 4 - PIRQ_A))
        update_isa(l);
    update_lock(l);
}

static void store(uint8_t *p, unsigned size, uint32_t value) {
    for (unsigned i = 0; i < size; i++)
        p[i] = (uint8_t)(value >> (8 * i));
}

static int init(struct device *dev, struct error *err) {
    struct lpc *l = (struct lpc *)dev;

    pci_init_header(&l->pci, VENDOR_INTEL, DEVICE_LPC, CLASS_ISA_BRIDGE, VENDOR_INTEL, SUBSYS);
    for (unsigned i = 0; i < sizeof(registers) / sizeof(registers[0]); i++) {
        store(l->pci.wmask + registers[i].offset, registers[i].size, registers[i].wmask);
        store(l->pci.config + registers[i].offset, registers[i].size, registers[i].reset);
    }
    l->pci.config[PMBASE] |= 1; /* these two are I/O bases, as in a BAR */
    l->pci.config[GPIOBASE] |= 1;
    l->pci.config_written = config_written;
    return 0;
}

static void reset(struct device *dev) {
    struct lpc *l = (struct lpc *)dev;

    l->pci.wmask[GEN_PMCON] |= SMI_LOCK;
    pci_reset(&l->pci);
    for (unsigned i = 0; i < sizeof(registers) / sizeof(registers[0]); i++) {
        uint8_t *p = l->pci.config + registers[i].offset;

        for (unsigned j = 0; j < registers[i].size; j++)
            p[j] |= (uint8_t)(registers[i].reset >> (8 * j));
    }
    update_lock(l);
    update_isa(l);
}

static void done(struct device *dev) { pci_bus_detach((struct pci_device *)dev); }

/* The wires behind were saved with the same levels by their own devices. */
static void post_load(void *obj) {
    struct lpc *l = obj;

    pci_post_load(&l->pci);
    update_lock(l);
    update_isa(l);
}

// clang-format off
static const struct state_desc state = {
    .name = "lpc",
    .version = 1,
    .struct_size = sizeof(struct lpc),
    .post_load = post_load,
    .fields = (const struct state_field[]){
        STATE_SUB(struct lpc, pci, &pci_device_state),
        STATE(struct lpc, pirq),
        STATE_END,
    },
};
// clang-format on

const struct device_class lpc_class = {
    .name = "lpc",
    .help = "ICH9 LPC bridge 8086:2918 with PIRQ routing",
    .size = sizeof(struct lpc),
    .state = &state,
    .init = init,
    .reset = reset,
    .done = done,
    .pci = true,
};

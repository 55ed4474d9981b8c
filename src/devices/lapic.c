/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The local APIC: interrupt acceptance and priorities, local vectors, IPIs, registers.
 * Source: Intel SDM vol. 3, chapter 11 (order 325384-080). The timer is in lapic_timer.c.
 *
 * Registers are numbered as in x2APIC, MSR 0x800 + n; in xAPIC mode n is at offset n * 16:
 *   02 ID  03 version  08 TPR  09 APR  0a PPR  0b EOI  0d LDR  0e DFR  0f SVR  10-17 ISR  18-1f TMR
 *   20-27 IRR  28 ESR  30 ICR (xAPIC: low half, 31 high half)  32-37 LVT timer, thermal,
 * performance, LINT0, LINT1, error  38 initial count  39 current count  3e divide  3f self IPI
 * (x2APIC)
 *
 * Departures: messages arrive at once, so delivery status is always idle. Writes to the ID register
 * are ignored (the SDM allows it to be read-only). Lowest-priority ties go to the lowest ID.
 * Interrupts that were accepted before software cleared SVR.enable stay in IRR and wait until it is
 * set again.
 */
#include "devices/lapic.h"

#include <stdlib.h>

#include "base/trace.h"
#include "devices/lapic_internal.h"

#define BASE_BSP  (1ull << 8)
#define BASE_EXTD (1ull << 10)
#define BASE_EN   (1ull << 11)
#define BASE_ADDR 0x000ffffffffff000ull

#define DEFAULT_BASE 0xfee00000ull

#define SVR_ENABLE 0x100u
#define SVR_MASK   0x3ffu
#define ICR_MASK   0xffffffff000ccfffull
#define ICR_LEVEL  (1u << 14)
#define ICR_TRIG   (1u << 15)

enum { ESR_SEND_ILLEGAL = 0x20, ESR_RECEIVE_ILLEGAL = 0x40, ESR_REGISTER = 0x80 };
enum { MSR_APIC_BASE = 0x1b, MSR_TSC_DEADLINE = 0x6e0, MSR_X2APIC = 0x800, MSR_X2APIC_END = 0x900 };

static const uint32_t lvt_mask[LAPIC_LVTS] = {
    [LVT_TIMER] = 0x700ff, [LVT_THERMAL] = 0x107ff, [LVT_PERF] = 0x107ff,
    [LVT_LINT0] = 0x1a7ff, [LVT_LINT1] = 0x1a7ff,   [LVT_ERROR] = 0x100ff,
};

/* ------------------------------------------------------------------ bits and priorities */

static void set_bit(uint32_t *map, unsigned v, bool value) {
    if (value)
        map[v / 32] |= 1u << v % 32;
    else
        map[v / 32] &= ~(1u << v % 32);
}

static bool get_bit(const uint32_t *map, unsigned v) { return map[v / 32] >> v % 32 & 1; }

static int highest(const uint32_t *map) {
    for (int i = 7; i >= 0; i--)
        if (map[i])
            return i * 32 + 31 - __builtin_clz(map[i]);
    return -1;
}

static uint8_t ppr_of(const struct lapic *l) {
    int serving = l->eoi_offered ? -1 : highest(l->isr);
    unsigned class = serving < 0 ? 0 : (unsigned)serving & 0xf0;

    return (l->tpr & 0xf0u) >= class ? l->tpr : (uint8_t) class;
}

static bool hardware_enabled(const struct lapic *l) { return l->base & BASE_EN; }

static bool x2apic(const struct lapic *l) {
    return (l->base & (BASE_EN | BASE_EXTD)) == (BASE_EN | BASE_EXTD);
}

static bool enabled(const struct lapic *l) { return hardware_enabled(l) && (l->svr & SVR_ENABLE); }

/* ExtINT: the PIC's INTR through LINT0, straight to the CPU if the APIC is switched off, or as a
 * message from the IOAPIC. */
static bool ext_pending(const struct lapic *l) {
    uint32_t lvt = l->lvt[LVT_LINT0];

    if (!hardware_enabled(l))
        return l->lint[0];
    if (l->ext_message)
        return true;
    return l->lint[0] && !(lvt & LVT_MASKED) && (lvt >> 8 & 7) == APIC_EXTINT;
}

/* The vector that would be delivered now, or -1. */
static int deliverable(const struct lapic *l) {
    int v = enabled(l) ? highest(l->irr) : -1;

    return v >= 0 && (v & 0xf0) > (ppr_of(l) & 0xf0) ? v : -1;
}

static int pending(const struct lapic *l) {
    int v = deliverable(l);

    return v >= 0 ? v : ext_pending(l) ? 256 : -1;
}

static void update(struct lapic *l) {
    bool level = pending(l) >= 0;

    if (level == l->intr || lapic_is_elsewhere(l))
        return;
    l->intr = level;
    if (l->cpu.intr)
        l->cpu.intr(l->cpu.opaque, level);
}

/* ------------------------------------------------------------------ acceptance */

static void record_error(struct lapic *l, uint8_t bits) {
    uint32_t lvt = l->lvt[LVT_ERROR];

    l->esr_pending |= bits;
    /* An illegal error vector must not report itself for ever. */
    if (!(lvt & LVT_MASKED) && (lvt & 0xff) >= 16)
        lapic_accept_vector(l, lvt & 0xff, false);
}

void lapic_accept_vector(struct lapic *l, unsigned vector, bool level) {
    if (!enabled(l))
        return;
    if (vector < 16) {
        record_error(l, ESR_RECEIVE_ILLEGAL);
        return;
    }
    stat_inc(lapic_interrupts);
    set_bit(l->irr, vector, true);
    set_bit(l->tmr, vector, level);
    update(l);
}

/* A delivery mode at the core: from a message or a local vector. */
static void deliver(struct lapic *l, unsigned mode, unsigned vector, bool level) {
    trace(lapic_accept, l->id, mode, vector, level);
    switch (mode) {
    case APIC_FIXED:
    case APIC_LOWEST:
        lapic_accept_vector(l, vector, level);
        break;
    case APIC_SMI:
        if (l->cpu.smi)
            l->cpu.smi(l->cpu.opaque);
        break;
    case APIC_NMI:
        if (l->cpu.nmi)
            l->cpu.nmi(l->cpu.opaque);
        break;
    case APIC_INIT:
        lapic_init_signal(&l->dev);
        break;
    case APIC_SIPI:
        if (l->cpu.sipi)
            l->cpu.sipi(l->cpu.opaque, (uint8_t)vector);
        break;
    case APIC_EXTINT:
        l->ext_message = true;
        update(l);
        break;
    default:
        break;
    }
}

void lapic_accept(struct lapic *l, const struct apic_message *m) {
    if (hardware_enabled(l)) /* switched off, it is not on the bus */
        deliver(l, m->mode, m->vector, m->level);
}

static bool matches_logical(const struct lapic *l, const struct apic_message *m) {
    uint32_t ldr = lapic_ldr(l);

    if (x2apic(l)) {
        if (m->dest8) /* cluster 0 */
            return ldr >> 16 == 0 && (ldr & m->dest & 0xffff);
        return m->dest >> 16 == ldr >> 16 && (ldr & m->dest & 0xffff);
    }
    if (!m->dest8 && m->dest > 0xff)
        return false;
    ldr >>= 24;
    if (l->dfr >> 28 == 0xf) /* flat */
        return ldr & m->dest;
    /* cluster: 15 addresses all of them */
    return (m->dest >> 4 == ldr >> 4 || m->dest >> 4 == 0xf) && (ldr & m->dest & 15);
}

bool lapic_matches(const struct lapic *l, const struct apic_message *m) {
    if (m->dest == (m->dest8 ? APIC_BROADCAST8 : APIC_BROADCAST32))
        return true;
    if (!m->logical)
        return m->dest == l->id;
    return hardware_enabled(l) && matches_logical(l, m);
}

int lapic_arbitration(const struct lapic *l, uint8_t vector) {
    if (!enabled(l))
        return -1;
    if (get_bit(l->irr, vector) || get_bit(l->isr, vector))
        return 0; /* the focus processor */
    return 1 + ppr_of(l);
}

/* ------------------------------------------------------------------ the core's side */

int lapic_pending_vector(const struct device *dev) { return pending((const struct lapic *)dev); }

int lapic_ack(struct device *dev) {
    struct lapic *l = (struct lapic *)dev;
    int v = deliverable(l);

    if (v >= 0) {
        set_bit(l->irr, (unsigned)v, false);
        set_bit(l->isr, (unsigned)v, true);
    } else if (ext_pending(l)) {
        l->ext_message = false;
        v = apic_bus_ext_ack(l->bus);
    }
    update(l);
    trace(lapic_ack, l->id, v);
    return v;
}

unsigned lapic_get_tpr(const struct device *dev) { return ((const struct lapic *)dev)->tpr >> 4; }

static void set_tpr(struct lapic *l, uint8_t tpr) {
    if (l->tpr == tpr)
        return;
    l->tpr = tpr;
    update(l);
}

void lapic_set_tpr(struct device *dev, unsigned cr8) {
    set_tpr((struct lapic *)dev, (uint8_t)(cr8 << 4));
}

static void serve_lint(struct lapic *l, unsigned n, bool edge);

static void end_of_interrupt(struct lapic *l) {
    int v = highest(l->isr);

    trace(lapic_eoi, l->id, v);
    stat_inc(lapic_eois);
    if (v < 0)
        return;
    set_bit(l->isr, (unsigned)v, false);
    if (get_bit(l->tmr, (unsigned)v)) {
        for (unsigned n = 0; n < 2; n++) {
            uint32_t *lvt = &l->lvt[LVT_LINT0 + n];

            if ((*lvt & LVT_REMOTE_IRR) && (*lvt & 0xff) == (unsigned)v) {
                *lvt &= ~LVT_REMOTE_IRR;
                serve_lint(l, n, false);
            }
        }
        apic_bus_eoi(l->bus, (uint8_t)v);
    }
    update(l);
}

bool lapic_offer_eoi(struct device *dev) {
    struct lapic *l = (struct lapic *)dev;
    int serving = highest(l->isr);
    unsigned in_service = 0;

    for (unsigned i = 0; i < 8; i++)
        in_service += (unsigned)__builtin_popcount(l->isr[i]);
    l->eoi_offered = in_service == 1 && highest(l->irr) < 0 &&
                     !get_bit(l->tmr, (unsigned)serving) &&
                     (x2apic(l) || (l->base & BASE_ADDR) == DEFAULT_BASE);
    return l->eoi_offered;
}

void lapic_settle_eoi(struct device *dev, bool ended) {
    struct lapic *l = (struct lapic *)dev;

    if (!l->eoi_offered)
        return;
    l->eoi_offered = false;
    if (ended)
        end_of_interrupt(l);
    else
        update(l);
}

/* ------------------------------------------------------------------ LINT pins */

/* Delivers what pin n asks for: on its rising edge, or while it is high if the vector is
 * level-triggered and the last one has been ended. ExtINT is a level at the core and needs nothing
 * but update. */
static void serve_lint(struct lapic *l, unsigned n, bool edge) {
    uint32_t *lvt = &l->lvt[LVT_LINT0 + n];
    unsigned mode = *lvt >> 8 & 7;
    bool level = (*lvt & LVT_LEVEL) && mode == APIC_FIXED;

    if (!l->lint[n] || (*lvt & LVT_MASKED) || mode == APIC_EXTINT || mode == APIC_SIPI ||
        !hardware_enabled(l))
        return;
    if (level ? *lvt & LVT_REMOTE_IRR : !edge)
        return;
    if (level)
        *lvt |= LVT_REMOTE_IRR;
    deliver(l, mode, *lvt & 0xff, level);
}

static void lint(void *opaque, unsigned n, bool level) {
    struct lapic *l = opaque;
    bool edge = level && !l->lint[n];

    l->lint[n] = level;
    if (lapic_is_elsewhere(l)) {
        if (n == 0)
            l->cpu.intr(l->cpu.opaque, level);
        else if (edge)
            l->cpu.nmi(l->cpu.opaque);
        return;
    }
    if (edge && n == 1 && !hardware_enabled(l) && l->cpu.nmi)
        l->cpu.nmi(l->cpu.opaque); /* switched off, the pin is the CPU's NMI */
    serve_lint(l, n, edge);
    update(l);
}

struct irq lapic_lint_wire(struct device *dev, unsigned n) {
    if (n > 1)
        return (struct irq){0};
    return (struct irq){.fn = lint, .opaque = dev, .n = n};
}

/* ------------------------------------------------------------------ ICR */

static void send_ipi(struct lapic *l) {
    struct apic_message m = {
        .dest = x2apic(l) ? (uint32_t)(l->icr >> 32) : (uint32_t)(l->icr >> 56),
        .dest8 = !x2apic(l),
        .logical = l->icr >> 11 & 1,
        .mode = l->icr >> 8 & 7,
        .vector = (uint8_t)l->icr,
    };
    unsigned shorthand = l->icr >> 18 & 3;

    stat_inc(lapic_ipis);
    if (m.mode <= APIC_LOWEST && m.vector < 16) {
        record_error(l, ESR_SEND_ILLEGAL);
        return;
    }
    /* INIT level de-assert only reset arbitration IDs on the old APIC bus. ExtINT cannot be sent.
     */
    if (m.mode == APIC_RESERVED || m.mode == APIC_EXTINT ||
        (m.mode == APIC_INIT && (l->icr & ICR_TRIG) && !(l->icr & ICR_LEVEL)))
        return;
    switch (shorthand) {
    case 0:
        apic_bus_send(l->bus, &m);
        break;
    case 1:
        if (m.mode != APIC_INIT && m.mode != APIC_SIPI)
            lapic_accept(l, &m);
        break;
    default:
        apic_bus_send_all(l->bus, &m, shorthand == 3 ? l : NULL);
        break;
    }
}

void lapic_send(struct device *dev, uint32_t apic_id, uint32_t icr) {
    struct lapic *l = (struct lapic *)dev;
    struct apic_message m = {.dest = apic_id, .mode = icr >> 8 & 7, .vector = (uint8_t)icr};

    stat_inc(lapic_ipis);
    if (m.mode <= APIC_LOWEST && m.vector < 16)
        record_error(l, ESR_SEND_ILLEGAL);
    else
        apic_bus_send(l->bus, &m);
}

/* ------------------------------------------------------------------ registers */

uint32_t lapic_ldr(const struct lapic *l) {
    return x2apic(l) ? (l->id & ~15u) << 12 | 1u << (l->id & 15) : l->ldr;
}

static uint32_t read_register(struct lapic *l, unsigned reg) {
    switch (reg) {
    case 0x02:
        return x2apic(l) ? l->id : l->id << 24;
    case 0x03:
        return (LAPIC_LVTS - 1) << 16 | 0x14;
    case 0x08:
        return l->tpr;
    case 0x0a:
        return ppr_of(l);
    case 0x0d:
        return lapic_ldr(l);
    case 0x0e:
        return l->dfr;
    case 0x0f:
        return l->svr;
    case 0x10 ... 0x17:
        return l->isr[reg - 0x10];
    case 0x18 ... 0x1f:
        return l->tmr[reg - 0x18];
    case 0x20 ... 0x27:
        return l->irr[reg - 0x20];
    case 0x28:
        return l->esr;
    case 0x30:
        return (uint32_t)l->icr;
    case 0x31:
        return (uint32_t)(l->icr >> 32);
    case 0x32 ... 0x37:
        return l->lvt[reg - 0x32];
    case 0x38:
        return l->timer_count;
    case 0x39:
        return lapic_timer_current(l);
    case 0x3e:
        return l->timer_divide;
    default: /* 09 APR, 0c remote read, reserved */
        return 0;
    }
}

static void write_svr(struct lapic *l, uint32_t value) {
    lapic_timer_settle(l);
    l->svr = value & SVR_MASK;
    if (l->svr & SVR_ENABLE)
        return;
    for (unsigned i = 0; i < LAPIC_LVTS; i++)
        l->lvt[i] |= LVT_MASKED;
    lapic_timer_update(l);
}

static void write_lvt(struct lapic *l, unsigned n, uint32_t value) {
    uint32_t was = l->lvt[n];

    if (n == LVT_TIMER)
        lapic_timer_settle(l);
    value &= lvt_mask[n];
    if (!(l->svr & SVR_ENABLE))
        value |= LVT_MASKED;
    l->lvt[n] = value | (was & LVT_REMOTE_IRR);
    if (n == LVT_TIMER)
        lapic_timer_lvt_written(l, was);
    if (n == LVT_LINT0 || n == LVT_LINT1) {
        if (!(value & LVT_LEVEL))
            l->lvt[n] &= ~LVT_REMOTE_IRR;
        serve_lint(l, n - LVT_LINT0, false);
    }
}

static void write_register(struct lapic *l, unsigned reg, uint32_t value) {
    switch (reg) {
    case 0x08:
        l->tpr = (uint8_t)value;
        break;
    case 0x0b:
        end_of_interrupt(l);
        return;
    case 0x0d:
        l->ldr = value & 0xff000000;
        break;
    case 0x0e:
        l->dfr = value | 0x0fffffff;
        break;
    case 0x0f:
        write_svr(l, value);
        break;
    case 0x28:
        l->esr = l->esr_pending;
        l->esr_pending = 0;
        break;
    case 0x30:
        l->icr = (l->icr & ~0xffffffffull) | (value & ICR_MASK);
        send_ipi(l);
        break;
    case 0x31:
        l->icr = (l->icr & 0xffffffffull) | (uint64_t)(value & 0xff000000) << 32;
        break;
    case 0x32 ... 0x37:
        write_lvt(l, reg - 0x32, value);
        break;
    case 0x38:
        lapic_timer_set_count(l, value);
        return;
    case 0x3e:
        lapic_timer_set_divide(l, value & 0xb);
        break;
    default: /* read-only */
        break;
    }
    update(l);
}

/* Registers that exist (SDM table 11-6): bit 0 readable, bit 1 writable. */
static unsigned register_access(unsigned reg, bool x2) {
    switch (reg) {
    case 0x02:
        return x2 ? 1 : 3;
    case 0x0d:
        return x2 ? 1 : 3;
    case 0x08:
    case 0x0f:
    case 0x28:
    case 0x30:
    case 0x32 ... 0x37:
    case 0x38:
    case 0x3e:
        return 3;
    case 0x0e:
    case 0x31:
        return x2 ? 0 : 3;
    case 0x09:
    case 0x0c:
        return x2 ? 0 : 1;
    case 0x03:
    case 0x0a:
    case 0x10 ... 0x27:
    case 0x39:
        return 1;
    case 0x0b:
        return 2;
    case 0x3f:
        return x2 ? 2 : 0;
    default:
        return 0;
    }
}

/* ------------------------------------------------------------------ MMIO (xAPIC) */

bool lapic_claims(const struct device *dev, uint64_t addr) {
    const struct lapic *l = (const struct lapic *)dev;

    return hardware_enabled(l) && !(l->base & BASE_EXTD) &&
           (addr & ~0xfffull) == (l->base & BASE_ADDR);
}

uint32_t lapic_mmio_read(struct device *dev, unsigned offset) {
    struct lapic *l = (struct lapic *)dev;
    uint32_t value;

    if ((offset & 15) || !register_access(offset >> 4, false)) {
        trace(lapic_bad_register, l->id, offset);
        record_error(l, ESR_REGISTER);
        return 0;
    }
    value = read_register(l, offset >> 4);
    trace(lapic_read, l->id, offset, value);
    return value;
}

void lapic_mmio_write(struct device *dev, unsigned offset, uint32_t value) {
    struct lapic *l = (struct lapic *)dev;

    trace(lapic_write, l->id, offset, value);
    if ((offset & 15) || !register_access(offset >> 4, false)) {
        trace(lapic_bad_register, l->id, offset);
        record_error(l, ESR_REGISTER);
        return;
    }
    write_register(l, offset >> 4, value);
}

static uint64_t mmio_read(void *dev, uint64_t offset, unsigned size) {
    return lapic_mmio_read(dev, (unsigned)offset);
}

static void mmio_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    lapic_mmio_write(dev, (unsigned)offset, (uint32_t)value);
}

/* ------------------------------------------------------------------ MSRs */

/* Bits that an x2APIC write may set; all others are #GP (SDM vol. 3, 11.12.1.3). */
static uint64_t x2apic_writable(unsigned reg) {
    switch (reg) {
    case 0x08:
    case 0x3f:
        return 0xff;
    case 0x0f:
        return SVR_MASK;
    case 0x30:
        return ICR_MASK;
    case 0x32 ... 0x37:
        /* Read-only bits are not reserved ones: Linux writes both back as it read them. */
        return lvt_mask[reg - 0x32] | LVT_DELIVERY_STATUS |
               (reg == 0x35 || reg == 0x36 ? LVT_REMOTE_IRR : 0);
    case 0x38:
        return 0xffffffff;
    case 0x3e:
        return 0xb;
    default: /* EOI, ESR */
        return 0;
    }
}

static int x2apic_write(struct lapic *l, unsigned reg, uint64_t value) {
    if (!x2apic(l) || !(register_access(reg, true) & 2) || (value & ~x2apic_writable(reg)))
        return -1;
    trace(lapic_write, l->id, reg << 4, (uint32_t)value);
    if (reg == 0x30) {
        l->icr = value;
        send_ipi(l);
    } else if (reg == 0x3f) {
        struct apic_message m = {.mode = APIC_FIXED, .vector = (uint8_t)value};

        stat_inc(lapic_ipis);
        if (m.vector < 16)
            record_error(l, ESR_SEND_ILLEGAL);
        else
            lapic_accept(l, &m);
    } else {
        write_register(l, reg, (uint32_t)value);
    }
    return 0;
}

static int x2apic_read(struct lapic *l, unsigned reg, uint64_t *ret_value) {
    if (!x2apic(l) || !(register_access(reg, true) & 1))
        return -1;
    *ret_value = reg == 0x30 ? l->icr : read_register(l, reg);
    trace(lapic_read, l->id, reg << 4, (uint32_t)*ret_value);
    return 0;
}

static void reset_registers(struct lapic *l);

/* Life cycle of the mode (SDM figure 11-27): disabled <-> xAPIC -> x2APIC -> disabled. */
static int write_base(struct lapic *l, uint64_t value) {
    uint64_t mode = value & (BASE_EN | BASE_EXTD), was = l->base & (BASE_EN | BASE_EXTD);

    if ((value & ~(BASE_ADDR | BASE_BSP | BASE_EN | BASE_EXTD)) || mode == BASE_EXTD)
        return -1;
    if ((mode & BASE_EXTD) && (!l->has_x2apic || !was))
        return -1;
    if ((was & BASE_EXTD) && mode == BASE_EN)
        return -1;
    trace(lapic_base, l->id, value);
    l->base = value;
    if (!mode && was)
        reset_registers(l);
    update(l);
    return 0;
}

bool lapic_has_msr(uint32_t msr) {
    return msr == MSR_APIC_BASE || msr == MSR_TSC_DEADLINE ||
           (msr >= MSR_X2APIC && msr < MSR_X2APIC_END);
}

int lapic_msr_read(struct device *dev, uint32_t msr, uint64_t *ret_value) {
    struct lapic *l = (struct lapic *)dev;

    if (msr >= MSR_X2APIC && msr < MSR_X2APIC_END)
        return x2apic_read(l, msr - MSR_X2APIC, ret_value);
    if (msr == MSR_APIC_BASE)
        *ret_value = l->base;
    else if (msr == MSR_TSC_DEADLINE)
        *ret_value = lapic_timer_tsc_deadline(l);
    else
        return -1;
    return 0;
}

int lapic_msr_write(struct device *dev, uint32_t msr, uint64_t value) {
    struct lapic *l = (struct lapic *)dev;

    if (msr >= MSR_X2APIC && msr < MSR_X2APIC_END)
        return x2apic_write(l, msr - MSR_X2APIC, value);
    if (msr == MSR_APIC_BASE)
        return write_base(l, value);
    if (msr != MSR_TSC_DEADLINE)
        return -1;
    lapic_timer_set_tsc_deadline(l, value);
    return 0;
}

uint32_t lapic_id(const struct device *dev) { return ((const struct lapic *)dev)->id; }

bool lapic_enabled(const struct device *dev) { return hardware_enabled((const struct lapic *)dev); }

/* ------------------------------------------------------------------ life */

static void reset_registers(struct lapic *l) {
    l->tpr = 0;
    l->ldr = 0;
    l->dfr = 0xffffffff;
    l->svr = 0xff;
    l->icr = 0;
    l->esr = l->esr_pending = 0;
    l->ext_message = false;
    l->eoi_offered = false;
    for (unsigned i = 0; i < 8; i++)
        l->irr[i] = l->isr[i] = l->tmr[i] = 0;
    for (unsigned i = 0; i < LAPIC_LVTS; i++)
        l->lvt[i] = LVT_MASKED;
    lapic_timer_reset(l);
}

void lapic_init_signal(struct device *dev) {
    struct lapic *l = (struct lapic *)dev;

    reset_registers(l);
    update(l);
    if (l->cpu.init)
        l->cpu.init(l->cpu.opaque);
}

void lapic_sync(struct device *dev) {
    struct lapic *l = (struct lapic *)dev;

    struct lapic_image image;

    if (lapic_is_elsewhere(l)) {
        lapic_get_image(l, &image);
        l->cpu.store(l->cpu.opaque, &image);
    }
    l->intr = lapic_is_elsewhere(l) ? l->lint[0] : pending(l) >= 0;
    if (l->cpu.intr)
        l->cpu.intr(l->cpu.opaque, l->intr);
}

void lapic_come_home(struct device *dev, const struct lapic_cpu *cpu) {
    struct lapic *l = (struct lapic *)dev;

    l->cpu = *cpu;
    lapic_timer_loaded(l);
}

void lapic_fetch(struct device *dev) {
    struct lapic *l = (struct lapic *)dev;
    struct lapic_image image;

    if (!lapic_is_elsewhere(l))
        return;
    l->cpu.fetch(l->cpu.opaque, &image);
    lapic_set_image(l, &image);
}

static void lapic_reset(struct device *dev) {
    struct lapic *l = (struct lapic *)dev;

    l->base = DEFAULT_BASE | BASE_EN | (l->bsp ? BASE_BSP : 0);
    reset_registers(l);
    update(l);
}

static int lapic_init(struct device *dev, struct error *err) {
    static const struct lapic_config alone = {.bsp = true, .x2apic = true};
    const struct lapic_config *config = dev->env.config ? dev->env.config : &alone;
    struct lapic *l = (struct lapic *)dev;

    l->id = config->id;
    l->bsp = config->bsp;
    l->has_x2apic = config->x2apic;
    l->cpu = config->cpu;
    l->bus = config->bus;
    lapic_timer_init(l);
    if (!l->bus)
        l->bus = l->own_bus = apic_bus_new(NULL);
    return apic_bus_attach(l->bus, l, l->id, err);
}

static void lapic_done(struct device *dev) {
    struct lapic *l = (struct lapic *)dev;

    lapic_timer_done(l);
    apic_bus_detach(l->bus, l);
    apic_bus_free(l->own_bus);
}

static void post_load(void *obj) { lapic_timer_loaded(obj); }

static const struct state_desc lapic_state = {
    .name = "lapic",
    .version = 1,
    .struct_size = sizeof(struct lapic),
    .post_load = post_load,
    .fields =
        (const struct state_field[]){
            STATE(struct lapic, base),         STATE(struct lapic, tpr),
            STATE(struct lapic, ldr),          STATE(struct lapic, dfr),
            STATE(struct lapic, svr),          STATE(struct lapic, icr),
            STATE(struct lapic, esr),          STATE(struct lapic, esr_pending),
            STATE_ARRAY(struct lapic, irr),    STATE_ARRAY(struct lapic, isr),
            STATE_ARRAY(struct lapic, tmr),    STATE_ARRAY(struct lapic, lvt),
            STATE_ARRAY(struct lapic, lint),   STATE(struct lapic, ext_message),
            STATE(struct lapic, timer_count),  STATE_MAX(struct lapic, timer_divide, 0xb),
            STATE(struct lapic, timer_start),  STATE(struct lapic, timer_deadline),
            STATE(struct lapic, tsc_deadline), STATE_END},
};

static const struct io_ops lapic_ops = {mmio_read, mmio_write, 4, 4};

static const struct device_region lapic_regions[] = {{"lapic", DEVICE_MMIO, 4096, &lapic_ops}, {0}};

const struct device_class lapic_class = {
    .name = "lapic",
    .help = "local APIC of a CPU",
    .size = sizeof(struct lapic),
    .state = &lapic_state,
    .regions = lapic_regions,
    .init = lapic_init,
    .reset = lapic_reset,
    .done = lapic_done,
};

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of the local APICs and the bus between them, by the SDM: a board of four CPUs that are only
 * notes of what reached their pins, an IOAPIC and a PIC.
 */
#include "devices/lapic.h"

#include "devices/chip.h"
#include "devices/ioapic.h"
#include "devices/pic.h"

extern const struct device_class lapic_class, ioapic_class, pic_class;

enum { CPUS = 4 };
enum {
    ID = 0x20,
    VERSION = 0x30,
    TPR = 0x80,
    PPR = 0xa0,
    EOI = 0xb0,
    LDR = 0xd0,
    DFR = 0xe0,
    SVR = 0xf0,
    ISR = 0x100,
    TMR = 0x180,
    IRR = 0x200,
    ESR = 0x280,
    ICR = 0x300,
    ICR2 = 0x310,
    LVT_TIMER = 0x320,
    LVT_LINT0 = 0x350,
    LVT_LINT1 = 0x360,
    LVT_ERROR = 0x370,
    TMICT = 0x380,
    TMCCT = 0x390,
    TDCR = 0x3e0
};
enum { MASKED = 1 << 16, PERIODIC = 1 << 17, TSC_DEADLINE = 1 << 18 };
enum { MSR_BASE = 0x1b, MSR_TSC = 0x6e0 };
enum { BY_ONE = 0xb }; /* divide configuration */

struct core {
    struct device *dev;
    bool intr;
    unsigned changes, nmis, inits, sipis;
    uint8_t sipi_vector;
};

struct board {
    struct clock *clock;
    struct apic_bus *bus;
    struct core core[CPUS];
    struct device *ioapic, *pic;
};

static void note_intr(void *opaque, bool level) {
    struct core *core = opaque;

    core->changes++;
    core->intr = level;
}
static void note_nmi(void *opaque) { ((struct core *)opaque)->nmis++; }
static void note_init(void *opaque) { ((struct core *)opaque)->inits++; }
static void note_sipi(void *opaque, uint8_t vector) {
    ((struct core *)opaque)->sipis++;
    ((struct core *)opaque)->sipi_vector = vector;
}

static void to_ioapic(void *opaque, uint8_t vector) {
    ioapic_eoi(((struct board *)opaque)->ioapic, vector);
}
static int to_pic(void *opaque) { return pic_ack(((struct board *)opaque)->pic); }

static struct device *make(const struct device_class *cls, struct device_env *env) {
    struct error err = {0};
    struct device *dev = device_new(cls, cls->name, env, &err);

    if (!dev)
        fail_msg("%s", err.text);
    return dev;
}

/* Reset behind everybody's back and loaded again, as chip_refresh does. */
static void refresh(struct device *dev) {
    struct buf saved = {0};
    struct error err = {0};

    if (!chip_reload)
        return;
    state_save(dev->cls->state, dev, &saved);
    device_reset(dev);
    if (state_load(dev->cls->state, dev, saved.data, saved.len, &err) < 0)
        fail_msg("%s", err.text);
    lapic_sync(dev);
    buf_done(&saved);
}

static uint32_t get(struct board *b, unsigned cpu, unsigned offset) {
    uint32_t v = lapic_mmio_read(b->core[cpu].dev, offset);

    refresh(b->core[cpu].dev);
    return v;
}

static void put(struct board *b, unsigned cpu, unsigned offset, uint32_t value) {
    lapic_mmio_write(b->core[cpu].dev, offset, value);
    refresh(b->core[cpu].dev);
}

static void board_open(struct board *b) {
    struct apic_bus_sinks sinks = {.eoi = to_ioapic, .ext_ack = to_pic, .opaque = b};
    struct device_env env = {0};

    *b = (struct board){.clock = clock_new_stepped(), .bus = apic_bus_new(&sinks)};
    env.clock = b->clock;
    for (unsigned i = 0; i < CPUS; i++) {
        struct lapic_config config = {.bus = b->bus,
                                      .id = i,
                                      .bsp = i == 0,
                                      .x2apic = true,
                                      .cpu = {.intr = note_intr,
                                              .nmi = note_nmi,
                                              .init = note_init,
                                              .sipi = note_sipi,
                                              .opaque = &b->core[i]}};

        env.config = &config;
        b->core[i].dev = make(&lapic_class, &env);
        put(b, i, SVR, 0x1ff);
        put(b, i, LDR, 1u << (24 + i));
    }
    env.config = NULL;
    env.msi = (struct msi_sink){apic_bus_deliver_msi, b->bus};
    b->ioapic = make(&ioapic_class, &env);
    env.irq[0] = lapic_lint_wire(b->core[0].dev, 0);
    b->pic = make(&pic_class, &env);
}

static void board_close(struct board *b) {
    device_free(b->pic);
    device_free(b->ioapic);
    for (unsigned i = 0; i < CPUS; i++)
        device_free(b->core[i].dev);
    apic_bus_free(b->bus);
    clock_free(b->clock);
}

static void send(struct board *b, uint8_t dest, uint32_t data) {
    apic_bus_deliver_msi(b->bus, 0xfee00000 | (uint32_t)dest << 12, data);
    for (unsigned i = 0; i < CPUS; i++)
        refresh(b->core[i].dev);
}

static int ack(struct board *b, unsigned cpu) {
    int v = lapic_ack(b->core[cpu].dev);

    refresh(b->core[cpu].dev);
    return v;
}

static void eoi(struct board *b, unsigned cpu) { put(b, cpu, EOI, 0); }

/* ------------------------------------------------------------------ registers */

static void it_comes_up_by_the_book(void **state) {
    struct board b;
    uint64_t base;

    board_open(&b);
    device_reset(b.core[2].dev);
    assert_int_equal(get(&b, 2, ID), 2 << 24);
    assert_int_equal(get(&b, 2, VERSION), 0x50014);
    assert_int_equal(get(&b, 2, SVR), 0xff);
    assert_int_equal(get(&b, 2, DFR), 0xffffffff);
    assert_int_equal(get(&b, 2, LDR), 0);
    for (unsigned lvt = LVT_TIMER; lvt <= LVT_ERROR; lvt += 0x10)
        assert_int_equal(get(&b, 2, lvt), MASKED);
    assert_int_equal(lapic_msr_read(b.core[2].dev, MSR_BASE, &base), 0);
    assert_true(base == 0xfee00800);
    assert_int_equal(lapic_msr_read(b.core[0].dev, MSR_BASE, &base), 0);
    assert_true(base == 0xfee00900);
    board_close(&b);
}

static void local_vectors_stay_masked_while_software_has_it_disabled(void **state) {
    struct board b;

    board_open(&b);
    put(&b, 1, LVT_TIMER, 0x40);
    assert_int_equal(get(&b, 1, LVT_TIMER), 0x40);
    put(&b, 1, SVR, 0xff);
    assert_int_equal(get(&b, 1, LVT_TIMER), MASKED | 0x40);
    put(&b, 1, LVT_TIMER, 0x40);
    assert_int_equal(get(&b, 1, LVT_TIMER), MASKED | 0x40);
    send(&b, 1, 0x50);
    put(&b, 1, SVR, 0x1ff);
    assert_int_equal(lapic_pending_vector(b.core[1].dev), -1);
    board_close(&b);
}

static void a_wrong_register_is_an_error_that_esr_tells(void **state) {
    struct board b;

    board_open(&b);
    put(&b, 0, LVT_ERROR, 0xfe);
    assert_int_equal(get(&b, 0, 0x40), 0);
    assert_int_equal(ack(&b, 0), 0xfe);
    assert_int_equal(get(&b, 0, ESR), 0);
    put(&b, 0, ESR, 0);
    assert_int_equal(get(&b, 0, ESR), 0x80);
    put(&b, 0, ESR, 0);
    assert_int_equal(get(&b, 0, ESR), 0);
    board_close(&b);
}

/* ------------------------------------------------------------------ priorities */

static void the_highest_vector_comes_first_and_nests(void **state) {
    struct board b;

    board_open(&b);
    send(&b, 0, 0x51);
    send(&b, 0, 0x31);
    send(&b, 0, 0x52);
    assert_true(b.core[0].intr);
    assert_int_equal(ack(&b, 0), 0x52);
    assert_false(b.core[0].intr); /* 0x51 is of the same class */
    assert_int_equal(get(&b, 0, PPR), 0x50);
    send(&b, 0, 0x61);
    assert_true(b.core[0].intr);
    assert_int_equal(ack(&b, 0), 0x61);
    assert_int_equal(get(&b, 0, ISR + 0x20), 1u << 0x12);
    assert_int_equal(get(&b, 0, ISR + 0x30), 1u << 1);
    eoi(&b, 0); /* of 0x61 */
    assert_int_equal(get(&b, 0, ISR + 0x30), 0);
    assert_int_equal(lapic_pending_vector(b.core[0].dev), -1);
    eoi(&b, 0); /* of 0x52 */
    assert_int_equal(ack(&b, 0), 0x51);
    eoi(&b, 0);
    assert_int_equal(ack(&b, 0), 0x31);
    eoi(&b, 0);
    assert_int_equal(ack(&b, 0), -1);
    eoi(&b, 0); /* one too many does nothing */
    board_close(&b);
}

static void the_task_priority_holds_classes_back(void **state) {
    struct board b;

    board_open(&b);
    lapic_set_tpr(b.core[0].dev, 5);
    assert_int_equal(get(&b, 0, TPR), 0x50);
    send(&b, 0, 0x5f);
    assert_false(b.core[0].intr);
    assert_int_equal(ack(&b, 0), -1);
    send(&b, 0, 0x60);
    assert_int_equal(ack(&b, 0), 0x60);
    eoi(&b, 0);
    put(&b, 0, TPR, 0x4f);
    assert_int_equal(lapic_get_tpr(b.core[0].dev), 4);
    assert_int_equal(get(&b, 0, PPR), 0x4f);
    assert_true(b.core[0].intr);
    assert_int_equal(ack(&b, 0), 0x5f);
    board_close(&b);
}

static void a_vector_in_service_can_become_pending_again_once(void **state) {
    struct board b;

    board_open(&b);
    send(&b, 0, 0x40);
    ack(&b, 0);
    send(&b, 0, 0x40);
    send(&b, 0, 0x40);
    assert_false(b.core[0].intr);
    eoi(&b, 0);
    assert_int_equal(ack(&b, 0), 0x40);
    eoi(&b, 0);
    assert_int_equal(ack(&b, 0), -1);
    board_close(&b);
}

static void vectors_below_16_are_refused(void **state) {
    struct board b;

    board_open(&b);
    send(&b, 0, 0x0f);
    assert_int_equal(lapic_pending_vector(b.core[0].dev), -1);
    put(&b, 0, ESR, 0);
    assert_int_equal(get(&b, 0, ESR), 0x40);
    put(&b, 0, ICR, 0x40000 | 0x0f);
    put(&b, 0, ESR, 0);
    assert_int_equal(get(&b, 0, ESR), 0x20);
    board_close(&b);
}

static void every_vector_is_delivered_in_order_of_priority(void **state) {
    struct board b;

    board_open(&b);
    for (unsigned v = 16; v < 256; v++)
        send(&b, 0, v);
    for (int v = 255; v >= 16; v--) {
        assert_int_equal(ack(&b, 0), v);
        eoi(&b, 0);
    }
    assert_int_equal(ack(&b, 0), -1);
    board_close(&b);
}

/* ------------------------------------------------------------------ IOAPIC and PIC */

static void ioapic_entry(struct board *b, unsigned pin, uint32_t low, uint8_t dest) {
    const struct io_ops *ops = b->ioapic->region[0].ops;

    ops->write(b->ioapic, 0, 4, 0x11 + 2 * pin);
    ops->write(b->ioapic, 0x10, 4, (uint32_t)dest << 24);
    ops->write(b->ioapic, 0, 4, 0x10 + 2 * pin);
    ops->write(b->ioapic, 0x10, 4, low);
}

static void a_level_comes_back_until_the_device_is_content(void **state) {
    struct board b;
    struct irq wire;

    board_open(&b);
    ioapic_entry(&b, 10, 0x8061, 1);
    wire = ioapic_irq_wire(b.ioapic, 10);
    irq_raise(&wire);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ack(&b, 1), 0x61);
        assert_int_equal(get(&b, 1, TMR + 0x30), 2);
        assert_int_equal(lapic_pending_vector(b.core[1].dev), -1);
        if (i == 2)
            irq_lower(&wire);
        eoi(&b, 1);
    }
    assert_int_equal(ack(&b, 1), -1);
    send(&b, 1, 0x61); /* an edge of the same vector clears the trigger mode */
    assert_int_equal(get(&b, 1, TMR + 0x30), 0);
    board_close(&b);
}

static void pic_start(struct board *b) {
    static const uint8_t bytes[][2] = {{0, 0x11}, {1, 0x20}, {1, 4}, {1, 1}};

    for (unsigned i = 0; i < 4; i++)
        b->pic->region[0].ops->write(b->pic, bytes[i][0], 1, bytes[i][1]);
}

static void the_pic_comes_through_lint0_as_extint(void **state) {
    struct board b;
    struct irq wire;

    board_open(&b);
    pic_start(&b);
    wire = pic_irq_wire(b.pic, 1);
    irq_raise(&wire);
    assert_false(b.core[0].intr); /* LVT masked */
    put(&b, 0, LVT_LINT0, 0x700);
    assert_true(b.core[0].intr);
    assert_int_equal(lapic_pending_vector(b.core[0].dev), 256);
    lapic_set_tpr(b.core[0].dev, 15); /* ExtINT knows no task priority */
    assert_int_equal(ack(&b, 0), 0x21);
    assert_false(b.core[0].intr);
    assert_int_equal(get(&b, 0, ISR + 0x10), 0);
    board_close(&b);
}

static void a_vector_of_its_own_goes_before_extint(void **state) {
    struct board b;
    struct irq wire;

    board_open(&b);
    pic_start(&b);
    put(&b, 0, LVT_LINT0, 0x700);
    wire = pic_irq_wire(b.pic, 1);
    irq_raise(&wire);
    send(&b, 0, 0x40);
    assert_int_equal(ack(&b, 0), 0x40);
    assert_true(b.core[0].intr);
    assert_int_equal(ack(&b, 0), 0x21);
    board_close(&b);
}

static void switched_off_the_pic_reaches_the_cpu_directly(void **state) {
    struct board b;
    struct irq wire;

    board_open(&b);
    pic_start(&b);
    assert_int_equal(lapic_msr_write(b.core[0].dev, MSR_BASE, 0xfee00100), 0);
    assert_false(lapic_enabled(b.core[0].dev));
    assert_false(lapic_claims(b.core[0].dev, 0xfee00020));
    wire = pic_irq_wire(b.pic, 3);
    irq_raise(&wire);
    assert_true(b.core[0].intr);
    assert_int_equal(ack(&b, 0), 0x23);
    send(&b, 0, 0x40);
    assert_int_equal(lapic_pending_vector(b.core[0].dev), -1);
    wire = lapic_lint_wire(b.core[0].dev, 1);
    irq_raise(&wire);
    assert_int_equal(b.core[0].nmis, 1);
    board_close(&b);
}

static void extint_from_the_ioapic_asks_the_pic_too(void **state) {
    struct board b;
    struct irq wire;

    board_open(&b);
    pic_start(&b);
    wire = pic_irq_wire(b.pic, 4);
    irq_raise(&wire);
    send(&b, 2, 0x700);
    assert_true(b.core[2].intr);
    assert_int_equal(ack(&b, 2), 0x24);
    assert_false(b.core[2].intr);
    board_close(&b);
}

static void lint1_is_nmi_on_its_rising_edge(void **state) {
    struct board b;
    struct irq wire;

    board_open(&b);
    wire = lapic_lint_wire(b.core[0].dev, 1);
    irq_raise(&wire);
    assert_int_equal(b.core[0].nmis, 0);
    irq_lower(&wire);
    put(&b, 0, LVT_LINT1, 0x400);
    irq_raise(&wire);
    irq_raise(&wire);
    assert_int_equal(b.core[0].nmis, 1);
    board_close(&b);
}

static void a_fixed_level_lint_waits_for_its_eoi(void **state) {
    struct board b;
    struct irq wire;

    board_open(&b);
    put(&b, 0, LVT_LINT1, 0x8045);
    wire = lapic_lint_wire(b.core[0].dev, 1);
    irq_raise(&wire);
    assert_int_equal(ack(&b, 0), 0x45);
    assert_int_equal(get(&b, 0, LVT_LINT1), 0xc045);
    assert_int_equal(ack(&b, 0), -1);
    eoi(&b, 0);
    assert_int_equal(ack(&b, 0), 0x45);
    irq_lower(&wire);
    eoi(&b, 0);
    assert_int_equal(get(&b, 0, LVT_LINT1), 0x8045);
    assert_int_equal(ack(&b, 0), -1);
    board_close(&b);
}

/* ------------------------------------------------------------------ destinations and IPIs */

static unsigned who(struct board *b, uint8_t vector) {
    unsigned mask = 0;

    for (unsigned i = 0; i < CPUS; i++) {
        int v = lapic_ack(b->core[i].dev);

        if (v < 0)
            continue;
        assert_int_equal(v, vector);
        mask |= 1u << i;
        eoi(b, i);
    }
    return mask;
}

static void ipi(struct board *b, unsigned from, uint8_t dest, uint32_t low) {
    put(b, from, ICR2, (uint32_t)dest << 24);
    put(b, from, ICR, low);
}

static void ipis_go_where_they_are_sent(void **state) {
    struct board b;

    board_open(&b);
    ipi(&b, 0, 2, 0x40);
    assert_int_equal(who(&b, 0x40), 1 << 2);
    ipi(&b, 0, 0xff, 0x40);
    assert_int_equal(who(&b, 0x40), 15);
    ipi(&b, 0, 9, 0x40);
    assert_int_equal(who(&b, 0x40), 0);
    ipi(&b, 1, 0x0a, 0x840); /* logical, flat */
    assert_int_equal(who(&b, 0x40), 10);
    ipi(&b, 3, 0, 0x40040); /* self */
    assert_int_equal(who(&b, 0x40), 8);
    ipi(&b, 3, 0, 0x80040); /* all */
    assert_int_equal(who(&b, 0x40), 15);
    ipi(&b, 3, 0, 0xc0040); /* all but self */
    assert_int_equal(who(&b, 0x40), 7);
    assert_int_equal(get(&b, 3, ICR), 0xc0040);
    board_close(&b);
}

static void clusters_have_four_members_each(void **state) {
    struct board b;

    board_open(&b);
    for (unsigned i = 0; i < CPUS; i++) {
        put(&b, i, DFR, 0x0fffffff);
        put(&b, i, LDR, (i / 2 << 4 | 1u << i % 2) << 24); /* two clusters of two */
    }
    ipi(&b, 0, 0x12, 0x840);
    assert_int_equal(who(&b, 0x40), 1 << 3);
    ipi(&b, 0, 0x03, 0x840);
    assert_int_equal(who(&b, 0x40), 3);
    ipi(&b, 0, 0xf1, 0x840);
    assert_int_equal(who(&b, 0x40), 5);
    board_close(&b);
}

static void lowest_priority_takes_the_idlest(void **state) {
    struct board b;

    board_open(&b);
    put(&b, 0, TPR, 0x60);
    put(&b, 1, TPR, 0x20);
    put(&b, 2, TPR, 0x10);
    put(&b, 3, SVR, 0xff); /* disabled: no candidate */
    apic_bus_deliver_msi(b.bus, 0xfeeff004, 0x140 | 0x4000);
    assert_int_equal(who(&b, 0x40), 4);
    put(&b, 2, TPR, 0x30);
    apic_bus_deliver_msi(b.bus, 0xfeeff004, 0x140 | 0x4000);
    assert_int_equal(who(&b, 0x40), 2);
    send(&b, 0, 0x70); /* already pending there: the focus processor */
    apic_bus_deliver_msi(b.bus, 0xfeeff004, 0x170 | 0x4000);
    assert_int_equal(who(&b, 0x70), 1);
    board_close(&b);
}

static void nmi_init_and_sipi_reach_the_pins(void **state) {
    struct board b;

    board_open(&b);
    ipi(&b, 0, 1, 0x4400);
    assert_int_equal(b.core[1].nmis, 1);
    put(&b, 1, LVT_TIMER, 0x40);
    ipi(&b, 0, 1, 0xc500); /* INIT, assert */
    assert_int_equal(b.core[1].inits, 1);
    assert_int_equal(get(&b, 1, SVR), 0xff);
    assert_int_equal(get(&b, 1, LVT_TIMER), MASKED);
    assert_int_equal(get(&b, 1, ID), 1 << 24);
    ipi(&b, 0, 1, 0x8500); /* de-assert: nothing */
    assert_int_equal(b.core[1].inits, 1);
    ipi(&b, 0, 1, 0x4610);
    assert_int_equal(b.core[1].sipis, 1);
    assert_int_equal(b.core[1].sipi_vector, 0x10);
    put(&b, 0, ICR, 0xc4500); /* as SeaBIOS does: all but self */
    put(&b, 0, ICR, 0xc4610);
    assert_int_equal(b.core[0].inits, 0);
    assert_int_equal(b.core[1].inits, 2);
    assert_int_equal(b.core[3].sipis, 1);
    put(&b, 0, ICR, 0x44500); /* INIT to self is no valid combination */
    assert_int_equal(b.core[0].inits, 0);
    board_close(&b);
}

static void messages_outside_the_window_or_of_no_kind_are_dropped(void **state) {
    struct board b;

    board_open(&b);
    apic_bus_deliver_msi(b.bus, 0xfef00000, 0x40);
    apic_bus_deliver_msi(b.bus, 0x1fee00000, 0x40);
    apic_bus_deliver_msi(b.bus, 0xfeeff000, 0x340);  /* reserved mode */
    apic_bus_deliver_msi(b.bus, 0xfeeff000, 0x8040); /* level de-assert */
    assert_int_equal(who(&b, 0x40), 0);
    board_close(&b);
}

/* ------------------------------------------------------------------ x2APIC */

static int wrmsr(struct board *b, unsigned cpu, uint32_t msr, uint64_t value) {
    int r = lapic_msr_write(b->core[cpu].dev, msr, value);

    refresh(b->core[cpu].dev);
    return r;
}

static int rdmsr(struct board *b, unsigned cpu, uint32_t msr, uint64_t *ret_value) {
    return lapic_msr_read(b->core[cpu].dev, msr, ret_value);
}

static void x2apic_is_entered_and_left_by_the_life_cycle(void **state) {
    struct board b;
    uint64_t v;

    board_open(&b);
    assert_int_equal(rdmsr(&b, 0, 0x802, &v), -1);
    assert_int_equal(wrmsr(&b, 0, MSR_BASE, 0xfee00500), -1); /* EXTD without EN */
    assert_int_equal(wrmsr(&b, 0, MSR_BASE, 0xfee00901), -1); /* reserved bit */
    assert_int_equal(wrmsr(&b, 0, MSR_BASE, 0xfee00d00), 0);
    assert_false(lapic_claims(b.core[0].dev, 0xfee00020));
    assert_int_equal(wrmsr(&b, 0, MSR_BASE, 0xfee00900), -1); /* back to xAPIC */
    assert_int_equal(wrmsr(&b, 0, MSR_BASE, 0xfee00100), 0);
    assert_int_equal(wrmsr(&b, 0, MSR_BASE, 0xfee00d00), -1); /* from disabled */
    assert_int_equal(wrmsr(&b, 0, MSR_BASE, 0xfee00900), 0);
    assert_int_equal(get(&b, 0, SVR), 0xff);
    assert_true(lapic_claims(b.core[0].dev, 0xfee00fff));
    assert_int_equal(wrmsr(&b, 0, MSR_BASE, 0x12345900), 0);
    assert_true(lapic_claims(b.core[0].dev, 0x12345020));
    board_close(&b);
}

static void x2apic_registers_refuse_what_does_not_exist(void **state) {
    struct board b;
    uint64_t v;

    board_open(&b);
    wrmsr(&b, 2, MSR_BASE, 0xfee00c00);
    assert_int_equal(rdmsr(&b, 2, 0x802, &v), 0);
    assert_int_equal(v, 2);
    assert_int_equal(rdmsr(&b, 2, 0x80d, &v), 0);
    assert_int_equal(v, 4);
    assert_int_equal(rdmsr(&b, 2, 0x803, &v), 0);
    assert_int_equal(v, 0x50014);
    assert_int_equal(rdmsr(&b, 2, 0x80b, &v), -1);
    assert_int_equal(rdmsr(&b, 2, 0x80e, &v), -1);
    assert_int_equal(rdmsr(&b, 2, 0x831, &v), -1);
    assert_int_equal(rdmsr(&b, 2, 0x840, &v), -1);
    assert_int_equal(wrmsr(&b, 2, 0x802, 0), -1);
    assert_int_equal(wrmsr(&b, 2, 0x80d, 0), -1);
    assert_int_equal(wrmsr(&b, 2, 0x80b, 1), -1);
    assert_int_equal(wrmsr(&b, 2, 0x828, 1), -1);
    assert_int_equal(wrmsr(&b, 2, 0x808, 0x100), -1);
    assert_int_equal(wrmsr(&b, 2, 0x838, 1ull << 32), -1);
    assert_int_equal(wrmsr(&b, 2, 0x832, 1 << 13), -1);
    /* Delivery status and remote IRR only cannot be changed: Linux writes 5700h on its way down. */
    assert_int_equal(wrmsr(&b, 2, 0x80f, 0x1ff), 0);
    assert_int_equal(wrmsr(&b, 2, 0x835, 0x5700), 0);
    assert_int_equal(rdmsr(&b, 2, 0x835, &v), 0);
    assert_int_equal(v, 0x700);
    assert_int_equal(wrmsr(&b, 2, 0x832, 0x110ef), 0);
    assert_int_equal(wrmsr(&b, 2, 0x808, 0x50), 0);
    assert_int_equal(lapic_get_tpr(b.core[2].dev), 5);
    board_close(&b);
}

static void x2apic_ipis_carry_32_bits_of_destination(void **state) {
    struct board b;

    board_open(&b);
    for (unsigned i = 0; i < CPUS; i++)
        wrmsr(&b, i, MSR_BASE, 0xfee00c00);
    assert_int_equal(wrmsr(&b, 0, 0x830, 3ull << 32 | 0x40), 0);
    assert_int_equal(lapic_ack(b.core[3].dev), 0x40);
    assert_int_equal(wrmsr(&b, 3, 0x80b, 0), 0);
    assert_int_equal(wrmsr(&b, 0, 0x830, 0xffull << 32 | 0x41), 0); /* no broadcast here */
    assert_int_equal(lapic_pending_vector(b.core[1].dev), -1);
    assert_int_equal(wrmsr(&b, 0, 0x830, 0xffffffffull << 32 | 0x42), 0);
    assert_int_equal(lapic_ack(b.core[1].dev), 0x42);
    assert_int_equal(lapic_ack(b.core[0].dev), 0x42);
    assert_int_equal(wrmsr(&b, 0, 0x830, 0x0000000cull << 32 | 0x853), 0); /* logical */
    assert_int_equal(lapic_ack(b.core[2].dev), 0x53);
    assert_int_equal(lapic_pending_vector(b.core[1].dev), -1);
    assert_int_equal(wrmsr(&b, 1, 0x83f, 0x99), 0); /* self */
    assert_int_equal(lapic_ack(b.core[1].dev), 0x99);
    send(&b, 2, 0x66); /* a device's 8 bits still find their CPU */
    assert_int_equal(lapic_ack(b.core[2].dev), 0x66);
    board_close(&b);
}

static void x2apic_that_is_not_offered_cannot_be_entered(void **state) {
    struct lapic_config config = {.id = 7};
    struct device_env env = {.clock = clock_new_stepped(), .config = &config};
    struct device *dev = make(&lapic_class, &env);

    assert_int_equal(lapic_msr_write(dev, MSR_BASE, 0xfee00c00), -1);
    assert_int_equal(lapic_id(dev), 7);
    device_free(dev);
    clock_free(env.clock);
}

static void two_cpus_cannot_have_one_id(void **state) {
    struct lapic_config config = {.bus = apic_bus_new(NULL), .id = 1};
    struct device_env env = {.clock = clock_new_stepped(), .config = &config};
    struct device *dev = make(&lapic_class, &env);
    struct error err = {0};

    assert_null(device_new(&lapic_class, "second", &env, &err));
    assert_non_null(strstr(err.text, "APIC ID 1"));
    config.id = LAPIC_MAX;
    assert_null(device_new(&lapic_class, "third", &env, &err));
    device_free(dev);
    apic_bus_free(config.bus);
    clock_free(env.clock);
}

/* ------------------------------------------------------------------ timer */

/* Steps to just before `ns`, sees nothing, steps over it, and acknowledges `vector`. */
static void expect_at(struct board *b, unsigned cpu, uint64_t ns, int vector) {
    clock_step(b->clock, ns - 1 - clock_now(b->clock));
    assert_int_equal(lapic_pending_vector(b->core[cpu].dev), -1);
    clock_step(b->clock, 1);
    assert_int_equal(ack(b, cpu), vector);
    eoi(b, cpu);
}

static void one_shot_fires_once_and_in_time(void **state) {
    struct board b;

    board_open(&b);
    clock_step(b.clock, 777);
    put(&b, 0, LVT_TIMER, 0xec);
    put(&b, 0, TDCR, BY_ONE);
    put(&b, 0, TMICT, 1000000);
    clock_step(b.clock, 400000);
    assert_int_equal(get(&b, 0, TMCCT), 600000);
    assert_int_equal(get(&b, 0, TMICT), 1000000);
    expect_at(&b, 0, 1000777, 0xec);
    assert_int_equal(get(&b, 0, TMCCT), 0);
    clock_step(b.clock, 10000000);
    assert_int_equal(ack(&b, 0), -1);
    board_close(&b);
}

static void the_divider_divides(void **state) {
    static const uint8_t codes[] = {0xb, 0, 1, 2, 3, 8, 9, 0xa};
    struct board b;

    board_open(&b);
    put(&b, 0, LVT_TIMER, 0xec);
    for (unsigned i = 0; i < 8; i++) {
        uint64_t start = clock_now(b.clock);

        put(&b, 0, TDCR, codes[i]);
        assert_int_equal(get(&b, 0, TDCR), codes[i]);
        put(&b, 0, TMICT, 1000);
        expect_at(&b, 0, start + (1000ull << i), 0xec);
    }
    board_close(&b);
}

static void changing_the_divider_keeps_what_was_counted(void **state) {
    struct board b;

    board_open(&b);
    put(&b, 0, LVT_TIMER, 0xec);
    put(&b, 0, TDCR, BY_ONE);
    put(&b, 0, TMICT, 1000000);
    clock_step(b.clock, 400000);
    put(&b, 0, TDCR, 0); /* by two */
    assert_int_equal(get(&b, 0, TMCCT), 600000);
    expect_at(&b, 0, 400000 + 1200000, 0xec);
    board_close(&b);
}

static void ten_thousand_periods_do_not_drift(void **state) {
    struct board b;

    board_open(&b);
    put(&b, 0, LVT_TIMER, PERIODIC | 0x40);
    put(&b, 0, TDCR, 0xa); /* by 128 */
    put(&b, 0, TMICT, 777);
    for (uint64_t n = 1; n <= 10000; n++) {
        clock_step(b.clock, n * 777 * 128 - clock_now(b.clock));
        assert_int_equal(lapic_ack(b.core[0].dev), 0x40);
        eoi(&b, 0);
    }
    assert_int_equal(lapic_pending_vector(b.core[0].dev), -1);
    put(&b, 0, TMICT, 0); /* stops it */
    clock_step(b.clock, 1000000000);
    assert_int_equal(ack(&b, 0), -1);
    board_close(&b);
}

static void a_periodic_timer_of_a_nanosecond_makes_no_storm(void **state) {
    struct board b;
    unsigned fired = 0;

    board_open(&b);
    put(&b, 0, LVT_TIMER, PERIODIC | 0x40);
    put(&b, 0, TDCR, BY_ONE);
    put(&b, 0, TMICT, 1);
    for (int i = 0; i < 1000; i++) {
        clock_step(b.clock, 1000);
        if (lapic_ack(b.core[0].dev) == 0x40) {
            fired++;
            eoi(&b, 0);
        }
    }
    assert_in_range(fired, 40, 51);
    board_close(&b);
}

static void a_masked_timer_counts_in_silence(void **state) {
    struct board b;

    board_open(&b);
    put(&b, 0, LVT_TIMER, MASKED | 0x40);
    put(&b, 0, TDCR, BY_ONE);
    put(&b, 0, TMICT, 1000);
    clock_step(b.clock, 500);
    assert_int_equal(get(&b, 0, TMCCT), 500);
    clock_step(b.clock, 5000);
    put(&b, 0, LVT_TIMER, 0x40); /* what passed while masked is lost */
    assert_int_equal(ack(&b, 0), -1);
    put(&b, 0, LVT_TIMER, MASKED | 0x40);
    put(&b, 0, TMICT, 1000);
    clock_step(b.clock, 500);
    put(&b, 0, LVT_TIMER, 0x40); /* in time */
    expect_at(&b, 0, 6500, 0x40);
    board_close(&b);
}

static void the_tsc_deadline_fires_at_the_tsc_and_clears_itself(void **state) {
    struct board b;
    uint64_t v, deadline;

    board_open(&b);
    assert_int_equal(wrmsr(&b, 0, MSR_TSC, 1000), 0); /* ignored in other modes */
    assert_int_equal(rdmsr(&b, 0, MSR_TSC, &v), 0);
    assert_int_equal(v, 0);
    put(&b, 0, LVT_TIMER, TSC_DEADLINE | 0xec);
    deadline = clock_tsc(b.clock) + 123456;
    assert_int_equal(wrmsr(&b, 0, MSR_TSC, deadline), 0);
    assert_int_equal(rdmsr(&b, 0, MSR_TSC, &v), 0);
    assert_int_equal(v, deadline);
    clock_step(b.clock, 123455);
    assert_true(clock_tsc(b.clock) < deadline);
    assert_int_equal(ack(&b, 0), -1);
    clock_step(b.clock, 1);
    assert_int_equal(ack(&b, 0), 0xec);
    eoi(&b, 0);
    assert_int_equal(rdmsr(&b, 0, MSR_TSC, &v), 0);
    assert_int_equal(v, 0);
    put(&b, 0, TMICT, 5); /* has no effect in this mode */
    assert_int_equal(get(&b, 0, TMICT), 0);
    assert_int_equal(get(&b, 0, TMCCT), 0);
    board_close(&b);
}

static void a_deadline_in_the_past_fires_at_once(void **state) {
    struct board b;
    uint64_t v;

    board_open(&b);
    clock_step(b.clock, 1000000);
    put(&b, 0, LVT_TIMER, TSC_DEADLINE | 0xec);
    wrmsr(&b, 0, MSR_TSC, 5);
    assert_int_equal(ack(&b, 0), 0xec);
    eoi(&b, 0);
    rdmsr(&b, 0, MSR_TSC, &v);
    assert_int_equal(v, 0);
    wrmsr(&b, 0, MSR_TSC, clock_tsc(b.clock) + 1000);
    wrmsr(&b, 0, MSR_TSC, 0); /* disarms */
    clock_step(b.clock, 1000000);
    assert_int_equal(ack(&b, 0), -1);
    wrmsr(&b, 0, MSR_TSC, UINT64_MAX); /* far away is no trouble */
    clock_step(b.clock, 1000000);
    assert_int_equal(ack(&b, 0), -1);
    board_close(&b);
}

static void a_deadline_can_be_moved_both_ways(void **state) {
    struct board b;

    board_open(&b);
    put(&b, 0, LVT_TIMER, TSC_DEADLINE | 0xec);
    wrmsr(&b, 0, MSR_TSC, 1000000);
    wrmsr(&b, 0, MSR_TSC, 5000000);
    wrmsr(&b, 0, MSR_TSC, 3000000);
    expect_at(&b, 0, 3000000, 0xec);
    clock_step(b.clock, 10000000);
    assert_int_equal(ack(&b, 0), -1);
    board_close(&b);
}

static void changing_the_mode_disarms_the_deadline(void **state) {
    struct board b;
    uint64_t v;

    board_open(&b);
    put(&b, 0, LVT_TIMER, TSC_DEADLINE | 0xec);
    wrmsr(&b, 0, MSR_TSC, 1000000);
    put(&b, 0, LVT_TIMER, 0xec);
    put(&b, 0, LVT_TIMER, TSC_DEADLINE | 0xec);
    rdmsr(&b, 0, MSR_TSC, &v);
    assert_int_equal(v, 0);
    clock_step(b.clock, 10000000);
    assert_int_equal(ack(&b, 0), -1);
    board_close(&b);
}

static void a_masked_deadline_is_lost_when_it_passes(void **state) {
    struct board b;
    uint64_t v;

    board_open(&b);
    put(&b, 0, LVT_TIMER, MASKED | TSC_DEADLINE | 0xec);
    wrmsr(&b, 0, MSR_TSC, 1000);
    clock_step(b.clock, 2000);
    rdmsr(&b, 0, MSR_TSC, &v);
    assert_int_equal(v, 0);
    put(&b, 0, LVT_TIMER, TSC_DEADLINE | 0xec);
    assert_int_equal(ack(&b, 0), -1);
    put(&b, 0, LVT_TIMER, MASKED | TSC_DEADLINE | 0xec);
    wrmsr(&b, 0, MSR_TSC, 9000);
    put(&b, 0, LVT_TIMER, TSC_DEADLINE | 0xec);
    expect_at(&b, 0, 9000, 0xec);
    board_close(&b);
}

static void the_interrupt_pin_changes_only_when_it_must(void **state) {
    struct board b;

    board_open(&b);
    b.core[0].changes = 0;
    send(&b, 0, 0x40);
    if (!chip_reload) {
        send(&b, 0, 0x50);
        send(&b, 0, 0x60);
        assert_int_equal(b.core[0].changes, 1);
        eoi(&b, 0);
        assert_int_equal(b.core[0].changes, 1);
    }
    assert_true(b.core[0].intr);
    b.core[0].intr = false;
    lapic_sync(b.core[0].dev);
    assert_true(b.core[0].intr);
    board_close(&b);
}

/* ------------------------------------------------------------------ EOI in memory */

static void an_interrupt_with_nothing_behind_it_may_end_silently(void **state) {
    struct board b;

    if (chip_reload)
        return; /* an offer is never in a saved state */
    board_open(&b);
    send(&b, 1, 0x40);
    assert_int_equal(ack(&b, 1), 0x40);
    assert_true(lapic_offer_eoi(b.core[1].dev));
    send(&b, 1, 0x38); /* as if the first had ended, since it may have */
    assert_true(b.core[1].intr);
    lapic_settle_eoi(b.core[1].dev, true);
    assert_int_equal(get(&b, 1, ISR + 0x20), 0);
    assert_int_equal(ack(&b, 1), 0x38);
    board_close(&b);
}

static void an_offer_that_was_not_taken_leaves_all_as_it_was(void **state) {
    struct board b;

    if (chip_reload)
        return;
    board_open(&b);
    send(&b, 1, 0x40);
    assert_int_equal(ack(&b, 1), 0x40);
    assert_true(lapic_offer_eoi(b.core[1].dev));
    send(&b, 1, 0x38);
    lapic_settle_eoi(b.core[1].dev, false);
    assert_false(b.core[1].intr);
    assert_int_equal(ack(&b, 1), -1);
    lapic_settle_eoi(b.core[1].dev, true); /* there is no offer any more */
    assert_int_equal(get(&b, 1, ISR + 0x20), 1);
    eoi(&b, 1);
    assert_int_equal(ack(&b, 1), 0x38);
    board_close(&b);
}

static void no_offer_where_somebody_waits_for_the_end(void **state) {
    struct board b;

    if (chip_reload)
        return;
    board_open(&b);
    assert_false(lapic_offer_eoi(b.core[1].dev)); /* nothing is in service */
    send(&b, 1, 0xc000 | 0x40);                   /* level: the IOAPIC wants to know */
    assert_int_equal(ack(&b, 1), 0x40);
    assert_false(lapic_offer_eoi(b.core[1].dev));
    eoi(&b, 1);
    send(&b, 1, 0x41);
    send(&b, 1, 0x31); /* waits behind it */
    assert_int_equal(ack(&b, 1), 0x41);
    assert_false(lapic_offer_eoi(b.core[1].dev));
    eoi(&b, 1);
    assert_int_equal(ack(&b, 1), 0x31);
    send(&b, 1, 0x51); /* interrupts it */
    assert_int_equal(ack(&b, 1), 0x51);
    assert_false(lapic_offer_eoi(b.core[1].dev));
    board_close(&b);
}

static void an_interrupt_to_one_needs_no_register(void **state) {
    struct board b;

    board_open(&b);
    lapic_send(b.core[0].dev, 2, 0x45);
    lapic_send(b.core[0].dev, 3, 4 << 8);
    lapic_send(b.core[0].dev, 77, 0x45); /* nobody */
    assert_int_equal(ack(&b, 2), 0x45);
    assert_int_equal(b.core[3].nmis, 1);
    assert_int_equal(ack(&b, 0), -1);
    assert_int_equal(get(&b, 0, ICR), 0);
    board_close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_comes_up_by_the_book),
        cmocka_unit_test(local_vectors_stay_masked_while_software_has_it_disabled),
        cmocka_unit_test(a_wrong_register_is_an_error_that_esr_tells),
        cmocka_unit_test(the_highest_vector_comes_first_and_nests),
        cmocka_unit_test(the_task_priority_holds_classes_back),
        cmocka_unit_test(a_vector_in_service_can_become_pending_again_once),
        cmocka_unit_test(vectors_below_16_are_refused),
        cmocka_unit_test(every_vector_is_delivered_in_order_of_priority),
        cmocka_unit_test(a_level_comes_back_until_the_device_is_content),
        cmocka_unit_test(the_pic_comes_through_lint0_as_extint),
        cmocka_unit_test(a_vector_of_its_own_goes_before_extint),
        cmocka_unit_test(switched_off_the_pic_reaches_the_cpu_directly),
        cmocka_unit_test(extint_from_the_ioapic_asks_the_pic_too),
        cmocka_unit_test(lint1_is_nmi_on_its_rising_edge),
        cmocka_unit_test(a_fixed_level_lint_waits_for_its_eoi),
        cmocka_unit_test(ipis_go_where_they_are_sent),
        cmocka_unit_test(clusters_have_four_members_each),
        cmocka_unit_test(lowest_priority_takes_the_idlest),
        cmocka_unit_test(nmi_init_and_sipi_reach_the_pins),
        cmocka_unit_test(messages_outside_the_window_or_of_no_kind_are_dropped),
        cmocka_unit_test(x2apic_is_entered_and_left_by_the_life_cycle),
        cmocka_unit_test(x2apic_registers_refuse_what_does_not_exist),
        cmocka_unit_test(x2apic_ipis_carry_32_bits_of_destination),
        cmocka_unit_test(x2apic_that_is_not_offered_cannot_be_entered),
        cmocka_unit_test(two_cpus_cannot_have_one_id),
        cmocka_unit_test(one_shot_fires_once_and_in_time),
        cmocka_unit_test(the_divider_divides),
        cmocka_unit_test(changing_the_divider_keeps_what_was_counted),
        cmocka_unit_test(ten_thousand_periods_do_not_drift),
        cmocka_unit_test(a_periodic_timer_of_a_nanosecond_makes_no_storm),
        cmocka_unit_test(a_masked_timer_counts_in_silence),
        cmocka_unit_test(the_tsc_deadline_fires_at_the_tsc_and_clears_itself),
        cmocka_unit_test(a_deadline_in_the_past_fires_at_once),
        cmocka_unit_test(a_deadline_can_be_moved_both_ways),
        cmocka_unit_test(changing_the_mode_disarms_the_deadline),
        cmocka_unit_test(a_masked_deadline_is_lost_when_it_passes),
        cmocka_unit_test(the_interrupt_pin_changes_only_when_it_must),
        cmocka_unit_test(an_interrupt_with_nothing_behind_it_may_end_silently),
        cmocka_unit_test(an_offer_that_was_not_taken_leaves_all_as_it_was),
        cmocka_unit_test(no_offer_where_somebody_waits_for_the_end),
        cmocka_unit_test(an_interrupt_to_one_needs_no_register),
    };

    return chip_run(tests);
}

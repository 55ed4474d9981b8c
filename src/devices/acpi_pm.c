/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ACPI fixed hardware registers. Source: ACPI 6.5, 4.8.3 (PM1, PM timer) and 4.8.4 (GPE blocks).
 *
 * The PM timer is a function of the clock; a host timer runs only while the guest wants the
 * interrupt of its carry. Bits of status registers are cleared by writing ones.
 */
#include "devices/acpi_pm.h"

#include "base/trace.h"
#include "devices/ticks.h"

enum { STS_TMR = 1 << 0, STS_PWRBTN = 1 << 8, STS_SLPBTN = 1 << 9 };
enum { EN_MASK = 0x0721 };
enum { CNT_SCI_EN = 1, CNT_KEPT = 0x1c02, CNT_SLP_EN = 1 << 13 };
enum { TIMER_CARRY_SHIFT = 23, GPE_BYTES = ACPI_PM_GPE_BITS / 8 };

struct acpi_pm {
    struct device dev;
    struct clock_timer timer;
    uint16_t sts, en, cnt;
    uint64_t carries;  /* of bit 23 since the clock's start that were looked at */
    uint64_t deadline; /* ns of the next carry, 0 = nobody waits */
    uint8_t gpe_sts[GPE_BYTES], gpe_en[GPE_BYTES];
};

static uint64_t timer_now(const struct acpi_pm *a) {
    return ticks_from_ns(clock_now(a->dev.env.clock), ACPI_PM_TIMER_HZ);
}

/* Sets TMR_STS if bit 23 has changed since somebody looked. */
static void look_at_timer(struct acpi_pm *a) {
    uint64_t carries = timer_now(a) >> TIMER_CARRY_SHIFT;

    if (carries != a->carries)
        a->sts |= STS_TMR;
    a->carries = carries;
}

static void update(struct acpi_pm *a) {
    bool sci = a->sts & a->en;
    bool wait = (a->en & STS_TMR) && !(a->sts & STS_TMR);

    for (unsigned i = 0; i < GPE_BYTES; i++)
        sci |= (a->gpe_sts[i] & a->gpe_en[i]) != 0;
    irq_set(&a->dev.env.irq[0], sci);
    a->deadline = wait ? ticks_to_ns((a->carries + 1) << TIMER_CARRY_SHIFT, ACPI_PM_TIMER_HZ) : 0;
    if (wait)
        clock_timer_arm(&a->timer, a->deadline);
    else
        clock_timer_disarm(&a->timer);
}

static void carry(void *opaque) {
    look_at_timer(opaque);
    update(opaque);
}

void acpi_pm_power_button(struct device *dev) {
    struct acpi_pm *a = (struct acpi_pm *)dev;

    a->sts |= STS_PWRBTN;
    update(a);
}

void acpi_pm_sleep_button(struct device *dev) {
    struct acpi_pm *a = (struct acpi_pm *)dev;

    a->sts |= STS_SLPBTN;
    update(a);
}

void acpi_pm_gpe(struct device *dev, unsigned bit) {
    struct acpi_pm *a = (struct acpi_pm *)dev;

    if (bit >= ACPI_PM_GPE_BITS)
        return;
    a->gpe_sts[bit / 8] |= (uint8_t)(1 << bit % 8);
    update(a);
}

/* Registers are byte-addressable: access to a part of one in the middle of a little-endian array.
 */
static uint64_t part_of(uint64_t value, uint64_t offset, unsigned size) {
    return value >> 8 * offset & (size == 4 ? 0xffffffff : (1u << 8 * size) - 1);
}

static uint64_t evt_read(void *dev, uint64_t offset, unsigned size) {
    struct acpi_pm *a = dev;

    look_at_timer(a);
    update(a);
    return part_of(a->sts | (uint32_t)a->en << 16, offset, size);
}

static void evt_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct acpi_pm *a = dev;
    uint64_t mask = part_of(0xffffffff, 0, size) << 8 * offset;
    uint32_t bits = (uint32_t)(value << 8 * offset & mask);

    trace(acpi_pm_write, (unsigned)offset, (unsigned)value);
    look_at_timer(a);
    a->sts &= (uint16_t)~bits;
    a->en = (uint16_t)((a->en & ~(mask >> 16)) | (bits >> 16 & EN_MASK));
    update(a);
}

static uint64_t cnt_read(void *dev, uint64_t offset, unsigned size) {
    return part_of(((struct acpi_pm *)dev)->cnt | CNT_SCI_EN, offset, size);
}

static void cnt_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct acpi_pm *a = dev;
    uint64_t mask = part_of(0xffff, 0, size) << 8 * offset, bits = value << 8 * offset & mask;
    unsigned type;

    trace(acpi_pm_write, 4 + (unsigned)offset, (unsigned)value);
    a->cnt = (uint16_t)((a->cnt & ~mask) | (bits & CNT_KEPT));
    type = a->cnt >> 10 & 7;
    if (!(bits & CNT_SLP_EN))
        return;
    trace(acpi_pm_sleep, type);
    /* The DSDT names no other sleep state: asking for one does nothing. */
    if (type == ACPI_PM_SLP_TYP_S5 && a->dev.env.power.request)
        a->dev.env.power.request(a->dev.env.power.opaque, POWER_OFF, 0);
}

/* UEFI firmware reads this millions of times while it waits. */
static uint64_t tmr_read(void *dev, uint64_t offset, unsigned size) {
    stat_inc(acpi_pm_timer_reads);
    return part_of(timer_now(dev) & 0xffffff, offset, size);
}

static void tmr_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    trace(acpi_pm_write, 8 + (unsigned)offset, (unsigned)value); /* read-only */
}

static uint64_t gpe_read(void *dev, uint64_t offset, unsigned size) {
    struct acpi_pm *a = dev;

    return offset < GPE_BYTES ? a->gpe_sts[offset] : a->gpe_en[offset % GPE_BYTES];
}

static void gpe_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct acpi_pm *a = dev;

    trace(acpi_pm_write, 0x20 + (unsigned)offset, (unsigned)value);
    if (offset < GPE_BYTES)
        a->gpe_sts[offset] &= (uint8_t)~value;
    else
        a->gpe_en[offset % GPE_BYTES] = (uint8_t)value;
    update(a);
}

static int acpi_pm_init(struct device *dev, struct error *err) {
    struct acpi_pm *a = (struct acpi_pm *)dev;

    clock_timer_init(&a->timer, dev->env.clock, carry, a);
    return 0;
}

static void acpi_pm_done(struct device *dev) {
    clock_timer_disarm(&((struct acpi_pm *)dev)->timer);
}

static void acpi_pm_reset(struct device *dev) {
    struct acpi_pm *a = (struct acpi_pm *)dev;

    a->sts = a->en = a->cnt = 0;
    memset(a->gpe_sts, 0, sizeof(a->gpe_sts));
    memset(a->gpe_en, 0, sizeof(a->gpe_en));
    a->carries = timer_now(a) >> TIMER_CARRY_SHIFT;
    update(a);
}

static void post_load(void *obj) {
    struct acpi_pm *a = obj;

    if (a->deadline)
        clock_timer_arm(&a->timer, a->deadline);
    else
        clock_timer_disarm(&a->timer);
}

static const struct state_desc acpi_pm_state = {
    .name = "acpi_pm",
    .version = 1,
    .struct_size = sizeof(struct acpi_pm),
    .post_load = post_load,
    .fields =
        (const struct state_field[]){
            STATE(struct acpi_pm, sts), STATE(struct acpi_pm, en), STATE(struct acpi_pm, cnt),
            STATE(struct acpi_pm, carries), STATE(struct acpi_pm, deadline),
            STATE_BYTES(struct acpi_pm, gpe_sts), STATE_BYTES(struct acpi_pm, gpe_en), STATE_END},
};

static const struct io_ops evt_ops = {evt_read, evt_write, 1, 4};
static const struct io_ops cnt_ops = {cnt_read, cnt_write, 1, 2};
static const struct io_ops tmr_ops = {tmr_read, tmr_write, 1, 4};
static const struct io_ops gpe_ops = {gpe_read, gpe_write, 1, 1};

static const struct device_region acpi_pm_regions[] = {{"acpi-evt", DEVICE_PIO, 4, &evt_ops},
                                                       {"acpi-cnt", DEVICE_PIO, 2, &cnt_ops},
                                                       {"acpi-tmr", DEVICE_PIO, 4, &tmr_ops},
                                                       {"acpi-gpe0", DEVICE_PIO, 16, &gpe_ops},
                                                       {0}};

const struct device_class acpi_pm_class = {
    .name = "acpi_pm",
    .help = "ACPI power management registers and timer",
    .size = sizeof(struct acpi_pm),
    .state = &acpi_pm_state,
    .regions = acpi_pm_regions,
    .init = acpi_pm_init,
    .reset = acpi_pm_reset,
    .done = acpi_pm_done,
};

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The LAPIC's struct and the words between its registers (lapic.c) and its timer (lapic_timer.c).
 */
#ifndef DEVICES_LAPIC_INTERNAL_H
#define DEVICES_LAPIC_INTERNAL_H

#include "devices/apic_bus.h"

enum lapic_lvt { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LAPIC_LVTS };

#define LVT_DELIVERY_STATUS (1u << 12)
#define LVT_REMOTE_IRR      (1u << 14)
#define LVT_LEVEL           (1u << 15)
#define LVT_MASKED          (1u << 16)

struct lapic {
    struct device dev;
    struct clock_timer timer;
    struct apic_bus *bus, *own_bus;
    struct lapic_cpu cpu;
    uint32_t id;
    bool bsp, has_x2apic;
    bool intr;        /* what cpu.intr was told last; derived, see lapic_sync */
    bool eoi_offered; /* the highest interrupt in service may have ended; never in a saved state */

    uint64_t base; /* IA32_APIC_BASE */
    uint8_t tpr, esr, esr_pending;
    uint32_t ldr, dfr, svr;
    uint64_t icr;
    uint32_t irr[8], isr[8], tmr[8];
    uint32_t lvt[LAPIC_LVTS];
    bool lint[2];     /* levels of the pins */
    bool ext_message; /* an ExtINT message from the IOAPIC waits */

    uint32_t timer_count;    /* initial count */
    uint8_t timer_divide;    /* divide configuration register */
    uint64_t timer_start;    /* ns: when the count began, moved on by whole periods */
    uint64_t timer_deadline; /* ns: next expiry that somebody waits for, 0 = none */
    uint64_t tsc_deadline;   /* IA32_TSC_DEADLINE, 0 = off */
};

void lapic_accept_vector(struct lapic *l, unsigned vector, bool level);
uint32_t lapic_ldr(const struct lapic *l);

static inline bool lapic_is_elsewhere(const struct lapic *l) { return l->cpu.store; }
void lapic_get_image(const struct lapic *l, struct lapic_image *ret);
void lapic_set_image(struct lapic *l, const struct lapic_image *image);

void lapic_timer_init(struct lapic *l);
void lapic_timer_done(struct lapic *l);
void lapic_timer_reset(struct lapic *l);
void lapic_timer_loaded(struct lapic *l);
/* Before anything changes that the timer depends on: an expiry that is due is delivered as things
 * were. */
void lapic_timer_settle(struct lapic *l);
/* So much of the count is left, as a LAPIC elsewhere says; nothing is armed. */
void lapic_timer_set_left(struct lapic *l, uint32_t count, uint32_t divide, uint32_t left,
                          uint64_t tsc_deadline);
void lapic_timer_update(struct lapic *l);
void lapic_timer_lvt_written(struct lapic *l, uint32_t was);
uint32_t lapic_timer_current(const struct lapic *l);
void lapic_timer_set_count(struct lapic *l, uint32_t count);
void lapic_timer_set_divide(struct lapic *l, uint32_t value);
uint64_t lapic_timer_tsc_deadline(const struct lapic *l);
void lapic_timer_set_tsc_deadline(struct lapic *l, uint64_t value);

#endif

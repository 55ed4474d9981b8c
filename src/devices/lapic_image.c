/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A LAPIC's registers in the manual's layout, for LAPICs that are elsewhere (KVM's).
 * Source: Intel SDM vol. 3A table 11-1; Linux Documentation/virt/kvm/api.rst, KVM_GET_LAPIC. */
#include <string.h>

#include "devices/lapic_internal.h"

enum {
    ID = 0x02,
    VERSION = 0x03,
    TPR = 0x08,
    LDR = 0x0d,
    DFR = 0x0e,
    SVR = 0x0f,
    ISR = 0x10,
    TMR = 0x18,
    IRR = 0x20,
    ESR = 0x28,
    ICR = 0x30,
    LVT = 0x32,
    COUNT = 0x38,
    CURRENT = 0x39,
    DIVIDE = 0x3e,
};

void lapic_get_image(const struct lapic *l, struct lapic_image *ret) {
    *ret = (struct lapic_image){.base = l->base, .tsc_deadline = lapic_timer_tsc_deadline(l)};
    ret->reg[ID] = l->id << 24;
    ret->reg[VERSION] = (LAPIC_LVTS - 1) << 16 | 0x14;
    ret->reg[TPR] = l->tpr;
    ret->reg[LDR] = lapic_ldr(l);
    ret->reg[DFR] = l->dfr;
    ret->reg[SVR] = l->svr;
    ret->reg[ESR] = l->esr;
    ret->reg[ICR] = (uint32_t)l->icr;
    ret->reg[ICR + 1] = (uint32_t)(l->icr >> 32);
    for (unsigned i = 0; i < 8; i++) {
        ret->reg[ISR + i] = l->isr[i];
        ret->reg[TMR + i] = l->tmr[i];
        ret->reg[IRR + i] = l->irr[i];
    }
    for (unsigned i = 0; i < LAPIC_LVTS; i++)
        ret->reg[LVT + i] = l->lvt[i];
    ret->reg[COUNT] = l->timer_count;
    ret->reg[CURRENT] = lapic_timer_current(l);
    ret->reg[DIVIDE] = l->timer_divide;
}

void lapic_set_image(struct lapic *l, const struct lapic_image *image) {
    const uint32_t *reg = image->reg;

    l->base = image->base;
    l->tpr = (uint8_t)reg[TPR];
    if (!(l->base & 1ull << 10)) /* in x2APIC mode it follows from the ID */
        l->ldr = reg[LDR];
    l->dfr = reg[DFR];
    l->svr = reg[SVR];
    l->esr = (uint8_t)reg[ESR];
    l->icr = reg[ICR] | (uint64_t)reg[ICR + 1] << 32;
    for (unsigned i = 0; i < 8; i++) {
        l->isr[i] = reg[ISR + i];
        l->tmr[i] = reg[TMR + i];
        l->irr[i] = reg[IRR + i];
    }
    for (unsigned i = 0; i < LAPIC_LVTS; i++)
        l->lvt[i] = reg[LVT + i] & ~LVT_DELIVERY_STATUS;
    lapic_timer_set_left(l, reg[COUNT], reg[DIVIDE], reg[CURRENT], image->tsc_deadline);
}

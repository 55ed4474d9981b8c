/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 8254 interval timer with the speaker port: class `pit`.
 *
 * Regions: 0 = 4 ports (0x40), 1 = port 0x61 (system control port B).
 * Output: irq[0] = OUT0, to IRQ0 (PIC pin 0, IOAPIC pin 2). The speaker hears OUT2 while bit 1 of
 * port 0x61 is set.
 */
#ifndef DEVICES_PIT_H
#define DEVICES_PIT_H

#include "devices/device.h"

enum { PIT_HZ = 1193182 };

/* What there was to hear from tick `from` to before tick `to`: high while (t - phase) % period is
 * below `high`; period 0: all the time the same, high if `high` is not 0. */
struct pit_sound {
    uint64_t from, to, phase;
    uint32_t period, high;
};

struct pit_speaker { /* the class's config; NULL: nobody listens */
    /* Told piece by piece when something changes, and at the end. Ticks are of the machine's clock
     * and never go back, but after a restore. NULL allowed. */
    void (*sound)(void *opaque, const struct pit_sound *s);
    void *opaque;
};

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MC146818-style real-time clock with 256 bytes of CMOS RAM: class `rtc`.
 *
 * Regions: 0 = 2 ports (0x70), 1 = 2 ports (0x72, extended bank). Output: irq[0] (IRQ8, active
 * high). The date runs with the machine's clock from the UTC time in the config. The RAM survives
 * reset.
 */
#ifndef DEVICES_RTC_H
#define DEVICES_RTC_H

#include "devices/device.h"

struct rtc_config {       /* NULL: the host's time, no memory size */
    bool utc_given;       /* false: the host's UTC time at init */
    int64_t utc;          /* seconds since 1970 at init */
    uint64_t memory_low;  /* RAM below 4 GiB, for CMOS bytes 15-18, 30, 31, 34, 35 */
    uint64_t memory_high; /* RAM above 4 GiB, for 5b-5d */
};

uint8_t rtc_cmos_get(const struct device *dev, unsigned index); /* RAM bytes only (0x0e..0xff) */
void rtc_cmos_set(struct device *dev, unsigned index, uint8_t value);
/* Sets the wall clock (after a restore or a long pause); no alarm in between fires. */
void rtc_set_utc(struct device *dev, int64_t utc);
int64_t rtc_utc(const struct device *dev);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The chipset's reset control register, port 0xcf9: class `reset_ctl`. Source: Intel ICH9, RST_CNT.
 *
 * Region 0 = 1 port (0xcf9). The port lies inside the dword of the PCI configuration address at
 * 0xcf8: if the PCI host owns all of 0xcf8..0xcfb it passes byte accesses at offset 1 to the
 * functions below.
 */
#ifndef DEVICES_RESET_CTL_H
#define DEVICES_RESET_CTL_H

#include "devices/device.h"

uint8_t reset_ctl_read(struct device *dev);
void reset_ctl_write(struct device *dev, uint8_t value);

#endif

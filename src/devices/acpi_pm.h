/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ACPI fixed hardware: class `acpi_pm`. Source: ACPI 6.5 section 4.8.
 *
 * Regions, with the place the board's FADT and the ICH9's PMBASE 0x600 give them:
 *   0 = PM1a event block, 4 ports (0x600)     1 = PM1a control block, 2 ports (0x604)
 *   2 = PM timer, 4 ports (0x608)             3 = GPE0 block, 16 ports (0x620; 8 status, 8 enable)
 * Output: irq[0] = SCI, a level. env.power gets POWER_OFF on S5.
 * SCI_EN reads 1 always: the FADT has SMI_CMD = 0. The sleep type of S5 is the value below; the
 * DSDT's _S5 package must carry it (OVMF writes 0 without asking the DSDT).
 */
#ifndef DEVICES_ACPI_PM_H
#define DEVICES_ACPI_PM_H

#include "devices/device.h"

enum { ACPI_PM_SLP_TYP_S5 = 0, ACPI_PM_TIMER_HZ = 3579545, ACPI_PM_GPE_BITS = 64 };

/* Presses the button: PWRBTN_STS and, if enabled, SCI. */
void acpi_pm_power_button(struct device *dev);
void acpi_pm_sleep_button(struct device *dev);
/* Raises a general-purpose event (level-style: status stays until the guest clears it). */
void acpi_pm_gpe(struct device *dev, unsigned bit);

#endif

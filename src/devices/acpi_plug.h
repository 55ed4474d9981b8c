/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hot-plug by ACPI of what sits in slots, as PCI functions and processors do: class `acpi_plug`.
 * The DSDT's methods are its driver (machine/acpi_plug.c); Linux's acpiphp and Windows work through
 * them. Source: ACPI 6.5 sections 6.3.3 (_EJ0), 6.3.5 (_OST), 5.6.6 (notifications); the layout is
 * our own.
 *
 * Region 0, 20 ports, accesses of 32 bits; a bit of a mask is a slot:
 *   0  read: slots in which something was put; reading clears it
 *   4  read: slots whose device is to be let go; reading clears it
 *   8  write: slots that the guest has let go, it ejects them
 *  12  write: how a request ended (_OST): slot | event << 8 | status << 16; reads 0
 *  16  read: slots in which something is
 * Output: irq[0] is raised when there is something to read, and lowered by it.
 */
#ifndef DEVICES_ACPI_PLUG_H
#define DEVICES_ACPI_PLUG_H

#include "devices/device.h"

enum {
    ACPI_PLUG_UP = 0,
    ACPI_PLUG_DOWN = 4,
    ACPI_PLUG_EJECT = 8,
    ACPI_PLUG_OUTCOME = 12,
    ACPI_PLUG_PRESENT = 16
};

struct acpi_plug_config { /* both from inside of a guest's access; NULL allowed */
    void (*ejected)(void *opaque, unsigned slot);
    void (*refused)(void *opaque, unsigned slot); /* it stays where it is */
    void *opaque;
    uint32_t present; /* at the start; a reset changes nothing of it */
};

void acpi_plug_add(struct device *dev, unsigned slot); /* something was put there */
/* Asks the guest to let go of it. It may be asked again. */
void acpi_plug_ask(struct device *dev, unsigned slot);
/* It may stay, unless the guest is ejecting it already. */
void acpi_plug_unask(struct device *dev, unsigned slot);
/* The slot is empty: nothing is asked for any more. */
void acpi_plug_gone(struct device *dev, unsigned slot);
/* Slots whose device the guest was asked for and has neither ejected nor refused. */
uint32_t acpi_plug_asked(const struct device *dev);
/* Slots in which something is: what was there at the start, and what came and went since. */
uint32_t acpi_plug_present(const struct device *dev);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disks and optical drives on their buses, and in which order firmware tries what can be booted.
 * Source: OpenFirmware device paths as SeaBIOS and OVMF read them from the file bootorder.
 */
#ifndef MACHINE_STORAGE_H
#define MACHINE_STORAGE_H

#include "base/bytes.h"
#include "machine/board.h"

/* Makes the adapters and what hangs on them. */
int storage_add(struct board *b, const struct machine_config *m, struct error *err);
/* One disk, with an adapter of its own. */
int storage_add_disk(struct board *b, const struct machine_config *m, unsigned i,
                     struct error *err);
/* Whether a disk on this bus can come and go while the machine runs. */
bool storage_can_plug(enum machine_bus bus);
/* Of a network interface in a slot. */
void storage_boot_nic(struct board *b, const struct machine_config *m, unsigned slot);
/* The lines of bootorder. */
void storage_boot_order(const struct board *b, struct buf *ret);
/* Before a machine is built: whether this can be. */
int storage_check(const struct machine_config *m, struct error *err);

#endif

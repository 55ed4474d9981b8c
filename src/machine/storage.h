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
/* One disk while the machine runs: an adapter of its own, or a unit of one that is there. */
int storage_plug_disk(struct board *b, const struct machine_config *m, unsigned i,
                      struct error *err);
/* Of a network interface in a slot. */
void storage_boot_nic(struct board *b, unsigned slot);
/* The lines of bootorder. */
void storage_boot_order(const struct board *b, struct buf *ret);
/* Before a machine is built: whether this can be. */
int storage_check(const struct machine_config *m, struct error *err);

#endif

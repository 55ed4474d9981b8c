/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Devices of the host on the board, and the guest memory that they reach. Inside of machine/;
 * machine lock held. */
#ifndef MACHINE_PASSED_H
#define MACHINE_PASSED_H

#include "machine/board.h"

/* Puts the device `i` of the configuration on the bus. From now on no memory is given back to the
 * host, as the device may write to it at any time. */
int passed_add(struct board *b, const struct machine_config *m, unsigned i, struct error *err);
/* All of the guest's memory for the devices, which pins it; once, when it has found its place. */
int passed_map(struct board *b, struct vfio_host *host, struct error *err);
/* Of the memory that may come later as much is there as `bytes` say. */
void passed_show(struct board *b, uint64_t bytes);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Guest memory that the guest does without for a time. */
#ifndef BUS_RELEASE_H
#define BUS_RELEASE_H

#include "bus/mem.h"

/* Gives the whole pages of RAM in [addr, addr + size) back to the host: the guest has zeros there
 * from now on, and may use them at any time. Machine lock held. Bytes that went; what is no RAM
 * stays as it is, and so does what lies behind the first gap. */
uint64_t mem_release(struct mem *m, gpa addr, uint64_t size);

#endif

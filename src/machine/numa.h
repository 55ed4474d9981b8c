/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The NUMA topology that the guest is told of: SRAT and SLIT. Source: ACPI 6.5, sections 5.2.16 and
 * 5.2.17. */
#ifndef MACHINE_NUMA_H
#define MACHINE_NUMA_H

#include <stdint.h>

#include "base/bytes.h"

struct acpi_config;

enum { NUMA_MAX_NODES = 8, NUMA_HERE = 10, NUMA_FAR = 20, NUMA_FARTHEST = 254 };

struct machine_numa {
    unsigned nodes; /* 0: the guest is told of none */
    struct {
        uint32_t cpus;                    /* a bit each */
        uint64_t memory;                  /* of RAM, one behind the other */
        uint8_t distance[NUMA_MAX_NODES]; /* to others; 0: the usual */
    } node[NUMA_MAX_NODES];
};

/* What stands behind the header of the table. Without nodes, one that has everything. */
void numa_srat(struct buf *b, const struct acpi_config *config);
void numa_slit(struct buf *b, const struct machine_numa *numa);

#endif

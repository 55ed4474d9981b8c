/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Static resource affinity and locality distances of the board. */
#include "machine/numa.h"

#include "machine/acpi.h"
#include "machine/map.h"

enum { CPU_ENTRY = 16, MEMORY_ENTRY = 40, ENABLED = 1, HOT_PLUGGABLE = 2 };

/* Section 5.2.16.1 */
static void put_cpu(struct buf *b, unsigned cpu, unsigned node) {
    uint8_t e[CPU_ENTRY] = {0, CPU_ENTRY, (uint8_t)node, (uint8_t)cpu, ENABLED};

    buf_put(b, e, sizeof(e));
}

/* Section 5.2.16.2 */
static void put_memory(struct buf *b, unsigned node, uint64_t base, uint64_t size, bool later) {
    uint8_t e[MEMORY_ENTRY] = {1, MEMORY_ENTRY};

    if (!size)
        return;
    store_le32(e + 2, node);
    store_le64(e + 8, base);
    store_le64(e + 16, size);
    store_le32(e + 28, ENABLED | (later ? HOT_PLUGGABLE : 0));
    buf_put(b, e, sizeof(e));
}

/* [offset, offset + size) of RAM, which has a hole. */
static void put_ram(struct buf *b, unsigned node, uint64_t ram, uint64_t offset, uint64_t size) {
    uint64_t low = map_low_size(ram);
    uint64_t below = offset < low ? (offset + size < low ? size : low - offset) : 0;

    put_memory(b, node, offset, below, false);
    put_memory(b, node, MAP_HIGH + (offset + below - low), size - below, false);
}

/* Linux reckons with addresses of memory that may come if they stand here; that is the first
 * node's. */
void numa_srat(struct buf *b, const struct acpi_config *config) {
    const struct machine_numa *numa = config->numa;
    uint64_t offset = 0;

    buf_put_le32(b, 1);
    buf_put_le64(b, 0);
    for (unsigned cpu = 0; cpu < config->cpus; cpu++) {
        unsigned node = 0;

        for (unsigned n = 0; numa && n < numa->nodes; n++)
            if (numa->node[n].cpus >> cpu & 1)
                node = n;
        put_cpu(b, cpu, node);
    }
    for (unsigned n = 0; numa && n < numa->nodes; n++) {
        put_ram(b, n, config->memory, offset, numa->node[n].memory);
        offset += numa->node[n].memory;
    }
    if (!numa || !numa->nodes)
        put_ram(b, 0, config->memory, 0, config->memory);
    put_memory(b, 0, map_plugged(config->memory), config->memory_more, true);
}

void numa_slit(struct buf *b, const struct machine_numa *numa) {
    buf_put_le64(b, numa->nodes);
    for (unsigned i = 0; i < numa->nodes; i++)
        for (unsigned k = 0; k < numa->nodes; k++) {
            uint8_t told = numa->node[i].distance[k];
            uint8_t d = i == k ? NUMA_HERE : told ? told : NUMA_FAR;

            buf_put(b, &d, 1);
        }
}

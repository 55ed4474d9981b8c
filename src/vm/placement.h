/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a machine's memory and threads are on the host, and the NUMA topology that the guest is
 * told of: --memory's properties, --numa, --pin, --priority (docs/placement.md).
 *
 * Contract: main thread. The parsers keep nothing of their text. placement_resolve, when the sizes
 * are known and before the machine is built, fills in what was left out; placement_limits before
 * jail_prepare, placement_enter before jail_enter.
 */
#ifndef VM_PLACEMENT_H
#define VM_PLACEMENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/thread_place.h"
#include "bus/mem_backing.h"
#include "machine/numa.h"

struct placement {
    struct mem_backing backing;
    struct machine_numa numa;
    struct thread_places places;
    bool memory_given[NUMA_MAX_NODES]; /* --numa says how much */
    uint32_t pinned;                   /* processors that --pin names one by one */
    bool place;                        /* threads are to be placed */
};

/* One of --memory; -ENOENT if it is none of these. */
int placement_memory(struct placement *p, const char *property, struct error *err);
int placement_numa(struct placement *p, const char *text, struct error *err);
int placement_pin(struct placement *p, const char *text, struct error *err);
int placement_priority(struct placement *p, const char *text, struct error *err);

int placement_resolve(struct placement *p, unsigned cpus, uint64_t memory, uint64_t memory_max,
                      struct error *err);
/* The guest's topology for a snapshot; NULL: none, or out of memory. And back; nothing if `v` is
 * NULL. */
json_t *placement_describe(const struct placement *p);
int placement_take(struct placement *p, const json_t *v, struct error *err);

void placement_limits(const struct placement *p);
int placement_enter(const struct placement *p, unsigned cpus, struct error *err);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The board's own sections, and what saving and loading share. */
#ifndef MACHINE_SNAPSHOT_INTERNAL_H
#define MACHINE_SNAPSHOT_INTERNAL_H

#include "bus/mem.h"
#include "state/snapshot.h"
#include "state/state.h"

struct machine;

struct machine_state {
    uint64_t now, tsc, tsc_hz; /* the clock, at rest */
    uint64_t saved_at;         /* real time then, ns since 1970 */
    uint32_t cpus;
    bool reset_wanted;
    uint32_t ranges;
    uint64_t range_base[MEM_MAX_RANGES], range_size[MEM_MAX_RANGES], range_offset[MEM_MAX_RANGES];
};

struct machine_cpuid {
    uint32_t word[32]; /* enum cpuid_word, the rest 0 */
};

extern const struct state_desc machine_state_desc, machine_cpuid_desc;

void machine_sections(struct machine *m, struct snapshot_sections *out);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switches for whoever looks for a mistake in the translator. A machine behaves the same with each
 * of them, only slower; the interpreter has no use for them.
 */
#ifndef CPU_DEBUG_H
#define CPU_DEBUG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* Parts of the translator that can be left out, to find the one to blame. */
#define CPU_DEBUG_PARTS(PART)                                                                      \
    PART(CHAIN, "no-chain", "every block returns to the loop")                                     \
    PART(COALESCE, "no-coalesce", "every access has a check of its own")                           \
    PART(SITES, "no-sites", "no access remembers its page")                                        \
    PART(TIER2, "no-tier2", "hot blocks are not translated a second time")                         \
    PART(SUPER, "no-super", "no translation goes on behind a branch")                              \
    PART(FAR, "no-far", "branches into other pages ask the jump cache each time")                  \
    PART(RETURNS, "no-returns", "returns ask the jump cache each time")                            \
    PART(LIVENESS, "no-liveness", "all flags are kept, whether anybody reads them or not")

enum cpu_debug_part {
#define PART(id, name, help) CPU_DEBUG_BIT_##id,
    CPU_DEBUG_PARTS(PART)
#undef PART
};

enum { /* bits of cpu_debug.off, and of jit.off */
#define PART(id, name, help) JIT_NO_##id = 1 << CPU_DEBUG_BIT_##id,
       CPU_DEBUG_PARTS(PART)
#undef PART
};

enum { DUMP_GUEST = 1, DUMP_HOST = 2 }; /* instructions to print: cpu_debug.dump */

struct cpu_debug {
    uint32_t off;                   /* set of JIT_NO_* */
    unsigned dump;                  /* set of DUMP_* */
    uint64_t dump_first, dump_last; /* guest addresses: print what is translated there; 0: none */
    unsigned dump_hot; /* count runs of blocks and print the hottest at the end; 0: none */
    bool stats;        /* why translated code came back, and from where */
    bool count;        /* translations count their runs, for stats */
    bool perf_map;     /* /tmp/perf-PID.map */
    bool check;        /* the interpreter does again what translated code did, and compares */
    bool check_all;    /* each time; else the first runs of a block, and some of the later ones */
};

/* "guest,host", "host:0x401000-0x401fff", "guest,host:hot:20" (the default is hot:10). */
int cpu_debug_parse_dump(const char *s, struct cpu_debug *d, struct error *err);
/* "no-chain,no-tier2" in *ret_off; -EINVAL with the sentence if a word is none of the table's. */
int cpu_debug_parse(const char *list, uint32_t *ret_off, struct error *err);

#endif

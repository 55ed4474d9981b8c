/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What was translated into what: a record a translation, for --dump, --check, --perf-map and
 * --stats. Kept only if one of them asks (c->jit.dump, else NULL: callers look at that first).
 *
 * Contract: vCPU thread; dump_free when it has ended. Records hold copies, so they outlive a
 * flush of the code cache.
 */
#ifndef CPU_SOFT_JIT_DUMP_H
#define CPU_SOFT_JIT_DUMP_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "cpu/soft/jit/jit.h"

struct dump_block;
struct ref;
struct trans;

int dump_new(struct ref *c, struct error *err);
void dump_free(struct ref *c); /* prints the hottest blocks first, if --dump asked for them */

/* The translator begins: may count runs of the block in code of its own. A and EFLAGS are lost. */
void dump_begin(struct trans *t);
/* It is done, and the code runs at `code`. */
void dump_end(struct trans *t, const void *code);

struct dump_counts { /* of all runs of all translations; estimates, for a run may leave early */
    uint64_t runs, instructions, accesses[JIT_ACCESSES];
};
bool dump_count(struct ref *c, struct dump_counts *ret); /* false if runs are not counted */

/* The newest record of code that begins at `code`, NULL if there is none. */
const struct dump_block *dump_find(struct ref *c, const void *code);
/* What: set of DUMP_GUEST, DUMP_HOST. */
void dump_print(const struct dump_block *b, FILE *f, unsigned what);
/* Instructions of n bytes that stand at `at`, a line each, up to the first that is none; size: of
 * the code, 2, 4 or 8. */
void dump_code(FILE *f, const char *indent, const uint8_t *bytes, uint32_t n, uint64_t at,
               unsigned size);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Twins: the same machine on the interpreter and on the translator, for tests that run code until
 * it is hot and then look whether both end alike.
 *
 * What a test writes with twin_* goes into both. twin_heat executes code some thousand times, so
 * that every tier of the translator has taken it over, and fails if it was not translated.
 * twin_once then executes it from t->s once more and compares all registers and all memory.
 */
#ifndef TESTS_CPU_TWIN_H
#define TESTS_CPU_TWIN_H

#include "cpu/box.h"

enum {
    TWIN_DRIVER = 0x60000, /* the loop around code that gets hot, and its registers behind it */
    TWIN_REGS = 0x61000,
    TWIN_BACK = 0x61410, /* code under test ends with a jump to what is written here */
    TWIN_PTES = 0x4000,  /* of the first 2 MiB */
};

struct twin {
    struct box box[2]; /* interpreter, translator */
    struct x86_state
        s; /* twin_once starts here; box_long's state with AVX on, for the test to fill */
    uint64_t heat[16]; /* general registers at the start of each hot round */
    uint64_t heat_flags;
    uint64_t dead_flags;    /* bits that need not agree in RFLAGS and in a fault's frame */
    struct box_frame fault; /* of the last twin_once; vector ~0 if it halted by itself */
};

unsigned twin_rounds(void); /* VIV_HOT_ROUNDS, or 5000 */

void twin_new(struct twin *t, bool eager); /* eager: translates at first sight */
void twin_new_with(struct twin *t, const struct cpu_config *wanted);
void twin_done(struct twin *t);
void twin_put(struct twin *t, gpa at, const void *bytes, size_t n);
void twin_set(struct twin *t, gpa at, unsigned size, uint64_t value);
/* The entry of a 4 KiB page of the first 2 MiB. No flush: twin_once flushes all at its start. */
void twin_pte(struct twin *t, uint64_t page, uint64_t entry);

/* Loads code at `at`, with a jump back behind it, and runs it hot from t->heat. */
void twin_heat_at(struct twin *t, gpa at, const void *start, const void *end);
#define TWIN_HEAT(t, name) twin_heat_at(t, BOX_CODE, name, name##_end)
/* From t->s until it halts: both must end alike. Code that comes back halts as well. */
void twin_once(struct twin *t);
void twin_compare(struct twin *t);

#endif

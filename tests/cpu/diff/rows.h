/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a row of the instruction table back to encodings of it.
 *
 * Contract: built once, then read only.
 */
#ifndef TESTS_CPU_DIFF_ROWS_H
#define TESTS_CPU_DIFF_ROWS_H

#include "cpu/diff/diff.h"

struct row_template {
    uint8_t map, vex, pp, w, l, opcode, modrm, rexb, vvvv;
};

struct row_book;

struct row_book *row_book_new(void);
void row_book_free(struct row_book *book);
bool row_exists(const struct row_book *book, unsigned row, unsigned mode);
const struct row_template *row_pick(const struct row_book *book, unsigned row, unsigned mode,
                                    struct rng *r);
/* Prefixes (ended by 0), mandatory prefix, REX or VEX (whose R X B are in `rex`), opcode. Returns
 * the length. */
unsigned row_encode_start(const struct row_template *t, const uint8_t prefixes[4], uint8_t rex,
                          uint8_t *out);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A raw image whose requests fail or wait as a test wants it: block_options.ops = &fault_block_ops.
 */
#ifndef TESTS_BLOCK_FAULT_BLOCK_H
#define TESTS_BLOCK_FAULT_BLOCK_H

#include "block/block.h"

extern const struct block_ops fault_block_ops;

/* From now on, of the requests with this operation, skip `after`, then fail `count` with `code`
 * (negative). */
void fault_inject(enum block_op op, unsigned after, unsigned count, int code);
void fault_clear(void);
/* Requests wait (any thread may release them) instead of going to the file. */
void fault_hold(bool hold);
unsigned fault_held(void);
void fault_release(void); /* all that wait, in order; later ones wait again if hold is on */

#endif

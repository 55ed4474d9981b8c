/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Image files and waiting requests for tests of disks. */
#ifndef TESTS_BLOCK_BLOCK_HELP_H
#define TESTS_BLOCK_BLOCK_HELP_H

#include "base/loop.h"
#include "block/block.h"

/* A path in a folder of this process's own; the folder goes with block_help_clean. */
const char *image_path(const char *name);
void image_make(const char *path, uint64_t size); /* sparse, zero */
void block_help_clean(void);

/* What image_open takes for cache mode, engine and the rest. */
extern struct block_options image_options;

struct block *image_open(struct loop *loop, const char *path, bool readonly);

/* Submits and runs the loop until the answer: 0 or negative errno. Fails the test after 20 s. */
int do_request(struct loop *loop, struct block *b, enum block_op op, uint64_t offset, void *data,
               uint64_t length);

#endif

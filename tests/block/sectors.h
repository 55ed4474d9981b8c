/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sectors that say which version of them they are, and which versions a loss of power may leave. */
#ifndef TESTS_BLOCK_SECTORS_H
#define TESTS_BLOCK_SECTORS_H

#include "block/memory_file.h"
#include "support/test.h"

enum { SECTOR = 512, MAX_SECTORS = 4096, MAX_HISTORY = 400 };

/* Version 0: zeroes. */
void sector_fill(uint8_t *p, uint64_t sector, uint32_t version);
/* The version of a sector; a mixture fails. */
uint32_t sector_read(const uint8_t *p, uint64_t sector);

struct history { /* what one sector may hold: as at the last flush, and what came after it */
    uint32_t version[MAX_HISTORY];
    unsigned count;
};

void history_begin(struct history *h, uint32_t version);
void history_add(struct history *h, uint32_t version);
void history_flushed(struct history *h);
bool history_allows(const struct history *h, uint32_t version);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which parts of a disk were written: one bit for each part, and how many are set.
 *
 * Contract: any thread at any time without a lock, but for init, resize and done.
 */
#ifndef BLOCK_DIRTY_H
#define BLOCK_DIRTY_H

#include <stdbool.h>
#include <stdint.h>

struct dirty {
    uint64_t *words;
    uint64_t size, parts; /* bytes of the disk; bits */
    unsigned shift;       /* log2 of the bytes of a part */
    uint64_t count;       /* atomic: bits that are set */
};

int dirty_init(struct dirty *d, uint64_t size, unsigned shift); /* clean; -ENOMEM */
int dirty_resize(struct dirty *d, uint64_t size);               /* new parts are dirty */
void dirty_done(struct dirty *d);                               /* accepts one of zeroes */

/* Every part that the range touches. */
void dirty_set(struct dirty *d, uint64_t offset, uint64_t length);
void dirty_clear(struct dirty *d, uint64_t offset, uint64_t length);
bool dirty_any(const struct dirty *d, uint64_t offset, uint64_t length);
uint64_t dirty_bytes(const struct dirty *d); /* of all parts that are set */
/* The first dirty byte at or behind offset, and up to `max` bytes that are dirty from there on;
 * 0: none. */
uint64_t dirty_next(const struct dirty *d, uint64_t offset, uint64_t max, uint64_t *ret_offset);
void dirty_merge(struct dirty *to, const struct dirty *from); /* parts may differ in size */

#endif

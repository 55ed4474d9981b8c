/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Limits of requests and bytes a second, as pure arithmetic on times that the caller brings.
 *
 * Each limit has one number, the time at which it is paid up: a request moves it on by its cost,
 * and is let through when that time has come (the generic cell rate algorithm, ITU-T I.371 Annex
 * A). It never lies further back than the burst, which is how much unused allowance is kept. So the
 * average is exact whatever the size of requests, and a large one is waited for after it, not
 * before.
 */
#ifndef BLOCK_THROTTLE_H
#define BLOCK_THROTTLE_H

#include <stdbool.h>
#include <stdint.h>

#include "block/block.h"

enum { THROTTLE_KINDS = 3 }; /* all requests, reads, writes: the index in struct block_limits */

struct throttle {
    struct block_limits limits;
    uint64_t paid[2][THROTTLE_KINDS]; /* ns; requests, bytes */
};

/* Takes effect at once; what is used up under the old limits is forgotten. */
void throttle_set(struct throttle *t, const struct block_limits *limits, uint64_t now);
bool throttle_active(const struct throttle *t);
/* ns until a request may go, 0 = now. */
uint64_t throttle_wait(const struct throttle *t, bool write, uint64_t now);
void throttle_charge(struct throttle *t, bool write, uint64_t bytes, uint64_t now);

#endif

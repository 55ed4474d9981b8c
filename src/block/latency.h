/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long requests to disks took, from when a device asked to when it was told, in buckets of
 * powers of two. For all disks of a machine together.
 *
 * Contract: any thread.
 */
#ifndef BLOCK_LATENCY_H
#define BLOCK_LATENCY_H

#include "block/block.h"

enum {
    LATENCY_FIRST = 4,    /* the first bucket is up to 2^4 us */
    LATENCY_BUCKETS = 20, /* the last one all beyond 2^22 us, some four seconds */
};

enum latency_kind { LATENCY_READ, LATENCY_WRITE, LATENCY_FLUSH, LATENCY_KINDS };

struct latency {
    uint64_t count[LATENCY_BUCKETS];
    uint64_t sum_us;
};

uint64_t latency_now(void); /* ns, by the monotonic clock */
/* Discards count as nothing. */
void latency_add(enum block_op op, uint64_t since);
void latency_get(enum latency_kind kind, struct latency *ret);

#endif

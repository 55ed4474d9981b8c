/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Histograms of how long requests took. The clock is read without a system call, some 20 ns. */
#include "block/latency.h"

#include <time.h>

static struct latency totals[LATENCY_KINDS];

uint64_t latency_now(void) {
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* 2^(FIRST + n) us is in bucket n. */
static unsigned bucket_of(uint64_t us) {
    unsigned bits = us > 1 ? 64 - (unsigned)__builtin_clzll(us - 1) : 0;

    bits = bits > LATENCY_FIRST ? bits - LATENCY_FIRST : 0;
    return bits < LATENCY_BUCKETS ? bits : LATENCY_BUCKETS - 1;
}

void latency_add(enum block_op op, uint64_t since) {
    uint64_t us = (latency_now() - since) / 1000;
    struct latency *l = &totals[op == BLOCK_READ    ? LATENCY_READ
                                : op == BLOCK_FLUSH ? LATENCY_FLUSH
                                                    : LATENCY_WRITE];

    if (op != BLOCK_READ && op != BLOCK_WRITE && op != BLOCK_FLUSH)
        return;
    __atomic_fetch_add(&l->count[bucket_of(us)], 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&l->sum_us, us, __ATOMIC_RELAXED);
}

void latency_get(enum latency_kind kind, struct latency *ret) {
    for (unsigned i = 0; i < LATENCY_BUCKETS; i++)
        ret->count[i] = __atomic_load_n(&totals[kind].count[i], __ATOMIC_RELAXED);
    ret->sum_us = __atomic_load_n(&totals[kind].sum_us, __ATOMIC_RELAXED);
}

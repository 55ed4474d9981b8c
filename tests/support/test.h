/* SPDX-License-Identifier: GPL-2.0-or-later */
/* cmocka with the headers that it wants before it, and a small random generator with a seed of its
 * own. */
#ifndef TESTS_SUPPORT_TEST_H
#define TESTS_SUPPORT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct rng {
    uint64_t s;
};

/* xorshift64* (Marsaglia 2003, Vigna 2016); the state is never 0. Signature as state_random wants
 * it. */
static inline uint64_t rng_next(void *rng) {
    struct rng *r = rng;

    r->s ^= r->s >> 12;
    r->s ^= r->s << 25;
    r->s ^= r->s >> 27;
    return r->s * 0x2545f4914f6cdd1dull;
}

static inline struct rng rng_seed(uint64_t seed) {
    struct rng r = {seed * 0x9e3779b97f4a7c15ull + 1};

    if (!r.s)
        r.s = 1;
    for (int i = 0; i < 8; i++)
        rng_next(&r);
    return r;
}

static inline uint64_t rng_below(struct rng *r, uint64_t n) { return rng_next(r) % n; }

#endif

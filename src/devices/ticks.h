/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Conversion between nanoseconds and the ticks of a chip's crystal, without drift and without
 * 128-bit division: whole seconds and the rest apart. Valid for frequencies up to 18 GHz.
 */
#ifndef DEVICES_TICKS_H
#define DEVICES_TICKS_H

#include <stdint.h>

enum { TICKS_NS_PER_S = 1000000000 };

/* How many ticks have passed at time ns. */
static inline uint64_t ticks_from_ns(uint64_t ns, uint64_t hz) {
    return ns / TICKS_NS_PER_S * hz + ns % TICKS_NS_PER_S * hz / TICKS_NS_PER_S;
}

/* The first nanosecond at which that many ticks have passed; saturates at the end of time. */
static inline uint64_t ticks_to_ns(uint64_t ticks, uint64_t hz) {
    uint64_t s = ticks / hz, rest = ticks % hz * TICKS_NS_PER_S, ns;

    if (__builtin_mul_overflow(s, (uint64_t)TICKS_NS_PER_S, &ns) ||
        __builtin_add_overflow(ns, rest / hz + (rest % hz != 0), &ns))
        return UINT64_MAX;
    return ns;
}

/* a + b, saturating: for deadlines out of a damaged snapshot. */
static inline uint64_t ticks_add(uint64_t a, uint64_t b) {
    uint64_t sum;

    return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

#endif

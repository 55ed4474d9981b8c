/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Operand values for the differential test: mostly at the edges of their types, else random. */
#include "cpu/diff/diff.h"

#include <string.h>

#define PICK(r, array) (array)[rng_below(r, sizeof(array) / sizeof((array)[0]))]

uint64_t value_int(struct rng *r) {
    static const uint64_t edges[] = {0,
                                     0,
                                     1,
                                     2,
                                     ~0ull,
                                     ~1ull,
                                     0x7f,
                                     0x80,
                                     0xff,
                                     0x7fff,
                                     0x8000,
                                     0xffff,
                                     0x7fffffff,
                                     0x80000000,
                                     0xffffffff,
                                     0xffffffff80000000,
                                     0x7fffffffffffffff,
                                     0x8000000000000000};
    switch (rng_below(r, 8)) {
    case 0:
    case 1:
        return PICK(r, edges);
    case 2:
        return 1ull << rng_below(r, 64);
    case 3:
        return (uint64_t)(int64_t)(int8_t)rng_next(r);
    case 4:
        return (uint32_t)rng_next(r);
    case 5:
        return rng_next(r) >> rng_below(r, 64);
    default:
        return rng_next(r);
    }
}

static uint64_t float_value(struct rng *r, unsigned bits) {
    static const uint32_t singles[] = {0,          0x80000000, 0x3f800000, 0xbf800000, 0x7f800000,
                                       0xff800000, 0x7fc00000, 0x7f800001, 0xffc12345, 1,
                                       0x007fffff, 0x00800000, 0x7f7fffff, 0x4f000000, 0xcf000000,
                                       0x5f000000, 0x3effffff, 0x42280000};
    static const uint64_t doubles[] = {0,
                                       0x8000000000000000,
                                       0x3ff0000000000000,
                                       0xbff0000000000000,
                                       0x7ff0000000000000,
                                       0xfff0000000000000,
                                       0x7ff8000000000000,
                                       0x7ff0000000000001,
                                       0xfff8123456789abc,
                                       1,
                                       0x000fffffffffffff,
                                       0x0010000000000000,
                                       0x7fefffffffffffff,
                                       0x41e0000000000000,
                                       0xc1e0000000000000,
                                       0x43e0000000000000,
                                       0x3fdfffffffffffff,
                                       0x36a0000000000000,
                                       0x47efffffe0000000};
    static const uint16_t halves[] = {0,      0x8000, 0x3c00, 0x7c00, 0xfc00, 0x7e00,
                                      0x7c01, 1,      0x3ff,  0x400,  0x7bff};
    uint64_t near = rng_next(r);

    if (bits == 16)
        return PICK(r, halves);
    if (rng_below(r, 2))
        return bits == 32 ? PICK(r, singles) : PICK(r, doubles);
    /* Ordinary magnitudes, so that results are neither all infinite nor all zero. */
    if (bits == 32)
        return (near & 0x807fffff) | (uint64_t)(0x70 + rng_below(r, 32)) << 23;
    return (near & 0x800fffffffffffff) | (uint64_t)(0x3f0 + rng_below(r, 32)) << 52;
}

void value_vector(struct rng *r, uint8_t *bytes, unsigned n) {
    unsigned kind = (unsigned)rng_below(r, 8), lane = kind < 4    ? 1u << kind
                                                      : kind == 4 ? 2
                                                      : kind & 1  ? 4
                                                                  : 8;

    for (unsigned i = 0; i < n; i += lane) {
        uint64_t v = kind < 4 ? value_int(r) : float_value(r, lane * 8);
        memcpy(bytes + i, &v, lane);
    }
}

void value_st(struct rng *r, uint8_t bytes[16]) {
    static const struct {
        uint16_t exponent;
        uint64_t mantissa;
    } edges[] = {
        {0, 0},
        {0x8000, 0},
        {0x3fff, 1ull << 63},
        {0xbfff, 1ull << 63},
        {0x7fff, 1ull << 63},
        {0xffff, 1ull << 63},
        {0x7fff, 3ull << 62},
        {0xffff, 3ull << 62},
        {0x7fff, 1ull << 63 | 1},
        {0, 1},
        {0, 1ull << 63}, /* pseudo-denormal */
        {0x4000, 1},
        /* unnormal */ {0x7fff, 0},
        /* pseudo-infinity */ {0x7ffe, ~0ull},
        {1, 1ull << 63},
        {0x403e, 1ull << 63},
        {0xc03e, 1ull << 63},
        {0x3ffe, 1ull << 63},
        {0x4000, 0xc90fdaa22168c235},
    };
    uint16_t exponent = (uint16_t)((rng_next(r) & 0x8000) | (0x3ff0 + rng_below(r, 80)));
    uint64_t mantissa = rng_next(r) | 1ull << 63;
    unsigned kind = (unsigned)rng_below(r, 8);

    memset(bytes, 0, 16);
    if (kind < 3) {
        unsigned i = (unsigned)rng_below(r, sizeof(edges) / sizeof(edges[0]));
        exponent = edges[i].exponent;
        mantissa = edges[i].mantissa;
    } else if (kind == 3) { /* a small whole number */
        unsigned shift = (unsigned)rng_below(r, 20);
        exponent = (uint16_t)((exponent & 0x8000) | (0x3fff + shift));
        mantissa = (mantissa >> (63 - shift)) << (63 - shift);
    } else if (kind == 4) {
        exponent = (uint16_t)rng_next(r);
    }
    memcpy(bytes, &mantissa, 8);
    memcpy(bytes + 8, &exponent, 2);
}

void value_x87_control(struct rng *r, struct diff_xsave *x) {
    x->fcw = 0x37f;
    if (!rng_below(r, 4))
        x->fcw = (uint16_t)(0x7f | (rng_next(r) & 0xf00));
    if (!rng_below(r, 8))
        x->fcw = (uint16_t)(0x40 | (rng_next(r) & 0xf3f));
    x->fsw = (uint16_t)(rng_next(r) & 0x7f7f);
    if (rng_below(r, 2))
        x->fsw &= 0x7f00;
    if (rng_below(r, 16)) /* nothing pending */
        x->fsw &= (uint16_t) ~(~x->fcw & 0x3f);
    if (x->fsw & ~x->fcw & 0x3f)
        x->fsw |= 0x8080;
    x->ftw = rng_below(r, 2) ? 0xff : (uint8_t)rng_next(r);
    if (!rng_below(r, 3)) { /* a stack as programs have it: full from TOP on */
        unsigned top = x->fsw >> 11 & 7;
        x->ftw = (uint8_t)(top ? 0xff << top : 0);
    }
    x->fop = (uint16_t)(rng_next(r) & 0x7ff);
    x->fip = rng_next(r) >> 17;
    x->fdp = rng_next(r) >> 17;
}

uint32_t value_mxcsr(struct rng *r) {
    uint32_t v = 0x1f80 | (uint32_t)(rng_next(r) & 0x3f);

    if (!rng_below(r, 3))
        v = (v & ~0x6000u) | (uint32_t)(rng_next(r) & 0x6000);
    if (!rng_below(r, 8))
        v |= (uint32_t)(rng_next(r) & 0x8040);
    if (!rng_below(r, 8))
        v = (v & ~0x1f80u) | (uint32_t)(rng_next(r) & 0x1f80);
    return v;
}

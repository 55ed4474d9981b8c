/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SHA-256 as FIPS 180-4 describes it, block by block; by the processor's SHA instructions where it
 * has them (SDM vol. 1, 5.17), which is ten times as fast: images of many gigabytes are summed.
 */
#include "base/sha256.h"

#include <cpuid.h>
#include <immintrin.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"

enum { BLOCK = 64, LENGTH_AT = 56 };

static const uint32_t k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t ror(uint32_t v, unsigned n) { return v >> n | v << (32 - n); }

static void take_block_plainly(uint32_t h[8], const uint8_t *p) {
    uint32_t w[64], v[8];

    for (unsigned i = 0; i < 16; i++)
        w[i] = load_be32(p + (size_t)i * 4);
    for (unsigned i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];

        w[i] = w[i - 16] + (ror(a, 7) ^ ror(a, 18) ^ a >> 3) + w[i - 7] +
               (ror(b, 17) ^ ror(b, 19) ^ b >> 10);
    }
    memcpy(v, h, sizeof(v));
    for (unsigned i = 0; i < 64; i++) {
        uint32_t a = v[0], e = v[4];
        uint32_t t1 =
            v[7] + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) + ((e & v[5]) ^ (~e & v[6])) + k[i] + w[i];
        uint32_t t2 =
            (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22)) + ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));

        memmove(v + 1, v, 7 * sizeof(v[0]));
        v[4] += t1;
        v[0] = t1 + t2;
    }
    for (unsigned i = 0; i < 8; i++)
        h[i] += v[i];
}

/* Two registers hold the eight words as ABEF and CDGH; a step does four rounds. */
__attribute__((target("sha,sse4.1"))) static void take_blocks_fast(uint32_t h[8], const uint8_t *p,
                                                                   size_t count) {
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i low = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)h), 0xb1);
    __m128i high = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(h + 4)), 0x1b);
    __m128i abef = _mm_alignr_epi8(low, high, 8), cdgh = _mm_blend_epi16(high, low, 0xf0);

    for (; count; count--, p += BLOCK) {
        __m128i was[2] = {abef, cdgh}, w[4];

        for (unsigned i = 0; i < 4; i++)
            w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(p + 16 * i)), big_endian);
#pragma GCC unroll 16
        for (unsigned i = 0; i < 16; i++) {
            const __m128i last = w[(i + 3) % 4];
            __m128i m;

            if (i >= 4) {
                m = _mm_add_epi32(_mm_sha256msg1_epu32(w[i % 4], w[(i + 1) % 4]),
                                  _mm_alignr_epi8(last, w[(i + 2) % 4], 4));
                w[i % 4] = _mm_sha256msg2_epu32(m, last);
            }
            m = _mm_add_epi32(w[i % 4], _mm_loadu_si128((const __m128i *)(k + 4 * i)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, m);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(m, 0x0e));
        }
        abef = _mm_add_epi32(abef, was[0]);
        cdgh = _mm_add_epi32(cdgh, was[1]);
    }
    low = _mm_shuffle_epi32(abef, 0x1b);
    high = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)h, _mm_blend_epi16(low, high, 0xf0));
    _mm_storeu_si128((__m128i *)(h + 4), _mm_alignr_epi8(high, low, 8));
}

bool sha256_plain;

static bool is_fast(void) {
    enum { SSE41 = 1 << 19, SHA = 1 << 29 };
    static int known; /* whoever looks first finds the same as others */
    unsigned a, b, c, d, b7;

    if (!__atomic_load_n(&known, __ATOMIC_RELAXED)) {
        bool has = __get_cpuid_count(7, 0, &a, &b7, &c, &d) && (b7 & SHA) &&
                   __get_cpuid(1, &a, &b, &c, &d) && (c & SSE41);

        __atomic_store_n(&known, has ? 1 : -1, __ATOMIC_RELAXED);
    }
    return known > 0 && !sha256_plain;
}

static void take_blocks(uint32_t h[8], const uint8_t *p, size_t count) {
    if (is_fast()) {
        take_blocks_fast(h, p, count);
        return;
    }
    for (; count; count--, p += BLOCK)
        take_block_plainly(h, p);
}

void sha256_begin(struct sha256 *s) {
    *s = (struct sha256){.h = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
                               0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
}

void sha256_put(struct sha256 *s, const void *data, size_t n) {
    const uint8_t *p = data;
    size_t have = s->length % BLOCK;

    s->length += n;
    while (n) {
        size_t some = BLOCK - have < n ? BLOCK - have : n;

        if (some == BLOCK) {
            some = n - n % BLOCK;
            take_blocks(s->h, p, some / BLOCK);
        } else {
            memcpy(s->block + have, p, some);
            if (have + some == BLOCK)
                take_blocks(s->h, s->block, 1);
        }
        have = (have + some) % BLOCK;
        p += some;
        n -= some;
    }
}

void sha256_end(struct sha256 *s, uint8_t out[SHA256_BYTES]) {
    static const uint8_t pad[BLOCK] = {0x80};
    uint8_t bits[8];
    size_t have = s->length % BLOCK;

    store_be64(bits, s->length * 8);
    sha256_put(s, pad, have < LENGTH_AT ? LENGTH_AT - have : BLOCK + LENGTH_AT - have);
    sha256_put(s, bits, sizeof(bits));
    for (unsigned i = 0; i < 8; i++)
        store_be32(out + (size_t)i * 4, s->h[i]);
}

void sha256_end_text(struct sha256 *s, char out[SHA256_TEXT]) {
    uint8_t sum[SHA256_BYTES];

    sha256_end(s, sum);
    for (unsigned i = 0; i < SHA256_BYTES; i++)
        snprintf(out + (size_t)i * 2, 3, "%02x", sum[i]);
}

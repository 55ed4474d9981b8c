/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Floating point and SIMD kernels. The approximate instructions (rcpps, rsqrtps) are left out: they
 * may differ from one processor to the next, and so would the checksum. */
#include "bench.h"

#include <errno.h>
#include <immintrin.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

static uint64_t bits_of(double d) {
    uint64_t u;

    memcpy(&u, &d, sizeof(u));
    return u;
}

enum { MATRIX = 64 };

static __attribute__((optimize("no-tree-vectorize"))) int matmul(uint64_t n, const char *arg,
                                                                 uint64_t *sum) {
    static double a[MATRIX][MATRIX], b[MATRIX][MATRIX], c[MATRIX][MATRIX];
    uint64_t state = 21, s = 0;

    for (int i = 0; i < MATRIX; i++)
        for (int k = 0; k < MATRIX; k++) {
            a[i][k] = (double)(next_random(&state) >> 40) * 0x1p-24;
            b[i][k] = (double)(next_random(&state) >> 40) * 0x1p-24;
        }
    for (uint64_t turn = 0; turn < n; turn++) {
        for (int i = 0; i < MATRIX; i++)
            for (int j = 0; j < MATRIX; j++) {
                double x = 0;

                for (int k = 0; k < MATRIX; k++)
                    x += a[i][k] * b[k][j];
                c[i][j] = x;
            }
        s = mix(s, bits_of(c[turn % MATRIX][turn / 2 % MATRIX]));
        a[turn % MATRIX][3] += 0.5;
    }
    *sum = s;
    return 0;
}

static int mandelbrot(uint64_t n, const char *arg, uint64_t *sum) {
    uint64_t s = 0;

    for (uint64_t turn = 0; turn < n; turn++)
        for (int y = 0; y < 32; y++)
            for (int x = 0; x < 48; x++) {
                double cr = x * 3.0 / 48 - 2, ci = y * 2.0 / 32 - 1 + (double)turn * 1e-4, zr = 0,
                       zi = 0;
                unsigned steps = 0;

                for (; steps < 200 && zr * zr + zi * zi < 4; steps++) {
                    double t = zr * zr - zi * zi + cr;

                    zi = 2 * zr * zi + ci;
                    zr = t;
                }
                s = mix(s, steps);
            }
    *sum = s;
    return 0;
}

/* The C library picks its variants (with or without fused multiply-add) by the processor, so the
 * last digits may differ: the checksum is of what all variants agree on. */
static int math(uint64_t n, const char *arg, uint64_t *sum) {
    double total = 0;

    for (uint64_t i = 0; i < n; i++) {
        double x = 0.1 + (double)(i % 1000) * 0.013;

        total += sin(x) * exp(-x) + log(x) * sqrt(x) + pow(x, 1.25) * 1e-3 + atan(x) - cos(3 * x);
    }
    *sum = (uint64_t)llround(total * 100);
    return 0;
}

enum { VECTOR = 4096 };

static int sse2_integer(uint64_t n, const char *arg, uint64_t *sum) {
    static __m128i v[VECTOR / 16];
    uint64_t state = 31, out[2];
    __m128i acc = _mm_setzero_si128();

    for (size_t i = 0; i < VECTOR / 16; i++)
        v[i] = _mm_set_epi64x((long long)next_random(&state), (long long)next_random(&state));
    for (uint64_t turn = 0; turn < n; turn++)
        for (size_t i = 0; i < VECTOR / 16; i++) {
            __m128i x = v[i];

            x = _mm_add_epi32(x, _mm_slli_epi32(acc, 3));
            x = _mm_xor_si128(x, _mm_shuffle_epi32(x, 0x1b));
            acc = _mm_add_epi64(acc, _mm_mul_epu32(x, _mm_srli_epi64(x, 32)));
            acc = _mm_sub_epi16(acc, _mm_madd_epi16(x, acc));
            acc = _mm_or_si128(acc, _mm_cmpgt_epi8(x, v[i]));
            v[i] = _mm_unpacklo_epi8(x, _mm_andnot_si128(acc, x));
        }
    _mm_storeu_si128((__m128i *)out, acc);
    *sum = mix(out[0], out[1]);
    return 0;
}

static int sse_float(uint64_t n, const char *arg, uint64_t *sum) {
    static __m128 v[VECTOR / 16];
    uint64_t out[2], s = 0;
    __m128 acc = _mm_set1_ps(1.0f);

    for (size_t i = 0; i < VECTOR / 16; i++)
        v[i] = _mm_set_ps(1.5f + (float)i, 0.25f * (float)i, 3.0f, 100.0f / (float)(i + 1));
    for (uint64_t turn = 0; turn < n; turn++) {
        for (size_t i = 0; i < VECTOR / 16; i++) {
            __m128 x = _mm_add_ps(_mm_mul_ps(v[i], acc), _mm_set1_ps(0.125f));

            x = _mm_sqrt_ps(_mm_max_ps(x, _mm_set1_ps(0.5f)));
            acc = _mm_min_ps(_mm_sub_ps(x, _mm_mul_ps(acc, _mm_set1_ps(0.5f))), _mm_set1_ps(8.0f));
            v[i] = _mm_div_ps(_mm_add_ps(v[i], _mm_set1_ps(1.0f)), _mm_shuffle_ps(x, x, 0x4e));
        }
        _mm_storeu_ps((float *)out, acc);
        s = mix(s, mix(out[0], out[1]));
    }
    *sum = s;
    return 0;
}

static __attribute__((target("avx2"))) void avx2_turns(uint64_t n, __m256i *v, uint64_t out[4]) {
    __m256i acc = _mm256_set1_epi32(7), swap = _mm256_setr_epi32(7, 0, 6, 1, 5, 2, 4, 3);
    __m256 f = _mm256_set1_ps(1.0f);

    for (uint64_t turn = 0; turn < n; turn++)
        for (size_t i = 0; i < VECTOR / 32; i++) {
            __m256i x = _mm256_permutevar8x32_epi32(v[i], swap);

            acc = _mm256_add_epi32(_mm256_mullo_epi32(acc, x),
                                   _mm256_srlv_epi32(x, _mm256_set1_epi32(5)));
            acc = _mm256_xor_si256(
                acc, _mm256_shuffle_epi8(x, _mm256_and_si256(acc, _mm256_set1_epi8(15))));
            v[i] = _mm256_blendv_epi8(_mm256_add_epi64(x, acc), x, acc);
            f = _mm256_add_ps(_mm256_mul_ps(f, _mm256_set1_ps(0.75f)),
                              _mm256_cvtepi32_ps(_mm256_srli_epi32(x, 20)));
        }
    _mm256_storeu_si256((__m256i *)out, _mm256_xor_si256(acc, _mm256_castps_si256(f)));
}

static int avx2(uint64_t n, const char *arg, uint64_t *sum) {
    static __m256i v[VECTOR / 32];
    uint64_t state = 33, out[4], *words = (uint64_t *)v;

    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2"))
        return -ENOTSUP;
    for (size_t i = 0; i < VECTOR / 8; i++)
        words[i] = next_random(&state);
    avx2_turns(n, v, out);
    *sum = mix(mix(out[0], out[1]), mix(out[2], out[3]));
    return 0;
}

const struct kernel vector_kernels[] = {
    {"matmul", matmul},
    {"mandelbrot", mandelbrot},
    {"math", math},
    {"sse2-int", sse2_integer},
    {"sse-float", sse_float},
    {"avx2", avx2},
    {NULL, NULL},
};

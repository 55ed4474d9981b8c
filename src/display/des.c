/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * DES as the password of VNC needs it. Source: FIPS 46-3. The key is the password with the bits of
 * each byte in reverse order, a mistake of the first implementation that is the protocol now.
 */
#include "display/vnc_internal.h"

// clang-format off
/* Bits are numbered from 1, the most significant one, as in the standard. */
static const uint8_t initial[64] = {
    58, 50, 42, 34, 26, 18, 10, 2, 60, 52, 44, 36, 28, 20, 12, 4, 62, 54, 46, 38, 30, 22, 14, 6, 64, 56, 48, 40, 32, 24, 16, 8,
    57, 49, 41, 33, 25, 17, 9, 1, 59, 51, 43, 35, 27, 19, 11, 3, 61, 53, 45, 37, 29, 21, 13, 5, 63, 55, 47, 39, 31, 23, 15, 7};
static const uint8_t choice1[56] = {
    57, 49, 41, 33, 25, 17, 9, 1, 58, 50, 42, 34, 26, 18, 10, 2, 59, 51, 43, 35, 27, 19, 11, 3, 60, 52, 44, 36,
    63, 55, 47, 39, 31, 23, 15, 7, 62, 54, 46, 38, 30, 22, 14, 6, 61, 53, 45, 37, 29, 21, 13, 5, 28, 20, 12, 4};
static const uint8_t choice2[48] = {
    14, 17, 11, 24, 1, 5, 3, 28, 15, 6, 21, 10, 23, 19, 12, 4, 26, 8, 16, 7, 27, 20, 13, 2,
    41, 52, 31, 37, 47, 55, 30, 40, 51, 45, 33, 48, 44, 49, 39, 56, 34, 53, 46, 42, 50, 36, 29, 32};
static const uint8_t permutation[32] = {
    16, 7, 20, 21, 29, 12, 28, 17, 1, 15, 23, 26, 5, 18, 31, 10, 2, 8, 24, 14, 32, 27, 3, 9, 19, 13, 30, 6, 22, 11, 4, 25};
static const uint8_t shifts[16] = {1, 1, 2, 2, 2, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2, 1};
static const uint8_t box[8][64] = {
    {14, 4, 13, 1, 2, 15, 11, 8, 3, 10, 6, 12, 5, 9, 0, 7, 0, 15, 7, 4, 14, 2, 13, 1, 10, 6, 12, 11, 9, 5, 3, 8,
     4, 1, 14, 8, 13, 6, 2, 11, 15, 12, 9, 7, 3, 10, 5, 0, 15, 12, 8, 2, 4, 9, 1, 7, 5, 11, 3, 14, 10, 0, 6, 13},
    {15, 1, 8, 14, 6, 11, 3, 4, 9, 7, 2, 13, 12, 0, 5, 10, 3, 13, 4, 7, 15, 2, 8, 14, 12, 0, 1, 10, 6, 9, 11, 5,
     0, 14, 7, 11, 10, 4, 13, 1, 5, 8, 12, 6, 9, 3, 2, 15, 13, 8, 10, 1, 3, 15, 4, 2, 11, 6, 7, 12, 0, 5, 14, 9},
    {10, 0, 9, 14, 6, 3, 15, 5, 1, 13, 12, 7, 11, 4, 2, 8, 13, 7, 0, 9, 3, 4, 6, 10, 2, 8, 5, 14, 12, 11, 15, 1,
     13, 6, 4, 9, 8, 15, 3, 0, 11, 1, 2, 12, 5, 10, 14, 7, 1, 10, 13, 0, 6, 9, 8, 7, 4, 15, 14, 3, 11, 5, 2, 12},
    {7, 13, 14, 3, 0, 6, 9, 10, 1, 2, 8, 5, 11, 12, 4, 15, 13, 8, 11, 5, 6, 15, 0, 3, 4, 7, 2, 12, 1, 10, 14, 9,
     10, 6, 9, 0, 12, 11, 7, 13, 15, 1, 3, 14, 5, 2, 8, 4, 3, 15, 0, 6, 10, 1, 13, 8, 9, 4, 5, 11, 12, 7, 2, 14},
    {2, 12, 4, 1, 7, 10, 11, 6, 8, 5, 3, 15, 13, 0, 14, 9, 14, 11, 2, 12, 4, 7, 13, 1, 5, 0, 15, 10, 3, 9, 8, 6,
     4, 2, 1, 11, 10, 13, 7, 8, 15, 9, 12, 5, 6, 3, 0, 14, 11, 8, 12, 7, 1, 14, 2, 13, 6, 15, 0, 9, 10, 4, 5, 3},
    {12, 1, 10, 15, 9, 2, 6, 8, 0, 13, 3, 4, 14, 7, 5, 11, 10, 15, 4, 2, 7, 12, 9, 5, 6, 1, 13, 14, 0, 11, 3, 8,
     9, 14, 15, 5, 2, 8, 12, 3, 7, 0, 4, 10, 1, 13, 11, 6, 4, 3, 2, 12, 9, 5, 15, 10, 11, 14, 1, 7, 6, 0, 8, 13},
    {4, 11, 2, 14, 15, 0, 8, 13, 3, 12, 9, 7, 5, 10, 6, 1, 13, 0, 11, 7, 4, 9, 1, 10, 14, 3, 5, 12, 2, 15, 8, 6,
     1, 4, 11, 13, 12, 3, 7, 14, 10, 15, 6, 8, 0, 5, 9, 2, 6, 11, 13, 8, 1, 4, 10, 7, 9, 5, 0, 15, 14, 2, 3, 12},
    {13, 2, 8, 4, 6, 15, 11, 1, 10, 9, 3, 14, 5, 0, 12, 7, 1, 15, 13, 8, 10, 3, 7, 4, 12, 5, 6, 11, 0, 14, 9, 2,
     7, 11, 4, 1, 9, 12, 14, 2, 0, 6, 10, 13, 15, 3, 5, 8, 2, 1, 14, 7, 4, 10, 8, 13, 15, 12, 9, 0, 3, 5, 6, 11}};
// clang-format on

static uint64_t permute(uint64_t v, unsigned width, const uint8_t *table, unsigned n) {
    uint64_t out = 0;

    for (unsigned i = 0; i < n; i++)
        out = out << 1 | (v >> (width - table[i]) & 1);
    return out;
}

static void key_schedule(uint64_t key, uint64_t round[16]) {
    uint64_t cd = permute(key, 64, choice1, 56);
    uint32_t c = (uint32_t)(cd >> 28), d = (uint32_t)cd & 0xfffffff;

    for (unsigned i = 0; i < 16; i++) {
        unsigned s = shifts[i];

        c = (c << s | c >> (28 - s)) & 0xfffffff;
        d = (d << s | d >> (28 - s)) & 0xfffffff;
        round[i] = permute((uint64_t)c << 28 | d, 56, choice2, 48);
    }
}

/* The cipher function: each group of 4 bits with its neighbours, through the boxes. */
static uint32_t mangle(uint32_t r, uint64_t key) {
    uint32_t out = 0;

    for (unsigned i = 0; i < 8; i++) {
        unsigned from = 4 * i, six = 0;

        for (unsigned k = 0; k < 6; k++) /* bits from - 1 to from + 4, around the edge */
            six = six << 1 | (r >> (31 - (from + 31 + k) % 32) & 1);
        six ^= key >> (42 - 6 * i) & 63;
        out = out << 4 | box[i][((six >> 4 & 2) | (six & 1)) << 4 | (six >> 1 & 15)];
    }
    return (uint32_t)permute(out, 32, permutation, 32);
}

static uint64_t encrypt(uint64_t block, const uint64_t round[16]) {
    uint64_t v = permute(block, 64, initial, 64), out = 0;
    uint32_t l = (uint32_t)(v >> 32), r = (uint32_t)v;

    for (unsigned i = 0; i < 16; i++) {
        uint32_t next = l ^ mangle(r, round[i]);

        l = r;
        r = next;
    }
    v = (uint64_t)r << 32 | l;
    for (unsigned i = 0; i < 64; i++) /* the initial permutation, backwards */
        out |= (v >> (63 - i) & 1) << (64 - initial[i]);
    return out;
}

void vnc_des(const uint8_t password[VNC_PASSWORD], const uint8_t challenge[VNC_CHALLENGE],
             uint8_t ret[VNC_CHALLENGE]) {
    uint64_t round[16], key = 0;

    for (unsigned i = 0; i < VNC_PASSWORD; i++)
        for (unsigned bit = 0; bit < 8; bit++)
            key = key << 1 | (password[i] >> bit & 1);
    key_schedule(key, round);
    for (unsigned i = 0; i < VNC_CHALLENGE; i += 8)
        store_be64(ret + i, encrypt(load_be64(challenge + i), round));
}
